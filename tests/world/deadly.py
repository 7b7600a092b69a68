"""The backend of one machine, with which this process is killed: really, by SIGKILL, before a call of an adapter."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from shared.runtime.one_machine import LocalBackend


def deadly(backend: LocalBackend, last: int) -> LocalBackend:
    """Return the backend whose last-th call of Compute or the store, counted over both, does not come to pass."""
    left = [last]
    return replace(backend, compute=_Deadly(backend.compute, left), store=_Deadly(backend.store, left))


class _Deadly:
    def __init__(self, adapter: object, left: list[int]) -> None:
        self._adapter, self._left = adapter, left

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._adapter, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            self._left[0] -= 1
            if self._left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*arguments, **named)

        return counted
