"""What stands in the way of a plan on Compute Engine, found before anything is made or paid for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.cloud import compute_v1

from ..errors import InputError, NotFound
from ..gpu_drivers import GOOGLE, check_drivers
from ..names import LOCAL
from ..plan import MachinePlan, Plan
from .compute_calls import Calls
from .compute_delivery import check_context
from .settings import Settings

_SHOWN = 12  # names of zones in a message


def check_plan(plan: Plan, settings: Settings, calls: Calls) -> None:
    """Raises InputError for what the spec can mend, CloudError for what Compute Engine refuses."""
    if plan.image.export_to is not None:
        raise InputError(
            "output.export: Compute Engine cannot write an archive of an image by itself; leave the key out, and get "
            f"one later with: gcloud compute images export --image={plan.image.name} --project={plan.image.project} "
            f"--destination-uri={plan.image.export_to}"
        )
    for key, project in (("build.project", plan.machine.project), ("output.project", plan.image.project)):
        if project == LOCAL:
            raise InputError(f"{key}: project {LOCAL} is on one machine, and this build is not; write a project's id")
    check_drivers(plan, settings.storage_endpoint or GOOGLE)
    if settings.delivery == "disk" and plan.context is not None:
        check_context(plan.context)
    _check_machine(plan.machine, _usable_zones(plan.machine, settings, calls), calls)
    if plan.image.project != plan.machine.project:
        _check_output(plan.image.project, calls)


def _usable_zones(machine: MachinePlan, settings: Settings, calls: Calls) -> Sequence[str]:
    zones = _zones(machine.project, calls)
    wanted = machine.zones or settings.zones
    unknown = [zone for zone in wanted if zone not in zones]
    if unknown:
        near = [zone for zone in sorted(zones) if zone[:3] == unknown[0][:3]] or sorted(zones)
        raise InputError(
            f"build.zones: project {machine.project} has no zone {', '.join(unknown)}; write some of "
            f"{', '.join(near[:_SHOWN])}{' ...' if len(near) > _SHOWN else ''}"
        )
    up = [zone for zone in wanted if zones[zone] == "UP"]
    if not up:
        raise InputError(f"build.zones: {', '.join(wanted)} is down at the moment; name other zones, or wait")
    return up


def _zones(project: str, calls: Calls) -> Mapping[str, str]:
    request = compute_v1.ListZonesRequest(project=project)
    try:
        pages = calls.pages(f"project {project}", calls.client(compute_v1.ZonesClient).list, request)
        return {zone.name: zone.status for zone in pages}
    except NotFound as error:
        raise InputError(f"build.project: there is no project {project}, or we may not see it: {error}") from error


def _check_machine(machine: MachinePlan, zones: Sequence[str], calls: Calls) -> None:
    """One zone that has all that the machine needs is enough: the others are passed over."""
    missing = []
    for zone in zones:
        problem = _missing(machine, zone, calls)
        if not problem:
            return
        missing.append(problem)
    raise InputError("\n".join(dict.fromkeys(missing)))


def _missing(machine: MachinePlan, zone: str, calls: Calls) -> str:
    project, what = machine.project, f"zone {zone} of project {machine.project}"
    kind = compute_v1.GetMachineTypeRequest(project=project, zone=zone, machine_type=machine.machine_type)
    if calls.look(what, calls.client(compute_v1.MachineTypesClient).get, kind) is None:
        return f"build.machine_type: zone {zone} has no {machine.machine_type}; write another type, or other zones"
    if machine.gpu_type:
        gpu = compute_v1.GetAcceleratorTypeRequest(project=project, zone=zone, accelerator_type=machine.gpu_type)
        if calls.look(what, calls.client(compute_v1.AcceleratorTypesClient).get, gpu) is None:
            return f"build.gpu_type: zone {zone} has no {machine.gpu_type}; write another type, or other zones"
    return ""


def _check_output(project: str, calls: Calls) -> None:
    request = compute_v1.ListImagesRequest(project=project, max_results=1)
    try:
        calls.start(f"images of project {project}", calls.client(compute_v1.ImagesClient).list, request)
    except NotFound as error:
        raise InputError(f"output.project: there is no project {project}, or we may not see it: {error}") from error
