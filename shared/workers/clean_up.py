"""clean_up: everything in the ledger but what is kept, after the machines' logs are safe."""

from __future__ import annotations

import logging

from ..build import Build, LedgerEntry
from ..errors import CloudError, EnvironmentFault, NotFound
from ..events import CleanedUp
from ..factory import Factory
from ..orders import Order

LOG = logging.getLogger(__name__)

CONSOLE = 1  # serial port
ORDER = ("machine", "disk", "object", "image")  # a disk cannot be deleted while a machine uses it


def clean_up(build: Build, order: Order, factory: Factory) -> CleanedUp:
    """Delete what can be deleted; what cannot yet remains, and is tried again."""
    doomed = sorted((e for e in build.ledger if not e.keep), key=lambda entry: ORDER.index(entry.kind))
    remaining = tuple(entry for entry in doomed if not _delete(entry, build, factory))
    return CleanedUp(
        build_id=build.id,
        event_id=f"o{order.number}-CleanedUp",
        time=factory.clock.now(),
        remaining=remaining,
    )


def log_uri(factory: Factory, build_id: str, machine: str) -> str:
    """Where a machine's console log is stored once the machine is gone."""
    return f"{factory.logs}/{build_id}/{machine}.log"


def _delete(entry: LedgerEntry, build: Build, factory: Factory) -> bool:
    try:
        if entry.kind == "object":
            factory.bucket.delete(entry.name)
            return True
        for zone in _zones(entry, build):
            if entry.kind == "machine":
                _store_log(entry.name, zone, build, factory)
            factory.compute.delete(entry.kind, entry.name, entry.project, zone)
    except (CloudError, EnvironmentFault) as error:
        LOG.warning("build %s: %s %s cannot be deleted yet: %s", build.id, entry.kind, entry.name, error)
        return False
    return True


def _zones(entry: LedgerEntry, build: Build) -> tuple[str, ...]:
    """Where the thing may be: a worker that died can have made it in any zone of the plan."""
    if entry.zone:
        return (entry.zone,)
    zones = build.plan.machine.zones if build.plan else ()
    return zones or (build.zone,)


def _store_log(machine: str, zone: str, build: Build, factory: Factory) -> None:
    try:
        output, _next = factory.compute.serial_output(machine, zone, CONSOLE, 0)
    except NotFound:
        return  # never made, or deleted by an earlier delivery of this order
    factory.bucket.write(log_uri(factory, build.id, machine), output)
