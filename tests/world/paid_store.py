"""The store in memory, with the reads that Firestore would charge for."""

from __future__ import annotations

from collections.abc import Sequence

from shared.build.build import Build, Unfinished
from shared.build.damage import Damaged
from shared.build.events import Event
from shared.engine.history import record_id
from shared.ports import PAGE, Stored
from tests.world.memory_store import MemoryStore


class PaidStore(MemoryStore):
    """Counts documents: each that a query returns, one for a query that returns none, and each that is asked for.

    The event that a page follows is read unless it is the last one of the page before, as the real store does:
    tests/shared/gcp/test_firestore.py shows it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self._last = ""

    def load(self, build_id: str) -> Stored:
        self.reads += 2  # the document of the build's last sign of life stands beside it
        return super().load(build_id)

    def builds(
        self, *, unfinished: bool = False, limit: int | None = None, before: str = ""
    ) -> Sequence[Build | Damaged]:
        found = super().builds(unfinished=unfinished, limit=limit, before=before)
        alive = [build for build in found if isinstance(build, Build) and not build.finished]
        self.reads += max(1, len(found)) + len(alive)
        return found

    def line(self) -> Sequence[Unfinished | Damaged]:
        found = super().line()
        self.reads += max(1, len(found))
        return found

    def events(
        self, build_id: str, *, kinds: Sequence[str] = (), after: str = "", limit: int = PAGE
    ) -> Sequence[Event | Damaged]:
        found = super().events(build_id, kinds=kinds, after=after, limit=limit)
        self.reads += max(1, len(found)) + (after not in ("", self._last))
        self._last = record_id(found[-1]) if found else after
        return found

    def newest_events(self, build_id: str, limit: int = PAGE) -> Sequence[Event | Damaged]:
        found = super().newest_events(build_id, limit)
        self.reads += max(1, len(found))
        return found
