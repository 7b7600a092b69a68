"""Compute Engine on this machine: images are the catalogue's, machines are QEMU's, disks are sparse files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from provisioner.hygiene.hygiene import Finding
from provisioner.protocol import BUILD, GIVE_SECRETS, HYGIENE_OFF, SCRATCH, Job, Step
from provisioner.system.redaction import whole_forms

from ..architectures import find_architecture
from ..build.build import ArchiveRecord, ExportedImage
from ..build.export_formats import chosen_formats
from ..build.plan import Plan, must_grow
from ..cache.disk_digest import BegunDigest, disk_digest
from ..delivery.cidata import cidata_files
from ..delivery.iso9660 import FILE_LIMIT
from ..disks.disk import Disk
from ..disks.extents import copy_sparse
from ..disks.partition_table import extend_disk, grow_disk_file
from ..disks.root_files import RootUnreadable
from ..errors import AlreadyExists, InputError, NotFound, Permanent
from ..host.build_folder import BuildFolder, build_ids
from ..host.scratch import faults, part_of
from ..images.catalogue import DISK, Catalogue, refuse_damaged
from ..images.contents import date_of
from ..images.hygiene import can_look_into, find_values, look_into, was_cut_off
from ..images.packages import packages
from ..machines.machines import CHROOT, Machines, MachineSpec
from ..machines.process import SERIAL_LIMIT, TRUNCATED
from ..machines.qemu import ADDRESS, DataDisk, GivenSecrets, StepCache
from ..names import EXPIRES_LABEL, LOCAL
from ..ports import (
    Clock,
    CopyRequest,
    Image,
    ImageRequest,
    Machine,
    MachineRequest,
    Package,
    Progress,
    Resource,
    ResourceKind,
)
from ..quantities import GIB
from ..sandbox.shims import POLICY, POLICY_TEXT
from .host_traces import host_traces
from .one_project import OneProject
from .plan_checks import (
    check_gpu_drivers,
    check_root,
    check_source,
    check_space,
    check_target,
    check_trees,
    make_folder,
)
from .secret_values import HostSecrets, check_secrets
from .site import check_proxy, lend_site
from .steps.step_cache import after_layers, cache_size, check_reads, make_room, step_cache, with_layers

ZONE = "local"
HEADROOM = GIB // 2  # bytes that a build may write beside the copy of its source
CONSOLE, REPORTS = 1, 3  # serial ports
KEPT_OUTPUT = {CONSOLE: SERIAL_LIMIT + len(TRUNCATED), REPORTS: 2 << 20}
"""Bytes of a port's output that can be read. The largest honest report has 0.9 MB; reading one more often is work."""
FIRST = ".first"  # beside a VM's disk: the index of the first step that was not done before
OF_THE_BUILD = ("/var/lib/goldsmith", "/etc/resolv.conf.goldsmith")  # the first is the last that a provisioner deletes


class LocalCompute(OneProject):
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
        self._secrets = HostSecrets(environment)
        self._digests: dict[str, BegunDigest] = {}  # of images that were made here, by their ids

    def check(self, plan: Plan, *, boots: bool = True) -> None:
        """Look for QEMU, for room and for a place that the archive can be written to."""
        if boots:
            self._check_machine(plan)
        if plan.image.export_to is not None:
            check_target(plan, self._data_bytes(plan.source.name))
            check_trees(plan, self._catalogue.disk(plan.source.name))

    def _check_machine(self, plan: Plan) -> None:
        """Look for what a VM, or a sandbox, needs."""
        find_architecture(plan.source.architecture)
        if plan.machine.proxy is not None:
            check_proxy(plan.machine.proxy)
        if plan.context is not None and plan.context.size > FILE_LIMIT:
            raise InputError(
                f"the context is {plan.context.size} bytes when it is packed, and a VM can be given {FILE_LIMIT}; "
                "take large files out of it and let a step download them"
            )
        cache_size(self._environment)
        check_reads(plan)
        check_secrets(plan, self._secrets)
        check_source(self._catalogue, plan.source.name)
        self._machines.check(
            plan.machine.engine,
            plan.machine.boot,
            internet=plan.machine.internet,
            architecture=plan.source.architecture,
        )
        if plan.machine.engine == CHROOT:
            check_root(self._catalogue.disk(plan.source.name), plan.source.name)
        if any(step.action == "install-gpu" for step in plan.steps):
            check_gpu_drivers(plan, self._environment)
        check_space(self._home, self._data_bytes(plan.source.name) + HEADROOM, "the build VM's disk")

    def image(self, project: str, name: str) -> Image | None:
        """Look one image of the catalogue up."""
        self._only_local(project)
        return self._catalogue.get(name)

    def images(self, project: str, *, family: str | None = None, prefix: str = "") -> Sequence[Image]:
        """List images of the catalogue, newest first."""
        self._only_local(project)
        return self._catalogue.list(family=family, prefix=prefix)

    def every_image(self, project: str) -> Iterator[Image]:
        """List images of the catalogue. StoreError for one that cannot be read."""
        return self._catalogue.every(damaged=refuse_damaged)

    def inspect_disk(self, name: str, source: str, places: Sequence[str] = ()) -> Sequence[Finding]:
        """Look into a disk; one that is gone, or cannot be read, has nothing to tell."""
        path = BuildFolder.of_resource(self._home, name).disk(name)
        if not path.exists():
            return ()
        with ExitStack() as stack:
            disk = stack.enter_context(Disk(path))
            _refuse_unclean(disk)
            try:
                of_source = stack.enter_context(Disk(self._catalogue.disk(source)))
            except NotFound:  # deleted meanwhile: then all that is found counts
                of_source = None
            return look_into(disk, of_source, places, host_traces(self._home.absolute(), self._environment))

    def find_secrets(self, name: str, source: str, steps: Sequence[Step]) -> Sequence[Finding]:
        """Search a disk for the values; one that is gone holds none."""
        path = BuildFolder.of_resource(self._home, name).disk(name)
        values = self._secrets.of(steps)
        if not path.exists() or not values:
            return ()
        known = {f"{each.name}.secrets.{key}": values[place] for each in steps for key, place in each.secrets.items()}
        with ExitStack() as stack:
            disk, of_source = stack.enter_context(Disk(path)), None
            with suppress(NotFound):  # deleted meanwhile
                of_source = stack.enter_context(Disk(self._catalogue.disk(source)))
            return find_values(disk, of_source, known)

    def create_image(self, request: ImageRequest) -> Image:
        """Share the disk of a stopped machine with the catalogue: nothing is copied."""
        existing = self._catalogue.get(request.name)
        if existing is not None and existing.source_disk == request.source_disk:
            return existing
        if not (disk := BuildFolder.of_resource(self._home, request.source_disk).disk(request.source_disk)).exists():
            raise Permanent(self._why_gone(request.source_disk))
        if request.sandbox:
            self._refuse_unwritten(request.sandbox)
        with Disk(disk) as opened:
            _refuse_unclean(opened)
        if request.same_as is not None:
            _refuse_difference(Path(request.same_as), disk, same_bytes=request.same_bytes)
        try:
            image = self._catalogue.add(
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
        self._digests[image.id] = BegunDigest(self._catalogue.disk(image.name))  # its statement will ask for it
        return image

    def copy_image(self, request: CopyRequest) -> Image:
        """Share the disk of an image with another one: nothing is copied."""
        self._only_local(request.project)
        for last in (False, True):
            existing = self._catalogue.get(request.name)
            if existing is not None and existing.source_image != request.source_id:
                raise AlreadyExists(f"there is another image {request.name}; choose another name, or delete it")
            if existing is not None:
                return existing
            source = self._catalogue.get(request.source)
            if source is None or source.id != request.source_id:
                raise NotFound(f"image {request.source} is gone")
            if source.is_obsolete:
                raise Permanent(f"image {request.source} is {source.deprecated}, so that none can be made from it")
            try:
                return self._catalogue.add(
                    self._catalogue.disk(source.name),
                    request.name,
                    transfer="link",
                    description=source.description,
                    labels=source.labels,
                    licenses=source.licenses,
                    architecture=source.architecture,
                    source_image=source.id,
                )
            except AlreadyExists:  # by another process, since we have looked
                if last:
                    raise
        raise AssertionError

    def export_image(self, project: str, name: str, target: str, compression: str, progress: Progress) -> ArchiveRecord:
        """Write the archive and read it back; both are told as progress.

        It gets its name when it is whole: what an earlier delivery of the order has written there may be published
        meanwhile, and is replaced by the same bytes or not at all.
        """
        from ..disks.archive import write_archive
        from ..disks.archive_reader import verify_archive

        self._only_local(project)
        path = Path(target)
        part = part_of(path)
        make_folder(path.parent)
        with self._whole_gigabytes(name) as disk:
            written = write_archive(
                disk,
                part,
                level="best" if compression == "best" else "fast",
                progress=lambda done, total: progress("writing the archive", done, total),
            )
        tar_sha256 = verify_archive(
            part, written, progress=lambda done, total: progress("proving the archive", done, total)
        )
        with faults(path.parent):
            part.replace(path)
        return ArchiveRecord(
            bytes=written.bytes,
            sha256=written.sha256,
            tar_sha256=tar_sha256,
            crc32=written.crc32,
            disk_bytes=written.disk_bytes,
            data_bytes=written.data_bytes,
        )

    def export_files(
        self, project: str, name: str, targets: Mapping[str, str], compression: str, progress: Progress
    ) -> ExportedImage:
        """Write each format under a name of its own, which becomes the one asked for when all are whole."""
        from ..disks.formats.export import export_formats
        from ..disks.formats.work import ExportOrigin

        self._only_local(project)
        image = self._catalogue.get(name)
        if image is None:
            raise NotFound(self._catalogue.no_such(name))
        paths = {known: Path(targets[known.name]) for known in chosen_formats(targets)}
        for path in paths.values():
            make_folder(path.parent)
        what = f"writing {', '.join(targets)}"
        with self._catalogue.staging() as scratch:
            done = export_formats(
                self._catalogue.disk(name),
                {known: part_of(path) for known, path in paths.items()},
                scratch.path,
                ExportOrigin(name, image.architecture, date_of(self._catalogue.disk(name)) or image.created),
                level="best" if compression == "best" else "fast",
                progress=lambda done, total: progress(what, done, total),
            )
        for path in paths.values():
            with faults(path.parent):
                part_of(path).replace(path)
        return done

    @contextmanager
    def _whole_gigabytes(self, name: str) -> Iterator[Path]:
        """Yield an image's disk, or an extended copy of one that was imported: Compute Engine takes whole gigabytes."""
        disk = self._catalogue.disk(name)
        size = disk.stat().st_size
        if size % GIB == 0:
            yield disk
            return
        with self._catalogue.staging() as scratch:
            copy = scratch.path / DISK
            copy_sparse(disk, copy)
            extend_disk(copy, -(-size // GIB) * GIB)
            yield copy

    def packages(self, project: str, name: str) -> Sequence[Package] | None:
        """Read the package databases from the image's disk; None when its file system, or they, cannot be read."""
        self._only_local(project)
        try:
            with Disk(self._catalogue.disk(name)) as disk:
                return packages(disk.root)
        except RootUnreadable:
            return None

    def disk_digest(self, project: str, name: str) -> str | None:
        """Read an image's disk, but for its holes."""
        self._only_local(project)
        disk, image = self._catalogue.disk(name), self._catalogue.get(name)
        begun = self._digests.get(image.id) if image is not None else None
        with faults(disk.parent):
            return disk_digest(disk) if begun is None else begun.result()

    def label_image(self, image: Image, labels: Mapping[str, str]) -> None:
        """Set labels."""
        self._only_local(image.project)
        self._catalogue.set_labels(image.name, labels, seen=image)

    def set_family(self, project: str, name: str, family: str | None) -> None:
        """Set or clear the family."""
        self._only_local(project)
        self._catalogue.set_family(name, family)

    def deprecate_image(self, project: str, name: str, replacement: str, deletes_at: float | None) -> None:
        """Mark an image DEPRECATED."""
        self._only_local(project)
        self._catalogue.retire(name, replacement, deletes_at)

    def activate_image(self, image: Image) -> None:
        """Take the mark DEPRECATED away."""
        self._only_local(image.project)
        self._catalogue.activate(image)

    def obsolete_image(self, image: Image, active: str) -> None:
        """Mark an image OBSOLETE."""
        self._only_local(image.project)
        self._catalogue.obsolete(image, active)

    def create_machine(self, request: MachineRequest) -> str:
        """Copy the source's disk, unless an earlier attempt's VM has one, and start QEMU or a sandbox on it."""
        folder = BuildFolder.of_resource(self._home, request.name)
        disk = folder.disk(request.boot_disk)
        cache = step_cache(request, lambda: self._catalogue.disk(request.source_image))
        if cache is not None:
            make_room(self._home, self._environment)
        with faults(folder.path):
            folder.label(request.labels)
            sandboxed = _is_of_sandbox(request)
            if self._machines.status(request.name) is None if sandboxed else not disk.exists():
                cache = self._copy_disk(request, disk, cache)
            elif not sandboxed:
                cache = None  # what an earlier attempt has changed on it is not known
        if self._machines.status(request.name) is None:
            context = None if request.context is None else Path(request.context.uri)
            inside = disk if disk.exists() else self._catalogue.disk(request.source_image)
            job = with_layers(lend_site(_without_check(request.job, inside), request.plan), cache, _first_step(disk))
            secrets = self._secrets.of(job.steps)
            if secrets:
                job = replace(job, secrets_url=f"http://{ADDRESS}{GIVE_SECRETS}")
            self._machines.start(
                MachineSpec(
                    name=request.name,
                    folder=folder.machine(request.name),
                    disk=disk,
                    cidata=cidata_files(job, context, self._home / "cache" / "provisioner"),
                    boot=request.plan.boot,
                    cpus=request.plan.cpus,
                    memory_mb=request.plan.memory_mb,
                    internet=request.plan.internet,
                    packages=bool(job.package_proxy),
                    site_proxy=job.proxy,
                    data_disks=_scratch_disks(request, folder.machine(request.name)),
                    cache=cache,
                    secrets=_given(job.key, secrets) if secrets else None,
                    shell=request.job.hold > 0,
                    architecture=request.architecture,
                    **self._sandbox_of(request),
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
        """Read the file that a serial port is written to: what is kept of it, as on Compute Engine, is its end."""
        folder = BuildFolder.of_resource(self._home, name).machine(name)
        path = folder / {CONSOLE: "console.log", REPORTS: "reports.log"}[port]
        try:
            with path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                start = max(min(start, end), end - KEPT_OUTPUT[port])
                file.seek(start)
                output = file.read(end - start)
        except FileNotFoundError as error:
            raise NotFound(f"machine {name} has no serial output here") from error
        return output, start + len(output)

    def delete(self, kind: ResourceKind, name: str, project: str, zone: str, *, image_id: str = "") -> None:
        """Delete a machine, a disk or an image of this machine."""
        if kind == "image":
            self._catalogue.delete(name, image_id=image_id)
            return
        folder = BuildFolder.of_resource(self._home, name)
        if kind == "machine":
            self._machines.stop(name)
            with faults(folder.path), suppress(FileNotFoundError):
                _remove_machine(folder.machine(name))
        elif kind == "disk":
            with faults(folder.path):
                folder.disk(name).unlink(missing_ok=True)
                folder.disk(name).with_suffix(FIRST).unlink(missing_ok=True)

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

    def _why_gone(self, disk: str) -> str:
        """Say why a build has no disk: the sandbox that was to write it may have told."""
        for name in BuildFolder.of_resource(self._home, disk).machines():
            if (machine := self._machines.status(name)) is not None and machine.detail:
                return f"no image can be made, since {machine.detail}"
        return f"disk {disk} is gone; no image can be made of it"

    def _refuse_unwritten(self, sandbox: str) -> None:
        """Refuse the disk of a sandbox that was lost after its job's last report: it may be the source's. Permanent."""
        machine = self._machines.status(sandbox)
        if machine is None or machine.how != "powered-off":
            why = machine.detail if machine is not None else "it has left no record"
            raise Permanent(f"{sandbox} may not have written what the steps have changed: {why}; build again")

    def _copy_disk(self, request: MachineRequest, disk: Path, cache: StepCache | None) -> StepCache | None:
        """Make a boot disk of the source's and of the layers that there are; return which ones the machine leaves.

        One to which a sandbox adds its root file system gets the name that a whole one has from the sandbox.
        """
        source = self._catalogue.get(request.source_image)
        if source is not None and source.is_obsolete:  # as Compute Engine has it
            raise Permanent(
                f"image {source.name} is {source.deprecated}, so no disk can be made of it; name another one"
            )
        disk.parent.mkdir(parents=True, exist_ok=True)
        disk.unlink(missing_ok=True)  # of an earlier attempt, whose sandbox did not wait for what it had written
        staged, target, copy = disk.with_suffix(".new"), disk, copy_sparse
        if _is_of_sandbox(request) and os.geteuid() != 0:
            from ..sandbox.roots.tree_root import copy_without_root, unwritten_disk

            target, copy = unwritten_disk(disk), copy_without_root
        copy(self._catalogue.disk(request.source_image), staged)
        staged.chmod(0o600)
        if request.plan.disk_size_gb * GIB > staged.stat().st_size:
            grow_disk_file(staged, request.plan.disk_size_gb * GIB, free=must_grow(request.plan, request.job.phase))
        if cache is not None and not _is_of_sandbox(request):
            cache = self._after_layers(request, cache, staged)
        disk.with_suffix(FIRST).write_text(str(0 if cache is None else cache.first))
        staged.replace(target)
        return cache

    def _after_layers(self, request: MachineRequest, cache: StepCache, staged: Path) -> StepCache | None:
        """Return None, and no layers, where the source's name is another image's by now."""
        found = self._catalogue.get(request.source_image)
        if request.whole_plan is None or found is None or found.id != request.whole_plan.source.id:
            return None
        return after_layers(cache, self._home, staged)

    def _sandbox_of(self, request: MachineRequest) -> SandboxPart:
        """Return what makes a machine a sandbox; nothing for a VM, as which every image is verified. Permanent."""
        name = request.source_image
        if not _is_of_sandbox(request):
            return {}
        found = self._catalogue.get(name)
        if found is None:
            raise Permanent(f"source: image {name} was deleted meanwhile; build again from another one")
        if request.whole_plan is not None and found.id != request.whole_plan.source.id:
            raise Permanent(f"source: image {name} is another one than the build was planned with; build again")
        written_at = request.job.source_date if request.plan.reproducible else None
        disk = self._catalogue.disk(name)
        return {"engine": CHROOT, "source": found.id, "source_disk": disk, "written_at": written_at}

    def _data_bytes(self, image: str) -> int:
        return self._catalogue.disk(image).stat().st_blocks * 512

    @staticmethod
    def _only_local(project: str) -> None:
        if project != LOCAL:
            raise InputError(
                f"project {project} is on Google Cloud, and this backend is this machine; "
                f"write project: {LOCAL}, and get the image first with: goldsmith images import"
            )


def _refuse_difference(first: Path, second: Path, *, same_bytes: bool) -> None:
    """Refuse the disk of a build that differs from that of the same build before. Permanent."""
    from ..images.diff.reproduction import describe_difference

    if not first.exists():
        raise Permanent(
            "the first of the two builds is gone with the process that ran it; check again with: "
            "goldsmith build --check-reproducible"
        )
    difference = describe_difference(first, second, same_bytes=same_bytes)
    if difference:
        raise Permanent(f"not reproducible: two builds of this spec differ in {difference}")


class SandboxPart(TypedDict, total=False):
    """The fields of a MachineSpec that a sandbox has."""

    engine: str
    source: str
    source_disk: Path
    written_at: int | None


def _is_of_sandbox(request: MachineRequest) -> bool:
    """Return whether a machine is a sandbox: one that verifies is none."""
    return request.plan.engine == CHROOT and request.job.phase == BUILD


def _first_step(disk: Path) -> int:
    """Return the first step that a VM's disk, when it was made, had not behind it."""
    try:
        return int(disk.with_suffix(FIRST).read_text())
    except (OSError, ValueError):  # of the release before
        return 0


def _remove_machine(folder: Path) -> None:
    changes = folder / "changes"
    if changes.exists():  # a sandbox of an ordinary user was killed: its files belong to that user's other ids
        from ..machines.start_sandbox import remove_folder

        remove_folder(changes)
    shutil.rmtree(folder)


def _without_check(job: Job, disk: Path) -> Job:
    """Make the machine check itself only if the host cannot: an emulated CPU takes long for it."""
    with Disk(disk) as opened:
        return replace(job, hygiene=HYGIENE_OFF) if can_look_into(opened) else job


def _given(key: str, secrets: Mapping[str, bytes]) -> GivenSecrets:
    return GivenSecrets(key, secrets, [form for value in secrets.values() for form in whole_forms(value)])


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


def _refuse_unclean(disk: Disk) -> None:
    """A VM that lost its power after its last word has left its state behind, or a journal: that is no image."""
    if can_look_into(disk) and (_is_of_a_build(disk) or was_cut_off(disk)):
        raise Permanent(f"the VM of disk {disk.path.stem} ended before it had cleaned up after the steps; build again")


def _is_of_a_build(disk: Disk) -> bool:
    """Return whether a disk has anything that a build removes at its end."""
    root = disk.root
    policy = root.read_all([POLICY], len(POLICY_TEXT)).get(POLICY, b"")
    return any(map(root.exists, OF_THE_BUILD)) or policy == POLICY_TEXT.encode()
