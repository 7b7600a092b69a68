"""Reports leave by two ways at once: Pub/Sub's REST `:publish`, and one line each on the report port.

Each way has a thread and a queue of its own, so that a dead network delays neither the steps nor the serial port. No
failure here fails a build: the host reads the serial port when nothing is published.
"""

from __future__ import annotations

import collections
import threading
import time
from abc import ABC, abstractmethod

from ..protocol import HEARTBEAT, Job, Report, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

BATCH = 100  # reports sent together when they have piled up


class Way(ABC):
    """One way for reports to leave: in order, with heartbeats while there is nothing else to send."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._thread = threading.Thread(target=self.run, daemon=True)  # a subclass's names may clash
        self.delivered: set[bytes] = set()
        self._queue: collections.deque[bytes] = collections.deque()
        self._changed = threading.Condition()
        self._give_up: Optional[float] = None
        self._arrived = True  # the last batch

    @abstractmethod
    def deliver(self, reports: list[bytes]) -> bool:
        """Send reports; return whether they have arrived. Runs in this way's thread."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait for the thread to end, after close()."""
        self._thread.join(seconds)

    def has_ended_well(self) -> bool:
        """Return, after join(), whether the last reports have arrived."""
        return self._arrived and not self._thread.is_alive()

    def send(self, reports: list[bytes]) -> None:
        """Queue reports; return at once."""
        with self._changed:
            self._queue.extend(reports)
            self._changed.notify()

    def close(self, give_up: float) -> None:
        """Take no more reports; those in the queue are tried until the monotonic time `give_up`."""
        with self._changed:
            self._give_up = give_up
            self._changed.notify()

    def is_closing(self) -> bool:
        """Return whether the machine waits for the reports that are still queued."""
        return self._give_up is not None

    def seconds_left(self, wanted: float) -> float:
        """Return how much of `wanted` close() leaves; 0 when nothing should be tried any more."""
        return wanted if self._give_up is None else max(0.0, min(wanted, self._give_up - time.monotonic()))

    def pause(self, seconds: float) -> None:
        """Wait between two tries, no longer than close() allows."""
        until = time.monotonic() + seconds
        with self._changed:
            left = self.seconds_left(seconds)
            while left > 0:
                self._changed.wait(left)
                left = self.seconds_left(until - time.monotonic())

    def run(self) -> None:
        """Send until closed and empty."""
        for batch in iter(self._next_batch, []):
            self._arrived = self.deliver(batch)
            if self._arrived:
                self.delivered.update(batch)

    def _next_batch(self) -> list[bytes]:
        with self._changed:
            if not self._queue and self._give_up is None:
                self._changed.wait_for(lambda: self._queue or self._give_up is not None, self.job.heartbeat)
            if self._queue:
                return [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            return [] if self._give_up is not None else [self._heartbeat()]

    def _heartbeat(self) -> bytes:
        job = self.job
        return encode(Report(job.build_id, job.attempt, job.phase, 0, HEARTBEAT, time.time(), machine=job.machine))


class Reporter:
    """All the ways of one job. A report counts as delivered once the first way has delivered it."""

    def __init__(self, ways: list[Way]) -> None:
        self._ways = ways
        for way in ways:
            way.start()

    def send(self, reports: list[bytes]) -> None:
        """Send reports, as encoded, without waiting."""
        for way in self._ways:
            way.send(reports)

    def delivered(self) -> set[bytes]:
        """Return the reports that have arrived since the last call."""
        way = self._ways[0]
        arrived = way.delivered
        way.delivered = set()
        return arrived

    def drain(self, seconds: float) -> bool:
        """Wait until all reports have left or are given up; return whether they left. Nothing is sent afterwards."""
        give_up = time.monotonic() + seconds
        for way in self._ways:
            way.close(give_up)
        for way in self._ways:
            way.join(max(0.0, give_up - time.monotonic()) + 1.0)
        return self._ways[0].has_ended_well()
