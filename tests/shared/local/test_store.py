"""The SQLite store: the contract, a model of it, other processes, sudden death, damage."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shared.build.build import Build, Outcome, State
from shared.build.damage import Damaged
from shared.clock import SystemClock
from shared.engine.engine import Engine
from shared.engine.history import each_event
from shared.errors import AlreadyExists, Conflict, DamagedDocument, NotFound
from shared.local.bus import LocalBus
from shared.local.database import Database
from shared.local.store import LocalStore
from tests.contracts.store_contract import Damage, StoreContract, created
from tests.shared.host.contenders import add_events, count_up, hear, other_process
from tests.world import values
from tests.world.fuse import Died


@pytest.fixture
def store(database: Database) -> LocalStore:
    return LocalStore(database)


class TestLocalStore(StoreContract):
    @pytest.fixture
    def damage(self, store: LocalStore, path: Path) -> Damage:
        return partial(damage_document, path)


def test_several_processes_write_one_build(store: LocalStore, path: Path) -> None:
    created(store)
    with ExitStack() as stack:
        pipes = [stack.enter_context(other_process(add_events, path))[1] for _ in range(3)]
        for number, pipe in enumerate(pipes):
            pipe.send(f"p{number}")
        assert [hear(pipe) for pipe in pipes] == ["done"] * 3
    assert store.load(values.BUILD_ID).build.orders == 75
    written = [event.event_id for event in each_event(store, values.BUILD_ID)][1:]
    assert sorted(written) == sorted(f"p{process}-{number}" for process in range(3) for number in range(25))


def test_a_long_history_is_read_at_once(store: LocalStore) -> None:
    """The reader of events is made once, not for each event, which takes 40 ms."""
    stored = created(store)
    version = stored.version
    for number in range(200):
        version = store.save(stored.build, version, values.reported(sequence=number))
    began = time.thread_time()  # of this thread alone, whatever else the machine does
    assert len(list(each_event(store, values.BUILD_ID))) == 201
    assert time.thread_time() - began < 2


class Dying(Database):
    """Dies before its n-th write."""

    writes_left = 1_000_000

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        if not self.writes_left:
            raise Died
        self.writes_left -= 1
        with super().transaction() as connection:
            yield connection


@pytest.mark.parametrize(("builds", "events"), [(2, 100), (100, 6), (100, 8)])
@pytest.mark.parametrize("dies_at", [0, 1, 2, None])
def test_events_of_finished_builds_are_forgotten_but_for_the_newest(
    path: Path, builds: int, events: int, dies_at: int | None
) -> None:
    """Each of five builds has three events; the oldest goes on. All documents of builds stay."""
    with Dying(path) as database:
        store = LocalStore(database)
        for number in range(5):
            stored = created(store, id=f"b-00000000000{number}")
            version = store.save(stored.build, stored.version, values.reported(build_id=stored.build.id))
            state = {"state": State.FINISHED, "outcome": Outcome.FAILED} if number else {}
            done = replace(stored.build, updated=values.NOON + number, **state)  # type: ignore[arg-type]
            store.save(done, version, values.reported(build_id=stored.build.id, sequence=2))
        before = store.builds()
        if dies_at is not None:
            database.writes_left = dies_at
            with suppress(Died):
                store.forget_events(builds, events)
            left = [len(store.events(build.id)) for build in before]
            assert sorted(left) == [0] * min(dies_at, 2) + [3] * (5 - min(dies_at, 2))
            database.writes_left = 1_000_000
        for _ in range(2):
            store.forget_events(builds, events)
        told = {build.id[-1]: len(store.events(build.id)) for build in before}
        assert told == {"4": 3, "3": 3, "2": 0, "1": 0, "0": 3}
        assert store.builds() == before
        late = values.reported(build_id=before[-2].id)
        assert Engine(store, LocalBus(database), SystemClock()).receive(late)  # a duplicate changes nothing, as before
        assert len(store.events(late.build_id)) == 0


def test_a_killed_process_leaves_whole_writes(store: LocalStore, path: Path, database: Database) -> None:
    """Kill -9 at 20 random moments: what was confirmed is there, and build and events always agree."""
    created(store)
    moments = random.Random(20261120)
    orders = 0
    for _ in range(20):
        with other_process(count_up, path) as (process, pipe):
            confirmed = hear(pipe)
            assert confirmed > orders
            time.sleep(moments.uniform(0, 0.01))  # the moment of death is what is being varied
            process.kill()
            process.join(60)
            confirmed = max(confirmed, *everything_said(pipe))
        orders = store.load(values.BUILD_ID).build.orders
        assert orders >= confirmed
        events = [event.event_id for event in each_event(store, values.BUILD_ID)]
        assert events[1:] == [f"tick-{number}" for number in range(1, orders + 1)]
    assert database.read("PRAGMA integrity_check") == [("ok",)]


def everything_said(pipe: Connection) -> list[int]:
    """Return what a process that is dead has said, from its pipe's buffer."""
    said = [0]
    while True:
        try:
            said.append(pipe.recv())
        except EOFError:
            return said


def test_what_is_damaged_is_named_with_the_file_and_a_remedy(store: LocalStore, path: Path) -> None:
    created(store)
    damage_document(path, values.BUILD_ID, "{")
    with pytest.raises(DamagedDocument, match=rf"{path}: the document of build {values.BUILD_ID} is .*; update Goldsm"):
        store.load(values.BUILD_ID)


@pytest.mark.parametrize(
    ("column", "value"), [("document", b"\xff\x00"), ("document", b"{}"), ("document", 7), ("last_seen", "yesterday")]
)
def test_columns_may_hold_anything(store: LocalStore, database: Database, column: str, value: object) -> None:
    """SQLite checks no types, and gives text that is no UTF-8 as it is."""
    created(store)
    created(store, id="other-0123456789ab")
    with database.transaction() as connection:
        connection.execute(f"UPDATE builds SET {column} = ? WHERE id = ?", (value, values.BUILD_ID))
    found = {build.id: isinstance(build, Damaged) for build in store.builds()}
    assert found == {values.BUILD_ID: True, "other-0123456789ab": False}


@pytest.mark.parametrize("created_at", ["yesterday", b"\xff", 1e300])
def test_a_time_that_is_none_breaks_no_page(store: LocalStore, database: Database, created_at: object) -> None:
    for name in "abc":
        created(store, id=f"{name}-0123456789ab")
    with database.transaction() as connection:
        connection.execute("UPDATE builds SET created = ?, document = '{' WHERE id LIKE 'a-%'", (created_at,))
        connection.execute("UPDATE builds SET document = CAST(x'22ff22' AS TEXT) WHERE id LIKE 'b-%'")  # "\xff"
    pages, before = [], ""
    while page := store.builds(limit=1, before=before):
        before = page[-1].id
        pages.append(before[0])
    assert pages == ["a", "c", "b"]


def test_what_is_set_aside_is_kept_as_it_stood(store: LocalStore, database: Database, path: Path) -> None:
    stored = created(store)
    store.save(stored.build, stored.version, values.reported())
    damage_document(path, values.BUILD_ID, "{")
    before = database.read("SELECT * FROM builds"), database.read("SELECT event_id, document FROM events")
    store.set_aside(values.BUILD_ID)
    kept = database.read("SELECT id, version, state, created, updated, wake_at, last_seen, document FROM forgotten")
    assert (kept, database.read("SELECT event_id, document FROM forgotten_events")) == before


def damage_document(
    path: Path,
    build_id: str,
    text: str,
    event_id: str = "",
    image: tuple[str, str] | None = None,
    trigger: str = "",
    promotion: str = "",
    person_request: str = "",
) -> None:
    """Write into the file past the store, as another program would."""
    with closing(sqlite3.connect(path)) as connection, connection:
        if promotion:
            connection.execute("UPDATE promotions SET document = ? WHERE id = ?", (text, promotion))
        elif person_request:
            connection.execute("UPDATE person_requests SET document = ? WHERE id = ?", (text, person_request))
        elif trigger:
            connection.execute("UPDATE triggers SET document = ? WHERE id = ?", (text, trigger))
        elif image is not None:
            connection.execute("UPDATE images SET document = ? WHERE project = ? AND name = ?", (text, *image))
        elif event_id:
            where = "UPDATE events SET document = ? WHERE build_id = ? AND event_id = ?"
            connection.execute(where, (text, build_id, event_id))
        else:
            connection.execute("UPDATE builds SET document = ? WHERE id = ?", (text, build_id))


IDS = st.sampled_from(["a-0123456789ab", "b-0123456789ab", "c-0123456789ab"])
EVENT_IDS = st.none() | st.integers(0, 6).map(str)
TIMES = st.integers(0, 100).map(float)


@dataclass
class Known:
    """What the store should know of one build."""

    build: Build
    version: str
    events: list[str]


class StoreMachine(RuleBasedStateMachine):
    """Any sequence of calls against a dict; also over closing and opening again."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.model: dict[str, Known] = {}
        self.stale: dict[str, list[str]] = {}
        self.open()

    def open(self) -> None:
        self.database = Database(self.folder / "state.db")
        self.store = LocalStore(self.database)

    def teardown(self) -> None:
        self.database.close()
        shutil.rmtree(self.folder)

    @rule()
    def reopen(self) -> None:
        self.database.close()
        self.open()

    @rule(build_id=IDS, age=TIMES, seen=TIMES)
    def create(self, build_id: str, age: float, seen: float) -> None:
        build = values.build(id=build_id, created=values.NOON - age, last_seen=seen)
        event = values.requested(build_id=build_id)
        if build_id in self.model:
            with pytest.raises(AlreadyExists):
                self.store.create(build, event)
            return
        self.store.create(build, event)
        self.model[build_id] = Known(build, self.store.load(build_id).version, [event.event_id])
        self.stale[build_id] = ["", "none"]

    @rule(build_id=IDS, state=st.sampled_from(State), event_id=EVENT_IDS, seen=TIMES, late=st.booleans())
    def save(self, build_id: str, state: State, event_id: str | None, seen: float, late: bool) -> None:
        event = None if event_id is None else values.ticked(build_id=build_id, event_id=event_id)
        known = self.model.get(build_id)
        if known is None:
            with pytest.raises(NotFound):
                self.store.save(values.build(id=build_id), "1", event)
            return
        build = replace(known.build, state=state, last_seen=seen)
        expected = self.stale[build_id][-1] if late else known.version
        if event_id in known.events:
            with pytest.raises(AlreadyExists):
                self.store.save(build, expected, event)
        elif late:
            with pytest.raises(Conflict):
                self.store.save(build, expected, event)
        else:
            self.stale[build_id].append(known.version)
            known.version = self.store.save(build, expected, event)
            known.build = replace(build, last_seen=max(seen, known.build.last_seen))
            known.events += [] if event_id is None else [event_id]
            assert known.version not in self.stale[build_id]

    @rule(build_id=IDS, seen=TIMES)
    def touch(self, build_id: str, seen: float) -> None:
        self.store.touch(build_id, seen)
        if build_id in self.model:
            known = self.model[build_id]
            known.build = replace(known.build, last_seen=max(seen, known.build.last_seen))

    @invariant()
    def agrees(self) -> None:
        for build_id, known in self.model.items():
            stored = self.store.load(build_id)
            assert (stored.build, stored.version) == (known.build, known.version)
            assert [event.event_id for event in each_event(self.store, build_id)] == known.events
        everything = [known.build for known in self.model.values()]
        newest_first = sorted(everything, key=lambda build: (build.created, build.id), reverse=True)
        assert list(self.store.builds()) == newest_first
        assert list(self.store.builds(unfinished=True)) == [build for build in newest_first if not build.finished]


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
