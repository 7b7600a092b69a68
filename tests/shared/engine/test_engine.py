"""The engine over an honest world: duplicates, disorder, conflicts, and death at every call."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.protocol import COMPLETED, HEARTBEAT, INVENTORY, STARTED, STEP_FINISHED, encode, sign
from shared.build.build import Build, ImageDocument, Outcome, State
from shared.build.events import Event
from shared.build.orders import Order
from shared.build.plan import Deprecation, Plan
from shared.engine.engine import TRIES, Engine
from shared.engine.history import each_event
from shared.engine.messages import SignedReport
from shared.engine.step_table import most_reports
from shared.errors import Conflict, Permanent, PoisonMessage, StoreError, Transient, WrongSignature
from shared.export_ports import ObjectSum
from shared.keys import BY_ATTEMPT, BY_MACHINE
from shared.ports import Image, Message
from shared.topology import FINISHED_TOPIC
from tests.world import values
from tests.world.fakes import FakeClock, MemoryBus
from tests.world.fuse import Died
from tests.world.memory_bucket import MemoryBucket
from tests.world.memory_store import MemoryStore
from tests.world.world import Guest, World

ARCHIVE = "out/hello.tar.gz"
OLDER = Image("local", "hello-older", "sha256-older", created=values.NOON - 1000, family="hello")


def whole_plan() -> Plan:
    """A plan that makes use of every order there is."""
    plan = values.plan()
    image = replace(plan.image, export_to=ARCHIVE, deprecate_old=Deprecation(ttl_seconds=60.0))
    zones = replace(plan.machine, zones=("full", "here"))
    return replace(plan, verify_steps=plan.steps, image=image, machine=zones)


def world(guest: Guest | None = None, seed: int | None = None) -> World:
    draw = random.Random(seed)
    made = World(guest, (lambda _count: 0) if seed is None else draw.randrange)
    made.compute.all_images[OLDER.name] = OLDER
    return made


def end(made: World) -> tuple[object, ...]:
    """What must be the same whatever happened on the way."""
    build = made.build()
    ledger = {(entry.kind, entry.name, entry.keep) for entry in build.ledger}
    older = made.compute.all_images[OLDER.name].deprecated
    return build.state, build.outcome, build.reason, build.attempt, ledger, made.left(), older


class Unavailable(dict[str, Exception]):
    """A fault of one method that never passes."""

    def pop(self, method: str, *_default: object) -> Exception:
        return self[method]


def test_a_publication_that_never_gets_through_is_withdrawn_after_a_day_and_costs_no_vm_meanwhile() -> None:
    made = world()
    made.engine.request(values.requested(plan=whole_plan()))
    made.compute.faults = Unavailable(set_family=Transient("503: the backend is unavailable"))
    for _quarter in range(4):
        made.settle()
        made.clock.time = made.build().wake_at
        made.tick()
    made.settle()
    build = made.build()
    assert (build.state, build.outcome, made.compute.machines, made.compute.disks) == (State.PUBLISHING, None, {}, {})
    assert ARCHIVE in made.bucket.objects
    made.clock.time = build.committed + 86_400 - 900
    made.tick()
    made.settle()
    made.clock.time = build.committed + 86_400
    made.finish()
    build = made.build()
    assert build.outcome is Outcome.FAILED
    assert build.reason.startswith("label_image: the publication was not complete 24 h after it was committed")
    assert made.left()["objects"] == []
    assert made.compute.all_images[build.plan.image.name].family is None if build.plan else False


class OneAccount(MemoryBucket):
    """The world's bucket, but for a bucket of others: it is open to another account alone."""

    def __init__(self, bucket: MemoryBucket) -> None:
        super().__init__()
        self.objects = bucket.objects

    def withdraw(self, uri: str, sha256: str, known: ObjectSum | None = None) -> None:
        if uri.startswith("gs://other/"):
            raise Permanent(f"{uri}: 403, storage.objects.delete is missing")
        super().withdraw(uri, sha256, known)


class Accounts(World):
    """A world in which label_image alone may write to the bucket of others."""

    def deliver(self, message: Message) -> None:
        whole = self.backend
        if message.attributes.get("order") != "label_image":
            self.backend = replace(whole, bucket=OneAccount(self.bucket))
        super().deliver(message)
        self.backend = whole


def test_a_publication_that_fails_leaves_nothing_in_a_bucket_that_label_image_alone_may_write_to() -> None:
    made, plan = Accounts(), whole_plan()
    made.compute.faults = Unavailable(set_family=Permanent("403: compute.images.update is missing"))
    build = made.run(replace(plan, image=replace(plan.image, sbom_to="gs://other/hello.spdx.json")))
    assert (build.outcome, build.committed > 0, build.warnings) == (Outcome.FAILED, True, ())
    assert made.left()["objects"] == []


def announcements(made: World) -> int:
    return sum(message.topic == FINISHED_TOPIC for message in made.bus.published)


GUESTS = {
    "succeeds": Guest(),
    "step fails": Guest(fails_at=0),
    "verification fails": Guest(fails_at=0, phase="verify"),
    "preempted": Guest(ends_at=0),
    "panics": Guest(ends_at=0, ends="panicked"),
    "verifying VM lost": Guest(ends_at=0, ends="lost", phase="verify"),
    "offline": Guest(offline=True),
}


class TestWholeBuild:
    def test_succeeds_and_leaves_only_what_was_asked_for(self) -> None:
        made = world()
        build = made.run(whole_plan())
        assert (build.state, build.outcome) == (State.FINISHED, Outcome.SUCCEEDED)
        assert made.left() == {
            "machines": [],
            "disks": [],
            "images": ["hello-20261120", "hello-older"],
            "objects": ["out/hello.cdx.json", "out/hello.json", "out/hello.spdx.json", ARCHIVE],
        }
        assert made.compute.all_images["hello-20261120"].family == "hello"
        assert made.compute.all_images[OLDER.name].replacement == "hello-20261120"
        assert announcements(made) == 1

    @pytest.mark.parametrize("name", ["step fails", "verification fails", "panics"])
    def test_a_failure_leaves_nothing(self, name: str) -> None:
        made = world(GUESTS[name])
        build = made.run(whole_plan())
        assert (build.state, build.outcome) == (State.FINISHED, Outcome.FAILED)
        assert made.left() == {"machines": [], "disks": [], "images": ["hello-older"], "objects": []}

    def test_hazard_4_a_preempted_build_goes_on_at_the_step_that_was_cut_off(self) -> None:
        steps = tuple(replace(values.plan().steps[0], name=name) for name in ("one", "two"))
        made = world(Guest(ends_at=1))
        build = made.run(replace(values.plan(), steps=steps))
        assert (build.outcome, build.attempt) == (Outcome.SUCCEEDED, 2)
        assert [(record.attempt, record.status) for record in build.steps] == [(1, "done"), (2, "done")]

    def test_hazard_4_the_budget_of_attempts_ends(self) -> None:
        made = world(Guest(ends_at=0))
        build = made.run(replace(values.plan(), attempts=1))
        assert (build.outcome, build.reason) == (
            Outcome.FAILED,
            "the build VM was preempted (during step 'greet'), in the last of 1 attempts",
        )


class TestDisorder:
    @pytest.mark.parametrize("name", GUESTS)
    def test_hazard_2_every_message_twice(self, name: str) -> None:
        once, twice = world(GUESTS[name]), Twice(GUESTS[name])
        once.run(whole_plan())
        twice.compute.all_images[OLDER.name] = OLDER
        twice.run(whole_plan())
        assert end(twice) == end(once)

    @pytest.mark.parametrize("name", GUESTS)
    @given(seed=st.integers(0, 2**32))
    @settings(max_examples=15, deadline=None)
    def test_hazard_2_messages_in_any_order(self, name: str, seed: int) -> None:
        straight, shuffled = world(GUESTS[name]), world(GUESTS[name], seed)
        straight.run(whole_plan())
        shuffled.run(whole_plan())
        assert end(shuffled) == end(straight)

    def test_hazard_2_the_whole_history_again_after_the_end_changes_nothing(self) -> None:
        made = world()
        made.run(whole_plan())
        before, history = made.build(), list(each_event(made.store, values.BUILD_ID))
        for event in history:
            assert made.engine.receive(event)
        assert made.build() == before

    def test_hazard_3_reports_that_never_arrive_are_read_from_the_report_port(self) -> None:
        made = world(Guest(offline=True))
        build = made.run(whole_plan())
        assert build.outcome is Outcome.SUCCEEDED
        assert [record.status for record in build.steps] == ["done"]


class Twice(World):
    """Delivers every message twice."""

    def handle(self) -> bool:
        message = self.bus.waiting[0]
        done = super().handle()
        if done:
            try:
                self.deliver(message)
            except Transient:
                self.bus.waiting.append(message)
        return done


class TestDeath:
    @pytest.mark.parametrize("name", GUESTS)
    def test_at_every_call_of_every_adapter(self, name: str) -> None:
        straight = world(GUESTS[name])
        straight.run(whole_plan())
        calls = straight.calls
        assert calls > 50
        for call in range(1, calls + 1, 1 if name == "succeeds" else 5):
            made = world(GUESTS[name])
            made.run(whole_plan(), burn_at=call)
            assert made.deaths == 1
            assert end(made) == end(straight), f"killed at call {call} of {calls}"
            assert_nothing_lost(made)

    def test_of_a_request_that_is_not_repeated_is_found_by_the_next_tick(self) -> None:
        made = world()
        made.burn_at(3)  # written, and nothing published
        with pytest.raises(Died):
            made.engine.request(values.requested())
        assert made.build().outbox
        assert not made.bus.published
        made.finish()
        assert made.build().outcome is Outcome.SUCCEEDED

    def test_before_its_orders_is_made_good_by_the_same_request(self) -> None:
        made = world()
        made.burn_at(3)
        with pytest.raises(Died):
            made.engine.request(values.requested())
        made.burn_at(None)
        assert made.engine.request(values.requested()).outbox == ()
        assert len(made.bus.published) == 1

    def test_before_its_orders_is_made_good_by_the_same_event(self) -> None:
        made = world()
        made.engine.request(values.requested(plan=whole_plan()))
        stored = made.store.load(values.BUILD_ID)
        made.store.save(replace(stored.build, state=State.PUBLISHING), stored.version)
        made.bus.waiting.clear()
        made.burn_at(7)  # behind the turn to publish, and the write
        with pytest.raises(Died):
            made.engine.receive(values.publication_staged())
        made.burn_at(None)
        assert made.build().outbox
        assert made.bus.waiting == []
        assert "changes nothing" in made.engine.receive(values.publication_staged())
        assert [message.attributes["order"] for message in made.bus.waiting] == ["label_image"]


def assert_nothing_lost(made: World) -> None:
    build = made.build()
    orders = {
        message.attributes["order"]: int(message.attributes["attempt"])
        for message in made.bus.published
        if "order" in message.attributes
    }
    assert {"create_resources", "clean_up", "announce"} <= set(orders)
    assert build.outbox == ()
    assert announcements(made) >= 1
    events = Counter(event.event_id for event in each_event(made.store, build.id))
    assert set(events.values()) == {1}


class TestRequest:
    def test_twice_is_one_build(self) -> None:
        made = world()
        first = made.engine.request(values.requested())
        second = made.engine.request(values.requested())
        assert first == second
        assert len(made.store.builds()) == 1

    def test_of_another_with_the_same_id_is_an_error(self) -> None:
        made = world()
        made.engine.request(values.requested())
        other = values.requested(plan=values.plan(request="f" * 64))
        with pytest.raises(StoreError, match="another request"):
            made.engine.request(other)

    def test_its_time_is_the_server_s(self) -> None:
        made = world()
        build = made.engine.request(values.requested(time=0.0))
        assert (build.created, build.deadline) == (values.NOON, values.NOON + build.plan.timeout if build.plan else 0)

    def test_that_was_rejected_is_a_finished_build(self) -> None:
        made = world()
        made.engine.request(values.rejected())
        made.finish()
        build = made.build()
        assert (build.state, build.outcome, build.ledger) == (State.FINISHED, Outcome.FAILED, ())
        assert "unknown key" in build.reason
        assert announcements(made) == 1

    def test_hazard_6_same_content_is_unchanged_and_nothing_is_made(self) -> None:
        made = world()
        made.engine.request(values.requested(unchanged=values.image_record(name="hello-older")))
        made.finish()
        build = made.build()
        assert (build.outcome, build.image) == (Outcome.UNCHANGED, values.image_record(name="hello-older"))
        assert made.left()["images"] == ["hello-older"]
        assert not made.booted


class TestReceive:
    def test_an_event_of_no_build_is_poison(self) -> None:
        with pytest.raises(PoisonMessage, match="unknown-1"):
            world().engine.receive(values.machine_started(build_id="unknown-1"))
        with pytest.raises(PoisonMessage, match="unknown-1"):
            world().engine.receive(values.reported(build_id="unknown-1", kind=HEARTBEAT, sequence=0))

    def test_hazard_11_a_report_is_checked_with_the_kind_of_key_that_its_build_has(self) -> None:
        made = started()
        data = encode(values.report())
        old, new = (
            sign(made.keys.of_machine(values.BUILD_ID, 1, "build", scheme), data) for scheme in (BY_ATTEMPT, BY_MACHINE)
        )
        with pytest.raises(WrongSignature):
            made.engine.take(SignedReport(values.report(), data, old), made.keys)
        assert made.engine.take(SignedReport(values.report(), data, new), made.keys) == ""
        stored = made.store.load(values.BUILD_ID)
        made.store.save(replace(stored.build, keys=BY_ATTEMPT), stored.version)
        second = encode(values.report(sequence=2))
        key = made.keys.of_machine(values.BUILD_ID, 1, "build", BY_ATTEMPT)
        said = SignedReport(values.report(sequence=2), second, sign(key, second))
        assert made.engine.take(said, made.keys) == ""

    def test_a_flood_of_heartbeats_is_not_written_down(self) -> None:
        made = started()
        before = made.build()
        made.clock.time += 3
        assert made.engine.receive(values.reported(kind=HEARTBEAT, sequence=0))
        assert made.build() == before

    def test_a_flood_of_reports_is_counted_and_a_second_delivery_is_none(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def counted() -> int:
            return sum(getattr(record, "metric", "") == "flood" for record in caplog.records)

        made = started()
        listing = values.reported(kind=INVENTORY, sequence=2)
        assert made.engine.receive(listing) == ""
        assert made.engine.receive(listing) == "b1-r000002 has been recorded before"
        assert counted() == 0
        assert made.engine.receive(values.reported(kind=INVENTORY, sequence=3)).endswith("once")
        assert counted() == 1
        most = most_reports(values.plan(), "build")
        for number in range(4, most + 14):
            made.engine.receive(values.reported(kind=STARTED, sequence=number))
        assert counted() == 1 + 10 + 1  # the first report is of before
        assert made.build().reports == most

    def test_a_request_by_the_back_door_changes_nothing(self) -> None:
        made = started()
        assert "changes nothing" in made.engine.receive(values.requested())

    def test_hazard_9_times_are_the_server_s_and_never_the_guest_s(self) -> None:
        made = started()
        made.clock.time += 10
        made.engine.receive(replace(values.reported(time=values.NOON + 1e6), report=values.report(time=1e12)))
        build = made.build()
        assert (build.last_seen, build.updated) == (values.NOON + 10, values.NOON + 10)
        assert list(each_event(made.store, build.id))[-1].time == values.NOON + 10

    def test_a_heartbeat_moves_last_seen_and_records_nothing(self) -> None:
        made = started()
        before = made.build()
        made.clock.time += 50
        made.engine.receive(values.reported(kind=HEARTBEAT, sequence=0))
        assert made.build() == replace(before, last_seen=values.NOON + 50)
        assert len(made.store.events(before.id)) == 2

    def test_hazard_2_a_heartbeat_of_an_earlier_attempt_does_not_hide_a_hung_vm(self) -> None:
        made = started()
        made.engine.receive(values.machine_stopped(how="lost", claim=None))
        made.engine.receive(values.machine_started(attempt=2, event_id="o2-MachineStarted"))
        made.clock.time += 300
        assert made.engine.receive(values.reported(kind=HEARTBEAT, sequence=0))
        made.engine.tick(values.BUILD_ID)
        assert (made.build().state, made.build().attempt) == (State.PREPARING, 3)

    def test_the_listener_hears_each_change_once(self) -> None:
        heard: list[tuple[Build, Event]] = []
        made = World()
        engine = Engine(made.store, made.bus, made.clock, lambda build, event: heard.append((build, event)))
        engine.request(values.requested())
        for _ in range(2):
            engine.receive(values.machine_started())
        assert [(build.state, event.kind) for build, event in heard] == [
            (State.PREPARING, "BuildRequested"),
            (State.PROVISIONING, "MachineStarted"),
        ]


def started() -> World:
    made = World()
    made.engine.request(values.requested())
    made.engine.receive(values.machine_started())
    return made


class TestManyEngines:
    def test_two_of_them_in_threads_record_every_event_once(self) -> None:
        """Four threads, each with an engine of its own, deliver one history, each in another order."""
        steps = tuple(replace(values.plan().steps[0], name=f"step-{number}") for number in range(10))
        reports = [
            values.reported(kind=STEP_FINISHED, sequence=index + 2, step=index, tries=1, exit_status=0)
            for index in range(len(steps))
        ]
        store, bus, clock = MemoryStore(), MemoryBus(), FakeClock()
        Engine(store, bus, clock).request(values.requested(plan=values.plan(steps=steps)))
        history: list[Event] = [values.machine_started(), values.reported(), *reports]

        def deliver(seed: int) -> None:
            engine = Engine(store, bus, clock)
            for event in random.Random(seed).sample(history, len(history)):
                engine.receive(event)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(deliver, range(4)))
        build = store.load(values.BUILD_ID).build
        assert [record.status for record in build.steps] == ["done"] * len(steps)
        recorded = [event.event_id for event in each_event(store, build.id)]
        assert sorted(recorded) == sorted({*recorded})
        assert len(recorded) == 1 + len(history)

    def test_a_conflict_is_decided_again_on_what_is_there(self) -> None:
        """While one engine wants to export, another cancels: the build stays cancelled."""
        made = started()
        engine = Engine(Contested(made.store, times=1, cancels=True), made.bus, made.clock)
        assert "changes nothing" in engine.receive(values.reported(kind=COMPLETED))
        assert made.build().outcome is Outcome.CANCELLED

    def test_an_order_that_another_engine_has_not_sent_yet_stays_in_the_outbox(self) -> None:
        made = World()
        unsent = Order(values.BUILD_ID, 2, "export_image", 1)
        rival = Interrupting(made.store, unsent)
        Engine(made.store, rival, made.clock).request(values.requested())
        assert made.build().outbox == (unsent,)
        assert made.engine.resend(values.BUILD_ID).outbox == ()
        assert [message.attributes["order"] for message in made.bus.published] == ["export_image"]

    def test_too_many_conflicts_are_transient(self) -> None:
        made = started()
        engine = Engine(Contested(made.store, times=TRIES), made.bus, made.clock)
        with pytest.raises(Transient, match="too many"):
            engine.receive(values.cancel_requested())
        assert made.build().outcome is None


class Interrupting(MemoryBus):
    """A bus in whose first publish another engine writes an order, and dies before it has sent it."""

    def __init__(self, store: MemoryStore, order: Order) -> None:
        super().__init__()
        self._store = store
        self._order: Order | None = order

    def publish(self, message: Message) -> None:
        super().publish(message)
        if self._order is not None:
            stored = self._store.load(self._order.build_id)
            self._store.save(replace(stored.build, outbox=(*stored.build.outbox, self._order)), stored.version)
            self._order = None


class Contested(MemoryStore):
    """The documents of another store, in which another writer, which may cancel the build, is faster `times` times."""

    def __init__(self, store: MemoryStore, times: int, *, cancels: bool = False) -> None:
        super().__init__()
        self._documents = store._documents
        self._times = times
        self._cancels = cancels

    def save(
        self,
        build: Build,
        expected: str,
        event: Event | None = None,
        image: ImageDocument | None = None,
        replaces: str | None = None,
    ) -> str:
        if self._times > 0:
            self._times -= 1
            if self._cancels:
                stored = self.load(build.id)
                lost = replace(stored.build, state=State.CLEANING, outcome=Outcome.CANCELLED)
                super().save(lost, stored.version, values.cancel_requested())
            raise Conflict("another process wrote first")
        return super().save(build, expected, event, image, replaces)
