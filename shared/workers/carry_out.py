"""Carry out orders: find the worker, skip an order that the build has moved past, publish the fact.

A worker may be called twice for one order, late, or at the same time as another call for the same order. It raises
Transient for what may pass (the order is redelivered) and Permanent for what will not (the build fails with the text).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from ..backend import Backend
from ..build.build import Build
from ..build.events import Event, OrderFailed
from ..build.orders import Order, OrderKind
from ..engine.messages import event_message
from ..errors import DiskGone, GoldsmithError, ImageNotMade, PoisonMessage, Transient
from .clean_up import clean_up
from .create_resources import create_resources
from .deprecate_images import deprecate_images
from .export_image import export_image
from .grow_disk import grow_disk
from .label_image import label_image
from .undo import is_stale, load, undo
from .verify_image import verify_image

__all__ = ["WORKERS", "carry_out", "is_stale"]

LOG = logging.getLogger(__name__)

Worker = Callable[[Build, Order, Backend], Event]

WORKERS: Mapping[OrderKind, Worker] = {
    "create_resources": create_resources,
    "grow_disk": grow_disk,
    "export_image": export_image,
    "verify_image": verify_image,
    "label_image": label_image,
    "deprecate_images": deprecate_images,
    "clean_up": clean_up,
}
"""`announce` has no worker: other pipelines read it."""


def carry_out(order: Order, backend: Backend) -> None:
    """Do what an order asks for and publish the fact. Transient means: redeliver the order."""
    worker = WORKERS.get(order.kind)
    if worker is None:
        raise PoisonMessage(f"no worker carries out {order.kind}, order {order.number} of {order.build_id}")
    build = load(order, backend)
    if is_stale(order, build):
        LOG.info("build %s has moved past order %d, %s", build.id, order.number, order.kind)
        undo(order, build, backend)
        return
    try:
        fact = worker(build, order, backend)
    except (Transient, PoisonMessage):
        raise
    except GoldsmithError as error:
        fact = OrderFailed(
            build_id=order.build_id,
            event_id=order.fact_id("OrderFailed"),
            time=backend.clock.now(),
            order=order.kind,
            attempt=order.attempt,
            reason=str(error),
            disk_whole=isinstance(error, ImageNotMade),
            disk_gone=isinstance(error, DiskGone),
            machine=order.machine,
        )
    backend.bus.publish(event_message(fact))
    undo(order, load(order, backend), backend)
