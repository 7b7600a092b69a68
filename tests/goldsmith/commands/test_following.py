"""What a person's terminal reads of a project's builds: documents of Firestore, each of which is paid for."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from goldsmith.commands.builds import find_by_id
from goldsmith.commands.submit import LONGEST_PAUSE, LOST_FOR, follow
from goldsmith.places import Place
from goldsmith.screen.view import PlainView
from provisioner.protocol import STEP_STARTED
from shared.build.build import Outcome, State
from shared.build.damage import Damaged
from shared.build.events import Event
from shared.engine.history import followed_from_now
from shared.errors import InputError, NotFound, StoreError, Transient
from shared.gcp.identities import GoogleIdentities
from shared.gcp.settings import CERTIFICATES_URL
from shared.image_users import ImageUse
from shared.ports import PAGE, Stored
from shared.runtime.terminal import CloudClient
from tests.world import values
from tests.world.fakes import FakeClock, FakeCompute, MemoryBus
from tests.world.memory_bucket import MemoryBucket
from tests.world.paid_store import PaidStore

MINUTE = 60.0
MOST = 70  # reads in a minute
PLACE = Place("my-project")
OTHERS = [f"other-{number:012x}" for number in range(200)]


class NoUsers:
    """Nothing uses images here."""

    def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
        yield from ()


@pytest.fixture
def store() -> PaidStore:
    return PaidStore()


@pytest.fixture
def client(store: PaidStore) -> CloudClient:
    return client_of(store)


def client_of(store: PaidStore) -> CloudClient:
    clock, bucket = FakeClock(), MemoryBucket()
    compute = FakeCompute(clock, bucket)
    people = GoogleIdentities("my-project", CERTIFICATES_URL)
    return CloudClient("bucket", store, bucket, MemoryBus(), clock, compute, people, NoUsers())  # type: ignore[arg-type]  # not uploaded to


def begin(store: PaidStore, build_id: str = values.BUILD_ID, state: State = State.PROVISIONING) -> None:
    plan = values.plan(build_id=build_id)
    store.create(values.build(id=build_id, plan=plan, state=state, zone="here"), values.requested(plan=plan))


def record(store: PaidStore, number: int, **changes: object) -> None:
    """Record an event, and what it makes of the build; nothing of that is paid by who follows it."""
    reads = store.reads
    stored = store.load(values.BUILD_ID)
    build = replace(stored.build, **changes)  # type: ignore[arg-type]  # fields of Build, by name
    store.save(build, stored.version, values.reported(kind=STEP_STARTED, sequence=number, step=0))
    store.reads = reads


class Minutes:
    """Passes time in the place of sleep, and lets things happen; keeps what each whole minute has cost."""

    def __init__(self, store: PaidStore, happens: Callable[[float], None], minutes: int) -> None:
        self.costs: list[int] = []
        self._store, self._happens, self._minutes = store, happens, minutes
        self._time, self._before = 0.0, 0

    def sleep(self, seconds: float) -> None:
        self._time += seconds
        if self._time % MINUTE == 0:
            self.costs.append(self._store.reads - self._before)
            self._before = self._store.reads
        if self._time == MINUTE * self._minutes:
            record(self._store, 10_000, state=State.FINISHED, outcome=Outcome.SUCCEEDED)
        else:
            self._happens(self._time)


def followed(client: CloudClient, store: PaidStore, happens: Callable[[float], None]) -> tuple[list[int], str]:
    """Follow the build for three minutes; return what each has cost, and what was shown."""
    out = io.StringIO()
    minutes = Minutes(store, happens, 3)
    assert follow(values.BUILD_ID, client, PlainView(out), minutes.sleep).outcome is Outcome.SUCCEEDED
    assert len(minutes.costs) == 3
    return minutes.costs, out.getvalue()


def test_a_minute_of_a_quiet_build_is_cheap(client: CloudClient, store: PaidStore) -> None:
    begin(store)
    costs, shown = followed(client, store, lambda _time: None)
    assert max(costs) <= 40
    assert "finished: succeeded" in shown


def test_a_minute_with_an_event_every_six_seconds_is_cheap(client: CloudClient, store: PaidStore) -> None:
    begin(store)
    costs, shown = followed(client, store, lambda time: None if time % 6 else record(store, int(time)))
    assert max(costs) <= MOST
    assert shown.count("step greet") == 30  # each once: 29 of them, and the last one, which ends the build


@pytest.mark.parametrize("others", [20, 200])
def test_a_minute_in_the_queue_is_cheap(client: CloudClient, store: PaidStore, others: int) -> None:
    begin(store)
    for other in OTHERS[:others]:
        begin(store, other, State.QUEUED)
    record(store, 1, state=State.QUEUED)
    costs, shown = followed(client, store, lambda _time: None)
    assert costs[0] <= MOST + max(0, others - 30)  # a long queue is read once, and then seldom
    assert max(costs[1:]) <= MOST
    assert "queued: place 1 in the queue" in shown


def test_what_was_recorded_at_once_is_shown_without_a_pause(client: CloudClient, store: PaidStore) -> None:
    begin(store)
    for number in range(120):  # pages of 50
        record(store, number)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        record(store, 10_000, state=State.FINISHED, outcome=Outcome.SUCCEEDED)

    out = io.StringIO()
    follow(values.BUILD_ID, client, PlainView(out), sleep)
    assert out.getvalue().count("step greet") == 121
    assert len(pauses) == 1


def test_a_build_that_was_set_aside_is_missed_within_a_minute(client: CloudClient, store: PaidStore) -> None:
    begin(store)

    def sleep(_seconds: float) -> None:
        if values.BUILD_ID in {build.id for build in store.builds()}:
            stored = store.load(values.BUILD_ID)
            store.save(replace(stored.build, state=State.FINISHED, outcome=Outcome.FAILED), stored.version)
            store.set_aside(values.BUILD_ID)

    with pytest.raises(NotFound):
        follow(values.BUILD_ID, client, PlainView(io.StringIO()), sleep)


def test_from_now_on_nothing_old_is_read(store: PaidStore) -> None:
    begin(store)
    for number in range(120):
        record(store, number)
    build = followed_from_now(store, values.BUILD_ID)
    assert store.reads == 3
    assert list(build.look()) == []
    record(store, 120, state=State.EXPORTING)
    assert len(build.look()) == 1
    assert build.build.state is State.EXPORTING


def test_a_whole_id_is_one_document(client: CloudClient, store: PaidStore) -> None:
    for build_id in (values.BUILD_ID, *OTHERS):
        begin(store, build_id)
    assert find_by_id(client, values.BUILD_ID, PLACE).id == values.BUILD_ID
    assert store.reads == 2  # the build, and its last sign of life
    assert find_by_id(client, "hello", PLACE).id == values.BUILD_ID
    assert store.reads > len(OTHERS)


def test_a_whole_id_may_begin_another_one(client: CloudClient, store: PaidStore) -> None:
    longer = f"{values.BUILD_ID}-0123456789ab"
    begin(store, longer)
    assert find_by_id(client, values.BUILD_ID, PLACE).id == longer
    begin(store)
    assert find_by_id(client, values.BUILD_ID, PLACE).id == values.BUILD_ID


@pytest.mark.parametrize("build_id", ["other-0123456789ab", "a/b", "../x-0123456789ab", "", "hello-0123456789abc"])
def test_an_id_of_no_build_is_told(client: CloudClient, build_id: str) -> None:
    with pytest.raises(InputError, match="there is no build" if build_id else "no build is named"):
        find_by_id(client, build_id, PLACE)


def test_a_damaged_build_is_told_by_its_whole_id(client: CloudClient, store: PaidStore) -> None:
    begin(store)
    store.damage(values.BUILD_ID, "{")
    with pytest.raises(StoreError, match="is damaged"):
        find_by_id(client, values.BUILD_ID, PLACE)


class Unsteady(PaidStore):
    """A store that cannot be reached while a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: set[str] = set()  # methods that do not answer

    def load(self, build_id: str) -> Stored:
        self._answer("load")
        return super().load(build_id)

    def events(
        self, build_id: str, *, kinds: Sequence[str] = (), after: str = "", limit: int = PAGE
    ) -> Sequence[Event | Damaged]:
        self._answer("events")
        return super().events(build_id, kinds=kinds, after=after, limit=limit)

    def _answer(self, method: str) -> None:
        if method in self.lost:
            raise Transient("failed to connect to all addresses")


@pytest.mark.parametrize("lost", [{"load"}, {"events"}, {"load", "events"}])
def test_a_connection_that_comes_back_costs_no_event(lost: set[str]) -> None:
    store = Unsteady()
    begin(store)
    out = io.StringIO()
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            record(store, 100)
            store.lost = lost
        elif len(pauses) == 8:
            store.lost = set()
            record(store, 101, state=State.FINISHED, outcome=Outcome.SUCCEEDED)

    follow(values.BUILD_ID, client_of(store), PlainView(out), sleep)
    told = out.getvalue()
    assert told.count("  no answer, trying again: failed to connect to all addresses\n") == 1
    assert told.count("  there are answers again\n") == 1
    assert told.count("  step greet\n") == 2
    assert max(pauses) == LONGEST_PAUSE


def test_a_connection_that_does_not_come_back_ends_the_command_and_not_the_build() -> None:
    store = Unsteady()
    begin(store)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        store.lost = {"events"}

    with pytest.raises(Transient, match="failed to connect"):
        follow(values.BUILD_ID, client_of(store), PlainView(io.StringIO()), sleep)
    assert LOST_FOR <= sum(pauses) <= LOST_FOR + 2 * LONGEST_PAUSE


def test_without_any_answer_nothing_is_waited_for() -> None:
    store = Unsteady()
    store.lost = {"load"}
    with pytest.raises(Transient, match="failed to connect"):
        follow(values.BUILD_ID, client_of(store), PlainView(io.StringIO()), lambda _seconds: None)
