"""This machine's clock: the server's time, where this machine is the server."""

from __future__ import annotations

import random
import time


class LocalClock:
    """Unix seconds of this machine."""

    def now(self) -> float:
        """Give Unix seconds."""
        return time.time()

    def pause(self, most: float) -> None:
        """Wait for a random part of `most` seconds."""
        time.sleep(random.uniform(0, most))  # noqa: S311 - spreads writers, guards nothing
