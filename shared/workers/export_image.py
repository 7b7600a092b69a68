"""export_image: an image of the build VM's boot disk, in no family, and its archive under a staged name.

The VM has claimed to be done. Before its disk is read it must be seen stopped: a disk in use gives a corrupt image.
"""

from __future__ import annotations

import json

from provisioner.hygiene import describe, find_allowance
from provisioner.protocol import ALLOWED, BUILD, COMPLETED, HYGIENE_FAIL

from .. import resources
from ..build import AllowedFinding, Build, ImageRecord
from ..damage import readable_events
from ..errors import Permanent
from ..events import ImageExported, Reported
from ..factory import Factory
from ..names import BUILD_LABEL
from ..orders import Order
from ..plan import Plan
from ..ports import Image, ImageRequest
from .logs import store_console
from .machines import planned, wait_until_stopped, zone_of


def export_image(build: Build, order: Order, factory: Factory) -> ImageExported:
    """Make the image and, when the plan has an export, the archive."""
    plan = planned(build)
    machine = resources.machine_name(build.id, build.attempt, BUILD)
    zone = zone_of(build, BUILD, factory)
    store_console(machine, plan.machine.project, zone, build, factory)  # it may still run, and be readable
    wait_until_stopped(machine, plan.machine.project, zone, factory)
    findings, allowed = _findings(build, plan, factory)
    image = _ensure_image(plan, zone, factory)
    archive = None
    if plan.image.export_to is not None:
        archive = factory.compute.export_image(
            image.project, image.name, resources.staged_export(plan), plan.image.compression, factory.progress
        )
    return ImageExported(
        build_id=build.id,
        event_id=order.fact_id("ImageExported"),
        time=factory.clock.now(),
        image=ImageRecord(image.project, image.name, image.id, archive, findings, allowed),
    )


def _findings(build: Build, plan: Plan, factory: Factory) -> tuple[tuple[str, ...], tuple[AllowedFinding, ...]]:
    """Return what is in the disk and should not be, and what the spec allows. Permanent where findings must not pass.

    It is what the VM has found on itself, or what can be seen in its disk from here.
    """
    refused, allowed = _told(build, plan, factory)
    disk = resources.boot_disk_name(plan.build_id, 1, BUILD)
    patterns = [allowance.path for allowance in plan.allow]
    seen: list[str] = []
    for finding in factory.compute.inspect_disk(disk, plan.source.name):
        index = find_allowance(finding.path, patterns)
        if index is None:
            seen.append(str(finding))
        else:
            allowed.append(AllowedFinding(finding.path, finding.what, plan.allow[index].why))
    if plan.hygiene == HYGIENE_FAIL and (refused or seen):
        raise Permanent(describe([*refused, *seen]))
    return (*refused, *seen), tuple(allowed)


def _told(build: Build, plan: Plan, factory: Factory) -> tuple[list[str], list[AllowedFinding]]:
    """Return what the VM has found on itself. It fails by itself where findings must not pass."""
    refused: list[str] = []
    allowed: list[AllowedFinding] = []
    for event in readable_events(factory.store.events(build.id)):
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


def _ensure_image(plan: Plan, zone: str, factory: Factory) -> Image:
    image = factory.compute.image(plan.image.project, plan.image.name)
    if image is not None and image.labels.get(BUILD_LABEL) != plan.build_id:
        raise Permanent(
            f"image {image.name} of project {image.project} was made by somebody else meanwhile; "
            "build again if another build of the same spec made it, or choose another name for the output"
        )
    return factory.compute.create_image(  # also when it is there: it may not be ready yet
        ImageRequest(
            project=plan.image.project,
            name=plan.image.name,
            source_disk=resources.boot_disk_name(plan.build_id, 1, BUILD),
            source_project=plan.machine.project,
            zone=zone,
            description=plan.image.description,
            labels={BUILD_LABEL: plan.build_id},
            licenses=plan.image.licenses,
            architecture=plan.source.architecture,
        )
    )
