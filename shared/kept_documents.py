"""Parts of the port Store: documents beside builds and images, each written only if it is still as it was read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .build.damage import Damaged
from .build.image.approval import AskedPromotion
from .build.trigger import Trigger


class TriggerStore(Protocol):
    """Specs with triggers."""

    def triggers(self) -> Sequence[Trigger | Damaged]:
        """List the specs with triggers by their ids, without those that are removed."""
        ...

    def trigger(self, key: str) -> Trigger | None:
        """Read one trigger by its id, a removed one too; None where there is none. DamagedDocument."""
        ...

    def save_trigger(self, trigger: Trigger, expected: Trigger | None) -> bool:
        """Write a trigger if it is still as expected, or absent for None; return whether it was.

        DamagedDocument where what is there cannot be read; it stays as it is.
        """
        ...


class PromotionStore(Protocol):
    """Promotions to channels with approvers."""

    def promotions(self) -> Sequence[AskedPromotion | Damaged]:
        """List the promotions that have not ended, by their ids."""
        ...

    def promotion(self, key: str) -> AskedPromotion | None:
        """Read one by its id, one that has ended too; None where there is none. DamagedDocument."""
        ...

    def save_promotion(self, asked: AskedPromotion, expected: AskedPromotion | None) -> bool:
        """Write one if it is still as expected, or absent for None; return whether it was.

        DamagedDocument where what is there cannot be read; it stays as it is.
        """
        ...
