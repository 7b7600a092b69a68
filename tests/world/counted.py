"""What subscriptions hold, as a test says."""

from __future__ import annotations

from shared.backlog import Backlog


class FakeBacklogs:
    """One measurement for all subscriptions, or a fault; `asked` is which were looked at."""

    def __init__(self) -> None:
        self.measured: Backlog | None = None
        self.fault: Exception | None = None
        self.asked: list[str] = []

    def backlog(self, subscription: str) -> Backlog | None:
        self.asked.append(subscription)
        if self.fault is not None:
            raise self.fault
        return self.measured
