"""How a VM on Compute Engine gets its files: what is put where, who may read it, and two VMs that build with them."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.cloud import compute_v1

from emulator.web.identity import Identity
from provisioner.protocol import (
    COMPLETED,
    REBOOTING,
    STARTED,
    STEP_FINISHED,
    STEP_STARTED,
    Job,
    Step,
    decode_report,
    encode,
)
from shared.build.plan import Context, MachinePlan
from shared.clock import SystemClock
from shared.delivery.cidata import instance_metadata, small_files
from shared.delivery.iso9660 import Content, FileStream
from shared.disks.disk import Disk
from shared.errors import NotFound
from shared.gcp.compute.delivery import packed_disk
from shared.gcp.settings import DeliveryWay
from shared.images.catalogue import Catalogue
from shared.ports import MachineRequest
from tests.project.source_tree import ROOT
from tests.shared.gcp.compute.compute_cloud import (
    BOOT,
    BUCKET,
    KEY,
    PROJECT,
    SITE,
    VM,
    ZONES,
    Cloud,
    open_cloud,
    request,
)
from tests.world.values import BUILD_ID

ZONE = ZONES[0]
CONTEXT = f"gs://{BUCKET}/contexts/0123.tar"
SCRIPT = b"#!/bin/sh\nset -e\ntest -e /run/goldsmith/cidata/job.json\necho made by $RELEASE >/etc/made\n"
API = "http://169.254.169.253"
PUBLISH_URL = f"{API}/v1/projects/{PROJECT}/topics/build-reports:publish"
TOKEN_URL = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with open_cloud(tmp_path, Identity(tmp_path / "identity")) as cloud:
        yield cloud


def packed(files: Mapping[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()


def with_context(cloud: Cloud, **changes: Any) -> MachineRequest:
    data = packed({"preload.sh": SCRIPT})
    cloud.bucket.write(CONTEXT, data)
    return request(context=Context(CONTEXT, "0123", len(data)), **changes)


def metadata(cloud: Cloud) -> dict[str, str]:
    return {item.key: item.value for item in cloud.instances()[f"{ZONE}/{VM}"].metadata.items}


OF_EVERY_VM = {"block-project-ssh-keys": "TRUE", "cos-update-strategy": "update_disabled"}
"""The VM's metadata: no SSH keys, and no update of Container-Optimized OS while it is being built."""


def test_by_download_everything_is_in_the_bucket_and_behind_signed_urls(cloud: Cloud) -> None:
    asked = with_context(cloud)
    cloud.compute(vm_storage_url=cloud.storage.url).create_machine(asked)
    given = metadata(cloud)
    assert instance_metadata().items() <= given.items()
    assert OF_EVERY_VM.items() <= given.items()
    assert set(given) == {
        *instance_metadata(),
        *OF_EVERY_VM,
        "goldsmith-patience",
        "goldsmith-cidata",
        "goldsmith-context",
    }
    with (
        urllib.request.urlopen(given["goldsmith-cidata"]) as answer,
        tarfile.open(fileobj=io.BytesIO(answer.read())) as tar,
    ):
        files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]  # all are files
    assert files == small_files(asked.job)
    with urllib.request.urlopen(given["goldsmith-context"]) as answer:
        assert answer.read() == cloud.bucket.read(CONTEXT)
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(given["goldsmith-cidata"].replace("X-Goog-Expires=3600", "X-Goog-Expires=36000"))
    assert KEY not in "".join(given.values())


@pytest.mark.parametrize(
    ("left", "expires"),
    [(60.0, 60), (5400.9, 5400), (12 * 3600.0, 43200), (12 * 3600.0 + 1, 43200), (30 * 86400.0, 43200)],
)
def test_signed_urls_end_with_the_machine_and_after_12_hours(cloud: Cloud, left: float, expires: int) -> None:
    cloud.compute().create_machine(with_context(cloud, max_seconds=left))
    given = metadata(cloud)
    for key, name in (("goldsmith-cidata", f"cidata/{VM}.tar"), ("goldsmith-context", "contexts/0123.tar")):
        assert given[key].startswith(f"{API}/{BUCKET}/{name}?")
        assert f"X-Goog-Expires={expires}&" in given[key]


@pytest.mark.parametrize(("silence", "patience"), [(30.0, 15), (75.0, 37), (300.0, 240), (360.0, 300), (86_400.0, 300)])
def test_a_vm_without_its_files_says_so_before_its_silence_ends(cloud: Cloud, silence: float, patience: int) -> None:
    cloud.compute().create_machine(with_context(cloud, silence=silence))
    assert metadata(cloud)["goldsmith-patience"] == str(patience)


def test_docs_security_md_lists_the_metadata_that_viewers_can_read(cloud: Cloud) -> None:
    cloud.compute().create_machine(with_context(cloud))
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    section = page.partition("\n## What a viewer of the project can read\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert sorted(re.findall("`([^`]+)`", "".join(rows))) == sorted(metadata(cloud))


def test_by_disk_the_files_are_on_an_image_of_their_own(cloud: Cloud) -> None:
    asked = with_context(cloud)
    compute = cloud.fused(delivery="disk")
    compute.create_machine(asked)
    assert compute.calls.made == [
        "Instances.aggregated_list",
        "Images.get",
        "Images.get",
        "Images.insert_unary",
        "GlobalOperations.wait",
        "Images.get",
        "Disks.aggregated_list",
        "Instances.insert_unary",
        "ZoneOperations.wait",
    ]
    image = cloud.client(compute_v1.ImagesClient).get(project=PROJECT, image=f"{VM}-ci")
    assert (image.disk_size_gb, image.labels, image.family) == (1, asked.labels, "")
    [_, disk] = cloud.instances()[f"{ZONE}/{VM}"].disks
    assert (disk.auto_delete, disk.device_name) == (True, f"{VM}-ci")
    assert set(metadata(cloud)) == {*instance_metadata(), *OF_EVERY_VM, "goldsmith-patience"}


@pytest.mark.parametrize("delivery", ["download", "disk"])
def test_all_of_it_goes_with_the_machine(cloud: Cloud, delivery: DeliveryWay) -> None:
    compute = cloud.compute(delivery=delivery)
    compute.create_machine(with_context(cloud))
    assert len(cloud.objects()) == 2
    cloud.compute().delete("machine", VM, PROJECT, ZONE)  # whatever the deployment delivers by now
    assert cloud.objects() == [CONTEXT]
    assert list(cloud.disks()) == [f"{ZONE}/{BOOT}"]
    assert compute.image(PROJECT, f"{VM}-ci") is None


def test_a_context_that_is_gone_is_said_before_anything_is_made(cloud: Cloud) -> None:
    asked = with_context(cloud)
    cloud.bucket.delete(CONTEXT)
    with pytest.raises(NotFound, match="the packed context is gone; submit the spec again"):
        cloud.compute(delivery="disk").create_machine(asked)
    assert (cloud.objects(), cloud.instances(), cloud.disks()) == ([], {}, {})


def test_a_packed_disk_is_what_compute_engine_imports(tmp_path: Path) -> None:
    small = small_files(Job(BUILD_ID, 1, KEY, ()))
    files: dict[str, Content] = {**small, "context.tar": FileStream(3 << 20, [bytes(1 << 20)] * 3)}
    archive = tmp_path / "disk.tar.gz"
    archive.write_bytes(b"".join(packed_disk(files)))
    assert archive.stat().st_size < 1 << 20
    head = zlib.decompressobj(wbits=31).decompress(archive.read_bytes(), 512)
    assert head[257:265] == b"ustar  \0"  # the old GNU format, as the import wants it
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path], check=True)
    disk = tmp_path / "disk.raw"
    assert disk.stat().st_size == 1 << 30
    assert disk.stat().st_blocks * 512 < 8 << 20
    job = subprocess.run(["isoinfo", "-i", disk, "-R", "-x", "/job.json"], check=True, capture_output=True).stdout
    assert job == encode(Job(BUILD_ID, 1, KEY, ()))


@pytest.fixture
def direct(tmp_path: Path, debian_home: Path) -> Iterator[Cloud]:
    """The endpoints with Debian, whose own kernel is booted; a small agent of theirs runs the startup-script."""
    with open_cloud(debian_home.parent, Identity(tmp_path / "identity"), boot="direct") as cloud:
        yield cloud


@pytest.mark.vm
@pytest.mark.soak
@pytest.mark.parametrize("delivery", ["download", "disk"])
def test_a_vm_builds_with_what_it_was_given_also_after_a_reboot(
    direct: Cloud, debian_home: Path, delivery: DeliveryWay
) -> None:
    """By disk, tests/cloud/test_deliveries.py builds as well, on a VM that reaches nothing."""
    greet = Step("greet", "run-script", {"script": "preload.sh", "env": {"RELEASE": "us"}})
    again = replace(greet, name="again")
    steps = (greet, Step("restart", "reboot", {}), again) if delivery == "download" else (greet,)
    compute = direct.compute(delivery=delivery)
    machine = MachinePlan(PROJECT, ZONES, machine_type="e2-standard-2")
    job = Job(BUILD_ID, 1, KEY, steps, publish_url=PUBLISH_URL, token_url=TOKEN_URL)
    compute.create_machine(with_context(direct, job=job, plan=machine, source_image="debian-12-base"))
    assert compute.wait_until_stopped(VM, PROJECT, ZONE, 100_000.0)  # of a clock that runs ahead
    console = compute.serial_output(VM, PROJECT, ZONE, 1, 0)[0].decode()
    reports = {report.sequence: report for report in (decode_report(message.data) for message in direct.messages)}
    kinds = [reports[number].kind for number in sorted(reports) if number]
    one_step = [STEP_STARTED, STEP_FINISHED]
    restart = [*one_step, REBOOTING, STARTED, *one_step] if delivery == "download" else []
    assert kinds == [STARTED, *one_step, *restart, COMPLETED], console
    assert compute.serial_output(VM, PROJECT, ZONE, 3, 0)[0].count(b"goldsmith-report:") >= len(kinds)
    found = compute.machine(VM, PROJECT, ZONE)
    assert found is not None
    assert (found.status, found.how) == ("stopped", "powered-off")
    image = SITE.image("hello-1")
    compute.create_image(image)
    disk = Disk(Catalogue(debian_home, SystemClock()).disk(image.name)).root
    assert disk.read("/etc/made") == b"made by us\n"
    assert not disk.exists("/var/lib/goldsmith")
