"""Undo what a worker has made for a build that moved on meanwhile. Nothing else would delete it.

    worker    load (preparing) ─────────── create the VM ── load (finished) ── undo
    engine         cancel ── clean_up: no VM there ── finished, ledger empty

Every worker looks again after its work, and before each effect that others see; an order that comes too late is undone
instead of done: its first delivery may have died between the two.
"""

from __future__ import annotations

from ..backend import Backend
from ..build import resources
from ..build.build import Build, LedgerEntry, State
from ..build.orders import Order
from ..engine.lifecycle import awaited_orders
from ..engine.machine_in_use import has_passed
from ..errors import NotFound, PoisonMessage, Transient
from .clean_up import DELETION_ORDER, delete_entry
from .withdraw import withdraw


def load(order: Order, backend: Backend) -> Build:
    """Read the build of an order. PoisonMessage."""
    try:
        return backend.store.load(order.build_id).build
    except NotFound as error:
        raise PoisonMessage(f"order {order.number} is of no build that there is: {order.build_id}") from error


def is_stale(order: Order, build: Build) -> bool:
    """Return whether the build has moved past an order: to carry it out now would make what nothing deletes."""
    done = order.kind == "deprecate_images" and not build.retiring
    done = done or (order.kind == "label_image" and build.outcome is not None and not build.withdrawing)
    done = done or (order.machine != "" and has_passed(build, order.machine))
    return done or order.kind not in awaited_orders(build) or order.attempt != build.attempt


def refuse_late(order: Order, backend: Backend) -> None:
    """Raise Transient once the build has moved past an order; the next delivery undoes what this one has done."""
    build = load(order, backend)
    if build.outcome is not None or is_stale(order, build):
        raise Transient(f"build {build.id} is {build.state} and does not want {order.kind} any more")


def undo(order: Order, build: Build, backend: Backend) -> None:
    """Delete what the order may have made and the build does not want. Transient when that is not possible yet."""
    for entry in sorted(unwanted(order, build), key=lambda entry: DELETION_ORDER.index(entry.kind)):
        if not delete_entry(entry, build, backend):
            raise Transient(f"{entry.kind} {entry.name} came too late for build {build.id} and cannot be deleted yet")
    if order.kind == "label_image":
        withdraw(build, backend)


def unwanted(order: Order, build: Build) -> list[LedgerEntry]:
    """Return what the order may make and the build has no use for: all but what it keeps, once its outcome is known.

    Before that, the VM of an earlier attempt, which would write to the disk that the next one goes on with; and any VM
    of a build that is being published, which has no use for one.
    """
    if build.plan is None:
        return []
    made = resources.of_order(build.plan, order.kind, order.attempt, order.machine, build.rewrites)
    if build.outcome is None:
        over = order.attempt < build.attempt or build.state is State.PUBLISHING
        return [entry for entry in made if entry.kind == "machine" and over]
    kept = [entry for entry in build.ledger if entry.keep]
    return [entry for entry in made if not resources.is_in(entry, kept)]
