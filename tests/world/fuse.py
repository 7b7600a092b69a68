"""What ends "the process" at the n-th call of an adapter, before or after the call has had its effect."""

from __future__ import annotations


class Died(BaseException):
    """The process was killed here. Not an Exception: nothing in the code under test may catch it."""


class Fuse:
    """Counts the calls of all adapters of one process; burns through at one of them."""

    def __init__(self, last: int | None = None) -> None:
        self.count = 0
        self._last = last

    def touch(self) -> None:
        self.count += 1
        if self.count == self._last:
            raise Died(f"killed at call {self.count}")
