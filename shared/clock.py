"""The clock of the machine that decides: a function's in the cloud, this one where there is no other."""

from __future__ import annotations

import random
import time


class SystemClock:
    """Unix seconds of this machine."""

    def now(self) -> float:
        """Give Unix seconds."""
        return time.time()

    def pause(self, most: float) -> None:
        """Wait for a random part of `most` seconds."""
        time.sleep(random.uniform(0, most))  # noqa: S311 - spreads writers, guards nothing
