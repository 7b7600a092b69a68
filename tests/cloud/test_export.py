"""A published image is written to a bucket: by a VM that is given its disk, and an upload session, once it runs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.cloud.cloud import Cloud
from provisioner.protocol import STEP_FINISHED
from shared.build.build import Build
from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from tests.cloud.maker_image import MAKER
from tests.cloud.person import Person
from tests.cloud.test_promotions import publish_image

pytestmark = pytest.mark.vm

NAME = "parcel-1"
BUCKET = "parcels"
GIB = 1 << 30
DATA = b"\x55\xaa" * (1 << 19)


def test_a_published_image_is_written_to_a_bucket_by_a_vm(
    cloud: Cloud, person: Person, debian_disk: Path, tmp_path: Path
) -> None:
    catalogue = Catalogue(cloud.home, SystemClock())
    if catalogue.get(MAKER) is None:  # archives take no program that Debian lacks
        catalogue.add(debian_disk, MAKER, transfer="link")
    publish_image(catalogue, person, NAME, tmp_path / "disk.raw", "parcel", DATA)
    before = person.gcloud("compute", "images", "describe", NAME)
    person.run("gcloud", "storage", "buckets", "create", f"gs://{BUCKET}")
    wanted = ["--export", f"gs://{BUCKET}/", "--format", "gce", "--wait", "10m", "--json"]
    told = json.loads(person.goldsmith("images", "distribute", NAME, *wanted))
    assert [(each["target"], each["refused"]) for each in told["targets"]] == [(f"gs://{BUCKET}/", "")]
    ended = person.finished(NAME)
    assert (ended.outcome, ended.warnings) == ("succeeded", ()), ended.reason

    names = {line.rpartition("/")[2] for line in person.run("gsutil", "ls", f"gs://{BUCKET}/").split()}
    assert names == {f"{NAME}{ending}" for ending in (".tar.gz", ".tar.gz.sha256")}
    person.run("gsutil", "-q", "cp", f"gs://{BUCKET}/*", person.folder)
    person.run("sha256sum", "--check", f"{NAME}.tar.gz.sha256")
    data = (person.folder / f"{NAME}.tar.gz").read_bytes()
    assert ended.image is not None
    assert ended.image.archive is not None
    unpacked = gzip.decompress(data)
    assert ended.image.archive.tar_sha256 == hashlib.sha256(unpacked).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        file = archive.extractfile("disk.raw")
        assert file is not None
        assert file.read(1 << 20) == DATA
        assert archive.getmember("disk.raw").size == ended.image.archive.disk_bytes == GIB
    assert_reported(person, ended)
    source = {"name": "again", "rawDisk": {"source": f"https://storage.googleapis.com/{BUCKET}/{NAME}.tar.gz"}}
    requests.post(f"{person.compute_url}/compute/v1/projects/{person.project}/global/images", json=source, timeout=60)
    give_up = time.monotonic() + 300
    while not person.gcloud(
        "compute", "images", "list", "--no-standard-images", "--filter=name=again AND status=READY"
    ):
        assert time.monotonic() < give_up
    logs = person.run("gsutil", "cat", f"gs://{person.bucket}/logs/{ended.id}/**")
    assert "[step write gce] gce is written" in logs
    assert person.gcloud("compute", "images", "describe", NAME) == before
    again = person.goldsmith("images", "distribute", NAME, *wanted[:-1], status=1)
    assert f"output.export.to: gs://{BUCKET}/{NAME}.tar.gz is there already" in " ".join(again.split())


def assert_reported(person: Person, build: Build) -> None:
    """What the VM has said is recorded, and names no upload."""
    events: list[Any] = list(person.events(build.id))
    reports = [event.report for event in events if event.kind == "Reported"]
    assert {report.phase for report in reports} == {"export"}
    assert [report.step for report in reports if report.kind == STEP_FINISHED] == [0]
    assert "upload_id" not in str(events)
