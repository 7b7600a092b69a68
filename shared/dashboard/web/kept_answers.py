"""Answers that are kept for some seconds: what takes thousands of documents is not read for each look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

_Kept = TypeVar("_Kept")


class KeptAnswer(Generic[_Kept]):
    """The newest answer of one kind. Thread-safe: those that ask at the same time wait for one reading."""

    def __init__(self, seconds: float = 0.0, now: Callable[[], float] = time.time) -> None:
        self._seconds = seconds
        self._now = now
        self._lock = threading.Lock()
        self._answer: tuple[float, Any] | None = None

    def get(self, read: Callable[[], _Kept]) -> _Kept:
        """Return the answer, read anew where it is too old."""
        if self._seconds <= 0:
            return read()
        with self._lock:
            if self._answer is None or not 0 <= self._now() - self._answer[0] < self._seconds:
                self._answer = self._now(), read()
            found: _Kept = self._answer[1]
            return found
