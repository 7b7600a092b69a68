"""What the functions that carry out orders share: each carries out the orders of its own kind alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import PoisonMessage
from shared.messages import read_order_message
from shared.orders import OrderKind
from shared.workers import carry_out

from .handling import CloudEvent, handle, message_of

if TYPE_CHECKING:
    from shared.factory import CloudFactory


def handle_order(event: CloudEvent, kind: OrderKind) -> None:
    """Carry out the order that an event brings. Its account may do what that kind of order needs, and no more."""

    def work(event: CloudEvent, factory: CloudFactory) -> None:
        message, _id = message_of(event)
        order = read_order_message(message)
        if order.kind != kind:
            raise PoisonMessage(f"order {order.number} of {order.build_id} is {order.kind}, and this is {kind}")
        carry_out(order, factory)

    handle(event, work)
