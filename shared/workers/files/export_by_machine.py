"""The files of an image on Google Cloud, which a VM of ours writes: Compute Engine reads no disks by itself.

    export_image  ─ make the VM, with a session for each object ─► MachineStarted
                                       VM: runs, and asks for the disk ─► Reported
    export_image  ─ attach the image's disk, to be read alone ─► DiskGrown
                                       VM: writes each object, says its digests ─► Reported, completed
    export_image  ─ see the VM stopped, look each object up, compare ─► ImageExported

The VM has no right of its own to write anything: a session is a URL by which one object can be written, once, under its
staged name. What the VM says is a claim: an object counts when Cloud Storage has the size and digest that the VM says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from provisioner.protocol import (
    EXPORT,
    EXPORT_DISK,
    GCE_FORMAT,
    QEMU_FORMATS,
    STEP_FINISHED,
    ExportedObject,
    ProtocolError,
    Step,
    decode_exported,
)

from ...backend import Backend
from ...build import resources
from ...build.build import ArchiveRecord, Build, ExportedFile, ExportedImage, ImageRecord
from ...build.events import DiskGrown, ImageExported, MachineStarted, Reported
from ...build.orders import Order
from ...build.plan import Plan
from ...engine.history import each_event
from ...errors import AlreadyExists, Conflict, Permanent
from ...export_ports import DiskRequest
from ...ports import MachineRequest
from ..clean_up import delete_earlier
from ..logs import store_console
from ..machines import OUTLIVES, find_machine, job_of, planned, wait_until_stopped, zone_of

QEMU_PACKAGE = {"qemu-img": "qemu-utils"}
RETRIES = 2  # of one object, whose upload goes on where it was


def export_by_machine(
    build: Build, image: ImageRecord, order: Order, backend: Backend
) -> MachineStarted | DiskGrown | ImageExported:
    """Do the next of the three parts."""
    plan = planned(build)
    if build.claimed:
        exported = _checked(build, plan, backend)
        return ImageExported(
            build_id=build.id,
            event_id=order.fact_id("ImageExported"),
            time=backend.clock.now(),
            image=replace(image, archive=exported.archive, files=exported.files),
        )
    if build.disk_asked and not build.disk_grown:
        return _attach(build, plan, order, backend)
    return MachineStarted(
        build_id=build.id,
        event_id=order.fact_id("MachineStarted"),
        time=backend.clock.now(),
        attempt=order.attempt,
        phase=EXPORT,
        zone=_start(build, plan, order, backend),
    )


def _start(build: Build, plan: Plan, order: Order, backend: Backend) -> str:
    """Make and start the VM unless it is there; return its zone."""
    found = find_machine(build, EXPORT, backend)
    if found is not None:
        return found.zone
    assert plan.exporter is not None, "only asked where the plan has one"
    delete_earlier(build, order.attempt, EXPORT, backend)
    machine = replace(
        plan.machine,
        disk_size_gb=resources.exporter_gb(plan),
        scratch_gb=0,
        gpu_type=None,
        spot=False,  # the next attempt begins anew, and Compute Engine takes no other VM away so soon
        service_account=None,  # the deployment's, which can do nothing but report
    )
    request = MachineRequest(
        name=resources.machine_name(plan.build_id, order.attempt, EXPORT),
        boot_disk=resources.boot_disk_name(plan.build_id, order.attempt, EXPORT),
        source_project=plan.exporter.project,
        source_image=plan.exporter.name,
        plan=machine,
        labels=resources.labels(build.id, order.attempt, build.deadline + plan.keep_disk),
        job=job_of(build, order.attempt, EXPORT, backend, steps=_steps(build, plan, backend)),
        context=None,
        max_seconds=max(60.0, build.deadline + OUTLIVES - backend.clock.now()),
        silence=plan.silence,
        architecture=plan.exporter.architecture,
        restarts=False,  # it would boot with the image's disk
    )
    return backend.compute.create_machine(request)


def _steps(build: Build, plan: Plan, backend: Backend) -> tuple[Step, ...]:
    """Return what the VM does: a step for each object, after the program that some formats need."""
    wanted = resources.export_targets(plan)
    steps = [_step(known, plan, _session(name, build, backend)) for known, name in wanted.items()]
    if any(known in QEMU_FORMATS for known in wanted):
        inputs = {"packages": QEMU_PACKAGE}
        steps.insert(0, Step("install programs", "install-programs", inputs, timeout=plan.timeout, retries=1, reads=()))
    return tuple(steps)


def _step(known: str, plan: Plan, session: str) -> Step:
    inputs = {"format": known, "session": session, "compression": plan.image.compression}
    return Step(f"write {known}", "export-disk", inputs, timeout=plan.timeout, retries=RETRIES, reads=())


def _session(name: str, build: Build, backend: Backend) -> str:
    """Open the upload of an object under its staged name. Permanent."""
    staged = resources.staged(name, build.id, build.rewrites)
    try:
        return backend.bucket.upload_session(staged)
    except (AlreadyExists, Conflict) as error:
        raise Permanent(f"output.export: {error}, which this build has not written; delete it") from error


def _attach(build: Build, plan: Plan, order: Order, backend: Backend) -> DiskGrown:
    """Attach the disk of the image to the VM."""
    backend.compute.attach_disk(
        DiskRequest(
            name=resources.exported_disk_name(plan.build_id, order.attempt),
            machine=resources.machine_name(plan.build_id, order.attempt, EXPORT),
            project=plan.machine.project,
            zone=zone_of(build, EXPORT, backend),
            source_project=plan.image.project,
            source_image=plan.image.name,
            device=EXPORT_DISK,
            disk_type=plan.machine.disk_type,
            labels=resources.labels(build.id, order.attempt, build.deadline + plan.keep_disk),
            kms_key=plan.machine.kms_key,
        )
    )
    return DiskGrown(
        build_id=build.id,
        event_id=order.fact_id("DiskGrown"),
        time=backend.clock.now(),
        attempt=order.attempt,
        phase=EXPORT,
        gigabytes=plan.image.disk_size_gb,
    )


def _checked(build: Build, plan: Plan, backend: Backend) -> ExportedImage:
    """Return what the VM has written, once that is seen to be there. Permanent, Transient."""
    machine = resources.machine_name(build.id, build.attempt, EXPORT)
    zone = zone_of(build, EXPORT, backend)
    store_console(machine, plan.machine.project, zone, build, backend)  # it may still run, and be readable
    wait_until_stopped(machine, plan.machine.project, zone, backend)
    told = _told(build, backend)
    files, archive = [], None
    for known, name in resources.export_targets(plan).items():
        written, staged = told.get(known), resources.staged(name, build.id, build.rewrites)
        if written is None:
            raise Permanent(f"output.export: the VM says that it is done, and nothing of {known}; build again")
        if written.disk_bytes != plan.image.disk_size_gb << 30:
            raise Permanent(
                f"output.export: the VM has read {written.disk_bytes} bytes, and the image has a disk of "
                f"{plan.image.disk_size_gb} GB; build again"
            )
        found = backend.bucket.checksum(staged)
        if found is None or (found.size, found.md5) != (written.bytes, written.md5):
            there = "is not there" if found is None else f"has {found.size} bytes, MD5 {found.md5}"
            raise Permanent(
                f"output.export: {staged} {there}; the VM says that it wrote {written.bytes} bytes, MD5 {written.md5}"
            )
        if known == GCE_FORMAT:
            archive = _record(written)
        if plan.image.formats:
            files.append(ExportedFile(known, written.bytes, written.sha256))
    return ExportedImage(tuple(files), archive)


def _record(written: ExportedObject) -> ArchiveRecord:
    return ArchiveRecord(
        written.bytes, written.sha256, written.tar_sha256, written.crc32, written.disk_bytes, written.data_bytes
    )


def _told(build: Build, backend: Backend) -> Mapping[str, ExportedObject]:
    """Return what the VM in use says that it has written, by formats."""
    found = {}
    for event in each_event(backend.store, build.id, kinds=(STEP_FINISHED,)):
        if not isinstance(event, Reported):
            continue
        report = event.report
        if (report.phase, report.attempt) != (EXPORT, build.attempt):
            continue
        try:
            written = decode_exported(report.message)
        except ProtocolError:  # of another step
            continue
        found[written.format] = written
    return found
