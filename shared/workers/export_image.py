"""export_image: an image of the build VM's boot disk, in no family, and its archive under a staged name.

The VM has claimed to be done. Before its disk is read it must be seen stopped: a disk in use gives a corrupt image.
"""

from __future__ import annotations

import json
from typing import TypeAlias

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
from ..ownership import find_build, is_made_by
from ..plan import Plan
from ..ports import Image, ImageRequest
from .logs import store_console
from .machines import planned, wait_until_stopped, zone_of


def export_image(build: Build, order: Order, factory: Factory) -> ImageExported:
    """Make the image, or take up that of an earlier build, and the archive when the plan has an export."""
    plan = planned(build)
    image, findings, allowed = _take_up(build, plan, factory) if build.taken_up else _make(build, plan, factory)
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


Made: TypeAlias = tuple[Image, tuple[str, ...], tuple[AllowedFinding, ...]]
"""An image, what is in it and should not be, and what the spec allows of that."""


def _make(build: Build, plan: Plan, factory: Factory) -> Made:
    """Make the image of the VM's disk, once that is seen stopped."""
    machine = resources.machine_name(build.id, build.attempt, BUILD)
    zone = zone_of(build, BUILD, factory)
    store_console(machine, plan.machine.project, zone, build, factory)  # it may still run, and be readable
    wait_until_stopped(machine, plan.machine.project, zone, factory)
    findings, allowed = _findings(build, plan, factory)
    return _ensure_image(build, plan, zone, factory), findings, allowed


def _take_up(build: Build, plan: Plan, factory: Factory) -> Made:
    """Find the image of an earlier build, whose findings are known, and mark it as this one's."""
    image, before = factory.compute.image(plan.image.project, plan.image.name), build.image
    if image is None or before is None or image.id != before.id:
        raise Permanent(f"image {plan.image.name}, which an earlier build has kept, is gone; build again")
    factory.compute.label_image(image.project, image.name, {BUILD_LABEL: build.id})
    return image, before.findings, before.allowed


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


def _ensure_image(build: Build, plan: Plan, zone: str, factory: Factory) -> Image:
    image = factory.compute.image(plan.image.project, plan.image.name)
    if image is not None and not is_made_by(image, build, factory):
        _replace(image, build, factory)
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


def _replace(image: Image, build: Build, factory: Factory) -> None:
    """Delete the image of an earlier build that could not publish it. Permanent for any other."""
    maker = find_build(image.labels.get(BUILD_LABEL, ""), factory)
    name = factory.store.image(image.project, image.name)
    ours = name is not None and name.build_id == build.id
    if not ours or maker is None or not maker.kept_until or maker.image is None or maker.image.id != image.id:
        raise Permanent(
            f"image {image.name} of project {image.project} was made by somebody else meanwhile; "
            "build again if another build of the same spec made it, or choose another name for the output"
        )
    factory.compute.delete("image", image.name, image.project, "")
