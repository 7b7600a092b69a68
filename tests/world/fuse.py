"""What ends "the process" at the n-th call of an adapter, before or after the call has had its effect."""

from __future__ import annotations

from collections.abc import Callable


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


class Interleaved(Fuse):
    """Lets another process do its work at one call of an adapter, once; the one that is interrupted may die of it."""

    def __init__(self, at: int, work: Callable[[], object], *, dies: bool) -> None:
        super().__init__()
        self._at, self._work, self._dies = at, work, dies

    def touch(self) -> None:
        self.count += 1
        if self.count == self._at:
            self._at = 0
            count = self.count
            self._work()
            self.count = count  # of the one that is interrupted alone
            if self._dies:
                raise Died(f"killed at call {self.count}")
