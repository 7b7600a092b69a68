"""Things of others that have a name of ours: none is taken for a build's, none is deleted, and it is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from google.cloud import compute_v1

from emulator.web.identity import Identity
from shared.errors import AlreadyExists, Permanent
from shared.names import BUILD_LABEL
from shared.ports import MachineRequest
from tests.shared.gcp.compute.compute_cloud import BOOT, PROJECT, VM, ZONES, Cloud, open_cloud, request

A = ZONES[0]
MALLORY = "mallory-aaaaaaaaaaaa"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with open_cloud(tmp_path, Identity(tmp_path / "identity")) as cloud:
        yield cloud


def of_mallory() -> MachineRequest:
    """What has the very names of the build's own things, and another label."""
    return request(labels={**request().labels, BUILD_LABEL: MALLORY})


def remove_machine(cloud: Cloud) -> None:
    cloud.client(compute_v1.InstancesClient).delete_unary(project=PROJECT, zone=A, instance=VM)
    while cloud.instances():
        cloud.clock.pause(0.02)


def remove_disk(cloud: Cloud) -> None:
    cloud.client(compute_v1.DisksClient).delete_unary(project=PROJECT, zone=A, disk=BOOT)
    while f"{A}/{BOOT}" in cloud.disks():
        cloud.clock.pause(0.02)


def test_a_machine_of_others_is_not_taken_for_the_builds(cloud: Cloud) -> None:
    compute = cloud.compute()
    compute.create_machine(of_mallory())
    assert compute.machine(VM, PROJECT, A) is None
    assert compute.machine(VM, PROJECT, "") is None
    with pytest.raises(Permanent, match=f"machine {VM} in {A}: .* its label goldsmith-build is {MALLORY}; delete it"):
        compute.create_machine(request())
    compute.delete("machine", VM, PROJECT, A)
    compute.delete("machine", VM, PROJECT, "")
    assert list(cloud.instances()) == [f"{A}/{VM}"]
    assert list(compute.labelled(PROJECT)) == [], "a sweep would delete them"
    remove_machine(cloud)
    with pytest.raises(Permanent, match=f"disk {BOOT} in {A}: .* is {MALLORY}; delete it"):
        compute.create_machine(request())
    compute.delete("disk", BOOT, PROJECT, A)
    assert list(cloud.disks()) == [f"{A}/{BOOT}"]
    remove_disk(cloud)
    cloud.clock.ahead += 60.0  # past what Compute Engine remembers of the request of the same id
    assert compute.create_machine(request()) == A


def test_a_disk_in_the_way_of_one_that_is_made_with_the_machine_is_named(cloud: Cloud) -> None:
    scratch = BOOT.replace("boot", "scratch")
    disk = compute_v1.Disk(name=scratch, size_gb=10)
    cloud.client(compute_v1.DisksClient).insert_unary(project=PROJECT, zone=A, disk_resource=disk)
    asked = replace(request(), scratch_disk=scratch, plan=replace(request().plan, scratch_gb=10))
    with pytest.raises(Permanent, match=f"disk {scratch} in {A}: .* its label goldsmith-build is missing; delete it"):
        cloud.compute().create_machine(asked)
    assert f"{A}/{scratch}" in cloud.disks()


def test_a_cidata_image_of_others_never_reaches_a_machine(cloud: Cloud) -> None:
    """A spec's output could have its name once: what the VM would have run was then another author's."""
    compute = cloud.compute(delivery="disk")
    compute.create_machine(of_mallory())
    remove_machine(cloud)
    remove_disk(cloud)
    with pytest.raises(AlreadyExists, match=f"image {VM}-ci of project .* is {MALLORY}; delete it"):
        compute.create_machine(request())
    assert cloud.instances() == {}
    compute.delete("machine", VM, PROJECT, A)
    image = compute.image(PROJECT, f"{VM}-ci")
    assert image is not None
    assert image.labels[BUILD_LABEL] == MALLORY
