"""Pieces of work at once in a world in memory: each on a thread of its own, which stops at each call of an adapter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.world.fuse import Died, Fuse


@dataclass
class Actor:
    """One piece of work on a thread, which goes on from call to call as it is told."""

    work: Callable[[], None]
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    stopped: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    ended: bool = False
    killed: bool = False
    fault: BaseException | None = None

    def run(self) -> None:
        self.go.acquire()
        try:
            if not self.killed:
                self.work()
        except Died:
            pass
        except BaseException as fault:  # noqa: BLE001 - shown by the test
            self.fault = fault
        self.ended = True
        self.stopped.release()

    def step(self) -> None:
        """Let it go on to its next call."""
        self.go.release()
        self.stopped.acquire()


class Steps(Fuse):
    """Stops the thread of an actor at each call; no other thread."""

    def __init__(self) -> None:
        super().__init__()
        self.actors: dict[int | None, Actor] = {}

    def touch(self) -> None:
        actor = self.actors.get(threading.get_ident())
        if actor is None or actor.ended:  # a thread of a pool can have the ident of one that has ended
            return
        actor.stopped.release()
        actor.go.acquire()
        if actor.killed:
            raise Died


class Race:
    """Some works, each stopped before its first call; `check` holds after each call of any."""

    def __init__(self, steps: Steps, check: Callable[[], None], works: Sequence[Callable[[], None]]) -> None:
        self._steps = steps
        self._check = check
        self.actors = [Actor(work) for work in works]
        self._threads = [threading.Thread(target=actor.run, daemon=True) for actor in self.actors]

    def step(self, actor: Actor, most: int = 1) -> int:
        """Let one go on for some calls, and check after each; return how many calls there were."""
        for count in range(most):
            if actor.ended:
                return count
            actor.step()
            self._check()
        return most

    def __enter__(self) -> Race:
        for thread, actor in zip(self._threads, self.actors, strict=True):
            thread.start()
            self._steps.actors[thread.ident] = actor
        return self

    def __exit__(self, *_: object) -> None:
        for thread, actor in zip(self._threads, self.actors, strict=True):
            actor.killed = True
            while not actor.ended:
                actor.step()
            thread.join(30)
            self._steps.actors.pop(thread.ident)
        assert [actor.fault for actor in self.actors if actor.fault is not None] == []
