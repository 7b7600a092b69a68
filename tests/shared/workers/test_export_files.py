"""A VM of Google Cloud writes an image's files: what it is given, what is believed of it, and what is left of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from provisioner.protocol import EXPORT, EXPORT_DISK
from shared.build.build import Build, Outcome
from shared.build.plan import Plan, SourceImage
from shared.errors import Permanent
from tests.world import values
from tests.world.fuse import Died
from tests.world.world import Guest, World

BUCKET = "gs://archives/web"
MAKER = SourceImage("debian-cloud", "debian-12-x", "17", disk_size_gb=10)
FORMATS = ("gce", "qcow2")


def plan(*formats: str, **changes: object) -> Plan:
    made = values.plan(exporter=MAKER, **changes)
    image = replace(made.image, export_to=f"{BUCKET}.tar.gz", formats=formats, disk_size_gb=10)
    return replace(made, image=image)


def run(world: World, wanted: Plan) -> Build:
    world.compute.all_images.clear()
    return world.run(wanted)


def objects(world: World) -> dict[str, bytes]:
    return {uri: data for uri, data in world.bucket.objects.items() if uri.startswith("gs://archives/")}


def test_the_files_get_their_names_with_what_identifies_them() -> None:
    world = World()
    build = run(world, plan(*FORMATS))
    assert (build.outcome, build.reason) == (Outcome.SUCCEEDED, "")
    found = objects(world)
    assert sorted(found) == [
        f"{BUCKET}{ending}"
        for ending in (".cdx.json", ".json", ".qcow2", ".qcow2.sha256", ".spdx.json", ".tar.gz", ".tar.gz.sha256")
    ]
    assert found[f"{BUCKET}.qcow2"] == b"a disk as qcow2"
    digest = hashlib.sha256(b"a disk as qcow2").hexdigest()
    assert found[f"{BUCKET}.qcow2.sha256"] == f"{digest}  web.qcow2\n".encode()
    told = json.loads(found[f"{BUCKET}.json"])
    assert {each["format"]: each["sha256"] for each in told["files"]}["qcow2"] == digest
    assert build.image is not None
    assert build.image.archive is not None
    assert build.image.archive.sha256 == hashlib.sha256(b"a disk as gce").hexdigest()
    left = world.left()
    assert (left["machines"], left["disks"]) == ([], [])


def test_the_vm_gets_the_disk_once_it_runs_and_no_right_but_its_sessions() -> None:
    world = World(Guest(stays_on=True, phase=EXPORT))
    wanted = plan("gce", "vmdk")
    world.engine.request(values.requested(plan=wanted))
    world.settle()
    machine = world.compute.machines[f"gs-{values.BUILD_ID}-a1-export"]
    assert machine.attached == {EXPORT_DISK: f"gs-{values.BUILD_ID}-a1-exportdisk"}
    request = machine.request
    assert (request.source_image, request.plan.service_account, request.context) == ("debian-12-x", None, None)
    assert not request.restarts, "it would boot with the image's disk"
    assert request.plan.disk_size_gb == MAKER.disk_size_gb + wanted.image.disk_size_gb + 1  # a file lies there first
    job = request.job
    assert (job.phase, job.clean, job.token_url, job.secrets_url) == (EXPORT, False, None, "")
    assert [step.action for step in job.steps] == ["install-programs", "export-disk", "export-disk"]
    assert [step.inputs["session"].partition("object=")[2] for step in job.steps[1:]] == [
        f"gs://archives/.{values.BUILD_ID}.web{ending}" for ending in (".tar.gz", ".vmdk")
    ]


@pytest.mark.parametrize("known", FORMATS)
def test_what_cloud_storage_does_not_have_is_not_believed(known: str) -> None:
    world = World(Guest(lies=known))
    build = run(world, plan(*FORMATS))
    assert build.outcome is Outcome.FAILED
    assert build.reason.startswith("export_image: output.export: gs://archives/.hello")
    assert "the VM says that it wrote" in build.reason
    assert objects(world) == {}
    assert world.left()["machines"] == world.left()["disks"] == []


@pytest.mark.parametrize(
    ("guest", "reason"),
    [
        (Guest(fails_at=0, phase=EXPORT), "step write gce failed"),
        (Guest(silent=True, phase=EXPORT), "no sign of life from the VM for 300 s"),
        (Guest(ends_at=0, phase=EXPORT), "the export VM was preempted, in the last of 1 attempts"),
    ],
)
def test_a_vm_that_fails_fails_the_build_and_leaves_nothing(guest: Guest, reason: str) -> None:
    world = World(guest)
    build = run(world, plan(attempts=1))
    assert (build.outcome, build.reason.startswith(reason)) == (Outcome.FAILED, True), build.reason
    assert objects(world) == {}
    assert world.left()["machines"] == world.left()["disks"] == []


@pytest.mark.parametrize(
    "guest",
    [Guest(ends_at=2, ends="lost", phase=EXPORT), Guest(silent=True, phase=EXPORT, attempts=1)],
    ids=["lost while it writes the second file", "silent"],
)
def test_another_vm_takes_the_place_of_one_that_is_lost_or_silent(guest: Guest) -> None:
    """What the first has written has a name of its own, which the second one cannot be given a session for."""
    world = World(guest)
    build = run(world, plan(*FORMATS, attempts=2))
    assert (build.outcome, build.reason, build.attempt, build.rewrites) == (Outcome.SUCCEEDED, "", 2, 1)
    names = [file.staged for file in build.files]
    assert f"gs://archives/.{values.BUILD_ID}.r1.web.tar.gz" in names
    found = objects(world)
    assert found[f"{BUCKET}.tar.gz"] == b"a disk as gce"
    assert not [name for name in found if "/." in name]
    assert world.left()["machines"] == world.left()["disks"] == []


def test_attempts_are_those_of_the_build() -> None:
    world = World(Guest(silent=True, phase=EXPORT))
    build = run(world, plan(*FORMATS, attempts=3))
    assert (build.outcome, build.attempt, build.rewrites) == (Outcome.FAILED, 3, 2)
    assert build.reason.startswith("no sign of life from the VM for 300 s, in the last of 3 attempts")
    assert objects(world) == {}
    assert world.left()["machines"] == world.left()["disks"] == []


def test_files_that_nothing_has_been_read_of_are_taken_back() -> None:
    """They are known by what Cloud Storage says of them."""
    world = World()
    world.compute.faults["set_family"] = Permanent("403: compute.images.update is missing")
    wanted = plan(*FORMATS)
    build = run(world, replace(wanted, image=replace(wanted.image, family="web")))
    assert build.outcome is Outcome.FAILED
    known = {file.name: file for file in build.files}[f"{BUCKET}.qcow2"]
    assert (known.size, known.md5) == (15, hashlib.md5(b"a disk as qcow2", usedforsecurity=False).hexdigest())
    assert objects(world) == {}


def test_a_vm_that_reaches_nothing_but_its_port_is_heard() -> None:
    world = World(Guest(offline=True, phase=EXPORT))
    build = run(world, plan())
    assert (build.outcome, build.reason) == (Outcome.SUCCEEDED, "")
    assert objects(world)[f"{BUCKET}.tar.gz"] == b"a disk as gce"


def test_a_worker_may_die_anywhere() -> None:
    whole = World()
    run(whole, plan(*FORMATS))
    for call in range(1, whole.calls, 5):
        world = World()
        try:
            build = world.run(plan(*FORMATS), burn_at=call)
        except Died:  # pragma: no cover - the world starts another process
            raise AssertionError(call) from None
        assert (build.outcome, build.reason) == (Outcome.SUCCEEDED, ""), (call, build.reason)
        assert objects(world).keys() == objects(whole).keys(), call
        assert world.left()["machines"] == world.left()["disks"] == [], call


def test_the_image_is_verified_after_its_files_are_written() -> None:
    world = World()
    build = run(world, plan("gce", verify_steps=values.plan().steps))
    assert (build.outcome, build.reason) == (Outcome.SUCCEEDED, "")
    assert [record.status for record in build.verify_steps] == ["done"] * len(build.verify_steps)
