"""What Compute Engine is asked for: the whole instance, for every kind of plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from google.cloud import compute_v1

from shared.build.plan import MachinePlan
from shared.gcp.compute.instance import SCOPE, boot_disk, data_disk, earlier_boot_disk, instance, scratch_disks
from tests.shared.gcp.compute.compute_cloud import BOOT, IDLE, PROJECT, VM, ZONES, request

ZONE = ZONES[0]
ACCOUNT = "vm@my-project.iam.gserviceaccount.com"


def described(seconds: float = 3600.0, **changes: Any) -> compute_v1.Instance:
    asked = request(plan=MachinePlan(PROJECT, ZONES, **changes), max_seconds=seconds)
    return instance(asked, ZONE, service_account=ACCOUNT, metadata={"b": "2", "a": "1"}, disks=[boot_disk(asked, ZONE)])


def test_the_whole_of_a_plain_machine() -> None:
    labels = dict(request().labels)
    source = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/global/images/{IDLE}"
    assert compute_v1.Instance.to_dict(
        described(), preserving_proto_field_name=True, always_print_fields_with_no_presence=False
    ) == {
        "name": VM,
        "machine_type": f"zones/{ZONE}/machineTypes/n1-standard-1",
        "disks": [
            {
                "boot": True,
                "auto_delete": False,
                "initialize_params": {
                    "disk_name": BOOT,
                    "disk_size_gb": "10",
                    "disk_type": f"zones/{ZONE}/diskTypes/pd-standard",
                    "source_image": source,
                    "labels": labels,
                },
            }
        ],
        "network_interfaces": [{"network": "global/networks/default"}],
        "scheduling": {
            "on_host_maintenance": "MIGRATE",
            "max_run_duration": {"seconds": "3600"},
            "instance_termination_action": "STOP",
        },
        "metadata": {"items": [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}]},
        "service_accounts": [{"email": ACCOUNT, "scopes": [SCOPE]}],
        "labels": labels,
    }


def test_an_external_address_only_when_asked_for() -> None:
    assert not described().network_interfaces[0].access_configs
    [access] = described(external_ip=True).network_interfaces[0].access_configs
    assert access.type_ == "ONE_TO_ONE_NAT"


@pytest.mark.parametrize(
    ("plan", "network", "subnetwork"),
    [
        ({"network": "mine"}, "global/networks/mine", ""),
        ({"subnet": "sub"}, "", "regions/us-central1/subnetworks/sub"),
        ({"network": "mine", "subnet": "sub"}, "global/networks/mine", "regions/us-central1/subnetworks/sub"),
        ({"network": "projects/host/global/networks/n"}, "projects/host/global/networks/n", ""),
        ({"network": "global/networks/n"}, "global/networks/n", ""),
        ({"subnet": "regions/r1/subnetworks/s"}, "", "regions/r1/subnetworks/s"),
        ({"subnet": "projects/host/regions/r1/subnetworks/s"}, "", "projects/host/regions/r1/subnetworks/s"),
    ],
)
def test_networks_by_name_or_by_path(plan: dict[str, Any], network: str, subnetwork: str) -> None:
    """finish-image-build -network and -subnet: by name, or as a path of another project."""
    [interface] = described(**plan).network_interfaces
    assert (interface.network, interface.subnetwork) == (network, subnetwork)


def test_spot() -> None:
    scheduling = described(spot=True).scheduling
    assert (scheduling.provisioning_model, scheduling.instance_termination_action) == ("SPOT", "STOP")
    assert (scheduling.automatic_restart, scheduling.on_host_maintenance) == (False, "TERMINATE")
    assert described().scheduling.provisioning_model == ""
    assert "automatic_restart" not in described().scheduling


def test_a_machine_that_must_not_start_again_stays_down_after_a_fault_of_its_host() -> None:
    asked = request(plan=MachinePlan(PROJECT, ZONES), restarts=False)
    made = instance(asked, ZONE, service_account=ACCOUNT, metadata={}, disks=[boot_disk(asked, ZONE)])
    assert (made.scheduling.automatic_restart, made.scheduling.on_host_maintenance) == (False, "MIGRATE")


@pytest.mark.parametrize(
    ("plan", "count"),
    [
        ({"gpu_type": "nvidia-tesla-t4"}, 1),
        ({"machine_type": "g2-standard-4"}, 0),
        ({"machine_type": "h4d-standard-192"}, 0),
    ],
)
def test_a_machine_with_gpus_is_not_moved(plan: dict[str, Any], count: int) -> None:
    """finish-image-build -gpu-type: one of them, and onHostMaintenance is TERMINATE."""
    made = described(**plan)
    assert made.scheduling.on_host_maintenance == "TERMINATE"
    assert [each.accelerator_count for each in made.guest_accelerators] == [1] * count
    assert all(each.accelerator_type.endswith("/nvidia-tesla-t4") for each in made.guest_accelerators)


@pytest.mark.parametrize(
    "kind", ["c3-standard-4-lssd", "c4a-standard-4-lssd", "z3-highmem-8", "a2-ultragpu-1g", "a3-highgpu-8g"]
)
def test_local_ssd_is_discarded_when_the_machine_is_stopped(kind: str) -> None:
    """Compute Engine refuses STOP at the end of a run otherwise; for other machines it refuses to be told so."""
    scheduling = described(machine_type=kind).scheduling
    assert scheduling.instance_termination_action == "STOP"
    assert scheduling.on_instance_stop_action.discard_local_ssd


@pytest.mark.parametrize("kind", ["n1-standard-1", "c3-standard-4", "c4a-standard-4", "a2-highgpu-1g", "g2-standard-4"])
def test_machines_without_local_ssd_are_not_told_to_discard_any(kind: str) -> None:
    assert "on_instance_stop_action" not in described(machine_type=kind).scheduling


@pytest.mark.parametrize(("disk_type", "scratch", "data"), [("hyperdisk-balanced", 4, 4), ("pd-standard", 1, 0)])
def test_no_hyperdisk_is_smaller_than_the_smallest(disk_type: str, scratch: int, data: int) -> None:
    plan = MachinePlan(PROJECT, ZONES, disk_type=disk_type, scratch_gb=1)
    asked = replace(request(plan=plan), scratch_disk=f"{VM}-scratch")
    [blank] = scratch_disks(asked, ZONE)
    assert blank.initialize_params.disk_size_gb == scratch
    assert data_disk(asked, ZONE, f"{VM}-cidata", f"{VM}-ci").initialize_params.disk_size_gb == data


def test_a_shielded_machine_has_all_that_the_policy_wants() -> None:
    made = instance(request(), ZONE, service_account=ACCOUNT, metadata={}, disks=[], secure_boot=True)
    config = made.shielded_instance_config
    assert (config.enable_secure_boot, config.enable_vtpm, config.enable_integrity_monitoring) == (True, True, True)


def test_a_machine_without_gpus_is_moved() -> None:
    """finish-image-build -gpu-type: without a GPU, onHostMaintenance is MIGRATE."""
    assert described().scheduling.on_host_maintenance == "MIGRATE"
    assert not described().guest_accelerators


@pytest.mark.parametrize("kind", ["n1-standard-1", "e2-custom-2-4096", "t2a-standard-1", "c4a-standard-2"])
def test_machine_type_of_either_architecture(kind: str) -> None:
    """finish-image-build -machine-type: of x86-64 or arm64; the source image has to be for the same one."""
    assert described(machine_type=kind).machine_type == f"zones/{ZONE}/machineTypes/{kind}"
    assert not described(machine_type=kind).min_cpu_platform


def test_disk_type_and_size_are_those_of_the_plan() -> None:
    """finish-image-build -disk-type and -disk-size-gb: those of all disks that are made with the machine."""
    asked = request(plan=MachinePlan(PROJECT, ZONES, disk_type="pd-ssd", disk_size_gb=20, scratch_gb=10))
    asked = replace(asked, scratch_disk=VM.replace("vm", "scratch"))
    [scratch] = scratch_disks(asked, ZONE)
    disks = [boot_disk(asked, ZONE), data_disk(asked, ZONE, "name", "image"), scratch]
    assert [disk.initialize_params.disk_type for disk in disks] == [f"zones/{ZONE}/diskTypes/pd-ssd"] * 3
    assert [disk.initialize_params.disk_size_gb for disk in disks] == [20, 0, 10]


def test_service_account_is_the_one_that_is_given() -> None:
    """finish-image-build -service-account: with scopes for all; the account's own roles say what it may do."""
    [account] = described().service_accounts
    assert (account.email, list(account.scopes)) == (ACCOUNT, ["https://www.googleapis.com/auth/cloud-platform"])


def test_scratch_disk_is_blank_and_goes_with_the_machine() -> None:
    """install-gpu: the VM has a disk of its own for what must not be in the image."""
    asked = replace(request(plan=MachinePlan(PROJECT, ZONES, scratch_gb=10)), scratch_disk="gs-x-a1-scratch")
    [scratch] = scratch_disks(asked, ZONE)
    assert (scratch.boot, scratch.auto_delete, scratch.device_name) == (False, True, "scratch")
    made = scratch.initialize_params
    assert (made.disk_name, made.disk_size_gb, made.source_image) == ("gs-x-a1-scratch", 10, "")
    assert made.labels == request().labels
    assert scratch_disks(request(), ZONE) == []


@pytest.mark.parametrize(("asked", "given"), [(1.0, 30), (90.9, 90), (1e9, 120 * 86400)])
def test_the_run_is_limited_as_compute_engine_allows(asked: float, given: int) -> None:
    assert described(asked).scheduling.max_run_duration.seconds == given


def test_shielded_vm_is_left_to_the_image() -> None:
    assert "shielded_instance_config" not in described()


def test_disks_that_stay_and_those_that_go() -> None:
    earlier = earlier_boot_disk(request(), ZONE)
    assert earlier.source.endswith(f"/projects/{PROJECT}/zones/{ZONE}/disks/{BOOT}")
    assert (earlier.boot, earlier.auto_delete) == (True, False)
    cidata = data_disk(request(), ZONE, "name", "image")
    assert (cidata.boot, cidata.auto_delete, cidata.device_name) == (False, True, "name")
    assert cidata.initialize_params.labels == request().labels
    assert cidata.initialize_params.source_image.endswith(f"/projects/{PROJECT}/global/images/image")
