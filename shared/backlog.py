"""How many messages of a subscription wait to be acknowledged, as a port: counted, and never pulled or read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Backlog:
    """What a subscription held when it was last measured."""

    messages: int  # that are not acknowledged
    oldest: float  # Unix seconds, since when the oldest of them waits; 0 where there is none
    seen: float  # Unix seconds, when it was measured


class Backlogs(Protocol):
    """Tells what subscriptions of the deployment hold."""

    def backlog(self, subscription: str) -> Backlog | None:
        """Return the newest measurement; None where there is none of the last minutes. GoldsmithError."""
        ...
