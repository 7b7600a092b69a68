"""The request for a build VM on Compute Engine: the instance's whole description, a pure function of its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.cloud import compute_v1

from provisioner.protocol import ROOT_DISK, SCRATCH

from ...build.machine_types import has_local_ssd, is_moved, smallest_disk_gb
from ...build.plan import MachinePlan
from ...ports import MachineRequest
from .calls import API

SCOPE = "https://www.googleapis.com/auth/cloud-platform"  # IAM alone says what the account may do
HYPERDISK = "hyperdisk-"  # how the names of their types begin
SHORTEST_RUN, LONGEST_RUN = 30, 120 * 86400  # seconds, Compute Engine's limits of maxRunDuration


def instance(
    request: MachineRequest,
    zone: str,
    *,
    service_account: str,
    metadata: Mapping[str, str],
    disks: Sequence[compute_v1.AttachedDisk],
    secure_boot: bool = False,
) -> compute_v1.Instance:
    """Describe the machine in a zone.

    Unless `secure_boot` is asked for, nothing is said of Shielded VM: an image that can be booted by UEFI gets vTPM and
    integrity monitoring by itself, and one that cannot would be refused with them. The policy requireShieldedVm wants
    all three.
    """
    plan = request.plan
    described = compute_v1.Instance(
        name=request.name,
        machine_type=f"zones/{zone}/machineTypes/{plan.machine_type}",
        disks=list(disks),
        network_interfaces=[_network(plan, zone)],
        scheduling=_scheduling(plan, request.max_seconds, restarts=request.restarts and not plan.spot),
        metadata=compute_v1.Metadata(
            items=[compute_v1.Items(key=key, value=value) for key, value in sorted(metadata.items())]
        ),
        service_accounts=[compute_v1.ServiceAccount(email=service_account, scopes=[SCOPE])],
        labels=dict(request.labels),
    )
    if secure_boot:
        described.shielded_instance_config = compute_v1.ShieldedInstanceConfig(
            enable_secure_boot=True, enable_vtpm=True, enable_integrity_monitoring=True
        )
    if plan.gpu_type:
        kind = f"zones/{zone}/acceleratorTypes/{plan.gpu_type}"
        described.guest_accelerators = [compute_v1.AcceleratorConfig(accelerator_type=kind, accelerator_count=1)]
    return described


def boot_disk(request: MachineRequest, zone: str) -> compute_v1.AttachedDisk:
    """Describe a boot disk that is made with the machine, and outlives it."""
    return _new_disk(
        request,
        boot=True,
        auto_delete=False,
        initialize_params=compute_v1.AttachedDiskInitializeParams(
            disk_name=request.boot_disk,
            disk_size_gb=request.plan.disk_size_gb,
            disk_type=f"zones/{zone}/diskTypes/{request.plan.disk_type}",
            source_image=f"{API}projects/{request.source_project}/global/images/{request.source_image}",
            labels=dict(request.labels),
        ),
    )


def earlier_boot_disk(request: MachineRequest, zone: str) -> compute_v1.AttachedDisk:
    """Describe the boot disk that an earlier attempt has left, with all that was done on it."""
    path = f"projects/{request.plan.project}/zones/{zone}/disks/{request.boot_disk}"
    return compute_v1.AttachedDisk(boot=True, auto_delete=False, source=API + path)


def data_disk(request: MachineRequest, zone: str, name: str, image: str) -> compute_v1.AttachedDisk:
    """Describe a disk of an image, which is made and deleted with the machine.

    Compute Engine attaches a disk that it makes with a machine for writing only; a file system that cannot be written
    to, such as ISO 9660, is safe all the same.
    """
    parameters = compute_v1.AttachedDiskInitializeParams(
        disk_name=name,
        disk_type=f"zones/{zone}/diskTypes/{request.plan.disk_type}",
        source_image=f"{API}projects/{request.plan.project}/global/images/{image}",
        labels=dict(request.labels),
    )
    if smallest := smallest_disk_gb(request.plan.disk_type):  # otherwise as large as the image
        parameters.disk_size_gb = smallest
    return _new_disk(request, auto_delete=True, device_name=name, initialize_params=parameters)


def scratch_disks(request: MachineRequest, zone: str) -> list[compute_v1.AttachedDisk]:
    """Describe the blank disk, where one is wanted, which is made and deleted with the machine."""
    if not request.scratch_disk:
        return []
    size = max(request.plan.scratch_gb, smallest_disk_gb(request.plan.disk_type))
    return [_blank(request, zone, request.scratch_disk, size, SCRATCH)]


def root_disks(request: MachineRequest, zone: str) -> list[compute_v1.AttachedDisk]:
    """Describe the blank disk that a root goes to, where one is wanted; the image has its very size."""
    return [_blank(request, zone, request.root_disk, request.root_gb, ROOT_DISK)] if request.root_disk else []


def _blank(request: MachineRequest, zone: str, name: str, gigabytes: int, device: str) -> compute_v1.AttachedDisk:
    parameters = compute_v1.AttachedDiskInitializeParams(
        disk_name=name,
        disk_size_gb=gigabytes,
        disk_type=f"zones/{zone}/diskTypes/{request.plan.disk_type}",
        labels=dict(request.labels),
    )
    return _new_disk(request, auto_delete=True, device_name=device, initialize_params=parameters)


def attached_to_be_read(disk: str, device: str, disk_type: str) -> compute_v1.AttachedDisk:
    """Describe a disk, by its URL, that a machine which runs is given, and that only it has.

    It is attached for reading alone, which a Hyperdisk is not while one machine at most may have it.
    """
    mode = "READ_WRITE" if disk_type.startswith(HYPERDISK) else "READ_ONLY"
    return compute_v1.AttachedDisk(source=disk, device_name=device, mode=mode, auto_delete=False)


def customer_key(name: str | None) -> compute_v1.CustomerEncryptionKey | None:
    """Return a key of Cloud KMS as requests have it; None, which they leave out, for Google's own."""
    return None if name is None else compute_v1.CustomerEncryptionKey(kms_key_name=name)


def _new_disk(request: MachineRequest, **described: Any) -> compute_v1.AttachedDisk:
    """Describe a disk that is made with the machine, encrypted by the plan's key."""
    return compute_v1.AttachedDisk(disk_encryption_key=customer_key(request.plan.kms_key), **described)


def _scheduling(plan: MachinePlan, seconds: float, *, restarts: bool) -> compute_v1.Scheduling:
    """Make the machine end by itself, even if everything else is down.

    STOP and not DELETE: a machine that has ended must still be seen, to tell a preemption from a loss, and its serial
    ports to be read.
    """
    limit = compute_v1.Duration(seconds=max(SHORTEST_RUN, min(LONGEST_RUN, int(seconds))))
    scheduling = compute_v1.Scheduling(max_run_duration=limit, instance_termination_action="STOP")
    if has_local_ssd(plan.machine_type):  # else STOP is refused; no step is told of these disks
        scheduling.on_instance_stop_action = compute_v1.SchedulingOnInstanceStopAction(discard_local_ssd=True)
    if plan.spot:
        scheduling.provisioning_model = "SPOT"
    if not restarts:  # Compute Engine's default for others is that they do
        scheduling.automatic_restart = False
    moved = is_moved(plan.machine_type) and not (plan.spot or plan.gpu_type)
    scheduling.on_host_maintenance = "MIGRATE" if moved else "TERMINATE"  # Compute Engine refuses MIGRATE for others
    return scheduling


def _network(plan: MachinePlan, zone: str) -> compute_v1.NetworkInterface:
    interface = compute_v1.NetworkInterface()
    if plan.network or not plan.subnet:
        interface.network = _path(plan.network or "default", "global/networks")
    if plan.subnet:
        interface.subnetwork = _path(plan.subnet, f"regions/{zone.rpartition('-')[0]}/subnetworks")
    if plan.external_ip:
        access = compute_v1.AccessConfig(type_="ONE_TO_ONE_NAT", name="External NAT", network_tier="PREMIUM")
        interface.access_configs = [access]
    return interface


def _path(name: str, collection: str) -> str:
    """Return a resource by its whole name, or below a collection of the machine's own project."""
    return name if "/" in name else f"{collection}/{name}"
