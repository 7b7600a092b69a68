"""The dispatcher: the real queue and the real store, with an honest Compute in memory and guests that report by bus."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from shared.build import ArchiveRecord, Build, Outcome, State
from shared.clock import SystemClock
from shared.errors import EnvironmentFault, NotFound, Permanent, Transient
from shared.events import Event
from shared.factory import Factory, ReportTarget
from shared.interruption import Interruption
from shared.keys import Keys
from shared.local.bus import LocalBus
from shared.local.database import Database
from shared.local.dispatcher import RETRY, Dispatcher
from shared.local.store import LocalStore
from shared.messages import EVENTS_TOPIC, REPORTS_TOPIC
from shared.orders import FINISHED_TOPIC, WORKER_TOPIC
from shared.plan import Plan
from shared.ports import Machine, MachineRequest, Message, Progress, ResourceKind
from tests import values
from tests.fakes import FakeClock, FakeCompute
from tests.memory_bucket import MemoryBucket
from tests.world import MASTER, Guest

ARCHIVE = "out/hello.tar.gz"
LIMIT = 15  # seconds after which something that should happen has not


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
            assert time.monotonic() < end, "nobody has stopped the export"
            progress("writing the archive", 1, 2)
        archive = super().export_image(project, name, target, compression, progress)
        self.exported = True
        return archive

    def delete(self, kind: ResourceKind, name: str, project: str, zone: str) -> None:
        self._bug("delete")
        super().delete(kind, name, project, zone)

    def _bug(self, method: str) -> None:
        self.calls.setdefault(method, []).append(time.monotonic())
        if self.bugs.get(method):
            raise self.bugs[method].pop(0)


@dataclass
class Rig:
    """One dispatcher and all that it works with."""

    factory: Factory
    bus: LocalBus
    compute: Cloud
    heard: list[tuple[Build, Event]]
    said: list[str]

    def run(self, interruption: Interruption | None = None, made: Plan | None = None) -> Build:
        dispatcher = Dispatcher(self.factory, self.bus, lambda build, event: self.heard.append((build, event)))
        dispatcher.engine.request(values.requested(plan=made or plan()))
        return dispatcher.run(values.BUILD_ID, interruption or Interruption())

    def build(self) -> Build:
        return self.factory.store.load(values.BUILD_ID).build

    def states(self) -> list[State]:
        return list(dict.fromkeys(build.state for build, _event in self.heard))


def plan(**changes: object) -> Plan:
    default = values.plan(requested=SystemClock().now())
    return replace(default, image=replace(default.image, export_to=ARCHIVE), **changes)  # type: ignore[arg-type]  # by name


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Database(tmp_path / "state.db") as database:
        bus = LocalBus(database)
        compute = Cloud(Guest(), bus.publish)
        said: list[str] = []
        factory = Factory(
            compute=compute,
            store=LocalStore(database),
            bucket=compute._bucket,
            bus=bus,
            clock=SystemClock(),
            keys=Keys(MASTER),
            reports=ReportTarget("http://169.254.169.254/publish", None),
            logs="logs/{build_id}",
            adopted_families=(),
            progress=lambda what, done, total: said.append(what),
        )
        yield Rig(factory, bus, compute, [], said)


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


def test_wish_to_cancel_ends_the_build_while_an_export_runs(rig: Rig) -> None:
    rig.compute.go_on.clear()
    interruption = Interruption()

    def ask() -> None:
        rig.compute.exporting.wait(LIMIT)
        interruption.ask("cancelled by SIGINT")

    thread = threading.Thread(target=ask)
    thread.start()
    done = rig.run(interruption)
    thread.join()
    assert (done.outcome, done.reason) == (Outcome.CANCELLED, "cancelled by SIGINT")
    assert not rig.compute.exported  # it was stopped at its next word, and never went on
    assert nothing_is_left(rig)
    assert rig.compute.all_images == {}
    assert ARCHIVE not in rig.compute._bucket.objects


def test_deadline_ends_the_build_while_an_export_runs(rig: Rig) -> None:
    rig.compute.go_on.clear()
    done = rig.run(made=plan(timeout=3.0))
    assert done.outcome is Outcome.TIMED_OUT
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
    assert rig.build().finished
    assert "internal fault: ZeroDivisionError: division by zero" in rig.build().reason
    assert nothing_is_left(rig)


def test_second_bug_in_the_clean_up_is_raised_at_once_and_leaves_the_build(rig: Rig) -> None:
    rig.compute.bugs["create_machine"] = [ZeroDivisionError("first")]
    rig.compute.faults["delete"] = KeyError("second")
    with pytest.raises(KeyError, match="second"):
        rig.run()
    assert rig.build().state is State.CLEANING
    rig.bus.close()  # as the end of the process does
    done = Dispatcher(rig.factory, rig.bus).run(values.BUILD_ID, Interruption())  # the next command
    assert done.finished
    assert nothing_is_left(rig)


def test_clean_up_that_cannot_end_is_left_to_a_later_command(rig: Rig) -> None:
    rig.compute.bugs["delete"] = [Permanent("it is locked") for _ in range(20)]
    dispatcher = Dispatcher(rig.factory, rig.bus)
    dispatcher.engine.request(values.requested(plan=plan()))
    left = dispatcher.run(values.BUILD_ID, Interruption(), patience=0.2)
    assert (left.state, left.outcome) == (State.CLEANING, Outcome.SUCCEEDED)
    assert {entry.kind for entry in left.ledger if not entry.keep} >= {"machine", "disk"}
    rig.compute.bugs.clear()
    assert (
        not Dispatcher(rig.factory, rig.bus).run(values.BUILD_ID, Interruption(), patience=0.2).finished
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
    for topic in (WORKER_TOPIC, REPORTS_TOPIC, EVENTS_TOPIC, "somebody-elses"):
        for data in (b"", b"\xff", b"[]", b'{"version": 1, "kind": "announce"}'):
            rig.bus.publish(Message(topic, data, {"signature": "00"}, values.BUILD_ID))
    assert rig.run().outcome is Outcome.SUCCEEDED
    assert nothing_is_left(rig)
    dropped = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    assert sum("dropped an order" in text for text in dropped) == 4
    assert sum(f"of {REPORTS_TOPIC}" in text for text in dropped) == 4
    assert sum(f"of {EVENTS_TOPIC}" in text for text in dropped) == 4


def test_guest_that_nobody_hears_is_read_from_its_report_port(rig: Rig) -> None:
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
    done = rig.run(made=plan(timeout=2.0))
    assert done.outcome is Outcome.TIMED_OUT
    assert nothing_is_left(rig)
    told = [record.getMessage() for record in caplog.records if "cannot be looked at" in record.getMessage()]
    assert told == [f"build {values.BUILD_ID}: its VM cannot be looked at: {fault}"]


def test_look_at_the_machine_with_a_bug_ends_the_build_and_is_raised_after_the_clean_up(rig: Rig) -> None:
    rig.compute.guest = Guest(silent=True)
    rig.compute.bugs["machine"] = [ZeroDivisionError("division by zero")] * 10_000
    with pytest.raises(ZeroDivisionError):
        rig.run()
    assert (rig.build().outcome, rig.build().finished) == (Outcome.CANCELLED, True)
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
    assert Dispatcher(rig.factory, rig.bus).run(values.BUILD_ID, Interruption()) == done
    assert len(rig.heard) == heard
