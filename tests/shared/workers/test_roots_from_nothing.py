"""A root from nothing: the VM that makes it, its second disk, and the image of that disk."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.block_devices.description import DiskDescription, default_disk
from shared.build.build import Outcome
from shared.build.plan import OriginKind, OriginPlan, Plan, SourceImage
from shared.ports import ImageRequest
from shared.spec.disk.reading import read_disk
from shared.workers.carry_out import carry_out
from tests.world import values
from tests.world.given_orders import BOOT, IMAGE, VM, order_of, whole_plan, world_at
from tests.world.world import Guest, World

MAKER = SourceImage("debian-cloud", "debian-12-1", "4711")


def made_plan() -> Plan:
    """The plan of a root from nothing, which a maker VM makes on a second disk."""
    plan = whole_plan(export_to=None)
    made = replace(plan.image, disk_size_gb=25)
    return replace(plan, image=made, layout=None, origin=OriginPlan("rootfs", MAKER, 25, place="root.tar"))


def test_a_maker_vm_boots_from_its_image_and_has_a_second_disk() -> None:
    world = world_at("create_resources", made_plan())
    carry_out(order_of(world, "create_resources"), world.backend)
    [request] = [machine.request for machine in world.compute.machines.values()]
    assert (request.source_project, request.source_image) == ("debian-cloud", "debian-12-1")
    assert (request.root_disk, request.root_gb) == (f"gs-{values.BUILD_ID}-a1-root", 25)
    assert (request.job.makes_root, request.job.clean, request.job.hygiene) == (True, False, "fail")
    assert {entry.name for entry in world.build(values.BUILD_ID).ledger} >= {VM, BOOT, request.root_disk}


def exported(plan: Plan) -> ImageRequest:
    """Return what is asked of Compute Engine for the image of a plan."""
    world = world_at("export_image", plan)
    carry_out(order_of(world, "export_image"), world.backend)
    [request] = world.compute.image_requests
    return request


def test_the_image_of_a_root_is_of_the_second_disk_of_this_attempt() -> None:
    request = exported(made_plan())
    assert request.source_disk == f"gs-{values.BUILD_ID}-a1-root"
    assert (request.made_by, request.disk_gb) == (values.BUILD_ID, 25)
    assert request.guest_os_features == ("VIRTIO_SCSI_MULTIQUEUE", "UEFI_COMPATIBLE")


@pytest.mark.parametrize(
    ("kind", "disk", "features"),
    [
        ("elements", None, ("VIRTIO_SCSI_MULTIQUEUE",)),
        ("elements", default_disk(), ("VIRTIO_SCSI_MULTIQUEUE", "UEFI_COMPATIBLE")),
        ("elements", read_disk("filesystem").description, ("VIRTIO_SCSI_MULTIQUEUE",)),
        ("bootstrap", None, ("VIRTIO_SCSI_MULTIQUEUE", "GVNIC", "UEFI_COMPATIBLE")),
    ],
)
def test_uefi_is_told_of_a_disk_that_is_known_to_boot_by_it(
    kind: OriginKind, disk: DiskDescription | None, features: tuple[str, ...]
) -> None:
    plan = made_plan()
    made = replace(plan, origin=OriginPlan(kind, MAKER, 25, disk=disk))
    assert exported(made).guest_os_features == features
    asked = replace(made, image=replace(made.image, guest_os_features=("UEFI_COMPATIBLE",)))
    assert exported(asked).guest_os_features.count("UEFI_COMPATIBLE") == 1


def test_the_image_of_a_root_is_verified_by_itself() -> None:
    world = world_at("verify_image", made_plan())
    carry_out(order_of(world, "verify_image"), world.backend)
    [request] = [each.request for name, each in world.compute.machines.items() if name.endswith("-verify")]
    assert (request.source_image, request.root_disk, request.job.makes_root) == (IMAGE, "", False)


def test_nothing_of_a_root_is_left_however_its_build_ends() -> None:
    for guest in (Guest(), Guest(fails_at=0)):
        world = World(guest)
        build = world.run(made_plan())
        assert build.outcome in (Outcome.SUCCEEDED, Outcome.FAILED)
        assert (world.compute.machines, world.compute.disks) == ({}, {})
