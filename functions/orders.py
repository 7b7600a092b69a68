"""Shared by the functions that carry out orders: each handles the orders of its own kind alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.build.orders import Order, OrderKind
from shared.engine.messages import read_message
from shared.errors import PoisonMessage
from shared.ports import Message
from shared.workers.carry_out import carry_out

from .handling import CloudEvent, HttpAnswer, HttpRequest, handle, message_of

if TYPE_CHECKING:
    from shared.runtime.opening import CloudBackend


def handle_order(request: HttpRequest, kind: OrderKind) -> HttpAnswer:
    """Carry out the order that an event brings. Its account may do what that kind of order needs, and no more."""

    def work(event: CloudEvent, backend: CloudBackend) -> None:
        carry_out_message(message_of(event)[0], kind, backend)

    return handle(request, work)


def carry_out_message(message: Message, kind: OrderKind, backend: CloudBackend) -> None:
    """Carry out the order that a message brings. PoisonMessage for any but an order of that kind."""
    order = read_message(message)
    if not isinstance(order, Order):
        raise PoisonMessage(f"topic {message.topic} brings no orders")
    if order.kind != kind:
        raise PoisonMessage(f"order {order.number} of {order.build_id} is {order.kind}, and this is {kind}")
    carry_out(order, backend)
