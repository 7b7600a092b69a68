"""Processes of a simulation: each is a thread, and only one of them runs at a time, so that a seed repeats a run.

simulation   start(p1) ........ start(p2) ......... resume(p1) ......
p1              └─ work ─ suspend()                    └─ work ─ end
p2                                  └─ work ─ end
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.world.fuse import Died


class Process:
    """One process at work on one thing."""

    def __init__(self, what: str, work: Callable[[], None]) -> None:
        self.what = what
        self.ended = False
        self.doomed = False  # it is killed when it would go on
        self.fault: BaseException | None = None  # what its work raised
        self._work = work
        self._go = threading.Semaphore(0)
        self._gone = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Let it run until it is suspended or has ended."""
        self._go.release()
        self._gone.acquire()
        if self.ended:
            self._thread.join()

    def suspend(self) -> None:
        """Stand still until the next step. Called by the process itself; raises Died when it was killed meanwhile."""
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

    def start(self, what: str, work: Callable[[], None]) -> Process:
        """Begin a process and let it run until it is suspended or has ended."""
        process = Process(what, work)
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
