"""Compute Engine on this machine: images are the catalogue's, machines are QEMU's, disks are sparse files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from provisioner.hygiene import Finding
from provisioner.protocol import HYGIENE_OFF, SCRATCH, Job

from .. import resources
from ..build import ArchiveRecord
from ..cidata import cidata_files
from ..errors import AlreadyExists, CloudError, EnvironmentFault, InputError, NoSpace, NotFound, Permanent
from ..names import EXPIRES_LABEL, LOCAL
from ..plan import Plan, SourceImage
from ..ports import (
    Clock,
    Image,
    ImageRequest,
    Machine,
    MachineRequest,
    Package,
    Progress,
    Resource,
    ResourceKind,
)
from .build_folder import BuildFolder, build_ids
from .catalogue import Catalogue
from .disk import grow_disk
from .extents import copy_sparse
from .finished_disk import can_look_into, look_into, was_cut_off
from .machine import Machines, MachineSpec
from .package_lists import packages
from .qemu_command import DataDisk
from .root_files import RootFiles, RootUnreadable
from .scratch import faults

ZONE, ARCHITECTURE = "local", "x86_64"
GIB = 1 << 30
HEADROOM = GIB // 2  # bytes that a build may write beside the copy of its source
PACKED = 0.6  # an archive's size against the data in it, at the most that is usual
CONSOLE, REPORTS = 1, 3  # serial ports
STATE_FOLDER = "/var/lib/goldsmith"  # the provisioner's; the last thing that it deletes


class LocalCompute:
    """This machine as a project with one zone, both called `local`."""

    def __init__(
        self,
        home: Path,
        catalogue: Catalogue,
        machines: Machines,
        clock: Clock,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Keep everything below `home`; the environment says where Cloud Storage is, if that is played."""
        self._home = home
        self._catalogue = catalogue
        self._machines = machines
        self._clock = clock
        self._environment = environment

    def check(self, plan: Plan) -> None:
        """Look for QEMU, for room and for a place that the archive can be written to."""
        _check_source(plan.source)
        self._machines.check(plan.machine.boot, internet=plan.machine.internet)
        if any(step.action == "install-gpu" for step in plan.steps):
            _check_drivers(plan, self._environment)
        data = self._data_bytes(plan.source.name)
        _check_room(self._home, data + HEADROOM, "the build VM's disk")
        if plan.image.export_to is not None:
            _check_target(Path(plan.image.export_to), int(data * PACKED))

    def image(self, project: str, name: str) -> Image | None:
        """Look one image of the catalogue up."""
        self._only_local(project)
        return self._catalogue.get(name)

    def images(self, project: str, *, family: str | None = None, prefix: str = "") -> Sequence[Image]:
        """List images of the catalogue, newest first."""
        self._only_local(project)
        return self._catalogue.list(family=family, prefix=prefix)

    def inspect_disk(self, name: str, source: str) -> Sequence[Finding]:
        """Look into a disk; one that is gone, or cannot be read, has nothing to tell."""
        disk = BuildFolder.of_resource(self._home, name).disk(name)
        if not disk.exists():
            return ()
        _refuse_unclean(disk)
        try:
            return look_into(disk, self._catalogue.disk(source))
        except NotFound:  # deleted meanwhile: then all that is found counts
            return look_into(disk, None)

    def create_image(self, request: ImageRequest) -> Image:
        """Share the disk of a stopped machine with the catalogue: nothing is copied."""
        disk = BuildFolder.of_resource(self._home, request.source_disk).disk(request.source_disk)
        if not disk.exists():
            raise Permanent(f"disk {request.source_disk} is gone; no image can be made of it")
        _refuse_unclean(disk)
        try:
            return self._catalogue.add(
                disk,
                request.name,
                transfer="link",
                description=request.description,
                labels=request.labels,
                licenses=request.licenses,
                architecture=request.architecture,
                source_disk=request.source_disk,
            )
        except AlreadyExists:
            existing = self._catalogue.get(request.name)
            if existing is None or existing.source_disk != request.source_disk:
                raise
            return existing

    def export_image(self, project: str, name: str, target: str, compression: str, progress: Progress) -> ArchiveRecord:
        """Write the archive and read it back; both are told as progress."""
        from .archive import verify_archive, write_archive

        self._only_local(project)
        path = Path(target)
        _make_folder(path.parent)
        written = write_archive(
            self._catalogue.disk(name),
            path,
            level="best" if compression == "best" else "fast",
            progress=lambda done, total: progress("writing the archive", done, total),
        )
        tar_sha256 = verify_archive(
            path, written, progress=lambda done, total: progress("proving the archive", done, total)
        )
        return ArchiveRecord(
            bytes=written.bytes,
            sha256=written.sha256,
            tar_sha256=tar_sha256,
            crc32=written.crc32,
            disk_bytes=written.disk_bytes,
            data_bytes=written.data_bytes,
        )

    def packages(self, project: str, name: str) -> Sequence[Package] | None:
        """Read the package databases from the image's disk; None when its file system, or they, cannot be read."""
        self._only_local(project)
        try:
            return packages(RootFiles(self._catalogue.disk(name)))
        except RootUnreadable:
            return None

    def label_image(self, project: str, name: str, labels: Mapping[str, str]) -> None:
        """Set labels."""
        self._only_local(project)
        self._catalogue.set_labels(name, labels)

    def set_family(self, project: str, name: str, family: str | None) -> None:
        """Set or clear the family."""
        self._only_local(project)
        self._catalogue.set_family(name, family)

    def deprecate_image(self, project: str, name: str, replacement: str, deletes_at: float | None) -> None:
        """Mark an image DEPRECATED."""
        self._only_local(project)
        self._catalogue.deprecate(name, replacement, deletes_at)

    def create_machine(self, request: MachineRequest) -> str:
        """Copy the source's disk unless an earlier attempt has one, and start QEMU on it."""
        folder = BuildFolder.of_resource(self._home, request.name)
        disk = folder.disk(request.boot_disk)
        with faults(folder.path):
            folder.label(request.labels)
            if not disk.exists():
                self._copy_disk(request, disk)
        if self._machines.status(request.name) is None:
            context = None if request.context is None else Path(request.context.uri)
            self._machines.start(
                MachineSpec(
                    name=request.name,
                    folder=folder.machine(request.name),
                    disk=disk,
                    cidata=cidata_files(_without_check(request.job, disk), context),
                    boot=request.plan.boot,
                    cpus=request.plan.cpus,
                    memory_mb=request.plan.memory_mb,
                    internet=request.plan.internet,
                    data_disks=_scratch_disks(request, folder.machine(request.name)),
                )
            )
        return ZONE

    def machine(self, name: str, project: str, zone: str) -> Machine | None:
        """Look a machine up, whichever process started it."""
        return self._machines.status(name)

    def wait_until_stopped(self, name: str, project: str, zone: str, seconds: float) -> bool:
        """Wait for the QEMU process to end."""
        return self._machines.wait(name, seconds)

    def grow_disk(self, name: str, project: str, zone: str, gigabytes: int) -> None:
        """Make a boot disk's file larger; QEMU tells the machine that runs on it."""
        self._machines.grow_disk(BuildFolder.of_resource(self._home, name).disk(name), gigabytes * GIB)

    def serial_output(self, name: str, project: str, zone: str, port: int, start: int) -> tuple[bytes, int]:
        """Read the file that a serial port is written to."""
        folder = BuildFolder.of_resource(self._home, name).machine(name)
        path = folder / {CONSOLE: "console.log", REPORTS: "reports.log"}[port]
        try:
            with path.open("rb") as file:
                file.seek(start)
                output = file.read()
        except FileNotFoundError as error:
            raise NotFound(f"machine {name} has no serial output here") from error
        return output, start + len(output)

    def delete(self, kind: ResourceKind, name: str, project: str, zone: str) -> None:
        """Delete a machine, a disk or an image of this machine."""
        if kind == "image":
            self._catalogue.delete(name)
            return
        folder = BuildFolder.of_resource(self._home, name)
        if kind == "machine":
            self._machines.stop(name)
            with faults(folder.path), suppress(FileNotFoundError):
                shutil.rmtree(folder.machine(name))
        elif kind == "disk":
            with faults(folder.path):
                folder.disk(name).unlink(missing_ok=True)

    def labelled(self, project: str) -> Iterator[Resource]:
        """List the machines and disks of all builds."""
        for build_id in build_ids(self._home):
            folder = BuildFolder(self._home, build_id)
            told = folder.labels().get(EXPIRES_LABEL, "")
            expires = float(told) if told.isdecimal() else 0.0  # a label may have been written by anything
            for name in folder.machines():
                yield Resource("machine", name, ZONE, build_id, expires)
            for name in folder.disks():
                yield Resource("disk", name, ZONE, build_id, expires)

    def _copy_disk(self, request: MachineRequest, disk: Path) -> None:
        disk.parent.mkdir(parents=True, exist_ok=True)
        staged = disk.with_suffix(".new")
        copy_sparse(self._catalogue.disk(request.source_image), staged)
        staged.chmod(0o600)
        if request.plan.disk_size_gb * GIB > staged.stat().st_size:
            grow_disk(staged, request.plan.disk_size_gb * GIB)
        staged.replace(disk)

    def _data_bytes(self, image: str) -> int:
        return self._catalogue.disk(image).stat().st_blocks * 512

    @staticmethod
    def _only_local(project: str) -> None:
        if project != LOCAL:
            raise InputError(
                f"project {project} is on Google Cloud, and this factory is this machine; "
                f"write project: {LOCAL}, and get the image first with: goldsmith images import"
            )


def _without_check(job: Job, disk: Path) -> Job:
    """Let the machine check itself only where nobody else can: an emulated CPU takes long for it."""
    return replace(job, hygiene=HYGIENE_OFF) if can_look_into(disk) else job


def _scratch_disks(request: MachineRequest, folder: Path) -> tuple[DataDisk, ...]:
    """Make the blank disk that a machine is to have, in the machine's own folder: it goes with it."""
    if not request.scratch_disk:
        return ()
    path = folder / "scratch.raw"
    with faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(request.plan.scratch_gb * GIB)
        path.chmod(0o600)
    return (DataDisk(path, SCRATCH, writable=True),)


def _refuse_unclean(disk: Path) -> None:
    """A VM that lost its power after its last word has left its state behind, or a journal: that is no image."""
    try:
        root = RootFiles(disk)
    except RootUnreadable:
        return
    if root.exists(STATE_FOLDER) or was_cut_off(disk):
        raise Permanent(f"the VM of disk {disk.stem} ended before it had cleaned up after the steps; build again")


def _check_source(source: SourceImage) -> None:
    if source.architecture != ARCHITECTURE:
        raise InputError(
            f"source: image {source.name} is for {source.architecture}, and VMs of this machine are {ARCHITECTURE}; "
            "build it on Google Cloud, or name an image for this architecture"
        )


def _check_drivers(plan: Plan, environment: Mapping[str, str]) -> None:
    from ..gpu_drivers import check_drivers, storage_of  # an HTTP client, which few builds need

    try:
        check_drivers(plan, storage_of(environment))
    except CloudError as error:
        raise EnvironmentFault(
            f"{error}; connect this machine to the Internet, or name an installer that the step's deps_dir brings"
        ) from error


def _check_room(folder: Path, needed: int, what: str) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise NoSpace(
            f"{folder}: {what} may need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; make room there, "
            "or choose another place"
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"{folder}: cannot be made: {error.strerror}; choose another place for the archive"
        ) from error


def _check_target(target: Path, needed: int) -> None:
    """The archive's folder can be written to and has room, and nothing there would be replaced."""
    beside = (resources.manifest_of(str(target)), *resources.sbom_names(resources.archive_stem(str(target))))
    for path in (target, *map(Path, beside)):
        if path.exists():
            raise InputError(f"{path} exists already; remove it, or choose another folder or image name")
    existing = next(parent for parent in (target.parent, *target.parent.parents) if parent.exists())
    if not existing.is_dir():
        raise EnvironmentFault(f"{existing} is not a folder; choose another place for the archive")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise EnvironmentFault(f"{existing}: you may not write there; choose another place for the archive")
    _check_room(target.parent, needed, "the archive")
