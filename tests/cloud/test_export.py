"""An image of the project is written to a bucket: by a VM that is given its disk, and an upload session, once it runs.

The build begins with an image that an earlier one has kept, so that one VM is enough.
"""

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

from emulator.cloud.cloud import DEPLOYED_ZONES, Cloud
from provisioner.protocol import STEP_FINISHED
from shared.build.build import Build, ImageRecord
from shared.build.identity import build_id, request_digest
from shared.build.plan import ImagePlan, MachinePlan, SourceImage
from shared.clock import SystemClock
from shared.engine.engine import Engine
from shared.gcp.firestore import GoogleStore
from shared.gcp.pubsub import GoogleBus
from shared.images.catalogue import Catalogue
from tests.cloud.person import Person
from tests.world import values

pytestmark = pytest.mark.vm

NAME = "parcel-1"
BUCKET = "parcels"
GIB = 1 << 30


def test_an_image_is_written_to_a_bucket_by_a_vm(cloud: Cloud, person: Person, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\x55\xaa" * (1 << 19))
    person.run("gcloud", "storage", "buckets", "create", f"gs://{BUCKET}")
    build = asked(cloud, person, disk)
    ended = person.until("parcel", lambda found: found.finished, within=600.0)  # the VM reads and compresses 1 GB
    assert (ended.outcome, ended.warnings) == ("succeeded", ()), ended.reason

    names = {line.rpartition("/")[2] for line in person.run("gsutil", "ls", f"gs://{BUCKET}/").split()}
    assert names == {f"{NAME}{ending}" for ending in (".tar.gz", ".tar.gz.sha256", ".json", ".spdx.json", ".cdx.json")}
    person.run("gsutil", "-q", "cp", f"gs://{BUCKET}/*", person.folder)
    person.run("sha256sum", "--check", f"{NAME}.tar.gz.sha256")
    told = json.loads((person.folder / f"{NAME}.json").read_text())
    data = (person.folder / f"{NAME}.tar.gz").read_bytes()
    assert told["files"][0]["sha256"] == hashlib.sha256(data).hexdigest()
    assert ended.image is not None
    assert ended.image.archive is not None
    unpacked = gzip.decompress(data)
    assert ended.image.archive.tar_sha256 == hashlib.sha256(unpacked).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        file = archive.extractfile("disk.raw")
        assert file is not None
        assert file.read(1 << 20) == disk.read_bytes()
        assert archive.getmember("disk.raw").size == ended.image.archive.disk_bytes == GIB
    assert_reported(person, build)
    source = {"name": "again", "rawDisk": {"source": f"https://storage.googleapis.com/{BUCKET}/{NAME}.tar.gz"}}
    requests.post(f"{person.compute_url}/compute/v1/projects/{person.project}/global/images", json=source, timeout=60)
    give_up = time.monotonic() + 60
    while not person.gcloud(
        "compute", "images", "list", "--no-standard-images", "--filter=name=again AND status=READY"
    ):
        assert time.monotonic() < give_up
    logs = person.run("gsutil", "cat", f"gs://{person.bucket}/logs/{build.id}/**")
    assert "[step write gce] gce is written" in logs


def asked(cloud: Cloud, person: Person, disk: Path) -> Build:
    """Begin a build whose image is there already, as the retry of a build does."""
    made = Catalogue(cloud.home, SystemClock()).add(disk, NAME, content=NAME)
    request, to = f"parcel {time.time()}", f"gs://{BUCKET}/{NAME}.tar.gz"
    plan = values.plan(
        build_id=build_id("parcel", request),
        request=request_digest(request),
        name="parcel",
        requested=time.time(),
        image=ImagePlan(person.project, NAME, disk_size_gb=1, export_to=to, formats=("gce",)),
        machine=MachinePlan(person.project, zones=DEPLOYED_ZONES[:1]),
        exporter=SourceImage(person.project, "debian-12-base", "1", disk_size_gb=10),
    )
    taken = ImageRecord(person.project, NAME, made.id)
    store = GoogleStore(person.project, person.environment["FIRESTORE_EMULATOR_HOST"])
    bus = GoogleBus(person.project, person.environment["PUBSUB_EMULATOR_HOST"])
    return Engine(store, bus, SystemClock()).request(
        values.requested(build_id=plan.build_id, plan=plan, taken_up=taken)
    )


def assert_reported(person: Person, build: Build) -> None:
    """What the VM has said is recorded, and names no upload."""
    events: list[Any] = list(person.events(build.id))
    reports = [event.report for event in events if event.kind == "Reported"]
    assert {report.phase for report in reports} == {"export"}
    assert [report.step for report in reports if report.kind == STEP_FINISHED] == [0]
    assert "upload_id" not in str(events)
