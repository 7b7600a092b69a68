"""Compute Engine's methods, as a table: what is served, of which message classes, and which permission it needs.

https://cloud.google.com/compute/docs/reference/rest/v1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .disks import Disks
from .images import Images
from .instances import Instances
from .places import Places
from .rest.calls import Call
from .rest.links import Links, last
from .rest.listing import aggregated, list_document
from .rest.operations import Operations
from .rest.refusals import Document, not_found
from .templates import KINDS, Templates

Handler = Callable[[Call], Document]
Entries = Callable[[Call], Iterable[Document]]

_PARTS = {
    "GLOBAL": r"(?P<scope>global)",
    "ZONE": r"(?P<scope>zones/[^/]+)",
    "REGION": r"(?P<scope>regions/[^/]+)",
    "NAME": r"(?P<name>[^/]+)",
}


@dataclass(frozen=True)
class Method:
    """One method. `changes` tells those that begin an operation, and so take a requestId."""

    http: str
    pattern: re.Pattern[str]  # of the path after the project
    collection: str
    permission: str
    request: str  # message class of the body; empty when there is none
    answer: str
    handler: Handler
    changes: bool


def _method(http: str, path: str, permission: str, request: str, answer: str, handler: Handler) -> Method:
    parts = path.split("/")
    pattern = "/".join(_PARTS.get(part, re.escape(part)) for part in parts)
    collection = next((part for part in parts if part not in (*_PARTS, "aggregated")), "")
    changes = answer == "Operation" and not permission.endswith(("Operations.get", "Operations.list"))
    return Method(http, re.compile(pattern), collection, f"compute.{permission}", request, answer, handler, changes)


def methods(
    images: Images,
    disks: Disks,
    instances: Instances,
    templates: Templates,
    operations: Operations,
    places: Places,
    links: Links,
) -> Sequence[Method]:
    """Return the whole table."""
    return (
        *_template_methods(templates),
        *_image_methods(images),
        *_disk_methods(disks),
        *_instance_methods(instances),
        *_operation_methods(operations),
        *_place_methods(places, links),
    )


def _image_methods(images: Images) -> Sequence[Method]:
    one = "GLOBAL/images/NAME"
    return (
        _method("GET", "GLOBAL/images", "images.list", "", "ImageList", images.list),
        _method("POST", "GLOBAL/images", "images.create", "Image", "Operation", images.insert),
        _method("GET", "GLOBAL/images/family/NAME", "images.getFromFamily", "", "Image", images.from_family),
        _method("GET", one, "images.get", "", "Image", images.get),
        _method("DELETE", one, "images.delete", "", "Operation", images.delete),
        _method("PATCH", one, "images.update", "Image", "Operation", images.patch),
        _method("GET", f"{one}/getIamPolicy", "images.getIamPolicy", "", "Policy", images.get_policy),
        _method(
            "POST", f"{one}/setIamPolicy", "images.setIamPolicy", "GlobalSetPolicyRequest", "Policy", images.set_policy
        ),
        _method("POST", f"{one}/deprecate", "images.deprecate", "DeprecationStatus", "Operation", images.deprecate),
        _method(
            "POST", f"{one}/setLabels", "images.setLabels", "GlobalSetLabelsRequest", "Operation", images.set_labels
        ),
    )


def _disk_methods(disks: Disks) -> Sequence[Method]:
    one, labels = "ZONE/disks/NAME", "ZoneSetLabelsRequest"
    return (
        _method("GET", "aggregated/disks", "disks.list", "", "DiskAggregatedList", disks.aggregated),
        _method("GET", "ZONE/disks", "disks.list", "", "DiskList", disks.list),
        _method("POST", "ZONE/disks", "disks.create", "Disk", "Operation", disks.insert),
        _method("GET", one, "disks.get", "", "Disk", disks.get),
        _method("DELETE", one, "disks.delete", "", "Operation", disks.delete),
        _method("POST", f"{one}/resize", "disks.resize", "DisksResizeRequest", "Operation", disks.resize),
        _method("POST", f"{one}/setLabels", "disks.setLabels", labels, "Operation", disks.set_labels),
    )


def _instance_methods(instances: Instances) -> Sequence[Method]:
    one, labels = "ZONE/instances/NAME", "InstancesSetLabelsRequest"
    serial = (f"{one}/serialPort", "instances.getSerialPortOutput", "", "SerialPortOutput", instances.serial_port)
    return (
        _method("GET", "aggregated/instances", "instances.list", "", "InstanceAggregatedList", instances.aggregated),
        _method("GET", "ZONE/instances", "instances.list", "", "InstanceList", instances.list),
        _method("POST", "ZONE/instances", "instances.create", "Instance", "Operation", instances.insert),
        _method("GET", one, "instances.get", "", "Instance", instances.get),
        _method("DELETE", one, "instances.delete", "", "Operation", instances.delete),
        _method(
            "POST", f"{one}/attachDisk", "instances.attachDisk", "AttachedDisk", "Operation", instances.attach_disk
        ),
        _method("POST", f"{one}/stop", "instances.stop", "", "Operation", instances.stop),
        _method("POST", f"{one}/start", "instances.start", "", "Operation", instances.start),
        _method("POST", f"{one}/setLabels", "instances.setLabels", labels, "Operation", instances.set_labels),
        _method("POST", f"{one}/setMetadata", "instances.setMetadata", "Metadata", "Operation", instances.set_metadata),
        _method("GET", *serial),
    )


def _template_methods(templates: Templates) -> Sequence[Method]:
    found: list[Method] = []
    for scope, (name, message) in zip(("GLOBAL", "ZONE"), KINDS.items(), strict=True):
        every, one = f"{scope}/{name}", f"{scope}/{name}/NAME"
        found += [
            _method("GET", f"aggregated/{name}", f"{name}.list", "", f"{message}AggregatedList", templates.aggregated),
            _method("GET", every, f"{name}.list", "", f"{message}List", templates.list),
            _method("POST", every, f"{name}.create", message, "Operation", templates.insert),
            _method("GET", one, f"{name}.get", "", message, templates.get),
            _method("DELETE", one, f"{name}.delete", "", "Operation", templates.delete),
        ]
    return found


def _operation_methods(operations: Operations) -> Sequence[Method]:
    found = [
        _method(
            "GET",
            "aggregated/operations",
            "globalOperations.list",
            "",
            "OperationAggregatedList",
            operations.aggregated,
        )
    ]
    for scope in ("GLOBAL", "ZONE", "REGION"):
        one, role = f"{scope}/operations/NAME", f"{scope.lower()}Operations"
        found += [
            _method("GET", f"{scope}/operations", f"{role}.list", "", "OperationList", operations.list),
            _method("GET", one, f"{role}.get", "", "Operation", operations.get),
            _method("POST", f"{one}/wait", f"{role}.get", "", "Operation", operations.wait),
            _method("DELETE", one, f"{role}.delete", "", "", operations.delete),
        ]
    return found


def _place_methods(places: Places, links: Links) -> Sequence[Method]:
    kinds: Sequence[tuple[str, str, str, Entries]] = (
        ("zones", "zone", "Zone", lambda call: places.zone_list(call.project)),
        ("regions", "region", "Region", lambda call: places.region_list(call.project)),
        ("GLOBAL/networks", "network", "Network", lambda call: places.networks(call.project)),
        (
            "REGION/subnetworks",
            "subnetwork",
            "Subnetwork",
            lambda call: places.subnetworks(call.project, last(call.scope)),
        ),
        ("ZONE/diskTypes", "diskType", "DiskType", lambda call: places.disk_types(call.project, call.zone)),
        ("ZONE/machineTypes", "machineType", "MachineType", lambda call: places.machine_types(call.project, call.zone)),
    )
    types = "machineTypes.list", "", "MachineTypeAggregatedList", _everywhere(places.machine_types, places, links)
    disk_types = "diskTypes.list", "", "DiskTypeAggregatedList", _everywhere(places.disk_types, places, links)
    found = [
        _method("GET", "", "projects.get", "", "Project", lambda call: places.project(call.project)),
        _method("GET", "aggregated/machineTypes", *types),
        _method("GET", "aggregated/diskTypes", *disk_types),
        _method("GET", "ZONE/machineTypes/NAME", "machineTypes.get", "", "MachineType", _machine_type(places)),
    ]
    for path, kind, message, entries in kinds:
        name = path.rsplit("/", 1)[-1]
        found += [
            _method("GET", path, f"{name}.list", "", f"{message}List", _all_of(entries, kind, links)),
            _method("GET", f"{path}/NAME", f"{name}.get", "", message, _one_of(entries)),
        ]
    return found


def _all_of(entries: Entries, kind: str, links: Links) -> Handler:
    return lambda call: list_document(f"compute#{kind}", links.url(call.path), entries(call), call.query, call.path)


def _one_of(entries: Entries) -> Handler:
    def get(call: Call) -> Document:
        found = [entry for entry in entries(call) if entry["name"] == call.name]
        if not found:
            raise not_found(call.path)
        return found[0]

    return get


def _everywhere(entries: Callable[[str, str], Iterable[Document]], places: Places, links: Links) -> Handler:
    """List what each zone has."""

    def aggregate(call: Call) -> Document:
        found = [entry for zone in places.zones for entry in entries(call.project, zone)]
        link = links.url(f"projects/{call.project}/aggregated/{call.collection}")
        kind = f"compute#{call.collection.removesuffix('s')}"
        return aggregated(kind, link, found, call.query, call.collection, places.zones)

    return aggregate


def _machine_type(places: Places) -> Handler:
    """Return a handler of one machine type, which may be a custom one that no list has."""

    def get(call: Call) -> Document:
        found = places.machine_type(call.project, call.zone, call.name)
        if found is None:
            raise not_found(call.path)
        return found

    return get
