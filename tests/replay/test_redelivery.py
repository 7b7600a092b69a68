"""Recorded builds through the real engine and store, every message twice and old ones again in any order: same end."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from shared.build.events import BuildRejected, BuildRequested, Event, Ticked
from shared.engine.engine import Engine
from shared.engine.history import each_event
from shared.errors import PoisonMessage
from shared.local.database import Database
from shared.local.store import LocalStore
from tests.replay.record import ending
from tests.replay.recording import decisions, events_of
from tests.replay.test_replay import RECORDINGS, read
from tests.world.fakes import FakeClock, MemoryBus


class Redelivery:
    """Delivers a history as a bus may that forgets what it has delivered."""

    def __init__(self, database: Database, seed: int) -> None:
        self.store = LocalStore(database)
        self._clock = FakeClock()
        self._engine = Engine(self.store, MemoryBus(), self._clock)
        self._random = random.Random(seed)

    def replay(self, events: list[Event]) -> None:
        for count, event in enumerate(events):
            self._clock.time = event.time
            self._deliver(event)
            again = [*events[: count + 1], event]
            self._random.shuffle(again)
            for old in again:
                if not isinstance(old, Ticked):  # a tick is no message: it is a look at the clock
                    self._deliver(old)

    def _deliver(self, event: Event) -> None:
        if isinstance(event, (BuildRequested, BuildRejected)):
            self._engine.request(event)
        elif isinstance(event, Ticked):
            self._engine.tick(event.build_id, heard=event.heard)
        else:
            self._engine.receive(event)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_the_end_is_the_same(path: Path, tmp_path: Path) -> None:
    events = events_of(read(path))
    *_, last = decisions(events)
    with Database(tmp_path / "state.db") as database:
        redelivery = Redelivery(database, seed=len(events))
        redelivery.replay(events)
        build = redelivery.store.load(last.build.id).build
        assert ending(build) == ending(last.build)
        assert len(list(each_event(redelivery.store, build.id))) == len(events)


def test_what_comes_before_its_request_is_poison(tmp_path: Path) -> None:
    with Database(tmp_path / "state.db") as database, pytest.raises(PoisonMessage):
        Redelivery(database, seed=0).replay(events_of(read(RECORDINGS[0]))[1:2])
