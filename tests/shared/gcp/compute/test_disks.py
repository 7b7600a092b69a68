"""Boot disks that grow and scratch disks that go, wherever the process dies and whatever Compute Engine says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from google.cloud import compute_v1

from emulator.web.identity import Identity
from shared.errors import GoldsmithError, NotFound, Permanent, Transient
from shared.export_ports import DiskRequest
from shared.gcp.compute.calls import Answer
from shared.names import BUILD_LABEL
from shared.ports import ImageRequest, MachineRequest
from tests.shared.gcp.compute.compute_cloud import (
    BOOT,
    IDLE,
    PROJECT,
    VM,
    ZONES,
    Cloud,
    FusedCalls,
    open_cloud,
    request,
)
from tests.world.fuse import Died, Fuse

A, B = ZONES
SCRATCH = VM.replace("vm", "scratch")
RESIZE = f"POST .*/zones/{A}/disks/{BOOT}/resize$"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder: Path = tmp_path_factory.mktemp("cloud")
    with open_cloud(folder, Identity(folder / "identity")) as cloud:
        yield cloud


@pytest.fixture
def cloud(served: Cloud) -> Iterator[Cloud]:
    """The endpoints with a disk of 10 GB, and nothing left in them."""
    served.clock.ahead += 1000.0  # past what requests of the test before are remembered for
    image = f"projects/{PROJECT}/global/images/{IDLE}"
    disk = compute_v1.Disk(name=BOOT, size_gb=10, source_image=image, labels=dict(request().labels))
    operation = served.client(compute_v1.DisksClient).insert_unary(project=PROJECT, zone=A, disk_resource=disk)
    waits = served.client(compute_v1.ZoneOperationsClient)
    waits.wait(project=PROJECT, zone=A, operation=operation.name)
    yield served
    served.endpoint.faults.clear()
    served.compute().delete("disk", BOOT, PROJECT, A)
    assert (served.instances(), served.disks()) == ({}, {})


class Overtaken(FusedCalls):
    """Something happens just before a disk is to be resized."""

    def __init__(self, cloud: Cloud, meanwhile: Callable[[], None]) -> None:
        super().__init__(cloud.settings, cloud.clock, Fuse(None))
        self._meanwhile = meanwhile

    def call(self, method: Callable[..., Answer], request: object, seconds: float) -> Answer:
        if isinstance(request, compute_v1.ResizeDiskRequest):
            self._meanwhile()
        return super().call(method, request, seconds)


def size(cloud: Cloud) -> int:
    gigabytes: int = cloud.disks()[f"{A}/{BOOT}"].size_gb
    return gigabytes


def test_a_disk_grows_by_four_calls_and_is_seen_grown_by_one(cloud: Cloud) -> None:
    """finish-image-build -disk-size-gb: the disk is made at its source's size, and resized while the VM waits."""
    compute = cloud.fused()
    compute.grow_disk(BOOT, PROJECT, A, 12)
    assert compute.calls.made == ["Disks.get", "Disks.resize_unary", "ZoneOperations.wait", "Disks.get"]
    again = cloud.fused()
    again.grow_disk(BOOT, PROJECT, A, 12)
    assert (again.calls.made, size(cloud)) == (["Disks.get"], 12)


def test_it_is_the_same_wherever_the_process_dies(cloud: Cloud) -> None:
    for number in count(1):
        try:
            cloud.fused(number).grow_disk(BOOT, PROJECT, A, 10 + number)
            break
        except Died:
            cloud.compute().grow_disk(BOOT, PROJECT, A, 10 + number)
        assert size(cloud) == 10 + number
    assert number == 9


def test_a_lost_answer_is_asked_for_again(cloud: Cloud) -> None:
    cloud.endpoint.lose_answer(RESIZE)
    cloud.compute().grow_disk(BOOT, PROJECT, A, 12)
    assert size(cloud) == 12


def test_another_delivery_that_was_faster_is_fine(cloud: Cloud) -> None:
    """It may have sent its request in another minute, with another id."""

    def meanwhile() -> None:
        cloud.compute().grow_disk(BOOT, PROJECT, A, 12)
        cloud.clock.ahead += 60.0

    compute = cloud.fused()
    compute.calls = Overtaken(cloud, meanwhile)
    compute.grow_disk(BOOT, PROJECT, A, 12)
    assert size(cloud) == 12


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [(403, "rateLimitExceeded", Transient), (403, "quotaExceeded", Permanent), (400, "invalid", Permanent)],
)
def test_faults_are_told_apart(cloud: Cloud, status: int, reason: str, error: type[GoldsmithError]) -> None:
    cloud.endpoint.fail_next(RESIZE, status, reason=reason)
    with pytest.raises(error, match=f"disk {BOOT} in {A}"):
        cloud.compute().grow_disk(BOOT, PROJECT, A, 12)
    assert size(cloud) == 10


def test_a_missing_permission_is_named(cloud: Cloud) -> None:
    cloud.endpoint.deny("compute.disks.resize")
    with pytest.raises(Permanent, match=r"permission compute\.disks\.resize is missing"):
        cloud.compute().grow_disk(BOOT, PROJECT, A, 12)


def test_a_disk_elsewhere_is_not_found(cloud: Cloud) -> None:
    with pytest.raises(NotFound, match=f"disk {BOOT} in {B}"):
        cloud.compute().grow_disk(BOOT, PROJECT, B, 12)


def scratching(gigabytes: int) -> MachineRequest:
    """A request of a machine with the disk that is there, and a scratch disk."""
    return replace(request(), scratch_disk=SCRATCH, plan=replace(request().plan, scratch_gb=gigabytes))


def test_what_a_given_up_machine_left_is_found_and_is_not_in_the_way_for_ever(cloud: Cloud) -> None:
    asked = scratching(10)
    disk = compute_v1.Disk(name=asked.scratch_disk, size_gb=10, labels=dict(asked.labels))
    cloud.client(compute_v1.DisksClient).insert_unary(project=PROJECT, zone=A, disk_resource=disk)
    assert asked.scratch_disk in {found.name for found in cloud.compute().labelled(PROJECT)}, "the sweep finds it"
    with pytest.raises(Transient, match="tried again"):
        cloud.compute().create_machine(asked)
    cloud.clock.ahead += 60.0
    assert cloud.compute().create_machine(asked) == A
    cloud.compute().delete("machine", asked.name, PROJECT, A)


def test_the_machine_sees_its_disks_by_their_names(cloud: Cloud) -> None:
    asked = scratching(3)
    cloud.compute().create_machine(asked)
    boot, scratch = cloud.instances()[f"{A}/{VM}"].disks
    assert (boot.boot, boot.auto_delete, scratch.boot, scratch.device_name) == (True, False, False, "scratch")
    blank = cloud.disks()[f"{A}/{asked.scratch_disk}"]
    assert (blank.source_image, blank.size_gb, blank.labels) == ("", 3, asked.labels)
    cloud.compute().delete("machine", VM, PROJECT, A)


ROOT = VM.replace("vm", "root")


def making(gigabytes: int = 3) -> MachineRequest:
    """A request of a maker VM, with a second disk."""
    return replace(request(), root_disk=ROOT, root_gb=gigabytes)


def of_root(**changes: object) -> ImageRequest:
    default = ImageRequest(
        project=PROJECT,
        name="made-of-a-root",
        source_disk=ROOT,
        source_project=PROJECT,
        zone=A,
        description="Made from nothing.",
        labels={BUILD_LABEL: request().labels[BUILD_LABEL]},
        licenses=(),
        architecture="x86_64",
        made_by=request().labels[BUILD_LABEL],
        disk_gb=3,
        guest_os_features=("UEFI_COMPATIBLE",),
    )
    return replace(default, **changes)  # type: ignore[arg-type]  # fields, by name


def test_the_root_s_disk_is_blank_goes_with_the_machine_and_is_swept(cloud: Cloud) -> None:
    asked = making()
    cloud.compute().create_machine(asked)
    boot, root = cloud.instances()[f"{A}/{VM}"].disks
    assert (boot.auto_delete, root.auto_delete, root.boot, root.device_name) == (False, True, False, "root")
    blank = cloud.disks()[f"{A}/{ROOT}"]
    assert (blank.source_image, blank.size_gb, blank.labels) == ("", 3, asked.labels)
    assert ROOT in {found.name for found in cloud.compute().labelled(PROJECT)}
    cloud.compute().delete("machine", VM, PROJECT, A)
    assert f"{A}/{ROOT}" not in cloud.disks()


def test_an_image_of_a_root_s_disk_has_what_the_disk_could_not_inherit(cloud: Cloud) -> None:
    blank = compute_v1.Disk(name=ROOT, size_gb=3, labels=dict(request().labels))
    cloud.client(compute_v1.DisksClient).insert_unary(project=PROJECT, zone=A, disk_resource=blank)
    made = cloud.compute().create_image(of_root())
    found = cloud.client(compute_v1.ImagesClient).get(project=PROJECT, image=made.name)
    assert [feature.type_ for feature in found.guest_os_features] == ["UEFI_COMPATIBLE"]
    cloud.compute().delete("disk", ROOT, PROJECT, A)
    assert cloud.compute().create_image(of_root()).id == made.id, "the order came again, and the disk has gone since"
    cloud.compute().delete("image", made.name, PROJECT, "")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"made_by": "another-0123456789ab"}, "was not made by this build"),
        ({"disk_gb": 10}, "has 3 GB, and was made with 10"),
    ],
)
def test_no_image_is_made_of_a_disk_that_is_not_the_build_s(cloud: Cloud, changes: dict[str, object], why: str) -> None:
    blank = compute_v1.Disk(name=ROOT, size_gb=3, labels=dict(request().labels))
    cloud.client(compute_v1.DisksClient).insert_unary(project=PROJECT, zone=A, disk_resource=blank)
    with pytest.raises(Permanent, match=why):
        cloud.compute().create_image(of_root(**changes))
    cloud.compute().delete("disk", ROOT, PROJECT, A)
    with pytest.raises(NotFound):
        cloud.compute().create_image(of_root())


def test_the_disk_of_an_image_is_attached_to_a_machine_that_runs_wherever_its_maker_dies(cloud: Cloud) -> None:
    """Each process that takes the place of a dead one finds what that has made, and makes the rest."""
    wanted = DiskRequest(
        name=SCRATCH.replace("scratch", "exportdisk"),
        machine=VM,
        project=PROJECT,
        zone=A,
        source_project=PROJECT,
        source_image=IDLE,
        device="export",
        disk_type="pd-standard",
        labels=request().labels,
    )
    with pytest.raises(NotFound, match="there is no machine"):
        cloud.compute().attach_disk(wanted)
    zone = cloud.compute().create_machine(request())
    assert zone == A
    for number in count(1):
        cloud.clock.ahead += 60.0
        try:
            cloud.fused(number).attach_disk(wanted)
            break
        except (Died, Transient):  # the latter while what the dead one has begun is not done yet
            continue
    cloud.compute().attach_disk(wanted)
    assert number > 3
    [machine] = cloud.instances().values()
    assert [(disk.device_name, disk.mode) for disk in machine.disks if not disk.boot] == [("export", "READ_ONLY")]
    cloud.compute().delete("machine", VM, PROJECT, zone)
    cloud.compute().delete("disk", wanted.name, PROJECT, zone)


def test_a_hyperdisk_which_one_machine_at_most_may_have_is_attached_as_that_allows(cloud: Cloud) -> None:
    name = SCRATCH.replace("scratch", "exportdisk")
    zone = cloud.compute().create_machine(request())
    own = request().labels
    cloud.compute().attach_disk(DiskRequest(name, VM, PROJECT, A, PROJECT, IDLE, "export", "hyperdisk-balanced", own))
    [machine] = cloud.instances().values()
    assert [(disk.device_name, disk.mode) for disk in machine.disks if not disk.boot] == [("export", "READ_WRITE")]
    cloud.compute().delete("machine", VM, PROJECT, zone)
    cloud.compute().delete("disk", name, PROJECT, zone)
