"""Orders: something that we ask the world to do, as frozen values. Facts that come back are in events.py.

An order names the build and not what to do with it: the worker reads the plan from the store, and drops an order that
the build has since moved past. `number` counts a build's orders; a redelivered order keeps its number, so that the
fact it leads to keeps its id and is recorded once. An order given anew gets a new number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

OrderKind = Literal[
    "create_resources",  # the build VM and its boot disk, of this attempt
    "grow_disk",  # the boot disk of the VM that waits for a larger one
    "export_image",  # an image of the boot disk, in no family yet, and the archive when one is asked for
    "verify_image",  # a VM booted from the new image, and the verify steps on it
    "label_image",  # publication: all that it shows is made ready; after the commit, shown, and the family joined last
    "deprecate_images",  # what follows publication: the new image is distributed, the family's older ones deprecated
    "clean_up",  # all of the ledger but what is kept
    "announce",  # the finished build, whole, to builds-finished
]
ORDER_KINDS: tuple[OrderKind, ...] = get_args(OrderKind)

_FACT_ID = re.compile(r"o([0-9]{1,9})-[A-Za-z]+")


@dataclass(frozen=True)
class Order:
    """One order of one build."""

    build_id: str
    number: int  # 1, 2, 3 ... within the build
    kind: OrderKind
    attempt: int
    machine: str = ""  # of verify_image: which of the plan's verify_machines; "" where it has none

    def fact_id(self, kind: str) -> str:
        """The id of the event that comes of this order: the same however often the order is redelivered."""
        return f"o{self.number}-{kind}"


def order_number(event_id: str) -> int:
    """Return the number of the order that a fact came of, by the fact's id; 0 for any other event's."""
    match = _FACT_ID.fullmatch(event_id)
    return int(match[1]) if match else 0
