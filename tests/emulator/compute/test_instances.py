"""Instances and disks, as Google's client library sees them; the machines run, and their guest does nothing."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from google.api_core.exceptions import BadRequest, Conflict, Forbidden, NotFound, ServiceUnavailable
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1
from google.cloud.compute_v1 import (
    AcceleratorConfig,
    AccessConfig,
    AttachedDisk,
    AttachedDiskInitializeParams,
    Disk,
    Duration,
    Image,
    Instance,
    InstancesSetLabelsRequest,
    Items,
    Metadata,
    NetworkInterface,
    Operation,
    Scheduling,
    ShieldedInstanceConfig,
)

from emulator.compute.places import ZONES
from emulator.web.identity import Identity
from tests.emulator.compute.clients import IDLE, PROJECT, ZONE, Cloud, idle_cloud, instance_of

SOURCE = f"projects/debian-cloud/global/images/family/{IDLE}"


@pytest.fixture
def cloud(tmp_path: Path, identity: Identity) -> Iterator[Cloud]:
    with idle_cloud(tmp_path, identity) as cloud:
        yield cloud


def idle(name: str = "vm-1", **fields: object) -> Instance:
    return instance_of(SOURCE, name, **fields)


def failure(operation: Operation) -> tuple[str, str]:
    [error] = operation.error.errors
    return error.code, error.message


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_endpoint_is_up_at_once(cloud: Cloud, identity: Identity) -> None:
    cloud.endpoint.close()
    began = time.monotonic()
    with cloud.open(identity):
        assert time.monotonic() - began < 20


def test_instance_lives_from_insert_to_delete(cloud: Cloud) -> None:
    created = cloud.make(
        idle(
            labels={"goldsmith-build": "b-1"},
            metadata=Metadata(items=[Items(key="user-data", value="#cloud-config\n")]),
            shielded_instance_config=ShieldedInstanceConfig(enable_secure_boot=True),
        )
    )
    assert (created.operation_type, created.progress, created.error.errors) == ("insert", 100, [])
    instance = cloud.instance("vm-1")
    assert created.target_id == instance.id
    assert (instance.status, instance.labels) == ("RUNNING", {"goldsmith-build": "b-1"})
    assert [(item.key, item.value) for item in instance.metadata.items] == [("user-data", "#cloud-config\n")]
    assert instance.shielded_instance_config.enable_secure_boot
    assert instance.machine_type.endswith(f"/zones/{ZONE}/machineTypes/e2-standard-2")
    [attached] = instance.disks
    assert (attached.boot, attached.disk_size_gb) == (True, 1)
    disk = cloud.disks.get(project=PROJECT, zone=ZONE, disk="vm-1-disk")
    assert (disk.self_link, list(disk.users)) == (attached.source, [instance.self_link])
    assert [found.name for found in cloud.instances.list(project=PROJECT, zone=ZONE)] == ["vm-1"]
    scopes = cloud.instances.aggregated_list(project=PROJECT)
    everywhere = {zone: [one.name for one in found.instances] for zone, found in scopes}
    assert everywhere == {f"zones/{zone}": ["vm-1"] if zone == ZONE else [] for zone in ZONES}

    cloud.done(cloud.instances.stop_unary(project=PROJECT, zone=ZONE, instance="vm-1"))
    assert cloud.instance("vm-1").status == "TERMINATED"
    cloud.done(cloud.instances.start_unary(project=PROJECT, zone=ZONE, instance="vm-1"))
    assert cloud.instance("vm-1").status == "RUNNING"
    cloud.done(cloud.instances.delete_unary(project=PROJECT, zone=ZONE, instance="vm-1"))
    with pytest.raises(NotFound, match="instances/vm-1' was not found"):
        cloud.instance("vm-1")
    assert list(cloud.disks.get(project=PROJECT, zone=ZONE, disk="vm-1-disk").users) == []


def test_disks_that_go_with_the_instance_go(cloud: Cloud) -> None:
    instance = idle()
    instance.disks[0].auto_delete = True
    scratch = AttachedDiskInitializeParams(disk_name="scratch", disk_size_gb=3)
    instance.disks.append(AttachedDisk(auto_delete=True, initialize_params=scratch))
    assert not cloud.make(instance).error.errors
    disks = {disk.name: disk.size_gb for disk in cloud.disks.list(project=PROJECT, zone=ZONE)}
    assert disks == {"vm-1-disk": 1, "scratch": 3}
    cloud.done(cloud.instances.delete_unary(project=PROJECT, zone=ZONE, instance="vm-1"))
    assert list(cloud.disks.list(project=PROJECT, zone=ZONE)) == []
    assert not list((cloud.home / "compute").glob(".scratch-*/*"))


def test_disk_in_use_is_neither_deleted_nor_captured(cloud: Cloud) -> None:
    cloud.make(idle())
    with pytest.raises(BadRequest, match="is already being used by 'projects/") as refused:
        cloud.disks.delete_unary(project=PROJECT, zone=ZONE, disk="vm-1-disk")
    assert refused.value.errors[0]["reason"] == "resourceInUseByAnotherResource"
    image = Image(name="captured", source_disk=f"zones/{ZONE}/disks/vm-1-disk")
    with pytest.raises(BadRequest, match="is already being used by"):
        cloud.images.insert_unary(project=PROJECT, image_resource=image)
    cloud.done(cloud.instances.stop_unary(project=PROJECT, zone=ZONE, instance="vm-1"))
    assert not cloud.done(cloud.images.insert_unary(project=PROJECT, image_resource=image)).error.errors
    with pytest.raises(BadRequest):  # attached to an instance that is stopped
        cloud.disks.delete_unary(project=PROJECT, zone=ZONE, disk="vm-1-disk")


def test_disk_of_an_earlier_attempt_boots_the_next(cloud: Cloud) -> None:
    cloud.make(idle("vm-1"))
    second = idle("vm-2")
    second.disks = [AttachedDisk(boot=True, source=f"zones/{ZONE}/disks/vm-1-disk")]
    with pytest.raises(BadRequest, match="already being used"):
        cloud.make(second)
    cloud.done(cloud.instances.delete_unary(project=PROJECT, zone=ZONE, instance="vm-1"))
    assert not cloud.make(second).error.errors
    assert cloud.instance("vm-2").status == "RUNNING"


def test_preempted_instance_is_terminated_and_an_operation_tells_why(cloud: Cloud) -> None:
    spot = Scheduling(provisioning_model="SPOT", instance_termination_action="STOP")
    cloud.make(idle(scheduling=spot))
    cloud.endpoint.preempt("vm-1")
    assert cloud.instance("vm-1").status == "TERMINATED"
    request = {"project": PROJECT, "zone": ZONE, "filter": 'operationType="compute.instances.preempted"'}
    [operation] = cloud.zone_operations.list(request=request)
    assert operation.target_link == cloud.instance("vm-1").self_link
    assert (operation.status, operation.user) == (Operation.Status.DONE, "system")
    cloud.make(idle("vm-2", scheduling=Scheduling(provisioning_model="SPOT", instance_termination_action="DELETE")))
    cloud.endpoint.preempt("vm-2")
    with pytest.raises(NotFound):
        cloud.instance("vm-2")


@pytest.mark.parametrize("action", ["STOP", "DELETE"])
def test_instance_that_has_run_for_as_long_as_it_may_is_ended(cloud: Cloud, action: str) -> None:
    cloud.make(idle(scheduling=Scheduling(max_run_duration=Duration(seconds=1), instance_termination_action=action)))

    def statuses() -> list[str]:
        return [found.status for found in cloud.instances.list(project=PROJECT, zone=ZONE)]

    until(lambda: statuses() == (["TERMINATED"] if action == "STOP" else []))
    assert cloud.disks.get(project=PROJECT, zone=ZONE, disk="vm-1-disk").name == "vm-1-disk"


def test_zone_without_room_and_quota_fail_the_operation_and_leave_nothing(cloud: Cloud) -> None:
    cloud.endpoint.exhaust(ZONE)
    assert failure(cloud.make(idle())) == (
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        f"The zone 'projects/{PROJECT}/zones/{ZONE}' does not have enough resources available to fulfill the request.  "
        "Try a different zone, or try again later.",
    )
    cloud.endpoint.faults.clear()
    cloud.endpoint.quota("CPUS")
    operation = cloud.make(idle())
    assert failure(operation) == ("QUOTA_EXCEEDED", "Quota 'CPUS' exceeded.  Limit: 0.0 in region us-central1.")
    assert operation.http_error_status_code == 403
    assert list(cloud.instances.list(project=PROJECT, zone=ZONE)) == []
    assert list(cloud.disks.list(project=PROJECT, zone=ZONE)) == []
    cloud.endpoint.faults.clear()
    assert not cloud.make(idle()).error.errors


def test_denied_permission_is_named(cloud: Cloud) -> None:
    cloud.endpoint.deny("compute.instances.create")
    text = f"Required 'compute.instances.create' permission for 'projects/{PROJECT}/zones/{ZONE}/instances/vm-1'"
    with pytest.raises(Forbidden, match=text) as refused:
        cloud.make(idle())
    assert refused.value.errors[0]["reason"] == "forbidden"


def test_requests_fail_as_often_as_asked_for(cloud: Cloud) -> None:
    cloud.endpoint.fail_next("GET .*/instances/", 403)
    with pytest.raises(Forbidden) as refused:
        cloud.instance("vm-1")
    assert refused.value.errors[0]["reason"] == "rateLimitExceeded"
    cloud.endpoint.fail_next("/instances/", 503, times=2, reason="backendError")
    for _ in range(2):
        with pytest.raises(ServiceUnavailable):
            cloud.instances.get(project=PROJECT, zone=ZONE, instance="vm-1", retry=None)
    with pytest.raises(NotFound):
        cloud.instance("vm-1")


def test_lost_answer_is_found_by_the_same_request(cloud: Cloud) -> None:
    disk = Disk(name="empty", size_gb=1)
    request = {"project": PROJECT, "zone": ZONE, "disk_resource": disk, "request_id": str(uuid.uuid4())}
    cloud.endpoint.lose_answer("POST .*/disks")
    with pytest.raises(requests.exceptions.ConnectionError):
        cloud.disks.insert_unary(request=request)
    assert not cloud.done(cloud.disks.insert_unary(request=request)).error.errors


def test_token_of_another_cloud_is_refused(cloud: Cloud, identity: Identity) -> None:
    def status(token: str) -> int:
        url = f"{cloud.endpoint.url}/compute/v1/projects/{PROJECT}/zones"
        return requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=20).status_code

    assert status(identity.access_token("stranger@example.com")) == 200
    assert status("another") == 401


def test_places_are_those_that_the_endpoint_was_given(cloud: Cloud) -> None:
    options, anonymous = {"api_endpoint": cloud.endpoint.url}, AnonymousCredentials()
    zones = compute_v1.ZonesClient(client_options=options, credentials=anonymous)
    assert [zone.name for zone in zones.list(project=PROJECT)] == list(ZONES)
    with pytest.raises(NotFound, match="zones/mars-1-a' was not found"):
        zones.get(project=PROJECT, zone="mars-1-a")
    types = compute_v1.MachineTypesClient(client_options=options, credentials=anonymous)
    large = types.get(project=PROJECT, zone=ZONE, machine_type="n2-highmem-8")
    assert (large.guest_cpus, large.memory_mb) == (8, 65536)
    assert len({found.name for found in types.list(project=PROJECT, zone=ZONE)}) > 50
    scopes = types.aggregated_list(request={"project": PROJECT, "filter": "name=e2-small"})
    assert [[found.name for found in scoped.machine_types] for _, scoped in scopes] == [["e2-small"]] * len(ZONES)
    disk_types = compute_v1.DiskTypesClient(client_options=options, credentials=anonymous)
    assert disk_types.get(project=PROJECT, zone=ZONE, disk_type="pd-ssd").zone.endswith(ZONE)
    networks = compute_v1.NetworksClient(client_options=options, credentials=anonymous)
    assert [network.name for network in networks.list(project=PROJECT)] == ["default"]
    projects = compute_v1.ProjectsClient(client_options=options, credentials=anonymous)
    assert projects.get(project=PROJECT).name == PROJECT


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"name": "VM_1"}, "Invalid value for field 'resource.name': 'VM_1'. Must be a match of regex"),
        ({"machine_type": f"zones/{ZONE}/machineTypes/x9"}, "Machine type with name 'x9' does not exist in zone"),
        ({"machine_type": "e2-standard-2"}, "The URL is malformed"),
        (
            {"machine_type": f"zones/{ZONE}/machineTypes/t2a-standard-1"},
            r"boot disk architecture \(X86_64\) is not compatible with machine type architecture \(ARM64\)",
        ),
        ({"network_interfaces": []}, "At least one network interface is required"),
        ({"disks": []}, "Exactly one boot disk must be specified"),
        ({"labels": {"Key": "x"}}, "Invalid value for field 'resource.labels'"),
        ({"metadata": Metadata(items=[Items(key="a", value="x" * 300_000)])}, "is too large: maximum size 262144"),
        ({"scheduling": Scheduling(instance_termination_action="STOP")}, "cannot specify a termination action"),
        ({"scheduling": Scheduling(max_run_duration=Duration(seconds=10**8))}, "Must be between 1 and 10368000"),
        ({"scheduling": Scheduling(provisioning_model="SPOT", automatic_restart=True)}, "automaticRestart be false"),
        ({"guest_accelerators": [AcceleratorConfig(accelerator_count=1)]}, "do not support live migration"),
    ],
)  # fmt: skip
def test_bad_instance_is_refused_before_anything_is_made(cloud: Cloud, fields: dict[str, object], text: str) -> None:
    instance = Instance({**Instance.to_dict(idle()), **fields})
    with pytest.raises(BadRequest, match=text) as refused:
        cloud.make(instance)
    assert refused.value.errors[0]["reason"] == "invalid"
    assert list(cloud.disks.list(project=PROJECT, zone=ZONE)) == []


def test_unknown_image_zone_and_taken_name_are_refused(cloud: Cloud) -> None:
    with pytest.raises(NotFound, match="The resource 'projects/p/global/images/family/none' was not found"):
        cloud.make(instance_of("projects/p/global/images/family/none"))
    with pytest.raises(BadRequest, match="Invalid value for field 'zone': 'mars-1-a'"):
        cloud.make(idle(), zone="mars-1-a")
    small = idle()
    small.disks[0].initialize_params.disk_size_gb = 1
    cloud.make(small)
    with pytest.raises(Conflict, match="instances/vm-1' already exists"):
        cloud.make(idle())


def test_field_that_google_does_not_know_is_refused(cloud: Cloud) -> None:
    url = f"{cloud.endpoint.url}/compute/v1/projects/{PROJECT}/zones/{ZONE}/disks"
    answer = requests.post(url, json={"name": "d", "sizeGB": 10}, timeout=20)
    assert answer.status_code == 400
    message = 'Invalid JSON payload received. Unknown name "sizeGB": Cannot find field.'
    assert answer.json()["error"]["message"] == message
    assert requests.post(url, data="{", timeout=20).json()["error"]["errors"][0]["reason"] == "parseError"
    assert requests.get(f"{url}/d/nothing", timeout=20).status_code == 404
    assert requests.put(url, timeout=20).status_code == 405


def test_batch_of_requests_is_answered_in_its_order(cloud: Cloud) -> None:
    def batch(*targets: str) -> requests.Response:
        part = "--x\r\nContent-Type: application/http\r\nContent-ID: <{}>\r\n\r\nGET {} HTTP/1.1\r\n\r\n\r\n"
        body = "".join(part.format(number, target) for number, target in enumerate(targets)) + "--x--\r\n"
        headers = {"Content-Type": 'multipart/mixed; boundary="x"'}
        return requests.post(f"{cloud.endpoint.url}/batch/compute/v1", body, headers=headers, timeout=20)

    base = f"/compute/v1/projects/{PROJECT}"
    answer = batch(f"{base}/global/images/{IDLE}?alt=json", f"{base}/global/images/none")
    first, second = answer.text.split(answer.headers["Content-Type"].partition("boundary=")[2])[1:-1]
    assert ("HTTP/1.1 200 OK" in first, "<response-0>" in first, f'"name":"{IDLE}"' in first) == (True, True, True)
    assert ("HTTP/1.1 404 NOT FOUND" in second, "<response-1>" in second) == (True, True)
    assert batch("/batch/compute/v1").status_code == 400
    assert requests.post(f"{cloud.endpoint.url}/batch/compute/v1", "x", timeout=20).status_code == 400


def test_labels_and_metadata_of_a_running_instance_change(cloud: Cloud) -> None:
    cloud.make(idle())
    instance = cloud.instance("vm-1")
    labels = InstancesSetLabelsRequest(labels={"a": "b"}, label_fingerprint=instance.label_fingerprint)
    names = {"project": PROJECT, "zone": ZONE, "instance": "vm-1"}
    cloud.done(cloud.instances.set_labels_unary(request={**names, "instances_set_labels_request_resource": labels}))
    new = Metadata(items=[Items(key="k", value="v")], fingerprint=instance.metadata.fingerprint)
    cloud.done(cloud.instances.set_metadata_unary(request={**names, "metadata_resource": new}))
    changed = cloud.instance("vm-1")
    assert (changed.labels, changed.metadata.items[0].key) == ({"a": "b"}, "k")


def test_instance_with_an_address_shows_it(cloud: Cloud) -> None:
    interface = NetworkInterface(access_configs=[AccessConfig(name="External NAT", type_="ONE_TO_ONE_NAT")])
    cloud.make(idle(network_interfaces=[interface]))
    [config] = cloud.instance("vm-1").network_interfaces[0].access_configs
    assert config.nat_i_p


def test_deletion_during_the_insertion_leaves_no_machine(cloud: Cloud) -> None:
    inserting = cloud.instances.insert_unary(project=PROJECT, zone=ZONE, instance_resource=idle())
    deleting = cloud.instances.delete_unary(project=PROJECT, zone=ZONE, instance="vm-1")
    assert not cloud.done(inserting).error.errors
    assert not cloud.done(deleting).error.errors
    assert list(cloud.instances.list(project=PROJECT, zone=ZONE)) == []
    assert not processes(f"vm-1.{inserting.target_id}")


def test_end_that_no_request_asked_for_is_an_operation(cloud: Cloud) -> None:
    cloud.make(idle())
    instance = cloud.instance("vm-1")
    [pid] = processes(f"vm-1.{instance.id}")
    os.kill(pid, signal.SIGKILL)
    until(lambda: cloud.instance("vm-1").status == "TERMINATED")
    request = {"project": PROJECT, "zone": ZONE, "filter": f"targetId = {instance.id}"}
    operations = {found.operation_type: found for found in cloud.zone_operations.list(request=request)}
    assert operations.keys() == {"insert", "compute.instances.hostError"}
    assert "QEMU was killed by signal 9" in operations["compute.instances.hostError"].status_message


def test_serial_port_is_read_on_from_where_it_was_left(cloud: Cloud) -> None:
    cloud.make(idle())
    first = cloud.serial("vm-1")  # the emulator itself says first how the machine runs
    assert first.contents.startswith("goldsmith: ")
    assert first.next_ == len(first.contents.encode())
    rest = cloud.serial("vm-1", start=first.next_)
    assert (rest.contents, rest.start) == ("", first.next_)
    assert cloud.serial("vm-1", start=10).contents == first.contents[10:]
    assert cloud.serial("vm-1", port=2).contents == ""
    with pytest.raises(BadRequest, match="less than or equal to 4"):
        cloud.serial("vm-1", port=5)


def test_closed_endpoint_leaves_no_machine(tmp_path: Path, identity: Identity) -> None:
    with idle_cloud(tmp_path, identity) as cloud:
        cloud.make(idle())
        name = f"vm-1.{cloud.instance('vm-1').id}"
        assert processes(name)
    assert not processes(name)


def processes(text: str) -> list[int]:
    """The processes that have a text in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found
