"""An honest world in memory: the ports of shared/ports.py without a disk, a network or a clock that runs by itself.

Fakes, not mocks: they keep what they are given as the real adapters do - documents as JSON, messages until a test
takes them, a disk that cannot be deleted while a machine has it - and raise the classes of errors.py.
tests/world/fuse.py ends "the process" at one of these calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from provisioner.hygiene.hygiene import Finding
from provisioner.protocol import Step
from shared.build.build import ArchiveRecord, ExportedFile, ExportedImage
from shared.build.events import Stop
from shared.build.plan import Plan
from shared.errors import AlreadyExists, DiskGone, NotFound, Permanent, Transient
from shared.export_ports import DiskRequest
from shared.image_users import ImageUse
from shared.names import BUILD_LABEL, COPY_LABEL, EXPIRES_LABEL
from shared.ports import (
    CopyRequest,
    Duplicate,
    Image,
    ImageRequest,
    Machine,
    MachineRequest,
    Message,
    Package,
    Progress,
    Resource,
    ResourceKind,
    Status,
)
from tests.world.fuse import Fuse
from tests.world.memory_bucket import MemoryBucket
from tests.world.values import NOON

PACKAGES = (Package("base-files", "12.4", "amd64"), Package("libc6", "2.36-9", "amd64"))


class FakeClock:
    """Stands still until it is stepped; a pause is a step."""

    def __init__(self, time: float = NOON) -> None:
        self.time = time

    def now(self) -> float:
        return self.time

    def pause(self, most: float) -> None:
        self.time += most


class MemoryBus:
    """Keeps every message until a test takes it out of `waiting`."""

    def __init__(self, fuse: Fuse | None = None) -> None:
        self.fuse = fuse or Fuse()
        self.waiting: list[Message] = []
        self.published: list[Message] = []  # all there ever were

    def publish(self, message: Message) -> None:
        self.fuse.touch()
        self.waiting.append(message)
        self.published.append(message)
        self.fuse.touch()


@dataclass
class FakeDisk:
    """A disk: what has been done on it."""

    zone: str
    labels: Mapping[str, str]
    source: str
    gigabytes: int = 10
    steps_done: set[str] = field(default_factory=set)  # by phase and index, as the provisioner's journal has them
    sequence: int = 0


@dataclass
class FakeMachine:
    """A machine that was asked for; its guest is in tests/world/world.py."""

    request: MachineRequest
    zone: str
    status: Status = "running"
    how: Stop | None = None
    waits: bool = False  # its guest, for a larger disk
    attached: dict[str, str] = field(default_factory=dict)  # disks that it was given while it runs, by their devices
    serial: dict[int, bytes] = field(default_factory=lambda: {1: b"console\n", 3: b""})

    def stop(self, how: Stop = "powered-off") -> None:
        self.status, self.how = "stopped", how


def _disks_of(request: MachineRequest) -> tuple[str, ...]:
    return (request.boot_disk, request.scratch_disk, request.root_disk)


class FakeCompute:
    """Compute Engine's rules, as far as a build can run into them."""

    def __init__(self, clock: FakeClock, bucket: MemoryBucket, fuse: Fuse | None = None) -> None:
        self.fuse = fuse or Fuse()
        self.machines: dict[str, FakeMachine] = {}
        self.disks: dict[str, FakeDisk] = {}
        self.all_images: dict[str, Image] = {}
        self.duplicates: dict[str, Image] = {}  # of published images, by PROJECT/NAME
        self.users: list[str] = []  # with whom images were shared
        self.image_requests: list[ImageRequest] = []
        self.image_uses: dict[str, list[ImageUse]] = {}  # by project
        self._made: dict[str, int] = {}  # how many images of a name there have been: no id comes twice
        self.copies = 0  # that were made of images
        self.findings: dict[str, list[Finding]] = {}  # of disks
        self.secret_findings: dict[str, list[Finding]] = {}  # of disks
        self.plans_checked: list[tuple[Plan, bool]] = []  # and whether a VM is made for it
        self.faults: dict[str, Exception] = {}  # of the next call of the method of that name
        self._clock = clock
        self._bucket = bucket

    def check(self, plan: Plan, *, boots: bool = True) -> None:
        self._call("check")
        self.plans_checked.append((plan, boots))

    def image(self, project: str, name: str) -> Image | None:
        self._call("image")
        return self.duplicates.get(f"{project}/{name}") or self.all_images.get(name)

    def images(self, project: str, *, family: str | None = None, prefix: str = "") -> Sequence[Image]:
        self._call("images")
        found = [i for i in self.all_images.values() if family in (None, i.family) and i.name.startswith(prefix)]
        return sorted(found, key=lambda image: -image.created)

    def every_image(self, project: str) -> Iterator[Image]:
        self._call("every_image")
        yield from list(self.all_images.values())

    def inspect_disk(self, name: str, source: str, places: Sequence[str] = ()) -> Sequence[Finding]:
        self._call("inspect_disk")
        return self.findings.get(name, ())

    def find_secrets(self, name: str, source: str, steps: Sequence[Step]) -> Sequence[Finding]:
        self._call("find_secrets")
        return self.secret_findings.get(name, ())

    def create_image(self, request: ImageRequest) -> Image:
        self._call("create_image")
        self.image_requests.append(request)
        existing = self.all_images.get(request.name)
        if existing is not None:
            if existing.source_disk != request.source_disk:
                raise AlreadyExists(f"there is another image {request.name}")
            return existing
        disk = self.disks.get(request.source_disk)
        if disk is None or disk.zone != request.zone:
            raise DiskGone(f"disk {request.source_disk} in {request.zone} is gone")
        if any(m.request.boot_disk == request.source_disk and m.status != "stopped" for m in self.machines.values()):
            raise Permanent(f"disk {request.source_disk} is in use")
        self._made[request.name] = count = self._made.get(request.name, 0) + 1
        image = Image(
            project=request.project,
            name=request.name,
            id=f"sha256-{request.name}" + (f".{count}" if count > 1 else ""),
            created=self._clock.now(),
            labels=dict(request.labels),
            licenses=request.licenses,
            source_disk=request.source_disk,
            disk_size_gb=disk.gigabytes,
        )
        self.all_images[request.name] = image
        self.fuse.touch()
        return image

    def copy_image(self, request: CopyRequest) -> Image:
        self._call("copy_image")
        existing, source = self.all_images.get(request.name), self.all_images.get(request.source)
        if existing is not None:
            if existing.source_image != request.source_id:
                raise AlreadyExists(f"there is another image {request.name}")
            return existing
        if source is None or source.id != request.source_id:
            raise NotFound(f"image {request.source} is gone")
        if source.is_obsolete:
            raise Permanent(f"image {request.source} is {source.deprecated}")
        self.copies += 1
        made = Image(
            request.project,
            request.name,
            f"copy-{self.copies}",
            self._clock.now() + self.copies,
            labels=source.labels,
            source_image=source.id,
        )
        self.all_images[request.name] = made
        self._call("copy_image")
        return made

    def export_image(self, project: str, name: str, target: str, compression: str, progress: Progress) -> ArchiveRecord:
        self._call("export_image")
        progress("writing", 0, 0)
        data = f"archive of {self._found(name).id}".encode()
        self._bucket.objects[target] = data
        self.fuse.touch()
        digest = hashlib.sha256(data).hexdigest()
        return ArchiveRecord(
            bytes=1000, sha256=digest, tar_sha256="b2" * 32, crc32="0" * 8, disk_bytes=10 << 30, data_bytes=600 << 20
        )

    def export_files(
        self, project: str, name: str, targets: Mapping[str, str], compression: str, progress: Progress
    ) -> ExportedImage:
        self._call("export_files")
        progress("writing", 0, 0)
        files = []
        for known, target in targets.items():
            data = f"{known} of {self._found(name).id}".encode()
            self._bucket.objects[target] = data
            self.fuse.touch()
            files.append(ExportedFile(known, len(data), hashlib.sha256(data).hexdigest()))
        return ExportedImage(tuple(files))

    def packages(self, project: str, name: str) -> Sequence[Package] | None:
        self._call("packages")
        return PACKAGES

    def disk_digest(self, project: str, name: str) -> str | None:
        self._call("disk_digest")
        return hashlib.sha256(f"disk of {self._found(name).id}".encode()).hexdigest()

    def label_image(self, image: Image, labels: Mapping[str, str]) -> None:
        self._call("label_image")
        found = self._found(image.name)
        if found.id != image.id or dict(found.labels) not in (dict(image.labels), dict(labels)):
            raise Transient(f"image {image.name} has changed meanwhile")
        self.all_images[image.name] = replace(found, labels=dict(labels))
        self.fuse.touch()

    def set_family(self, project: str, name: str, family: str | None) -> None:
        self._call("set_family")
        self.all_images[name] = replace(self._found(name), family=family)
        self.fuse.touch()

    def share_image(self, image: Image, member: str) -> None:
        self._call("share_image")
        if self._found(image.name).id != image.id:
            raise NotFound(f"image {image.name} is gone")
        self.users.append(member)
        self.fuse.touch()

    def duplicate_image(self, wanted: Duplicate) -> Image:
        self._call("duplicate_image")
        place = f"{wanted.project}/{wanted.name}"
        found = self.duplicates.get(place)
        if found is not None and found.labels.get(COPY_LABEL) != wanted.of.id:
            raise AlreadyExists(f"image {place} is no copy of {wanted.of.name}")
        if found is None:
            labels = {**wanted.of.labels, COPY_LABEL: wanted.of.id}
            found = Image(
                wanted.project,
                wanted.name,
                f"copy-{place}",
                self._clock.now(),
                labels=labels,
                source_image=wanted.of.id,
            )
            self.duplicates[place] = found
            self.fuse.touch()
        self.duplicates[place] = replace(found, family=wanted.family)
        self.fuse.touch()
        return self.duplicates[place]

    def deprecate_image(self, project: str, name: str, replacement: str, deletes_at: float | None) -> None:
        self._call("deprecate_image")
        found, other = self._found(name), self.all_images.get(replacement)
        if other is not None and other.is_obsolete:
            raise Transient(f"image {replacement} is {other.deprecated}")
        if not found.is_obsolete:
            self.all_images[name] = replace(
                found, deprecated="DEPRECATED", replacement=replacement, deletes_at=deletes_at
            )
        self.fuse.touch()

    def activate_image(self, image: Image) -> None:
        self._call("activate_image")
        found = self._found(image.name)
        if found.deprecated is not None and (found.deprecated, found.replacement) != ("DEPRECATED", image.replacement):
            raise Transient(f"image {image.name} has changed meanwhile")
        self.all_images[image.name] = replace(found, deprecated=None, replacement=None, deletes_at=None)
        self.fuse.touch()

    def obsolete_image(self, image: Image, active: str) -> None:
        self._call("obsolete_image")
        place = f"{image.project}/{image.name}"
        if place in self.duplicates:
            self.duplicates[place] = replace(self.duplicates[place], deprecated="OBSOLETE")
            return
        found = self._found(image.name)
        if active and (self._found(active).deprecated is not None or self._found(active).family != found.family):
            raise Transient(f"image {active} is not active any more")
        if not active and not found.is_obsolete and found.deprecated != image.deprecated:
            raise Transient(f"image {image.name} has changed meanwhile")
        if not found.is_obsolete:
            self.all_images[image.name] = replace(
                found, deprecated="OBSOLETE", replacement=active or None, deletes_at=None
            )
        self.fuse.touch()

    def create_machine(self, request: MachineRequest) -> str:
        self._call("create_machine")
        if request.name in self.machines:
            return self.machines[request.name].zone
        disk = self.disks.get(request.boot_disk)
        if disk is None:
            zone = request.plan.zones[-1] if request.plan.zones else "here"  # the first ones have a stockout
            disk = FakeDisk(zone, request.labels, request.source_image, request.plan.disk_size_gb)
            self.disks[request.boot_disk] = disk
            self.fuse.touch()
        if any(machine.request.boot_disk == request.boot_disk for machine in self.machines.values()):
            raise Transient(f"disk {request.boot_disk} is in use")
        if request.boot_disk not in self.disks:
            raise Transient(f"disk {request.boot_disk} was deleted meanwhile")
        if request.scratch_disk:
            self.disks[request.scratch_disk] = FakeDisk(disk.zone, request.labels, "", request.plan.scratch_gb)
        if request.root_disk:
            self.disks[request.root_disk] = FakeDisk(disk.zone, request.labels, "", request.root_gb)
        self.machines[request.name] = FakeMachine(request, disk.zone)
        self.fuse.touch()
        return disk.zone

    def machine(self, name: str, project: str, zone: str) -> Machine | None:
        self._call("machine")
        machine = self._in_zone(name, zone)
        return None if machine is None else Machine(name, machine.zone, machine.status, machine.how)

    def wait_until_stopped(self, name: str, project: str, zone: str, seconds: float) -> bool:
        self._call("wait_until_stopped")
        machine = self._in_zone(name, zone)
        if machine is None or machine.status == "stopped":
            return True
        self._clock.pause(seconds)
        return False

    def grow_disk(self, name: str, project: str, zone: str, gigabytes: int) -> None:
        self._call("grow_disk")
        disk = self.disks.get(name)
        if disk is None or disk.zone != zone:
            raise NotFound(f"there is no disk {name} in {zone}")
        disk.gigabytes = max(disk.gigabytes, gigabytes)
        self.fuse.touch()

    def attach_disk(self, request: DiskRequest) -> None:
        self._call("attach_disk")
        machine = self._in_zone(request.machine, request.zone)
        if machine is None:
            raise NotFound(f"there is no machine {request.machine} in {request.zone}")
        if request.name not in self.disks:
            self._found(request.source_image)
            self.disks[request.name] = FakeDisk(request.zone, request.labels, request.source_image)
        self.fuse.touch()
        machine.attached[request.device] = request.name

    def serial_output(self, name: str, project: str, zone: str, port: int, start: int) -> tuple[bytes, int]:
        self._call("serial_output")
        machine = self._in_zone(name, zone)
        if machine is None or port not in machine.serial:
            raise NotFound(f"there is no machine {name} in {zone}, or nothing of it to read")
        return machine.serial[port][start:], len(machine.serial[port])

    def delete(self, kind: ResourceKind, name: str, project: str, zone: str, *, image_id: str = "") -> None:
        self._call("delete")
        if kind == "machine" and self._in_zone(name, zone) is not None:
            gone = self.machines.pop(name).request
            self.disks.pop(gone.scratch_disk, None)
            self.disks.pop(gone.root_disk, None)
        elif kind == "disk" and name in self.disks and zone in (self.disks[name].zone, ""):
            used = [(*_disks_of(machine.request), *machine.attached.values()) for machine in self.machines.values()]
            if any(name in disks for disks in used):
                raise Transient(f"disk {name} is in use")
            del self.disks[name]
        elif kind == "image" and name in self.all_images and image_id in ("", self.all_images[name].id):
            del self.all_images[name]
        self.fuse.touch()

    def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
        self._call("uses")
        yield from self.image_uses.get(project, ())

    def labelled(self, project: str) -> Iterator[Resource]:
        for name, machine in self.machines.items():
            yield _resource("machine", name, machine.zone, machine.request.labels)
        for name, disk in self.disks.items():
            yield _resource("disk", name, disk.zone, disk.labels)

    def _call(self, method: str) -> None:
        self.fuse.touch()
        if method in self.faults:
            raise self.faults.pop(method)

    def _found(self, name: str) -> Image:
        if name not in self.all_images:
            raise NotFound(f"there is no image {name}")
        return self.all_images[name]

    def _in_zone(self, name: str, zone: str) -> FakeMachine | None:
        machine = self.machines.get(name)
        return machine if machine is not None and zone in (machine.zone, "") else None


def _resource(kind: ResourceKind, name: str, zone: str, labels: Mapping[str, str]) -> Resource:
    expires = float(labels[EXPIRES_LABEL])
    return Resource(kind, name, zone, labels[BUILD_LABEL], expires)
