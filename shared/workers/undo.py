"""Undoes what a worker has made for a build that moved on meanwhile. Nobody else would delete it.

    worker    load (preparing) ─────────── create the VM ── load (finished) ── undo
    engine         cancel ── clean_up: no VM there ── finished, ledger empty

Every worker looks again after its work, and an order that comes too late is undone instead of done: its first delivery
may have died between the two.
"""

from __future__ import annotations

from .. import resources
from ..build import Build, LedgerEntry
from ..errors import Transient
from ..factory import Factory
from ..orders import Order
from .clean_up import DELETION_ORDER, delete_entry


def undo(order: Order, build: Build, factory: Factory) -> None:
    """Delete what the order may have made and the build does not want. Transient when that is not possible yet."""
    for entry in sorted(unwanted(order, build), key=lambda entry: DELETION_ORDER.index(entry.kind)):
        if not delete_entry(entry, build, factory):
            raise Transient(f"{entry.kind} {entry.name} came too late for build {build.id} and cannot be deleted yet")


def unwanted(order: Order, build: Build) -> list[LedgerEntry]:
    """What the order may make and the build has no use for: all once its outcome is known, but what it keeps.

    Before that, the VM of an earlier attempt: it would write to the disk that the next one goes on with.
    """
    if build.plan is None:
        return []
    made = resources.of_order(build.plan, order.kind, order.attempt)
    if build.outcome is None:
        return [entry for entry in made if entry.kind == "machine" and order.attempt < build.attempt]
    kept = [entry for entry in build.ledger if entry.keep]
    return [entry for entry in made if not resources.is_in(entry, kept)]
