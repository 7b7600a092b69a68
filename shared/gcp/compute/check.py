"""Check a plan against Compute Engine before anything is made or paid for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.cloud import compute_v1

from ...build.export_formats import NO_EXPORT, refused_in_cloud
from ...build.machine_types import processor_of, smallest_disk_gb
from ...build.plan import MachinePlan, Plan
from ...errors import InputError, NotFound, Permanent
from ...gpu_drivers import GOOGLE, check_drivers
from ...names import LOCAL
from ..settings import Settings
from .calls import Calls, last
from .delivery import check_context_size

_SHOWN = 12  # names of zones in a message


def check_plan(plan: Plan, settings: Settings, calls: Calls) -> None:
    """Raises InputError for what the spec can mend, CloudError for what Compute Engine refuses."""
    if plan.image.formats and plan.image.export_to is None:
        raise InputError(f"output.formats: {NO_EXPORT}")
    if plan.image.export_to is not None:
        _check_export(plan, settings)
    for key, project in (("build.project", plan.machine.project), ("output.project", plan.image.project)):
        if project == LOCAL:
            raise InputError(f"{key}: project {LOCAL} is on one machine, and this build is not; write a project's id")
    check_drivers(plan, settings.storage_endpoint or GOOGLE)
    if settings.delivery == "disk" and plan.context is not None:
        check_context_size(plan.context)
    size = plan.machine.disk_size_gb if plan.origin is None else plan.image.disk_size_gb
    if size < (smallest := smallest_disk_gb(plan.machine.disk_type)):
        raise InputError(f"output.disk_size_gb: a disk of type {plan.machine.disk_type} has {smallest} GB at least")
    zones = _usable_zones(plan.machine, settings, calls)
    _check_machine("build", plan.machine, zones, calls)
    _check_verifiers(plan, zones, calls)
    if plan.image.project != plan.machine.project:
        _check_output(plan.image.project, calls)


def _check_export(plan: Plan, settings: Settings) -> None:
    """Hold an export to what a VM of the deployment can write, and reach. InputError."""
    if refused := refused_in_cloud(plan.image.formats):
        raise InputError(f"output.formats: {refused}")
    machine = plan.machine.machine_type
    if plan.exporter is None or processor_of(machine).name != plan.exporter.architecture:
        raise InputError(
            f"output.export: a VM of type {machine} cannot boot what writes it on Google Cloud, which is for "
            "x86_64; leave the key out"
        )
    if settings.delivery == "disk":
        raise InputError(
            "output.export: the VM that writes it has to reach Cloud Storage, and VMs of this deployment (delivery = "
            '"disk") need not; leave the key out'
        )


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


def _check_verifiers(plan: Plan, zones: Sequence[str], calls: Calls) -> None:
    """Look for the types of the VMs that verify, where they have some of their own."""
    kinds = {(plan.machine.machine_type, plan.machine.disk_type)}
    for index, (_name, machine) in enumerate(plan.verifying_machines()):
        kind = machine.machine_type, machine.disk_type
        if kind in kinds:
            continue
        kinds.add(kind)
        key = f"verify.machines[{index}]"
        if machine.disk_size_gb < (smallest := smallest_disk_gb(machine.disk_type)):
            raise InputError(
                f"{key}.machine_type: its disk is of type {machine.disk_type}, which has {smallest} GB at least; "
                f"write output.disk_size_gb: {smallest}, or another type"
            )
        _check_machine(key, machine, zones, calls)


def _check_machine(key: str, machine: MachinePlan, zones: Sequence[str], calls: Calls) -> None:
    """One zone that has all that the machine needs is enough: the others are passed over."""
    missing = []
    for zone in zones:
        problem = _missing(key, machine, zone, calls)
        if not problem:
            return
        missing.append(problem)
    raise InputError("\n".join(dict.fromkeys(missing)))


def _missing(key: str, machine: MachinePlan, zone: str, calls: Calls) -> str:
    project, what = machine.project, f"zone {zone} of project {machine.project}"
    kind = compute_v1.GetMachineTypeRequest(project=project, zone=zone, machine_type=machine.machine_type)
    if calls.look(what, calls.client(compute_v1.MachineTypesClient).get, kind) is None:
        return f"{key}.machine_type: zone {zone} has no {machine.machine_type}; write another type, or other zones"
    if machine.gpu_type:
        gpu = compute_v1.GetAcceleratorTypeRequest(project=project, zone=zone, accelerator_type=machine.gpu_type)
        if calls.look(what, calls.client(compute_v1.AcceleratorTypesClient).get, gpu) is None:
            return f"build.gpu_type: zone {zone} has no {machine.gpu_type}; write another type, or other zones"
    return _missing_subnet(machine, zone, calls) if machine.subnet else _missing_network(machine, calls)


def _missing_network(machine: MachinePlan, calls: Calls) -> str:
    """A network whose subnetworks are not named has one in each region, or it is of no use."""
    name = machine.network or "default"
    project = _project_of(name, machine)
    request = compute_v1.GetNetworkRequest(project=project, network=last(name))
    try:
        found = calls.look(f"network {name}", calls.client(compute_v1.NetworksClient).get, request)
    except Permanent:
        return ""  # of a project that only those who make VMs may use
    return network_problem(last(name), project, found)


def network_problem(name: str, project: str, found: compute_v1.Network | None) -> str:
    """Return why no VM fits into a network whose subnetworks the spec leaves out; "" if one does."""
    if found is None:
        return f"build.network: project {project} has no network {name}; write another network or a subnetwork"
    if "auto_create_subnetworks" in found and not found.auto_create_subnetworks:
        return f"build.subnet: network {name} has only subnetworks that its owner has made; write one of them"
    return ""


def _missing_subnet(machine: MachinePlan, zone: str, calls: Calls) -> str:
    path, region = str(machine.subnet), zone.rpartition("-")[0]
    parts = path.split("/")
    if "regions" in parts and (named := parts[parts.index("regions") + 1]) != region:
        return f"build.subnet: {path} is in region {named}, and zone {zone} is not; write zones of {named}"
    project = _project_of(path, machine)
    request = compute_v1.GetSubnetworkRequest(project=project, region=region, subnetwork=last(path))
    try:
        found = calls.look(f"subnetwork {path}", calls.client(compute_v1.SubnetworksClient).get, request)
    except Permanent:
        return ""  # as above
    if found is None:
        return f"build.subnet: project {project} has no subnetwork {last(path)} in region {region}; write another one"
    return ""


def _project_of(path: str, machine: MachinePlan) -> str:
    """Return the project of a network or subnetwork, by name or by path."""
    parts = path.split("/")
    return parts[parts.index("projects") + 1] if "projects" in parts else machine.project


def _check_output(project: str, calls: Calls) -> None:
    request = compute_v1.ListImagesRequest(project=project, max_results=1)
    try:
        calls.start(f"images of project {project}", calls.client(compute_v1.ImagesClient).list, request)
    except NotFound as error:
        raise InputError(f"output.project: there is no project {project}, or we may not see it: {error}") from error
