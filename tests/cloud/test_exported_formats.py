"""A spec that is uploaded, and whose image is exported as qcow2 and VMDK: the VM that writes them is lost once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from emulator.cloud.cloud import Cloud
from shared.build.build import Outcome, State
from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from tests.cloud.maker_image import add_maker_image
from tests.cloud.person import Person

pytestmark = [pytest.mark.vm, pytest.mark.soak]

BUCKET = "crates"
LONGEST = 1500.0  # seconds: two VMs without KVM read a disk of three gigabytes twice
EXPORT = "  export: {{to: gs://{bucket}/crate.tar.gz}}\n  formats: [qcow2, vmdk]\n"


def test_files_of_an_uploaded_spec_hold_the_image_s_disk(person: Person, cloud: Cloud, debian_disk: Path) -> None:
    add_maker_image(cloud.home, debian_disk)
    person.run("gcloud", "storage", "buckets", "create", f"gs://{BUCKET}")
    folder = person.spec("crate", replace={"family: hello": "family: crate\n" + EXPORT.format(bucket=BUCKET).rstrip()})
    person.upload(folder)
    build = person.until("crate", writes, LONGEST)
    lost = f"gs-{build.id}-a1-export"
    person.gcloud("compute", "instances", "delete", lost, f"--zone={build.zone}")
    cloud.scheduler.step("expire-builds")
    ended = person.until("crate", lambda found: found.finished, LONGEST)
    assert (ended.outcome, ended.attempt, ended.rewrites) == (Outcome.SUCCEEDED, 2, 1), ended.reason

    names = {line.rpartition("/")[2] for line in person.run("gsutil", "ls", f"gs://{BUCKET}/").split()}
    endings = (".qcow2", ".qcow2.sha256", ".vmdk", ".vmdk.sha256", ".json", ".spdx.json", ".cdx.json")
    assert names == {f"crate{ending}" for ending in endings}
    person.run("gsutil", "-q", "cp", f"gs://{BUCKET}/*", person.folder)
    assert ended.image is not None
    disk = Catalogue(cloud.home, SystemClock()).disk(ended.image.name)
    for known in ("qcow2", "vmdk"):
        person.run("sha256sum", "--check", f"crate.{known}.sha256")
        told = json.loads(person.run("qemu-img", "info", "--output=json", f"crate.{known}"))
        assert told["format"] == known
        person.run("qemu-img", "check", "-q", f"crate.{known}")
        person.run("qemu-img", "compare", "-q", "-f", "raw", "-F", known, disk, f"crate.{known}")
    logs = person.run("gsutil", "ls", f"gs://{person.bucket}/logs/{ended.id}/**")
    assert len(re.findall(r"a[12]-export", logs)) == 2


def writes(build: object) -> bool:
    """Return whether the VM that writes the files is at work, and has been given the image's disk."""
    state, grown, reports = (getattr(build, name) for name in ("state", "disk_grown", "reports"))
    return state is State.EXPORTING and grown and reports > 1
