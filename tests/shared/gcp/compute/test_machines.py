"""Machines on Compute Engine: one of each name whatever happens, in a zone with room, seen until they are deleted."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from google.cloud import compute_v1

from emulator.web.http_server import HttpServer
from emulator.web.identity import Identity
from shared.build.plan import MachinePlan
from shared.clock import SystemClock
from shared.errors import CloudError, NotFound, Permanent, Transient
from shared.gcp.compute import instance
from shared.names import BUILD_LABEL
from shared.ports import MachineRequest
from tests.shared.gcp.compute.compute_cloud import BOOT, PROJECT, VM, ZONES, Cloud, FusedCompute, open_cloud, request
from tests.world.fuse import Died, Fuse
from tests.world.values import BUILD_ID

A, B = ZONES


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("cloud")
    with open_cloud(folder, Identity(folder / "identity")) as cloud:
        yield cloud


@pytest.fixture
def cloud(served: Cloud) -> Iterator[Cloud]:
    """The endpoints with nothing in them, and nothing left in them."""
    served.clock.ahead += 1000.0  # past what requests of the test before are remembered for
    yield served
    served.clock.held = None
    served.endpoint.faults.clear()
    compute = served.compute()
    for attempt in (1, 2):  # as a build's ledger has them, made or not
        compute.delete("machine", request(attempt).name, PROJECT, "")
    for resource in list(compute.labelled(PROJECT)):
        compute.delete(resource.kind, resource.name, PROJECT, resource.zone)
    assert (served.instances(), served.disks(), served.objects()) == ({}, {}, [])


def of_build(number: int, **changes: Any) -> MachineRequest:
    """The same request of another build."""
    name = BUILD_ID[:-4] + f"{number:04d}"
    asked = request(**changes)
    return replace(
        asked,
        name=asked.name.replace(BUILD_ID, name),
        boot_disk=asked.boot_disk.replace(BUILD_ID, name),
        labels={**asked.labels, BUILD_LABEL: name},
    )


def test_a_machine_is_made_by_four_calls(cloud: Cloud) -> None:
    compute = cloud.fused()
    assert compute.create_machine(request()) == A
    assert compute.calls.made == [
        "Instances.aggregated_list",
        "Disks.aggregated_list",
        "Instances.insert_unary",
        "ZoneOperations.wait",
    ]
    [(where, machine)] = cloud.instances().items()
    assert (where, machine.status) == (f"{A}/{VM}", "RUNNING")
    assert list(cloud.disks()) == [f"{A}/{BOOT}"]
    assert cloud.disks()[f"{A}/{BOOT}"].labels == request().labels == machine.labels


def test_a_machine_is_made_where_the_plan_says(cloud: Cloud) -> None:
    """finish-image-build -project and -zone: those of the build VM."""
    assert cloud.compute().create_machine(request(plan=MachinePlan(PROJECT, (B,)))) == B
    assert list(cloud.instances()) == [f"{B}/{VM}"]


def test_a_machine_that_is_there_is_found_by_one_call_and_left_alone(cloud: Cloud) -> None:
    cloud.compute().create_machine(request())
    before = cloud.instances()
    again = cloud.fused()
    assert again.create_machine(request()) == A
    assert again.calls.made == ["Instances.aggregated_list"]
    assert cloud.instances() == before


@pytest.mark.parametrize(("delivery", "full"), [("download", ()), ("download", (A,)), ("disk", ())])
def test_nothing_is_doubled_or_lost_wherever_the_process_dies(
    cloud: Cloud, delivery: str, full: tuple[str, ...]
) -> None:
    for zone in full:
        cloud.endpoint.exhaust(zone)
    deaths = 0
    for number in count(1):
        asked = of_build(number)
        if delivery == "disk":
            plan = replace(asked.plan, scratch_gb=10)
            asked = replace(asked, scratch_disk=asked.name.replace("-vm", "-scratch"), plan=plan)
        try:
            cloud.fused(number, delivery=delivery).create_machine(asked)
            break
        except Died:
            deaths += 1
        zone = delivered_again(cloud, asked, delivery)
        assert zone == (B if full else A)
        assert [where for where in cloud.instances() if asked.name in where] == [f"{zone}/{asked.name}"], number
        assert [where for where in cloud.disks() if asked.boot_disk in where] == [f"{zone}/{asked.boot_disk}"], number
        cloud.compute().delete("machine", asked.name, PROJECT, zone)
        cloud.compute().delete("disk", asked.boot_disk, PROJECT, zone)
        assert cloud.disks() == {}, "what it was made with beside that has gone with it"
    assert deaths >= 10


def delivered_again(cloud: Cloud, asked: MachineRequest, delivery: str) -> str:
    """Deliver the order as often as Pub/Sub would: one that comes while a full zone gives the machine up is refused."""
    for _ in range(5):
        with suppress(Transient):
            return cloud.compute(delivery=delivery).create_machine(asked)
    return cloud.compute(delivery=delivery).create_machine(asked)


def test_two_at_once_make_one_machine(cloud: Cloud) -> None:
    zones: list[str] = []

    def create() -> None:
        zones.append(cloud.compute().create_machine(request()))

    threads = [threading.Thread(target=create) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert zones == [A, A, A]
    assert list(cloud.instances()) == [f"{A}/{VM}"]


def test_a_lost_answer_is_asked_for_again(cloud: Cloud) -> None:
    cloud.endpoint.lose_answer(f"POST .*/zones/{A}/instances$")
    assert cloud.compute().create_machine(request()) == A
    assert list(cloud.instances()) == [f"{A}/{VM}"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_faults_are_passed_over(cloud: Cloud, status: int) -> None:
    cloud.endpoint.fail_next("POST .*/instances$", status)
    cloud.endpoint.fail_next("GET .*/aggregated/", status)
    assert cloud.compute().create_machine(request()) == A


def test_a_rate_limit_is_left_to_redelivery(cloud: Cloud) -> None:
    cloud.endpoint.fail_next("POST .*/instances$", 403, reason="rateLimitExceeded")
    with pytest.raises(Transient):
        cloud.compute().create_machine(request())
    assert cloud.compute().create_machine(request()) == A


def test_a_full_zone_leads_to_the_next_one_with_nothing_left_behind(cloud: Cloud) -> None:
    cloud.endpoint.exhaust(A)
    compute = cloud.fused()
    assert compute.create_machine(request()) == B
    assert (list(cloud.instances()), list(cloud.disks())) == ([f"{B}/{VM}"], [f"{B}/{BOOT}"])
    insert = ["Instances.insert_unary", "ZoneOperations.wait"]
    assert compute.calls.made[2:] == [*insert, "Disks.get", *insert]


def test_a_disk_of_a_machine_that_was_given_up_is_not_in_the_way_for_ever(cloud: Cloud) -> None:
    disk = compute_v1.Disk(name=f"{VM}-ci", size_gb=10, labels=request().labels)
    cloud.client(compute_v1.DisksClient).insert_unary(project=PROJECT, zone=A, disk_resource=disk)
    compute = cloud.compute(delivery="disk")
    with pytest.raises(Transient, match="tried again"):
        compute.create_machine(request())
    cloud.clock.ahead += 60.0
    assert compute.create_machine(request()) == A
    assert sorted(cloud.disks()) == [f"{A}/{BOOT}", f"{A}/{VM}-ci"]


def test_no_room_anywhere_names_the_zones_and_is_tried_again(cloud: Cloud) -> None:
    cloud.clock.hold()
    for zone in ZONES:
        cloud.endpoint.exhaust(zone)
    with pytest.raises(Transient, match=rf"fits into no zone of its plan: .*in {A}: .*in {B}: "):
        cloud.compute().create_machine(request())
    assert (cloud.instances(), cloud.disks()) == ({}, {})
    cloud.endpoint.faults.clear()
    with pytest.raises(Transient):  # Compute Engine remembers what the same request has come to
        cloud.compute().create_machine(request())
    cloud.clock.ahead += 60.0
    assert cloud.compute().create_machine(request()) == A


def test_a_disk_with_progress_keeps_its_machine_in_its_zone(cloud: Cloud) -> None:
    cloud.endpoint.exhaust(A)
    compute = cloud.compute()
    assert compute.create_machine(request()) == B
    disk = cloud.disks()[f"{B}/{BOOT}"]
    compute.delete("machine", VM, PROJECT, B)
    cloud.endpoint.faults.clear()
    cloud.endpoint.exhaust(B)
    with pytest.raises(Transient, match=f"in {B}: "):
        compute.create_machine(request(2))
    assert list(cloud.disks()) == [f"{B}/{BOOT}"]
    cloud.endpoint.faults.clear()
    cloud.clock.ahead += 60.0
    assert compute.create_machine(request(2)) == B
    [(where, machine)] = cloud.instances().items()
    assert where == f"{B}/{request(2).name}"
    assert machine.disks[0].source == disk.self_link
    assert cloud.disks()[f"{B}/{BOOT}"].id == disk.id


def test_a_disk_that_another_machine_has_is_waited_for(cloud: Cloud) -> None:
    cloud.compute().create_machine(request())
    with pytest.raises(Transient, match="already being used"):
        cloud.compute().create_machine(request(2))
    with pytest.raises(Transient, match="already being used"):
        cloud.compute().delete("disk", BOOT, PROJECT, A)


def test_a_machine_and_a_disk_of_the_same_names_are_deleted_too_and_at_once(cloud: Cloud) -> None:
    """The same request again would be taken for the one that has been carried out already."""
    machine = compute_v1.Instance(
        name=VM,
        machine_type=f"zones/{A}/machineTypes/e2-medium",
        labels={BUILD_LABEL: BUILD_ID},
        network_interfaces=[compute_v1.NetworkInterface(network="global/networks/default")],
        disks=[instance.boot_disk(request(), A)],
    )
    for _time in range(2):
        operation = cloud.client(compute_v1.InstancesClient).insert_unary(
            project=PROJECT, zone=A, instance_resource=machine
        )
        cloud.client(compute_v1.ZoneOperationsClient).wait(project=PROJECT, zone=A, operation=operation.name)
        cloud.compute().delete("machine", VM, PROJECT, A)
        cloud.compute().delete("disk", BOOT, PROJECT, A)
        assert (cloud.instances(), cloud.disks()) == ({}, {})


def test_a_quota_and_a_permission_are_named(cloud: Cloud) -> None:
    cloud.endpoint.quota("CPUS")
    with pytest.raises(Permanent, match="quota CPUS is used up"):
        cloud.compute().create_machine(request())
    cloud.endpoint.faults.clear()
    cloud.endpoint.deny("compute.instances.create")
    with pytest.raises(Permanent, match=r"permission compute\.instances\.create is missing"):
        cloud.compute().create_machine(request())
    assert (cloud.instances(), cloud.disks()) == ({}, {})


def test_a_policy_is_named_with_its_remedy(cloud: Cloud) -> None:
    cloud.endpoint.constrain("compute.requireShieldedVm")
    told = r"policy constraints/compute\.requireShieldedVm forbids it: .*; write build\.secure_boot: true"
    with pytest.raises(Permanent, match=told):
        cloud.compute().create_machine(request())
    assert (cloud.instances(), cloud.disks()) == ({}, {})
    cloud.endpoint.constrain("compute.vmExternalIpAccess")
    with pytest.raises(Permanent, match=r"compute\.vmExternalIpAccess forbids it: .*; leave build\.external_ip out"):
        cloud.compute().create_machine(request(plan=MachinePlan(PROJECT, ZONES, external_ip=True, secure_boot=True)))
    assert (cloud.instances(), cloud.disks()) == ({}, {})


@pytest.mark.parametrize("by", ["spec", "deployment"])
def test_a_project_that_requires_shielded_machines_gets_them(cloud: Cloud, by: str) -> None:
    cloud.endpoint.constrain("compute.requireShieldedVm")
    asked = request(plan=MachinePlan(PROJECT, ZONES, secure_boot=by == "spec"))
    assert cloud.compute(secure_boot=by == "deployment").create_machine(asked) == A
    [machine] = cloud.instances().values()
    assert machine.shielded_instance_config.enable_secure_boot


def test_every_disk_of_a_machine_has_the_plans_key(cloud: Cloud) -> None:
    key = f"projects/{PROJECT}/locations/global/keyRings/images/cryptoKeys/k"
    plan = MachinePlan(PROJECT, ZONES, kms_key=key, scratch_gb=10)
    with pytest.raises(Permanent, match="Cloud KMS error when using key"):
        cloud.compute().create_machine(request(plan=plan))
    assert (cloud.instances(), cloud.disks()) == ({}, {})
    cloud.endpoint.provide_key(key)
    assert cloud.compute().create_machine(request(plan=plan, scratch_disk="gs-hello-scratch")) == A
    assert {disk.disk_encryption_key.kms_key_name for disk in cloud.disks().values()} == {key}
    assert len(cloud.disks()) == 2


def test_a_source_that_is_gone_is_said(cloud: Cloud) -> None:
    with pytest.raises(Permanent, match="is the source image still there"):
        cloud.compute().create_machine(request(source_image="gone"))


def test_a_type_that_no_zone_has_is_said(cloud: Cloud) -> None:
    with pytest.raises(Permanent, match=f"fits into no zone of its plan: .*{A}.*{B}"):
        cloud.compute().create_machine(request(plan=MachinePlan(PROJECT, ZONES, machine_type="x9-standard-1")))


def test_a_plan_without_zones_takes_the_deployments(cloud: Cloud) -> None:
    compute = cloud.compute(zones=(B, A))
    assert compute.create_machine(request(plan=MachinePlan(PROJECT))) == B
    found = compute.machine(VM, PROJECT, "")
    assert found is not None
    assert (found.zone, found.status, found.how) == (B, "running", None)
    assert compute.serial_output(VM, PROJECT, "", 1, 0)[1] > 0
    compute.delete("machine", VM, PROJECT, "")
    assert compute.machine(VM, PROJECT, "") is None
    compute.delete("disk", BOOT, PROJECT, "")


def test_how_a_machine_ended_is_told(cloud: Cloud) -> None:
    compute = cloud.compute()
    compute.create_machine(request(plan=MachinePlan(PROJECT, ZONES, spot=True)))
    assert not compute.wait_until_stopped(VM, PROJECT, A, 1.0)
    cloud.endpoint.preempt(VM)
    assert compute.wait_until_stopped(VM, PROJECT, A, 60.0)
    preempted = compute.machine(VM, PROJECT, A)
    assert preempted is not None
    assert (preempted.status, preempted.how) == ("stopped", "preempted")
    assert preempted.detail == "Instance was preempted."


def test_a_wait_asks_about_once_a_second(cloud: Cloud) -> None:
    cloud.compute().create_machine(request())
    compute = FusedCompute(cloud.settings, SystemClock(), Fuse())
    began = time.monotonic()
    assert not compute.wait_until_stopped(VM, PROJECT, A, 3.0)
    assert time.monotonic() - began > 2.5
    assert 2 <= len(compute.calls.made) <= 16


def test_a_machine_that_was_stopped_by_hand_is_lost(cloud: Cloud) -> None:
    compute = cloud.compute()
    compute.create_machine(request())
    client = cloud.client(compute_v1.InstancesClient)
    client.stop_unary(project=PROJECT, zone=A, instance=VM)
    assert compute.wait_until_stopped(VM, PROJECT, A, 60.0)
    stopped = compute.machine(VM, PROJECT, A)
    assert stopped is not None
    assert (stopped.status, stopped.how, stopped.detail) == ("stopped", "lost", "emulator stopped it")


def test_a_machine_whose_host_has_failed_is_lost(cloud: Cloud) -> None:
    compute = cloud.compute()
    compute.create_machine(request())
    [machine] = cloud.instances().values()
    for child in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"{machine.name}.{machine.id}".encode() in child.read_bytes():
                os.kill(int(child.parent.name), signal.SIGKILL)
    assert compute.wait_until_stopped(VM, PROJECT, A, 60.0)
    lost = compute.machine(VM, PROJECT, A)
    assert lost is not None
    assert (lost.status, lost.how) == ("stopped", "lost")
    assert lost.detail.startswith("Instance terminated by Compute Engine")


def test_what_is_not_there(cloud: Cloud) -> None:
    compute = cloud.compute()
    assert compute.machine(VM, PROJECT, A) is None
    assert compute.wait_until_stopped(VM, PROJECT, A, 60.0)
    for zone in (A, ""):
        with pytest.raises(NotFound, match=VM):
            compute.serial_output(VM, PROJECT, zone, 1, 0)
    for kind in ("machine", "disk", "image", "object"):
        compute.delete(kind, f"gs://goldsmith-bucket/{VM}" if kind == "object" else VM, PROJECT, A)


def test_a_machine_that_goes_on_printing_is_read_by_one_request(cloud: Cloud) -> None:
    """What is new after it is for the next call: a machine that prints without a pause has no end to wait for."""
    cloud.compute().create_machine(request())
    compute = cloud.fused()
    assert compute.serial_output(VM, PROJECT, A, 1, 0)[0]
    assert compute.calls.made == ["Instances.get_serial_port_output"]


def test_serial_output_goes_on_where_it_ended(cloud: Cloud) -> None:
    compute = cloud.compute()
    compute.create_machine(request())
    whole, end = compute.serial_output(VM, PROJECT, A, 1, 0)
    assert whole
    assert end == len(whole)
    assert compute.serial_output(VM, PROJECT, A, 1, end) == (b"", end)
    assert compute.serial_output(VM, PROJECT, A, 1, 10) == (whole[10:], end)


@pytest.mark.parametrize("reason", ["resourceNotReady", "invalid"])
def test_a_stopped_machine_may_have_no_serial_output(cloud: Cloud, reason: str) -> None:
    """It would never be deleted otherwise: its log is stored first."""
    compute = FusedCompute(cloud.settings, cloud.clock, Fuse())
    compute.create_machine(request())
    cloud.endpoint.fail_next("/serialPort", 400, 100, reason)
    with pytest.raises(CloudError):
        compute.serial_output(VM, PROJECT, A, 1, 0)
    cloud.endpoint.preempt(VM)
    assert compute.wait_until_stopped(VM, PROJECT, A, 60.0)
    with pytest.raises(NotFound, match="has stopped"):
        compute.serial_output(VM, PROJECT, A, 1, 0)


def test_everything_of_ours_is_listed_and_nothing_else(cloud: Cloud, tmp_path: Path) -> None:
    cloud.compute(delivery="disk").create_machine(request())
    disks = cloud.client(compute_v1.DisksClient)
    for name, labels in (("others", {}), ("odd", {"goldsmith-build": BUILD_ID, "goldsmith-expires": "1"})):
        disk = compute_v1.Disk(name=name, size_gb=10, labels=labels)
        disks.insert_unary(project=PROJECT, zone=A, disk_resource=disk)
    compute = cloud.compute()
    found = [(each.kind, each.name, each.zone) for each in compute.labelled(PROJECT)]
    assert found == [
        ("machine", VM, A),
        ("disk", BOOT, A),
        ("disk", f"{VM}-ci", A),
        ("image", f"{VM}-ci", ""),
    ]
    assert {each.build_id for each in compute.labelled(PROJECT)} == {BUILD_ID}
    assert {each.expires for each in compute.labelled(PROJECT)} == {float(request().labels["goldsmith-expires"])}
    for name in ("others", "odd"):
        compute.delete("disk", name, PROJECT, A)
        assert f"{A}/{name}" in cloud.disks(), "it is none of a build's"
        disks.delete_unary(project=PROJECT, zone=A, disk=name)


@pytest.mark.parametrize("silent", ["instances", "disks"])
def test_a_zone_that_does_not_answer_is_not_taken_for_empty(cloud: Cloud, silent: str) -> None:
    def answer(what: str) -> dict[str, Any]:
        warning = {"code": "UNREACHABLE" if what == silent else "NO_RESULTS_ON_PAGE", "message": "no answer"}
        return {"items": {f"zones/{B}": {"warning": warning}}}

    application = Flask("unreachable")
    path = f"/compute/v1/projects/{PROJECT}/aggregated/<what>"
    application.add_url_rule(path, "aggregated", lambda what: answer(what))
    with HttpServer(application) as server:
        compute = cloud.compute(compute_endpoint=server.url)
        with pytest.raises(Transient, match=f"zone {B} does not say what is in it: no answer"):
            compute.create_machine(request())
