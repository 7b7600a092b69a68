"""export_image: an image of the build VM's boot disk, in no family, and its archive under a staged name.

The VM has claimed to be done. Before its disk is read it must be seen stopped: a disk in use gives a corrupt image.
"""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.hygiene import describe
from provisioner.protocol import BUILD, COMPLETED, HYGIENE_FAIL

from .. import resources
from ..build import Build, ImageRecord
from ..damage import readable_events
from ..errors import Permanent, Transient
from ..events import ImageExported, Reported
from ..factory import Factory
from ..names import BUILD_LABEL
from ..orders import Order
from ..plan import Plan
from ..ports import Image, ImageRequest
from .logs import store_console
from .machines import planned, zone_of

CLOCKS_DIFFER = 60.0  # seconds by which a VM's clock may be late
STOPS_WITHIN = 120  # seconds from the last report to a VM that has powered itself off


def export_image(build: Build, order: Order, factory: Factory) -> ImageExported:
    """Make the image and, when the plan has an export, the archive."""
    plan = planned(build)
    machine = resources.machine_name(build.id, build.attempt, BUILD)
    zone = zone_of(build, BUILD, factory)
    store_console(machine, plan.machine.project, zone, build, factory)  # it may still run, and be readable
    _wait_until_stopped(machine, plan.machine.project, zone, factory)
    findings = _findings(build, plan, factory)
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
        image=ImageRecord(image.project, image.name, image.id, archive, findings),
    )


def _wait_until_stopped(machine: str, project: str, zone: str, factory: Factory) -> None:
    for _second in range(STOPS_WITHIN):
        if factory.compute.wait_until_stopped(machine, project, zone, 1.0):
            return
        factory.progress(f"waiting for {machine} to stop", 0, 0)
    raise Transient(f"{machine} says that it is done and has not stopped after {STOPS_WITHIN} s")


def _findings(build: Build, plan: Plan, factory: Factory) -> tuple[str, ...]:
    """Give what is in the disk and should not be: what the VM has said itself, or what can be seen from here."""
    disk = resources.boot_disk_name(plan.build_id, 1, BUILD)
    findings = factory.compute.inspect_disk(disk, plan.requested - CLOCKS_DIFFER)
    if plan.hygiene != HYGIENE_FAIL:
        return (*_told(build, factory), *findings)
    if findings:
        raise Permanent(describe(findings))
    return ()


def _told(build: Build, factory: Factory) -> Iterator[str]:
    """Give what the VM has found on itself. It fails by itself where findings are not to pass."""
    for event in readable_events(factory.store.events(build.id)):
        if isinstance(event, Reported) and event.report.kind == COMPLETED and event.report.phase == BUILD:
            yield from event.report.output.splitlines()


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
