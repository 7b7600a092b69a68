"""clean_up: everything in the ledger but what is kept, after the machines' logs are safe; then the build's result.

While a publication takes long, the VMs and their disks alone: they cost money, and the image does not need them. They
stay in the ledger until the last clean-up, since a late worker may make one anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..backend import Backend
from ..build import resources
from ..build.build import Build, LedgerEntry
from ..build.events import CleanedUp
from ..build.orders import Order
from ..engine.keeping import lose_image
from ..engine.result import result, updated
from ..engine.script_table import scripts_of
from ..errors import Conflict, GoldsmithError, NotFound, Transient
from ..ownership import is_disk_of_retry, is_left_to, is_made_by
from .logs import log_folder, store_console
from .withdraw import withdraw

LOG = logging.getLogger(__name__)

TRIES = 5  # of a conditional write
DELETION_ORDER = ("machine", "disk", "object", "image")  # a disk cannot be deleted while a machine uses it


def clean_up(build: Build, order: Order, backend: Backend) -> CleanedUp:
    """Delete what can be deleted; what cannot yet remains, and is tried again."""
    if build.outcome is None:
        for entry in _in_order(entry for entry in build.ledger if entry.kind in ("machine", "disk")):
            delete_entry(entry, build, backend)
        return _cleaned(build.ledger, order, backend)
    withdrawn, lost = _withdraw(build, backend)
    if lost:
        build = lose_image(build, lost)
    doomed = _in_order(entry for entry in build.ledger if not entry.keep)
    remaining = withdrawn + tuple(entry for entry in doomed if not delete_entry(entry, build, backend))
    if build.result:
        scripts = scripts_of(build, backend.store)
        text = result(build, remaining, log_folder(backend, build.id), order.number, scripts)
        _store_result(text, [entry for entry in doomed if entry not in remaining], build, backend)
    return replace(_cleaned(remaining, order, backend), lost=lost)


def _in_order(entries: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    return sorted(entries, key=lambda entry: DELETION_ORDER.index(entry.kind))


def _cleaned(remaining: tuple[LedgerEntry, ...], order: Order, backend: Backend) -> CleanedUp:
    return CleanedUp(
        build_id=order.build_id,
        event_id=order.fact_id("CleanedUp"),
        time=backend.clock.now(),
        remaining=remaining,
    )


def _store_result(text: bytes, gone: Sequence[LedgerEntry], build: Build, backend: Backend) -> None:
    """Write the result object, unless a newer clean-up has: only at the generation that was read. Transient."""
    for _try in range(TRIES):
        try:
            before, generation = _read(build.result, backend)
            backend.bucket.write_if_generation(build.result, updated(before, text, gone), generation)
        except Conflict:
            continue
        except Transient:
            raise
        except GoldsmithError as error:  # a lasting fault is no reason to keep what costs money
            LOG.warning("build %s: its result is lost: %s", build.id, error)
        return
    raise Transient(f"{build.result} is written to by too many at once; it can be tried again")


def _read(uri: str, backend: Backend) -> tuple[bytes, str]:
    try:
        return backend.bucket.read_with_generation(uri)
    except NotFound:
        return b"", ""


def _withdraw(build: Build, backend: Backend) -> tuple[tuple[LedgerEntry, ...], str]:
    """Take back what a build that has not succeeded may have shown.

    Return the image while that is not possible, and why one that was to be kept is not there any more.
    """
    try:
        lost = withdraw(build, backend, may_delete=True).lost
    except GoldsmithError as error:  # of any kind: what costs money must not wait for it
        LOG.warning("build %s: its publication cannot be taken back yet: %s", build.id, error)
        return tuple(entry for entry in build.ledger if entry.kind == "image"), ""
    return (), lost


def delete_entry(entry: LedgerEntry, build: Build, backend: Backend) -> bool:
    """Delete one thing of a build, a machine only once its log is safe; return whether it is gone."""
    try:
        if entry.kind == "object":
            backend.bucket.delete(entry.name)
        elif entry.kind == "image":
            _delete_image(entry, build, backend)
        elif not is_disk_of_retry(entry, build, backend):
            _delete_in_zones(entry, build, backend)
    except GoldsmithError as error:  # of any kind: the rest of the ledger must not wait for it
        LOG.warning("build %s: %s %s cannot be deleted yet: %s", build.id, entry.kind, entry.name, error)
        return False
    return True


def delete_earlier(build: Build, attempt: int, phase: str, backend: Backend, number: int = 0) -> None:
    """Delete the VMs that an attempt's one takes the place of: a silent one may well run. Transient.

    `number` is that of a verifier.
    """
    earlier = {resources.machine_name(build.id, before, phase, number) for before in range(1, attempt)}
    for entry in build.ledger:
        if entry.kind == "machine" and entry.name in earlier and not delete_entry(entry, build, backend):
            raise Transient(f"{entry.name} is still there, and attempt {attempt} takes its place")


def _delete_image(entry: LedgerEntry, build: Build, backend: Backend) -> None:
    """Delete our image, or the one whose name was taken over.

    The ledger had its name before it was made, and another maker may have been faster.
    """
    image = backend.compute.image(entry.project, entry.name)
    if image is not None and (is_made_by(image, build, backend) or is_left_to(image, build, backend)):
        backend.compute.delete("image", entry.name, entry.project, "", image_id=image.id)


def _delete_in_zones(entry: LedgerEntry, build: Build, backend: Backend) -> None:
    """Delete a machine or a disk wherever it may be: a worker that died can have made it in any zone of the plan."""
    planned = build.plan.machine.zones if build.plan else ()
    for zone in (entry.zone,) if entry.zone else planned or (build.zone,):
        if entry.kind == "machine":
            store_console(entry.name, entry.project, zone, build, backend)
        backend.compute.delete(entry.kind, entry.name, entry.project, zone)
