"""clean_up: everything in the ledger but what is kept, after the machines' logs are safe; then the build's result."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..build import Build, LedgerEntry
from ..errors import Conflict, GoldsmithError, NotFound, Transient
from ..events import CleanedUp
from ..factory import Factory
from ..orders import Order
from ..ownership import is_made_by
from ..result import result, updated
from .logs import log_folder, store_console
from .withdraw import withdraw

LOG = logging.getLogger(__name__)

TRIES = 5  # of a conditional write
DELETION_ORDER = ("machine", "disk", "object", "image")  # a disk cannot be deleted while a machine uses it


def clean_up(build: Build, order: Order, factory: Factory) -> CleanedUp:
    """Delete what can be deleted; what cannot yet remains, and is tried again."""
    withdrawn = _withdraw(build, factory)
    doomed = sorted((e for e in build.ledger if not e.keep), key=lambda entry: DELETION_ORDER.index(entry.kind))
    remaining = withdrawn + tuple(entry for entry in doomed if not delete_entry(entry, build, factory))
    if build.result:
        text = result(build, remaining, log_folder(factory, build.id), order.number)
        _store_result(text, [entry for entry in doomed if entry not in remaining], build, factory)
    return CleanedUp(
        build_id=build.id,
        event_id=order.fact_id("CleanedUp"),
        time=factory.clock.now(),
        remaining=remaining,
    )


def _store_result(text: bytes, gone: Sequence[LedgerEntry], build: Build, factory: Factory) -> None:
    """Write the result object, unless a newer clean-up has: only at the generation that was read. Transient."""
    for _try in range(TRIES):
        try:
            before, generation = _read(build.result, factory)
            factory.bucket.write_if_generation(build.result, updated(before, text, gone), generation)
        except Conflict:
            continue
        except Transient:
            raise
        except GoldsmithError as error:  # a lasting fault is no reason to keep what costs money
            LOG.warning("build %s: its result is lost: %s", build.id, error)
        return
    raise Transient(f"{build.result} is written to by too many at once; it can be tried again")


def _read(uri: str, factory: Factory) -> tuple[bytes, str]:
    try:
        return factory.bucket.read_with_generation(uri)
    except NotFound:
        return b"", ""


def _withdraw(build: Build, factory: Factory) -> tuple[LedgerEntry, ...]:
    """Take back what a build that has not succeeded may have shown; return the image while that is not possible."""
    try:
        withdraw(build, factory)
    except GoldsmithError as error:  # whatever it is, what costs money must not wait for it
        LOG.warning("build %s: its publication cannot be taken back yet: %s", build.id, error)
        return tuple(entry for entry in build.ledger if entry.kind == "image")
    return ()


def delete_entry(entry: LedgerEntry, build: Build, factory: Factory) -> bool:
    """Delete one thing of a build, a machine only once its log is safe; give whether it is gone."""
    try:
        if entry.kind == "object":
            factory.bucket.delete(entry.name)
        elif entry.kind == "image":
            _delete_image(entry, build, factory)
        else:
            _delete_in_zones(entry, build, factory)
    except GoldsmithError as error:  # whatever it is, the rest of the ledger must not wait for it
        LOG.warning("build %s: %s %s cannot be deleted yet: %s", build.id, entry.kind, entry.name, error)
        return False
    return True


def _delete_image(entry: LedgerEntry, build: Build, factory: Factory) -> None:
    """Delete our image: the ledger has its name from before it was made, and somebody else may have been faster."""
    image = factory.compute.image(entry.project, entry.name)
    if image is not None and is_made_by(image, build, factory):
        factory.compute.delete("image", entry.name, entry.project, "")


def _delete_in_zones(entry: LedgerEntry, build: Build, factory: Factory) -> None:
    """Delete a machine or a disk wherever it may be: a worker that died can have made it in any zone of the plan."""
    planned = build.plan.machine.zones if build.plan else ()
    for zone in (entry.zone,) if entry.zone else planned or (build.zone,):
        if entry.kind == "machine":
            store_console(entry.name, entry.project, zone, build, factory)
        factory.compute.delete(entry.kind, entry.name, entry.project, zone)
