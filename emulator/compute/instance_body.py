"""From the body of an instances.insert request to the instance's document: defaults, and what is refused at once."""

from __future__ import annotations

from collections.abc import Mapping

from shared.build.machine_types import processor_of

from .disk import Disk
from .places import PROJECT_NUMBER, machine_size
from .rest.calls import Call, fingerprint, labelled, new_document
from .rest.links import Links, check_name, last, path_of
from .rest.refusals import Document, Refusal, invalid

DEFAULT_ACCOUNT = f"{PROJECT_NUMBER}-compute@developer.gserviceaccount.com"
_ADDRESS, _EXTERNAL_ADDRESS = "169.254.169.15", "192.0.2.15"  # the guest's own; one reserved for documentation
_GIVEN = ("description", "canIpForward", "deletionProtection", "guestAccelerators", "hostname", "minCpuPlatform",
          "shieldedInstanceConfig", "confidentialInstanceConfig", "reservationAffinity")  # fmt: skip
_VALUE_LIMIT, _METADATA_LIMIT = 256 << 10, 512 << 10  # bytes
_LONGEST_RUN = 120 * 24 * 3600  # seconds


def instance_document(call: Call, links: Links) -> Document:
    """Make the document, all but the disks. Raises Refusal."""
    body = call.body
    path = f"{call.path}/{check_name(body.get('name', ''))}"
    document = new_document("instance", path, links) | {key: body[key] for key in _GIVEN if key in body}
    document |= labelled(body.get("labels", {}))
    document |= {
        "zone": links.url(call.parent),
        "status": "PROVISIONING",
        "machineType": links.url(_machine_type(body.get("machineType", ""), call)),
        "cpuPlatform": "Unknown CPU Platform",
        "networkInterfaces": _interfaces(body.get("networkInterfaces", []), call, links),
        "metadata": metadata(body.get("metadata", {})),
        "tags": {**body.get("tags", {}), "fingerprint": fingerprint(body.get("tags", {}))},
        "scheduling": _scheduling(body.get("scheduling", {}), with_gpus=bool(body.get("guestAccelerators"))),
        "startRestricted": False,
        "fingerprint": fingerprint(document["id"]),
    }
    if body.get("serviceAccounts"):
        document["serviceAccounts"] = [_account(account) for account in body["serviceAccounts"]]
    return document


def attached_disk(given: Mapping[str, object], disk: Disk, index: int, links: Links) -> Document:
    """Return an entry of an instance's `disks`."""
    document: Document = {
        "kind": "compute#attachedDisk",
        "index": index,
        "type": given.get("type", "PERSISTENT"),
        "mode": given.get("mode", "READ_WRITE"),
        "boot": bool(given.get("boot", False)),
        "autoDelete": bool(given.get("autoDelete", False)) or given.get("type") == "SCRATCH",
        "deviceName": given.get("deviceName", f"persistent-disk-{index}"),
        "interface": given.get("interface", "SCSI"),
        "source": links.url(disk.path),
        "diskSizeGb": disk.document["sizeGb"],
    }
    inherited = ("licenses", "guestOsFeatures", "architecture")
    return document | {key: disk.document[key] for key in inherited if key in disk.document}


def check_processor(document: Document) -> None:
    """Refuse a boot disk for another architecture than the machine type's, as Compute Engine does. Raises Refusal."""
    machine = processor_of(last(document["machineType"])).name.upper()
    for entry in document["disks"]:
        disk = entry.get("architecture", machine)
        if entry["boot"] and disk not in (machine, "ARCHITECTURE_UNSPECIFIED"):
            why = f"architecture ({disk}) is not compatible with machine type architecture ({machine})."
            raise Refusal(400, "invalid", f"Invalid resource usage: 'Requested boot disk {why}'.")


def metadata(given: Mapping[str, object]) -> Document:
    """Return an instance's metadata, within its limits. Raises Refusal."""
    items = given.get("items", [])
    assert isinstance(items, list)
    total = 0
    for number, item in enumerate(items):
        field, size = f"resource.metadata.items[{number}]", len(item.get("value", "").encode())
        if not item.get("key"):
            raise invalid(f"{field}.key", "", "Must be at least 1 character long.")
        if size > _VALUE_LIMIT:
            why = f"is too large: maximum size {_VALUE_LIMIT} character(s); actual size {size}."
            raise Refusal(400, "invalid", f"Value for field '{field}.value' {why}")
        total += size
    if total > _METADATA_LIMIT:
        raise invalid("resource.metadata", "", f"Total size is {total} bytes; at most {_METADATA_LIMIT} are allowed.")
    if len({item["key"] for item in items}) < len(items):
        raise invalid("resource.metadata", "", "Metadata has duplicate keys.")
    return {"kind": "compute#metadata", "fingerprint": fingerprint(items)} | ({"items": items} if items else {})


def run_seconds(document: Document) -> float | None:
    """Return the seconds for which an instance may run; None for no limit."""
    duration = document["scheduling"].get("maxRunDuration")
    return None if duration is None else int(duration.get("seconds", 0)) + duration.get("nanos", 0) / 1e9


def _machine_type(text: str, call: Call) -> str:
    path = path_of(text, call.project, "resource.machineType")
    name = last(path)
    if machine_size(name) is None:
        why = f"Machine type with name '{name}' does not exist in zone '{call.zone}'."
        raise invalid("resource.machineType", text, why)
    if path.split("/")[3] != call.zone:
        raise invalid("resource.machineType", text, f"Machine type is not in zone '{call.zone}'.")
    return path


def _interfaces(given: list[Document], call: Call, links: Links) -> list[Document]:
    if not given:
        raise invalid("resource.networkInterfaces", "", "At least one network interface is required.")
    return [_interface(interface, number, call, links) for number, interface in enumerate(given)]


def _interface(given: Document, number: int, call: Call, links: Links) -> Document:
    network = path_of(given.get("network", "global/networks/default"), call.project, "resource.network")
    region = call.zone.rpartition("-")[0]
    subnetwork = path_of(
        given.get("subnetwork", f"regions/{region}/subnetworks/{last(network)}"), call.project, "resource.subnetwork"
    )
    document: Document = {
        "kind": "compute#networkInterface",
        "name": f"nic{number}",
        "network": links.url(network),
        "subnetwork": links.url(subnetwork),
        "networkIP": _ADDRESS,
        "stackType": "IPV4_ONLY",
        "fingerprint": fingerprint([number, network]),
    }
    default = {
        "kind": "compute#accessConfig",
        "type": "ONE_TO_ONE_NAT",
        "name": "external-nat",
        "networkTier": "PREMIUM",
    }
    configs = [{**default, "natIP": _EXTERNAL_ADDRESS, **config} for config in given.get("accessConfigs", [])]
    return document | ({"accessConfigs": configs} if configs else {})


def _account(given: Document) -> Document:
    email = given.get("email", "default")
    return {"email": DEFAULT_ACCOUNT if email == "default" else email, "scopes": given.get("scopes", [])}


def _scheduling(given: Document, *, with_gpus: bool) -> Document:
    spot = given.get("provisioningModel") == "SPOT" or bool(given.get("preemptible"))
    duration = given.get("maxRunDuration")
    if given.get("instanceTerminationAction") and not (spot or duration or "terminationTime" in given):
        message = (
            "You cannot specify a termination action for a VM instance that has the standard provisioning model "
            "(default). To use instance termination action, the VM instance must use the Spot provisioning model "
            "or specify a limit to its run time."
        )
        raise Refusal(400, "invalid", message)
    if duration is not None and not 0 < int(duration.get("seconds", 0)) <= _LONGEST_RUN:
        why = f"Must be between 1 and {_LONGEST_RUN} seconds."
        raise invalid("resource.scheduling.maxRunDuration", duration.get("seconds", "0"), why)
    if spot and given.get("automaticRestart"):
        raise Refusal(400, "invalid", "Scheduling must have automaticRestart be false when using the Spot model.")
    if with_gpus and given.get("onHostMaintenance") != "TERMINATE":
        raise Refusal(400, "invalid", "Instances with guest accelerators do not support live migration.")
    default: Document = {
        "onHostMaintenance": "TERMINATE" if spot else "MIGRATE",
        "automaticRestart": not spot,
        "preemptible": spot,
        "provisioningModel": "SPOT" if spot else "STANDARD",
    }
    if spot or duration:
        default["instanceTerminationAction"] = "STOP" if spot else "DELETE"
    return default | given | {"preemptible": spot}
