"""Processes of a simulation: each is a thread, and only one of them runs at a time, so that a seed repeats a run.

simulation   start(p1) ........ start(p2) ......... resume(p1) ......
p1              └─ work ─ suspend()                    └─ work ─ end
p2                                  └─ work ─ end

In calm weather no process is suspended: start() then does the work itself, since a thread takes most of the time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.world.fuse import Died


class Process:
    """One process at work on one thing; one that never stands still needs no thread."""

    def __init__(self, what: str, work: Callable[[], None], *, calm: bool) -> None:
        self.what = what
        self.ended = False
        self.doomed = False  # it is killed when it would go on
        self.fault: BaseException | None = None  # what its work raised
        self._work = work
        self._go = threading.Semaphore(0)
        self._gone = threading.Semaphore(0)
        self._thread = None if calm else threading.Thread(target=self._run, daemon=True)
        if self._thread is not None:
            self._thread.start()

    def step(self) -> None:
        """Let it run until it is suspended or has ended."""
        self._go.release()
        if self._thread is None:
            self._run()
            return
        self._gone.acquire()
        if self.ended:
            self._thread.join()

    def suspend(self) -> None:
        """Stand still until the next step. Called by the process itself; raises Died when it was killed meanwhile."""
        assert self._thread is not None, "a process is suspended in calm weather"
        self._gone.release()
        self._go.acquire()
        if self.doomed:
            raise Died(f"{self.what} was killed while it waited")

    def _run(self) -> None:
        self._go.acquire()
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - the simulation looks at it
            self.fault = error
        self.ended = True
        self._gone.release()


class Processes:
    """All processes that have begun and not ended."""

    def __init__(self) -> None:
        self.suspended: list[Process] = []
        self.current: Process | None = None

    def start(self, what: str, work: Callable[[], None], *, calm: bool = False) -> Process:
        """Begin a process and let it run until it is suspended or has ended; in calm weather it is never suspended."""
        process = Process(what, work, calm=calm)
        self._step(process)
        return process

    def resume(self, process: Process) -> None:
        """Let a suspended process go on."""
        self.suspended.remove(process)
        self._step(process)

    def suspend(self) -> None:
        """Suspend the process that runs."""
        assert self.current is not None
        self.current.suspend()

    def _step(self, process: Process) -> None:
        assert self.current is None, "a process does not start another one"
        self.current = process
        process.step()
        self.current = None
        if not process.ended:
            self.suspended.append(process)
