"""Undoes what a worker has made for a build that moved on meanwhile. Nothing else would delete it.

    worker    load (preparing) ─────────── create the VM ── load (finished) ── undo
    engine         cancel ── clean_up: no VM there ── finished, ledger empty

Every worker looks again after its work, and before each effect that others see; an order that comes too late is undone
instead of done: its first delivery may have died between the two.
"""

from __future__ import annotations

from .. import resources
from ..build import Build, LedgerEntry
from ..errors import NotFound, PoisonMessage, Transient
from ..factory import Factory
from ..lifecycle import wanted
from ..orders import Order
from .clean_up import DELETION_ORDER, delete_entry
from .withdraw import withdraw


def load(order: Order, factory: Factory) -> Build:
    """Read the build of an order. PoisonMessage."""
    try:
        return factory.store.load(order.build_id).build
    except NotFound as error:
        raise PoisonMessage(f"order {order.number} is of no build that there is: {order.build_id}") from error


def is_stale(order: Order, build: Build) -> bool:
    """Whether the build has moved past an order: doing it now would make what nothing deletes."""
    done = order.kind == "deprecate_images" and not build.retiring
    return done or order.kind not in wanted(build) or order.attempt != build.attempt


def refuse_late(order: Order, factory: Factory) -> None:
    """Raise Transient once the build has moved past an order; the next delivery undoes what this one has done."""
    build = load(order, factory)
    if is_stale(order, build):
        raise Transient(f"build {build.id} is {build.state} and does not want {order.kind} any more")


def undo(order: Order, build: Build, factory: Factory) -> None:
    """Delete what the order may have made and the build does not want. Transient when that is not possible yet."""
    for entry in sorted(unwanted(order, build), key=lambda entry: DELETION_ORDER.index(entry.kind)):
        if not delete_entry(entry, build, factory):
            raise Transient(f"{entry.kind} {entry.name} came too late for build {build.id} and cannot be deleted yet")
    if order.kind == "label_image":
        withdraw(build, factory)


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
