"""export_image: an image of the build VM's disk, in no family, and its archive or other files under staged names.

It is the boot disk, and the second disk of a maker VM.

The VM has claimed to be done. Before its disk is read it must be seen stopped: a disk in use gives a corrupt image.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TypedDict

from provisioner.hygiene.hygiene import describe_findings, find_allowance
from provisioner.protocol import ALLOWED, BUILD, COMPLETED, HYGIENE_FAIL

from ..backend import Backend
from ..build import resources
from ..build.block_devices.description import default_disk
from ..build.build import AllowedFinding, Build, ExportedImage, ImageRecord
from ..build.events import OLD_REPORT, DiskGrown, ImageExported, ImageMade, MachineStarted, Reported
from ..build.export_formats import GCE
from ..build.machine_types import GVNIC
from ..build.orders import Order
from ..build.plan import Plan
from ..engine.history import each_event
from ..errors import DiskGone, ImageNotMade, Permanent
from ..names import BUILD_LABEL, VERIFY_LABEL
from ..ownership import is_left_to, is_made_by
from ..ports import Image, ImageRequest
from .files.export_by_machine import export_by_machine
from .logs import store_console
from .machines import planned, wait_until_stopped, zone_of
from .relabel import relabel

SCSI, UEFI = "VIRTIO_SCSI_MULTIQUEUE", "UEFI_COMPATIBLE"  # what guests can do


def export_image(
    build: Build, order: Order, backend: Backend
) -> ImageMade | ImageExported | MachineStarted | DiskGrown:
    """Make the image, or take up that of an earlier build; then its files, when the plan has an export.

    The image is told before its files are written, so that it is there for a retry when they cannot be. On Google Cloud
    a VM writes them.
    """
    plan = planned(build)
    image = _image(build, plan, order, backend)
    if build.image is None and resources.export_targets(plan):
        event_id = order.fact_id("ImageMade")
        return ImageMade(build_id=build.id, event_id=event_id, time=backend.clock.now(), image=image)
    if plan.exporter is not None:
        return export_by_machine(build, image, order, backend)
    exported = _export(image, plan, backend)
    return ImageExported(
        build_id=build.id,
        event_id=order.fact_id("ImageExported"),
        time=backend.clock.now(),
        image=replace(image, archive=exported.archive, files=exported.files),
    )


def _export(image: ImageRecord, plan: Plan, backend: Backend) -> ExportedImage:
    """Write the archive, or the files in the formats that are asked for, under their staged names."""
    names = {known: resources.staged(name, plan.build_id) for known, name in resources.export_targets(plan).items()}
    compression, progress = plan.image.compression, backend.progress
    if not names:
        return ExportedImage(())
    if plan.image.formats:
        return backend.compute.export_files(image.project, image.name, names, compression, progress)
    archive = backend.compute.export_image(image.project, image.name, names[GCE], compression, progress)
    return ExportedImage((), archive)


def _image(build: Build, plan: Plan, order: Order, backend: Backend) -> ImageRecord:
    """Return the image: the one of an earlier build, marked as this one's, or one that is known or made now."""
    if build.image is not None and (build.taken_up or build.retry_of) and not plan.image.files_only:
        relabel(_draft_labels(build, plan), build, order, backend)
    return build.image or _make(build, plan, backend)


def _make(build: Build, plan: Plan, backend: Backend) -> ImageRecord:
    """Make the image of the VM's disk, once that is seen stopped; that of a disk that was taken over has been."""
    if build.disk is not None:
        zone = build.disk.zone
    else:
        machine = resources.machine_name(build.id, build.attempt, BUILD)
        zone = zone_of(build, BUILD, backend)
        store_console(machine, plan.machine.project, zone, build, backend)  # it may still run, and be readable
        wait_until_stopped(machine, plan.machine.project, zone, backend)
    findings, allowed = _findings(build, plan, backend)
    image = _ensure_image(build, plan, zone, backend)
    return ImageRecord(image.project, image.name, image.id, findings=findings, allowed=allowed)


def _findings(build: Build, plan: Plan, backend: Backend) -> tuple[tuple[str, ...], tuple[AllowedFinding, ...]]:
    """Return what is in the disk and should not be, and what the spec allows. Permanent where findings must not pass.

    It is what the VM has found on itself, or what can be seen in its disk from here.
    """
    disk = resources.source_disk(build, plan)
    _refuse_secrets(disk, plan, backend)
    refused, allowed = _told(build, plan, backend)
    patterns = [allowance.path for allowance in plan.allow]
    seen: list[str] = []
    places = plan.machine.proxy.places() if plan.machine.proxy is not None else ()
    for finding in backend.compute.inspect_disk(disk, plan.source.name, places):
        index = find_allowance(finding.path, patterns)
        if index is None:
            seen.append(str(finding))
        else:
            allowed.append(AllowedFinding(finding.path, finding.what, plan.allow[index].why))
    if plan.hygiene == HYGIENE_FAIL and (refused or seen):
        raise Permanent(describe_findings([*refused, *seen]))
    return (*refused, *seen), tuple(allowed)


def _refuse_secrets(disk: str, plan: Plan, backend: Backend) -> None:
    """Refuse a disk that holds the value of a secret of its steps, whatever the spec says of findings. Permanent."""
    steps = [step for step in plan.steps if step.secrets]
    found = backend.compute.find_secrets(disk, plan.source.name, steps) if steps else ()
    if found:
        raise Permanent(describe_findings([str(finding) for finding in found]))


def _told(build: Build, plan: Plan, backend: Backend) -> tuple[list[str], list[AllowedFinding]]:
    """Return what the VM has found on itself. It fails by itself where findings must not pass."""
    refused: list[str] = []
    allowed: list[AllowedFinding] = []
    for event in each_event(backend.store, build.disk.maker if build.disk else build.id, kinds=(COMPLETED, OLD_REPORT)):
        if isinstance(event, Reported) and event.report.kind == COMPLETED and event.report.phase == BUILD:
            for line in event.report.output.splitlines():
                found = _allowed(line, plan)
                if found is None:
                    refused.append(line)
                else:
                    allowed.append(found)
    return refused, allowed


def _allowed(line: str, plan: Plan) -> AllowedFinding | None:
    """Read a line that says what the VM has let pass; None for any other, and for what the spec does not allow."""
    if not line.startswith(ALLOWED):
        return None
    try:
        index, path, finding = json.loads(line.removeprefix(ALLOWED))
        allowance = plan.allow[index]
    except (ValueError, TypeError, IndexError, RecursionError):
        return None
    if not isinstance(path, str) or not isinstance(finding, str) or find_allowance(path, [allowance.path]) is None:
        return None
    return AllowedFinding(path, finding, allowance.why)


def _ensure_image(build: Build, plan: Plan, zone: str, backend: Backend) -> Image:
    image = backend.compute.image(plan.image.project, plan.image.name)
    if image is not None and not is_made_by(image, build, backend):
        _replace(image, build, backend)
    asked = ImageRequest(
        project=plan.image.project,
        name=plan.image.name,
        source_disk=resources.source_disk(build, plan),
        source_project=plan.machine.project,
        zone=zone,
        description=plan.image.description,
        labels=_draft_labels(build, plan),
        licenses=plan.image.licenses,
        architecture=plan.source.architecture,
        same_as=plan.image.same_as,
        same_bytes=plan.machine.reproducible,
        guest_os_features=_features(plan),
        storage_locations=plan.image.storage_locations,
        kms_key=plan.image.kms_key,
        secure_boot_keys=plan.image.secure_boot_keys,
        sandbox=resources.machine_name(build.id, build.attempt, BUILD) if plan.machine.engine == "chroot" else "",
        **_of_root(plan),
    )
    try:
        return backend.compute.create_image(asked)  # also when it is there: it may not be ready yet
    except DiskGone as error:
        raise DiskGone(f"{error}; it was deleted since its steps were done, so build its spec again") from error
    except Permanent as error:
        raise ImageNotMade(str(error)) from error


def _draft_labels(build: Build, plan: Plan) -> dict[str, str]:
    """Return the labels of an image that is not published yet: one that is still to be verified says so."""
    return {BUILD_LABEL: build.id, **({} if plan.verify_steps is None else {VERIFY_LABEL: "pending"})}


class _OfRoot(TypedDict, total=False):
    made_by: str
    disk_gb: int


def _of_root(plan: Plan) -> _OfRoot:
    """Return what is held of a maker VM's second disk."""
    return {} if plan.origin is None else {"made_by": plan.build_id, "disk_gb": plan.image.disk_size_gb}


def _features(plan: Plan) -> tuple[str, ...]:
    """Return what guests of the image can do, beside what its disk has of the source: a root's disk has nothing."""
    if plan.origin is None:
        return plan.image.guest_os_features
    elements_disk = plan.origin.kind == "elements" and plan.origin.disk is None  # known to the VM alone
    boots_by_uefi = not elements_disk and (plan.origin.disk or default_disk()).efi is not None
    has_gvnic = plan.origin.kind == "bootstrap"  # Linux 5.3, which an archive need not have
    own = (SCSI, *((GVNIC,) if has_gvnic else ()), *((UEFI,) if boots_by_uefi else ()))
    return tuple(dict.fromkeys((*own, *plan.image.guest_os_features)))


def _replace(image: Image, build: Build, backend: Backend) -> None:
    """Delete the image of an earlier build that could not publish it. Permanent for any other."""
    if not is_left_to(image, build, backend):
        raise Permanent(
            f"image {image.name} of project {image.project} was made by another program meanwhile; "
            "build again if another build of the same spec made it, or choose another name for the output"
        )
    backend.compute.delete("image", image.name, image.project, "", image_id=image.id)
