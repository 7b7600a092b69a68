"""Disks that grow and disks that are blank, as Google's client library sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud.compute_v1 import (
    AttachedDisk,
    AttachedDiskInitializeParams,
    Disk,
    DisksResizeRequest,
    Image,
    Operation,
)

from emulator.web.identity import Identity
from tests.emulator.compute.clients import IDLE, PROJECT, ZONE, Cloud, idle_cloud, instance_of

SOURCE = f"projects/debian-cloud/global/images/family/{IDLE}"
GIB = 1 << 30


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("cloud")
    with idle_cloud(folder, Identity(folder / "identity")) as cloud:
        yield cloud


def resize(cloud: Cloud, name: str, gigabytes: int) -> Operation:
    wanted = DisksResizeRequest(size_gb=gigabytes)
    request = {"project": PROJECT, "zone": ZONE, "disk": name, "disks_resize_request_resource": wanted}
    return cloud.done(cloud.disks.resize_unary(request=request))


def size(cloud: Cloud, name: str) -> int:
    gigabytes: int = cloud.disks.get(project=PROJECT, zone=ZONE, disk=name).size_gb
    return gigabytes


def files(cloud: Cloud) -> list[Path]:
    return list((cloud.home / "compute").glob(".scratch-*/*.raw"))


def test_disk_of_a_running_instance_grows_and_its_image_with_it(cloud: Cloud) -> None:
    assert not cloud.make(instance_of(SOURCE)).error.errors
    [file] = files(cloud)
    operation = resize(cloud, "vm-1-disk", 3)
    assert (operation.operation_type, operation.error.errors) == ("resizeDisk", [])
    assert (size(cloud, "vm-1-disk"), file.stat().st_size) == (3, 3 * GIB)
    assert cloud.instance("vm-1").status == "RUNNING"
    cloud.done(cloud.instances.stop_unary(project=PROJECT, zone=ZONE, instance="vm-1"))
    resize(cloud, "vm-1-disk", 4)
    image = Image(name="grown", source_disk=f"zones/{ZONE}/disks/vm-1-disk")
    assert not cloud.done(cloud.images.insert_unary(project=PROJECT, image_resource=image)).error.errors
    assert cloud.images.get(project=PROJECT, image="grown").disk_size_gb == 4
    cloud.done(cloud.instances.delete_unary(project=PROJECT, zone=ZONE, instance="vm-1"))
    cloud.done(cloud.disks.delete_unary(project=PROJECT, zone=ZONE, disk="vm-1-disk"))


def test_disk_that_is_no_smaller_is_refused(cloud: Cloud) -> None:
    """Not even the size that it has is taken: Google says so at once."""
    disk = Disk(name="data", size_gb=2)
    cloud.done(cloud.disks.insert_unary(project=PROJECT, zone=ZONE, disk_resource=disk))
    for gigabytes in (1, 2):
        with pytest.raises(BadRequest, match=f"New disk size '{gigabytes}' GB must be larger than existing size '2'"):
            resize(cloud, "data", gigabytes)
    assert size(cloud, "data") == 2
    cloud.done(cloud.disks.delete_unary(project=PROJECT, zone=ZONE, disk="data"))
    with pytest.raises(NotFound):
        resize(cloud, "data", 3)


def test_disk_without_a_source_is_blank_and_goes_with_its_instance(cloud: Cloud) -> None:
    instance = instance_of(SOURCE)
    instance.disks[0].auto_delete = True
    given = AttachedDiskInitializeParams(disk_name="blank", disk_size_gb=3, labels={"goldsmith-build": "b-1"})
    instance.disks.append(AttachedDisk(auto_delete=True, device_name="scratch", initialize_params=given))
    assert not cloud.make(instance).error.errors
    disk = cloud.disks.get(project=PROJECT, zone=ZONE, disk="blank")
    assert (disk.source_image, disk.size_gb, disk.labels) == ("", 3, {"goldsmith-build": "b-1"})
    assert sorted((file.stat().st_blocks, file.stat().st_size) for file in files(cloud))[0] == (0, 3 * GIB)
    assert not resize(cloud, "blank", 5).error.errors
    cloud.done(cloud.instances.delete_unary(project=PROJECT, zone=ZONE, instance="vm-1"))
    assert files(cloud) == []


def attach(cloud: Cloud, name: str, mode: str) -> Operation:
    return cloud.done(begin_to_attach(cloud, name, mode))


def begin_to_attach(cloud: Cloud, name: str, mode: str) -> Any:
    wanted = AttachedDisk(source=f"projects/{PROJECT}/zones/{ZONE}/disks/{name}", device_name=name, mode=mode)
    request = {"project": PROJECT, "zone": ZONE, "instance": "vm-1", "attached_disk_resource": wanted}
    return cloud.instances.attach_disk_unary(request=request)


def test_a_running_instance_is_given_a_disk_to_be_read(cloud: Cloud) -> None:
    assert not cloud.make(instance_of(SOURCE)).error.errors
    disk = Disk(name="given", size_gb=1)
    cloud.done(cloud.disks.insert_unary(project=PROJECT, zone=ZONE, disk_resource=disk))
    with pytest.raises(BadRequest, match="data to be read"):
        attach(cloud, "given", "READ_WRITE")
    with pytest.raises(NotFound):
        attach(cloud, "none", "READ_ONLY")
    begun = begin_to_attach(cloud, "given", "READ_ONLY")
    with pytest.raises(BadRequest, match=r"is not ready|is already being used"):
        begin_to_attach(cloud, "given", "READ_ONLY")
    operation = cloud.done(begun)
    assert (operation.operation_type, operation.error.errors) == ("attachDisk", [])
    found = cloud.instance("vm-1").disks
    assert [(each.device_name, each.mode, each.auto_delete) for each in found[1:]] == [("given", "READ_ONLY", False)]
    with pytest.raises(BadRequest, match="is already being used"):
        attach(cloud, "given", "READ_ONLY")
    kind = f"projects/{PROJECT}/zones/{ZONE}/diskTypes/hyperdisk-balanced"
    hyper = Disk(name="hyper", size_gb=4, type_=kind)
    cloud.done(cloud.disks.insert_unary(project=PROJECT, zone=ZONE, disk_resource=hyper))
    with pytest.raises(BadRequest, match="READ_WRITE_SINGLE"):
        attach(cloud, "hyper", "READ_ONLY")
    assert not attach(cloud, "hyper", "READ_WRITE").error.errors
    with pytest.raises(BadRequest, match="is already being used"):
        cloud.done(cloud.disks.delete_unary(project=PROJECT, zone=ZONE, disk="given"))
    cloud.done(cloud.instances.delete_unary(project=PROJECT, zone=ZONE, instance="vm-1"))
    for name in ("given", "hyper", "vm-1-disk"):
        cloud.done(cloud.disks.delete_unary(project=PROJECT, zone=ZONE, disk=name))
    assert files(cloud) == []
