"""Build VMs on Compute Engine: made in the first zone that has room, looked at, deleted.

Two deliveries of one order may be at work at once, and each may die between any two calls. What keeps them from making
two machines: both try the zones in the same order, names and request ids are the same, and a zone is left for the next
one only when Compute Engine has said that it has no room.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

from google.cloud import compute_v1

from ...build.events import Stop
from ...errors import AlreadyExists, CloudError, DiskGone, NotFound, Permanent, Transient
from ...export_ports import DiskRequest
from ...names import BUILD_LABEL, is_own
from ...ports import Machine, MachineRequest, Status
from ..errors import Stockout
from ..settings import Settings
from . import instance
from .calls import API, Calls, Method, last
from .delivery import Cargo

_POLL = 2.0  # seconds, at most, between two looks
_OURS = "labels.goldsmith-build:*"
_STATUS: dict[str, Status] = {
    "PENDING": "starting",
    "PROVISIONING": "starting",
    "STAGING": "starting",
    "REPAIRING": "starting",  # its host has failed, and it will start on another one
    "RUNNING": "running",
    "PENDING_STOP": "stopping",
    "STOPPING": "stopping",
    "SUSPENDING": "stopping",
    "SUSPENDED": "stopping",  # its memory holds what its disk does not: not a disk to make an image of
    "DEPROVISIONING": "stopping",
    "STOPPED": "stopped",
    "TERMINATED": "stopped",
}
_UNSURE = ("PENDING", "PROVISIONING")  # may vanish again: the zone may have no room
_MISSING_IN_ZONE = re.compile("machineType|acceleratorType")  # a zone need not have every kind
_PREEMPTED = "compute.instances.preempted"
_TAKEN = ("compute.instances.hostError", "compute.instances.terminateOnHostMaintenance")
_POWERED_OFF = "compute.instances.guestTerminate"  # by itself, and so not by the `stop` of others


class CloudMachines:
    """The machines of all projects, and their disks."""

    def __init__(self, settings: Settings, calls: Calls) -> None:
        self._settings = settings
        self._calls = calls
        self._instances = calls.client(compute_v1.InstancesClient)
        self._disks = calls.client(compute_v1.DisksClient)

    def existing(self, request: MachineRequest, until: float) -> str | None:
        """Return the zone of a machine that has been made before; None when there is none."""
        project, zones = request.plan.project, self.zones(request)
        for found in self._everywhere(project, request.name, zones):
            zone = last(found.zone)
            if zone not in zones:
                continue
            _refuse_foreign(f"machine {request.name} in {zone}", found)
            if found.status in _UNSURE:
                self._settle(project, zone, request.name, until)
            return zone
        return None

    def create(self, request: MachineRequest, cargo: Cargo, until: float) -> str:
        """Make a machine that is not there, with its boot disk unless that is; give its zone.

        Transient when no zone has room. A disk of an earlier attempt stays where it is, and the machine with it.
        """
        disk_zone = self._zone_of_disk(request)
        boot = instance.earlier_boot_disk if disk_zone else instance.boot_disk
        refused: list[CloudError] = []
        for zone in (disk_zone,) if disk_zone else self.zones(request):
            try:
                blank = [*instance.scratch_disks(request, zone), *instance.root_disks(request, zone)]
                self._insert(request, zone, [boot(request, zone), *blank, *cargo.disks(request, zone)], cargo, until)
            except Stockout as error:
                refused.append(error)
                if not disk_zone:  # an empty disk left there would be taken for the one with our progress
                    self.delete_disk(request.plan.project, zone, request.boot_disk)
            except Permanent as error:
                if not _MISSING_IN_ZONE.search(str(error)):
                    raise
                refused.append(error)
            else:
                return zone
        text = f"machine {request.name} fits into no zone of its plan: {'; '.join(map(str, refused))}"
        raise Transient(text) if any(isinstance(error, Transient) for error in refused) else Permanent(text)

    def zones(self, request: MachineRequest) -> tuple[str, ...]:
        """Return the zones in the order in which they are tried."""
        return request.plan.zones or self._settings.zones

    def get(self, project: str, zone: str, name: str) -> Machine | None:
        """Look a machine up, in all zones when none is named."""
        found = self.find(project, zone, name)
        if found is None:
            return None
        status = _STATUS.get(found.status, "starting")  # one that Compute Engine has added since
        machine = Machine(name, last(found.zone), status)
        return self._with_its_end(project, found, machine) if status == "stopped" else machine

    def is_stopped(self, project: str, zone: str, name: str) -> bool:
        """Return whether a machine is stopped, or gone."""
        found = self.find(project, zone, name)
        return found is None or _STATUS.get(found.status) == "stopped"

    def find(self, project: str, zone: str, name: str) -> compute_v1.Instance | None:
        """Return a machine as Compute Engine has it; None where one of that name is no build's, too."""
        if not zone:
            found = self._everywhere(project, name, self._settings.zones)
            return next((one for one in found if is_own(name, one.labels)), None)
        request = compute_v1.GetInstanceRequest(project=project, zone=zone, instance=name)
        one = self._calls.look(f"machine {name} in {zone}", self._instances.get, request)
        return one if one is None or is_own(name, one.labels) else None

    def serial_output(self, project: str, zone: str, name: str, port: int, start: int) -> tuple[bytes, int]:
        """Read a serial port from offset `start`; Compute Engine keeps the last megabyte. NotFound.

        One request gives all that is there by now. To ask until nothing is new would never end for a machine that
        prints without a pause.
        It promises the output of machines that run alone, and refuses some that have stopped ("not ready"). That will
        not pass: who waits for it would never delete the machine, so it is NotFound too.
        """
        if not zone:
            found = self.find(project, zone, name)
            if found is None:
                raise NotFound(f"there is no machine {name} in project {project}")
            zone = last(found.zone)
        what = f"serial port {port} of machine {name} in {zone}"
        request = compute_v1.GetSerialPortOutputInstanceRequest(
            project=project, zone=zone, instance=name, port=port, start=start
        )
        try:
            answer = self._calls.start(what, self._instances.get_serial_port_output, request)
        except CloudError as error:
            if not self.is_stopped(project, zone, name):
                raise
            raise NotFound(f"{what}: the machine has stopped, and what it wrote cannot be read: {error}") from error
        return answer.contents.encode(), max(start, answer.next_)

    def delete(self, project: str, zone: str, name: str) -> None:
        """Delete a machine at once, running or not, and wait until it is gone; absent, or no build's, is fine."""
        for each in (zone,) if zone else self._settings.zones:
            found = self.find(project, each, name)
            if found is None:
                continue
            request = compute_v1.DeleteInstanceRequest(
                project=project,
                zone=each,
                instance=name,
                no_graceful_shutdown=True,
                request_id=self._calls.request_id("delete", project, each, "instances", name, str(found.id)),
            )
            self._delete(f"machine {name} in {each}", project, self._instances.delete_unary, request)

    def delete_disk(self, project: str, zone: str, name: str) -> None:
        """Delete a disk and wait until it is gone; absent, or no build's, is fine. Transient while a machine has it."""
        for each in (zone,) if zone else self._settings.zones:
            found = self._disk(project, each, name)
            if found is None or not is_own(name, found.labels):
                continue
            request = compute_v1.DeleteDiskRequest(
                project=project,
                zone=each,
                disk=name,
                request_id=self._calls.request_id("delete", project, each, "disks", name, str(found.id)),
            )
            self._delete(f"disk {name} in {each}", project, self._disks.delete_unary, request)

    def grow_disk(self, project: str, zone: str, name: str, gigabytes: int) -> None:
        """Make a disk as large, unless it is, and wait until it is. NotFound."""
        what = f"disk {name} in {zone}"
        found = self._known_disk(what, project, zone, name)
        if found.size_gb >= gigabytes:
            return
        request = compute_v1.ResizeDiskRequest(
            project=project,
            zone=zone,
            disk=name,
            disks_resize_request_resource=compute_v1.DisksResizeRequest(size_gb=gigabytes),
            request_id=self._calls.request_id("resize", project, zone, "disks", name, str(found.id), str(gigabytes)),
        )
        try:
            operation = self._calls.start(what, self._disks.resize_unary, request)
            self._calls.finish(what, operation, project, self._calls.until())
        except Permanent:  # another delivery of the same order was faster: to the same size again is refused
            if self._known_disk(what, project, zone, name).size_gb < gigabytes:
                raise
        if (size := self._known_disk(what, project, zone, name).size_gb) < gigabytes:
            raise Transient(f"{what}: it has {size} GB after it was made larger; it is looked at again")

    def attach_disk(self, request: DiskRequest, until: float) -> None:
        """Make the disk of an image unless it is there; attach it to a machine unless it is. NotFound, Permanent."""
        project, zone = request.project, request.zone
        machine = self.find(project, zone, request.machine)
        if machine is None:
            raise NotFound(f"there is no machine {request.machine} in {zone}")
        source = f"projects/{project}/zones/{zone}/disks/{request.name}"
        if any(last(disk.source) == request.name for disk in machine.disks):
            return
        self._refuse_foreign_disk(project, zone, request.name)
        self._make_disk(request, until)
        attached = instance.attached_to_be_read(API + source, request.device, request.disk_type)
        wanted = compute_v1.AttachDiskInstanceRequest(
            project=project,
            zone=zone,
            instance=request.machine,
            attached_disk_resource=attached,
            request_id=self._calls.request_id("attach", project, zone, "instances", request.machine, str(machine.id)),
        )
        what = f"disk {request.name} of machine {request.machine} in {zone}"
        self._calls.finish(what, self._calls.start(what, self._instances.attach_disk_unary, wanted), project, until)

    def _make_disk(self, request: DiskRequest, until: float) -> None:
        """Make the disk of an image, or wait for the one that another delivery of the order has begun."""
        project, zone, what = request.project, request.zone, f"disk {request.name} in {request.zone}"
        described = compute_v1.Disk(
            name=request.name,
            type_=f"{API}projects/{project}/zones/{zone}/diskTypes/{request.disk_type}",
            source_image=f"{API}projects/{request.source_project}/global/images/{request.source_image}",
            labels=dict(request.labels),
            disk_encryption_key=instance.customer_key(request.kms_key),
        )
        insert = compute_v1.InsertDiskRequest(
            project=project,
            zone=zone,
            disk_resource=described,
            request_id=self._calls.request_id("insert", project, zone, "disks", request.name),
        )
        try:
            self._calls.finish(what, self._calls.start(what, self._disks.insert_unary, insert), project, until)
        except AlreadyExists:
            while (found := self._disk(project, zone, request.name)) is not None and found.status != "READY":
                self._calls.poll(what, until, _POLL)

    def check_disk(self, project: str, zone: str, name: str, build: str, gigabytes: int) -> None:
        """Check that a disk is a build's own, by its label, and has its size. Permanent, NotFound."""
        what = f"disk {name} in {zone}"
        found = self._known_disk(what, project, zone, name)
        if found.labels.get(BUILD_LABEL) != build:
            label = found.labels.get(BUILD_LABEL) or "missing"
            raise Permanent(f"{what} was not made by this build, since its label {BUILD_LABEL} is {label}; build again")
        if found.size_gb != gigabytes:
            raise Permanent(f"{what} has {found.size_gb} GB, and was made with {gigabytes}; build again")

    def refuse_without_disk(self, project: str, zone: str, name: str) -> None:
        """Raise DiskGone where there is no such disk."""
        if self._disk(project, zone, name) is None:
            raise DiskGone(f"disk {name} in {zone} is gone")

    def _known_disk(self, what: str, project: str, zone: str, name: str) -> compute_v1.Disk:
        found = self._disk(project, zone, name)
        if found is None or not is_own(name, found.labels):
            raise NotFound(f"{what}: there is no such disk of a build")
        return found

    def _refuse_foreign_disk(self, project: str, zone: str, name: str) -> None:
        if (found := self._disk(project, zone, name)) is not None:
            _refuse_foreign(f"disk {name} in {zone}", found)

    def _disk(self, project: str, zone: str, name: str) -> compute_v1.Disk | None:
        request = compute_v1.GetDiskRequest(project=project, zone=zone, disk=name)
        return self._calls.look(f"disk {name} in {zone}", self._disks.get, request)

    def ours(self, project: str) -> Iterator[compute_v1.Instance]:
        """Return all machines with our label."""
        return self._all_instances(project, _OURS)

    def our_disks(self, project: str) -> Iterator[compute_v1.Disk]:
        """Return all disks with our label."""
        return self._all_disks(project, _OURS)

    def _insert(
        self,
        request: MachineRequest,
        zone: str,
        disks: Sequence[compute_v1.AttachedDisk],
        cargo: Cargo,
        until: float,
    ) -> None:
        what, project = f"machine {request.name} in {zone}", request.plan.project
        described = instance.instance(
            request,
            zone,
            service_account=request.plan.service_account or self._settings.vm_service_account,
            metadata=cargo.metadata,
            disks=disks,
            secure_boot=request.plan.secure_boot or self._settings.secure_boot,
        )
        insert = compute_v1.InsertInstanceRequest(
            project=project,
            zone=zone,
            instance_resource=described,
            request_id=self._calls.request_id("insert", project, zone, "instances", request.name),
        )
        try:
            operation = self._calls.start(what, self._instances.insert_unary, insert)
            repeated = operation.status == compute_v1.Operation.Status.DONE  # an earlier request's, so look again
            self._calls.finish(what, operation, project, until)
        except AlreadyExists:
            repeated = True  # made by another delivery of the same order
        except NotFound as error:
            raise Permanent(f"{error}; is the source image still there, and the machine type in this zone?") from error
        if not repeated:
            return
        try:
            self._settle(project, zone, request.name, until)
        except Transient:
            for disk in filter(
                None, (cargo.image, request.scratch_disk, request.root_disk)
            ):  # all that is there of one given up, maybe
                self._refuse_foreign_disk(project, zone, disk)
                self.delete_disk(project, zone, disk)
            raise

    def _settle(self, project: str, zone: str, name: str, until: float) -> None:
        """Wait until a machine that another caller asked for is there for good. Transient when it is not."""
        what = f"machine {name} in {zone}"
        while (found := self.find(project, zone, name)) is not None and found.status in _UNSURE:
            self._calls.poll(what, until, _POLL)
        if found is None:
            raise Transient(f"{what}: Compute Engine has given it up again; it can be tried again")

    def _zone_of_disk(self, request: MachineRequest) -> str | None:
        """Find the boot disk; of several, the one that a machine has had."""
        project = request.plan.project
        found = list(self._all_disks(project, f'name = "{request.boot_disk}"', self.zones(request)))
        for disk in found:
            _refuse_foreign(f"disk {request.boot_disk} in {last(disk.zone)}", disk)
        newest = max(found, key=lambda disk: disk.last_attach_timestamp, default=None)
        return None if newest is None else last(newest.zone)

    def _with_its_end(self, project: str, found: compute_v1.Instance, machine: Machine) -> Machine:
        """Return how a machine came to stop, as its operations record it."""
        request = compute_v1.ListZoneOperationsRequest(
            project=project, zone=machine.zone, filter=f'targetLink eq ".*/instances/{machine.name}"'
        )
        client = self._calls.client(compute_v1.ZoneOperationsClient)
        kinds: dict[str, compute_v1.Operation] = {}
        for operation in self._calls.pages(f"operations of machine {machine.name}", client.list, request):
            if operation.target_id == found.id and operation.insert_time >= found.last_start_timestamp:
                kinds[operation.operation_type] = operation
        how: Stop = "powered-off"
        detail = ""
        if _PREEMPTED in kinds:
            how, detail = "preempted", kinds[_PREEMPTED].status_message
        elif taken := [kinds[kind] for kind in _TAKEN if kind in kinds]:
            how, detail = "lost", taken[0].status_message
        elif _POWERED_OFF not in kinds and "stop" in kinds:
            how, detail = "lost", f"{kinds['stop'].user} stopped it"
        return replace(machine, how=how, detail=detail)

    def _delete(self, what: str, project: str, method: Method, request: object) -> None:
        try:
            self._calls.finish(what, self._calls.start(what, method, request), project, self._calls.until())
        except NotFound:
            return

    def _everywhere(self, project: str, name: str, needed: Sequence[str]) -> Iterator[compute_v1.Instance]:
        return self._all_instances(project, f'name = "{name}"', needed)

    def _all_instances(self, project: str, terms: str, needed: Sequence[str] = ()) -> Iterator[compute_v1.Instance]:
        """List over all zones. Transient when one of the zones `needed` does not answer: what is there is not known."""
        request = compute_v1.AggregatedListInstancesRequest(project=project, filter=terms)
        pages = self._calls.pages(f"machines of project {project}", self._instances.aggregated_list, request)
        for scope, scoped in pages:
            _check_answer(scope, scoped.warning, needed)
            yield from scoped.instances

    def _all_disks(self, project: str, terms: str, needed: Sequence[str] = ()) -> Iterator[compute_v1.Disk]:
        """List over all zones, as _all_instances() does."""
        request = compute_v1.AggregatedListDisksRequest(project=project, filter=terms)
        for scope, scoped in self._calls.pages(f"disks of project {project}", self._disks.aggregated_list, request):
            _check_answer(scope, scoped.warning, needed)
            yield from scoped.disks


def _refuse_foreign(what: str, found: compute_v1.Instance | compute_v1.Disk) -> None:
    """Raise Permanent for what has a name of ours without the build's label: it holds who knows what."""
    if not is_own(found.name, found.labels):
        raise Permanent(
            f"{what}: it is there and was not made for this build, since its label {BUILD_LABEL} is "
            f"{found.labels.get(BUILD_LABEL) or 'missing'}; delete it, and build again"
        )


def _check_answer(scope: str, told: object, needed: Sequence[str]) -> None:
    warning = cast("compute_v1.Warning", told)  # the library's own annotation leads to Python's Warning
    if last(scope) in needed and warning.code not in ("", "NO_RESULTS_ON_PAGE"):
        raise Transient(f"zone {last(scope)} does not say what is in it: {warning.message}; it is asked again")
