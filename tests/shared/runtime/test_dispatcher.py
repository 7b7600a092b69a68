"""The dispatcher: the real queue and the real store, with an honest Compute in memory and guests that report by bus."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from shared.backend import Backend, ReportTarget
from shared.build.build import ArchiveRecord, Build, Outcome, State
from shared.build.events import BuildRequested, Event
from shared.build.plan import Plan
from shared.clock import SystemClock
from shared.errors import EnvironmentFault, NotFound, Permanent, Transient
from shared.interruption import Interruption
from shared.keys import Keys
from shared.local.bus import LocalBus
from shared.local.database import Database
from shared.local.store import LocalStore
from shared.ports import Machine, MachineRequest, Message, Progress, ResourceKind
from shared.runtime.dispatcher import RETRY, Dispatcher
from shared.topology import EVENTS_TOPIC, FINISHED_TOPIC, REPORTS_TOPIC, WORKER_TOPIC
from tests.world import values
from tests.world.fakes import FakeClock, FakeCompute
from tests.world.memory_bucket import MemoryBucket
from tests.world.world import MASTER, Guest

ARCHIVE = "out/hello.tar.gz"
LIMIT = 120  # seconds after which something that should happen has not


class Cloud(FakeCompute):
    """FakeCompute whose guests run as soon as their machine is made, and whose export may take its time."""

    def __init__(self, guest: Guest, publish: Callable[[Message], None]) -> None:
        super().__init__(cast(FakeClock, SystemClock()), MemoryBucket())
        self.guest = guest
        self.bugs: dict[str, list[BaseException]] = {}  # of the next calls of a method, however often
        self.calls: dict[str, list[float]] = {}
        self.exporting = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.exported = False
        self._publish = publish

    def create_machine(self, request: MachineRequest) -> str:
        self._bug("create_machine")
        zone = super().create_machine(request)
        self.guest.run(self.machines[request.name], self.disks[request.boot_disk], self._publish)
        return zone

    def machine(self, name: str, project: str, zone: str) -> Machine | None:
        self._bug("machine")
        return super().machine(name, project, zone)

    def wait_until_stopped(self, name: str, project: str, zone: str, seconds: float) -> bool:
        machine = self._in_zone(name, zone)
        return machine is None or machine.status == "stopped"

    def export_image(self, project: str, name: str, target: str, compression: str, progress: Progress) -> ArchiveRecord:
        self.exporting.set()
        end = time.monotonic() + LIMIT
        while not self.go_on.wait(0.01):
            assert time.monotonic() < end, "the export was not stopped"
            progress("writing the archive", 1, 2)
        archive = super().export_image(project, name, target, compression, progress)
        self.exported = True
        return archive

    def delete(self, kind: ResourceKind, name: str, project: str, zone: str, *, image_id: str = "") -> None:
        self._bug("delete")
        super().delete(kind, name, project, zone, image_id=image_id)

    def _bug(self, method: str) -> None:
        self.calls.setdefault(method, []).append(time.monotonic())
        if self.bugs.get(method):
            raise self.bugs[method].pop(0)


@dataclass
class Rig:
    """One dispatcher and all that it works with."""

    backend: Backend
    bus: LocalBus
    compute: Cloud
    heard: list[tuple[Build, Event]]
    said: list[str]

    def run(self, interruption: Interruption | None = None, made: Plan | None = None) -> Build:
        dispatcher = Dispatcher(self.backend, self.bus, lambda build, event: self.heard.append((build, event)))
        dispatcher.engine.request(values.requested(plan=made or plan()))
        return dispatcher.run(values.BUILD_ID, interruption or Interruption())

    def build(self) -> Build:
        return self.backend.store.load(values.BUILD_ID).build

    def states(self) -> list[State]:
        return list(dict.fromkeys(build.state for build, _event in self.heard))

    def says(self, text: str) -> None:
        """Wait until it is said."""
        end = time.monotonic() + LIMIT
        while text not in self.said:
            assert time.monotonic() < end, f"{text} was not said: {self.said}"
            time.sleep(0.01)


def plan(**changes: object) -> Plan:
    default = values.plan(requested=SystemClock().now())
    return replace(default, image=replace(default.image, export_to=ARCHIVE), **changes)  # type: ignore[arg-type]  # by name


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Database(tmp_path / "state.db") as database:
        bus = LocalBus(database)
        compute = Cloud(Guest(), bus.publish)
        said: list[str] = []
        backend = Backend(
            compute=compute,
            store=LocalStore(database),
            bucket=compute._bucket,
            bus=bus,
            clock=SystemClock(),
            keys=Keys(MASTER),
            reports=ReportTarget("http://169.254.169.254/publish", None),
            logs="logs/{build_id}",
            adopted_families=(),
            concurrency=None,
            progress=lambda what, done, total: said.append(what),
        )
        yield Rig(backend, bus, compute, [], said)


def nothing_is_left(rig: Rig) -> bool:
    compute = rig.compute
    return not (compute.machines or compute.disks or rig.bus.pending(values.BUILD_ID))


def test_build_runs_to_its_end_and_nothing_waits(rig: Rig) -> None:
    done = rig.run()
    assert (done.state, done.outcome) == (State.FINISHED, Outcome.SUCCEEDED)
    assert done == rig.build()
    assert rig.states() == [
        *(State.PREPARING, State.PROVISIONING, State.EXPORTING),
        *(State.PUBLISHING, State.CLEANING, State.FINISHED),
    ]
    assert "writing" in rig.said
    assert nothing_is_left(rig)
    assert [message.topic for message in rig.bus.announcements()] == [FINISHED_TOPIC]


@contextmanager
def interrupted_while_exporting(rig: Rig) -> Iterator[Interruption]:
    """Yield an interruption that is asked for as soon as an export runs, which stands still."""
    rig.compute.go_on.clear()
    interruption = Interruption()

    def ask() -> None:
        rig.compute.exporting.wait(LIMIT)
        interruption.ask("cancelled by SIGINT")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield interruption
    finally:
        thread.join()


def test_wish_to_cancel_ends_the_build_while_an_export_runs(rig: Rig) -> None:
    with interrupted_while_exporting(rig) as interruption:
        done = rig.run(interruption)
    assert (done.outcome, done.reason) == (Outcome.CANCELLED, "cancelled by SIGINT")
    assert not rig.compute.exported  # it was stopped at its next word, and never went on
    assert nothing_is_left(rig)
    assert rig.compute.all_images == {}
    assert ARCHIVE not in rig.compute._bucket.objects


def test_a_build_that_is_left_stays_as_it_is_and_its_export_is_done_by_the_next_command(rig: Rig) -> None:
    dispatcher = Dispatcher(rig.backend, rig.bus)
    dispatcher.engine.request(values.requested(plan=plan()))
    with interrupted_while_exporting(rig) as interruption:
        left = dispatcher.run(values.BUILD_ID, interruption, leave=True)
    assert (left.state, left.outcome, rig.compute.exported) == (State.EXPORTING, None, False)
    rig.compute.go_on.set()
    done = Dispatcher(rig.backend, rig.bus).run(values.BUILD_ID, Interruption())
    assert done.outcome is Outcome.SUCCEEDED
    assert nothing_is_left(rig)


def test_an_interruption_before_the_start_leaves_a_build_that_is_to_be_left_untouched(rig: Rig) -> None:
    interruption = Interruption()
    interruption.ask("cancelled by SIGINT")
    dispatcher = Dispatcher(rig.backend, rig.bus)
    dispatcher.engine.request(values.requested(plan=plan()))
    left = dispatcher.run(values.BUILD_ID, interruption, leave=True)
    assert (left.state, left.outcome, rig.compute.disks) == (State.PREPARING, None, {})


def test_deadline_ends_the_build_while_an_export_runs(rig: Rig) -> None:
    rig.compute.go_on.clear()
    done = rig.run(made=plan(timeout=3.0))
    assert done.outcome is Outcome.TIMED_OUT
    assert nothing_is_left(rig)


class Sleeper(SystemClock):
    """Jumps ahead, as the clock of a machine does that has slept."""

    slept = 0.0

    def now(self) -> float:
        return super().now() + self.slept


class Sleeping(Cloud):
    """Sleeps for an hour at the third look at its VM, whose guest works on after the sixth."""

    def __init__(self, guest: Guest, publish: Callable[[Message], None], clock: Sleeper) -> None:
        super().__init__(Guest(silent=True), publish)
        self._awake = guest
        self._sleeper = clock
        self._looks = 0

    def machine(self, name: str, project: str, zone: str) -> Machine | None:
        self._looks += 1
        if self._looks == 3:
            self._sleeper.slept = 3600.0
        if self._looks == 6:
            machine = self.machines[name]
            self._awake.run(machine, self.disks[machine.request.boot_disk], self._publish)
        return super().machine(name, project, zone)


def test_time_for_which_the_machine_sleeps_is_no_silence_of_its_vm(rig: Rig) -> None:
    clock = Sleeper()
    rig.compute = Sleeping(Guest(), rig.bus.publish, clock)
    rig.backend = replace(rig.backend, compute=rig.compute, bucket=rig.compute._bucket, clock=clock)
    done = rig.run(made=plan(timeout=7200.0, attempts=3))
    assert (done.outcome, done.attempt) == (Outcome.SUCCEEDED, 1)
    assert nothing_is_left(rig)


def test_cancelling_before_the_start_makes_no_image(rig: Rig) -> None:
    interruption = Interruption()
    interruption.ask("cancelled by SIGTERM")
    interruption.ask("a later reason")
    done = rig.run(interruption)
    assert (done.outcome, done.reason) == (Outcome.CANCELLED, "cancelled by SIGTERM")
    assert nothing_is_left(rig)


def test_worker_with_a_bug_ends_the_build_and_is_raised_after_the_clean_up(rig: Rig) -> None:
    rig.compute.bugs["create_machine"] = [ZeroDivisionError("division by zero")]
    with pytest.raises(ZeroDivisionError):
        rig.run()
    assert (rig.build().outcome, rig.build().finished) == (Outcome.FAILED, True)
    assert rig.build().reason == "create_resources: internal fault: ZeroDivisionError: division by zero"
    assert nothing_is_left(rig)


def test_worker_with_a_bug_after_the_commit_ends_the_build_at_once_and_shows_nothing(rig: Rig) -> None:
    """A cancellation does not count any more then."""
    rig.compute.faults["set_family"] = ZeroDivisionError("division by zero")
    with pytest.raises(ZeroDivisionError):
        rig.run()
    build = rig.build()
    assert build.committed
    assert (build.outcome, build.finished) == (Outcome.FAILED, True)
    assert build.reason.startswith("label_image: internal fault: ZeroDivisionError: division by zero; image ")
    assert ARCHIVE not in rig.compute._bucket.objects
    assert [image.family for image in rig.compute.all_images.values()] == [None]
    assert nothing_is_left(rig)


def test_second_bug_in_the_clean_up_is_raised_at_once_and_leaves_the_build(rig: Rig) -> None:
    rig.compute.bugs["create_machine"] = [ZeroDivisionError("first")]
    rig.compute.faults["delete"] = KeyError("second")
    with pytest.raises(KeyError, match="second"):
        rig.run()
    assert rig.build().state is State.CLEANING
    rig.bus.close()  # as the end of the process does
    done = Dispatcher(rig.backend, rig.bus).run(values.BUILD_ID, Interruption())  # the next command
    assert done.finished
    assert nothing_is_left(rig)


def test_clean_up_that_cannot_end_is_left_to_a_later_command(rig: Rig) -> None:
    rig.compute.bugs["delete"] = [Permanent("it is locked") for _ in range(20)]
    dispatcher = Dispatcher(rig.backend, rig.bus)
    dispatcher.engine.request(values.requested(plan=plan()))
    left = dispatcher.run(values.BUILD_ID, Interruption(), patience=0.2)
    assert (left.state, left.outcome) == (State.CLEANING, Outcome.SUCCEEDED)
    assert {entry.kind for entry in left.ledger if not entry.keep} >= {"machine", "disk"}
    rig.compute.bugs.clear()
    assert (
        not Dispatcher(rig.backend, rig.bus).run(values.BUILD_ID, Interruption(), patience=0.2).finished
    )  # not yet due


def test_what_may_pass_is_tried_again_after_growing_delays(rig: Rig) -> None:
    rig.compute.bugs["create_machine"] = [Transient("busy"), Transient("busy"), Transient("busy")]
    assert rig.run().outcome is Outcome.SUCCEEDED
    times = rig.compute.calls["create_machine"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(gaps) == 3
    assert all(gap >= delay for gap, delay in zip(gaps, RETRY, strict=False))
    assert list(RETRY) == sorted(RETRY)


def test_what_will_not_pass_fails_the_build_with_its_text(rig: Rig) -> None:
    rig.compute.bugs["create_machine"] = [Permanent("the disk is on fire")]
    done = rig.run()
    assert done.outcome is Outcome.FAILED
    assert "the disk is on fire" in done.reason
    assert nothing_is_left(rig)


def test_poison_is_dropped_and_the_build_goes_on(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    topics = (WORKER_TOPIC, REPORTS_TOPIC, EVENTS_TOPIC, "of-another-program")
    for topic in topics:
        for data in (b"", b"\xff", b"[]", b'{"version": 1, "kind": "announce"}'):
            rig.bus.publish(Message(topic, data, {"signature": "00"}, values.BUILD_ID))
    assert rig.run().outcome is Outcome.SUCCEEDED
    assert nothing_is_left(rig)
    dropped = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    for topic in topics:
        assert sum(f"dropped a message of {topic}:" in text for text in dropped) == 4


def test_guest_whose_messages_are_lost_is_read_from_its_report_port(rig: Rig) -> None:
    rig.compute.guest = Guest(offline=True)
    assert rig.run().outcome is Outcome.SUCCEEDED


def test_look_at_the_machine_that_fails_for_now_is_taken_again(rig: Rig) -> None:
    rig.compute.guest = Guest(offline=True)
    rig.compute.faults["machine"] = Transient("busy")
    assert rig.run().outcome is Outcome.SUCCEEDED
    assert rig.compute.faults == {}


@pytest.mark.parametrize("fault", [Permanent("no right"), NotFound("gone"), EnvironmentFault("no such file")])
def test_machine_that_cannot_be_looked_at_keeps_no_deadline(
    rig: Rig, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    rig.compute.guest = Guest(silent=True)
    rig.compute.bugs["machine"] = [fault] * 10_000
    done = rig.run(made=plan(timeout=4.0))
    assert done.outcome is Outcome.TIMED_OUT
    assert nothing_is_left(rig)
    told = [record.getMessage() for record in caplog.records if "cannot be looked at" in record.getMessage()]
    assert told == [f"build {values.BUILD_ID}: its VM cannot be looked at: {fault}"]


def test_look_at_the_machine_with_a_bug_ends_the_build_and_is_raised_after_the_clean_up(rig: Rig) -> None:
    rig.compute.guest = Guest(silent=True)
    rig.compute.bugs["machine"] = [ZeroDivisionError("division by zero")] * 10_000
    with pytest.raises(ZeroDivisionError):
        rig.run()
    assert (rig.build().outcome, rig.build().finished) == (Outcome.FAILED, True)
    assert "internal fault: ZeroDivisionError: division by zero" in rig.build().reason
    assert nothing_is_left(rig)


def test_failed_step_is_told_to_the_listener(rig: Rig) -> None:
    rig.compute.guest = Guest(fails_at=0)
    done = rig.run()
    assert done.outcome is Outcome.FAILED
    assert done.steps[0].output == "no such file"
    assert State.EXPORTING not in rig.states()


def test_build_that_is_finished_is_given_at_once(rig: Rig) -> None:
    done = rig.run()
    heard = len(rig.heard)
    assert Dispatcher(rig.backend, rig.bus).run(values.BUILD_ID, Interruption()) == done
    assert len(rig.heard) == heard


class TestQueue:
    """Another build, which some other process runs, is before this one."""

    def first(self, rig: Rig, image: str) -> Build:
        made = values.plan(build_id="first-0123456789ab", image=replace(values.plan().image, name=image))
        build = values.build(id="first-0123456789ab", plan=made, ledger=(values.ledger_entry(),))
        rig.backend.store.create(build, values.requested(plan=made))
        return build

    def end(self, rig: Rig, build: Build, outcome: Outcome) -> None:
        stored = rig.backend.store.load(build.id)
        ended = replace(stored.build, state=State.FINISHED, outcome=outcome, ledger=())
        rig.backend.store.save(ended, stored.version)

    def test_it_waits_for_its_turn_and_says_so(self, rig: Rig) -> None:
        rig.backend = replace(rig.backend, concurrency=1)
        first = self.first(rig, "another")
        with self.beside(rig, values.requested(plan=plan(), queued=True)) as running:
            rig.says("queued: place 1 in the queue, 1 running")
            assert rig.build().state is State.QUEUED
            self.end(rig, first, Outcome.FAILED)
            assert running.result(LIMIT).outcome is Outcome.SUCCEEDED

    def test_it_can_be_cancelled_meanwhile(self, rig: Rig) -> None:
        rig.backend = replace(rig.backend, concurrency=1)
        self.first(rig, "another")
        interruption = Interruption()
        with self.beside(rig, values.requested(plan=plan(), queued=True), interruption) as running:
            rig.says("queued: place 1 in the queue, 1 running")
            interruption.ask("cancelled by a person")
            done = running.result(LIMIT)
        assert (done.outcome, done.reason) == (Outcome.CANCELLED, "cancelled by a person")
        assert rig.compute.machines == {}

    def test_it_waits_for_the_build_that_makes_its_image(self, rig: Rig) -> None:
        mine = plan(rebuild="changed")
        first = self.first(rig, mine.image.name)
        with self.beside(rig, values.requested(plan=mine, queued=True)) as running:
            rig.says(f"queued: waits for build {first.id}, which makes this image already")
            self.end(rig, first, Outcome.FAILED)
            assert running.result(LIMIT).outcome is Outcome.SUCCEEDED

    @contextmanager
    def beside(
        self, rig: Rig, request: BuildRequested, interruption: Interruption | None = None
    ) -> Iterator[Future[Build]]:
        """Run a build on a thread of its own."""
        dispatcher = Dispatcher(rig.backend, rig.bus, lambda build, event: rig.heard.append((build, event)))
        dispatcher.engine.request(request)
        with ThreadPoolExecutor(1) as pool:
            stop = interruption or Interruption()
            running = pool.submit(dispatcher.run, request.build_id, stop)
            try:
                yield running
            finally:
                stop.ask("the test is over")
