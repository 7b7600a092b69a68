"""The clock of the machine that decides: a function's in the cloud, this one where there is no other."""

from __future__ import annotations

import random
import time

_CHANCE = random.SystemRandom()  # spreads writers; what others draw of Python's own generator is theirs


class SystemClock:
    """Unix seconds of this machine."""

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time()

    def pause(self, most: float) -> None:
        """Wait for a random part of `most` seconds."""
        time.sleep(_CHANCE.uniform(0, most))
