"""Each minute: every build gets its time, whatever happens to the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from shared.build.build import Build, LedgerEntry, Outcome, State
from shared.build.damage import readable_builds
from shared.build.orders import Order
from shared.build.plan import Plan
from shared.build.resources import EXPIRY_MARGIN
from shared.errors import Permanent, Transient
from shared.ports import Message, Resource
from shared.upkeep.expiry import expire_builds
from tests.world import values
from tests.world.fakes import FakeClock, FakeCompute
from tests.world.fuse import Fuse
from tests.world.memory_bucket import MemoryBucket
from tests.world.world import Guest, World

PLAN = values.plan()


def build(number: int, **changes: object) -> Build:
    """One of several builds, all in the same state."""
    build_id = f"hello-{number:012x}"
    plan: Plan = replace(PLAN, build_id=build_id)
    return values.build(**{"id": build_id, "plan": plan, **changes})


def world(*builds: Build) -> World:
    made = World()
    for each in builds:
        made.store.create(each, values.requested(plan=each.plan))
    return made


def states(made: World) -> list[State]:
    return [each.state for each in sorted(readable_builds(made.store.builds()), key=lambda each: each.id)]


def test_deadlines_hold_for_all_builds() -> None:
    made = world(*(build(number) for number in range(20)))
    assert expire_builds(made.backend, "local").builds == 20
    assert set(states(made)) == {State.PREPARING}
    made.clock.time += PLAN.timeout
    expire_builds(made.backend, "local")
    assert {(each.state, each.outcome) for each in readable_builds(made.store.builds())} == {
        (State.CLEANING, Outcome.TIMED_OUT)
    }
    assert len(made.bus.published) == 20


def test_finished_builds_are_left_alone() -> None:
    made = world(build(1, state=State.FINISHED, outcome=Outcome.SUCCEEDED))
    assert expire_builds(made.backend, "local").builds == 0


def test_orders_of_a_process_that_died_are_published() -> None:
    order = Order("hello-000000000001", 1, "create_resources", 1)
    made = world(build(1, outbox=(order,)))
    expire_builds(made.backend, "local")
    assert [message.attributes["order"] for message in made.bus.published] == ["create_resources"]
    assert made.build("hello-000000000001").outbox == ()


def test_hazard_4_lost_machine_leads_to_the_next_attempt() -> None:
    made = World(Guest(ends_at=0))
    made.engine.request(values.requested())
    made.settle()
    expire_builds(made.backend, "local")
    made.settle()
    assert made.build().attempt == 2


def test_hazard_1_orphans_are_deleted_in_all_projects_of_builds() -> None:
    made = World(Guest(silent=True))
    made.engine.request(values.requested())
    made.settle()
    [machine] = made.compute.machines
    stored = made.store.load(values.BUILD_ID)
    gone = replace(stored.build, state=State.FINISHED, outcome=Outcome.FAILED, ledger=())
    made.store.save(gone, stored.version)
    assert expire_builds(made.backend, "local").deleted == (
        f"machine {machine}",
        f"disk gs-{values.BUILD_ID}-a1-boot",
    )
    assert made.left()["machines"] == made.left()["disks"] == []


@pytest.mark.parametrize("fault", [Transient("the API is away"), Permanent("permission compute.instances.get")])
def test_one_builds_fault_is_told_and_stops_no_other(fault: Exception) -> None:
    made = world(*(build(number, state=State.PROVISIONING, zone="here") for number in range(3)))
    made.clock.time += PLAN.timeout
    made.compute.faults["machine"] = fault  # of whichever build is first
    found = expire_builds(made.backend, "local")
    assert len(found.faults) == 1
    assert found.faults[0].startswith("build hello-")
    assert found.faults[0].endswith(str(fault))
    assert states(made) == [State.CLEANING] * 3  # the deadline needs no look at the machine


def test_silence_says_nothing_while_no_look_is_possible() -> None:
    made = world(build(1, state=State.PROVISIONING, zone="here"))
    made.clock.time += PLAN.silence + 1
    made.compute.faults["machine"] = Transient("the API is away")
    expire_builds(made.backend, "local")
    assert states(made) == [State.PROVISIONING]


@pytest.mark.parametrize(("seconds", "state"), [(-1, State.PROVISIONING), (0, State.PREPARING)])
def test_silence_is_that_of_the_moment_of_the_look(seconds: float, state: State) -> None:
    """And not of the moment at which a process goes on that has stood still since."""
    made = World(Guest(silent=True))
    made.engine.request(values.requested())
    made.settle()
    assert states(made) == [State.PROVISIONING]
    made.clock.time = made.build().last_seen + PLAN.silence + seconds
    made.compute.fuse = StandingStill(made.clock)
    expire_builds(made.backend, "local")
    assert made.compute.fuse.count  # it has stood still
    assert states(made) == [state]


class StandingStill(Fuse):
    """Lets minutes pass at every call of an adapter."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def touch(self) -> None:
        super().touch()
        self._clock.time += PLAN.silence


def test_a_fault_that_was_not_foreseen_is_raised_after_all_others_and_keeps_no_deadline() -> None:
    made = world(*(build(number, state=State.PROVISIONING, zone="here") for number in range(3)))
    made.clock.time += PLAN.timeout
    made.compute.faults["machine"] = ZeroDivisionError("oh")
    with pytest.raises(ZeroDivisionError, match="oh"):
        expire_builds(made.backend, "local")
    assert states(made) == [State.CLEANING] * 3


@pytest.mark.parametrize("fault", [Transient("the topic is away"), ZeroDivisionError("oh")])
def test_orders_that_cannot_be_sent_keep_no_deadline(fault: Exception) -> None:
    order = Order("hello-000000000001", 1, "create_resources", 1)
    made = world(build(1, outbox=(order,)), build(2))
    made.clock.time += PLAN.timeout
    backend = replace(made.backend, bus=FaultyBus(fault))
    try:
        expire_builds(backend, "local")
    except ZeroDivisionError as error:
        assert error is fault  # noqa: PT017 - one of two ends, and states() below is of both
    assert states(made) == [State.CLEANING] * 2


class FaultyBus:
    """Takes no message."""

    def __init__(self, fault: Exception) -> None:
        self._fault = fault

    def publish(self, message: Message) -> None:
        raise self._fault


def test_a_damaged_build_keeps_no_other_from_its_time(caplog: pytest.LogCaptureFixture) -> None:
    made = world(*(build(number) for number in range(3)))
    made.store.damage("hello-000000000001", "{")
    made.clock.time += PLAN.timeout
    found = expire_builds(made.backend, "local")
    assert (found.builds, found.damaged, found.faults) == (2, ("hello-000000000001",), ())
    [told] = [record for record in caplog.records if getattr(record, "metric", "") == "damaged_document"]
    assert "the document of build hello-000000000001 is damaged" in told.getMessage()
    assert states(made) == [State.CLEANING] * 2


def test_what_a_damaged_build_has_made_is_kept_until_its_time() -> None:
    made = World(Guest(silent=True))
    made.engine.request(values.requested())
    made.settle()
    made.store.damage(values.BUILD_ID, "{")
    assert expire_builds(made.backend, "local").deleted == ()
    assert made.left()["machines"]
    made.clock.time = values.NOON + PLAN.timeout + EXPIRY_MARGIN
    assert len(expire_builds(made.backend, "local").deleted) == 2
    assert made.left()["machines"] == made.left()["disks"] == []


def test_no_more_is_looked_at_when_the_time_is_over_but_deadlines_hold() -> None:
    made = world(*(build(number, state=State.PROVISIONING, zone="here") for number in (1, 2)))
    made.clock.time += PLAN.timeout
    made.compute.faults["machine"] = ZeroDivisionError("it was looked at")
    found = expire_builds(made.backend, "local", seconds=0)
    assert sorted(found.late) == ["build hello-000000000001", "build hello-000000000002", "the sweep of local"]
    assert states(made) == [State.CLEANING] * 2


def test_a_queue_that_takes_all_the_time_keeps_nothing_waiting() -> None:
    made = world(build(1))
    for number in (2, 3):
        plan = replace(PLAN, build_id=f"hello-{number:012x}", image=replace(PLAN.image, name=f"hello-{number}"))
        made.engine.request(values.requested(plan=plan, queued=True))
    swept = threading.Event()
    compute = SlowTurns(made.clock, made.bucket, swept)
    found = expire_builds(replace(made.backend, compute=compute), "local", seconds=100)
    assert compute.checked == 1, "and none begins after the end"
    assert swept.is_set()
    assert found.late == found.faults == ()


class SlowTurns(FakeCompute):
    """Lets a turn be looked at until the sweep has begun, by when the time is over."""

    def __init__(self, clock: FakeClock, bucket: MemoryBucket, swept: threading.Event) -> None:
        super().__init__(clock, bucket)
        self._clock, self._swept = clock, swept
        self.checked = 0

    def check(self, plan: Plan, *, boots: bool = True) -> None:
        self.checked += 1
        assert self._swept.wait(60), "the sweep waits for the queue"
        self._clock.time += 200

    def labelled(self, project: str) -> Iterator[Resource]:
        self._swept.set()
        return super().labelled(project)


@pytest.mark.parametrize(
    "state",
    [
        {"state": State.CLEANING, "last_seen": values.NOON},
        {"state": State.HELD, "last_seen": values.NOON - 7200, "disk_until": values.NOON},  # by a person's VM, say
    ],
)
def test_a_clean_up_that_cannot_end_is_told_after_an_hour(
    state: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    left = LedgerEntry("disk", "gs-hello-000000000001-a1-boot", "local")
    made = world(build(1, outcome=Outcome.FAILED, ledger=(left,), **state))
    made.clock.time += 3600
    expire_builds(made.backend, "local")
    assert "slow_cleaning" not in {getattr(record, "metric", "") for record in caplog.records}
    made.clock.time += 1
    expire_builds(made.backend, "local")
    [told] = [record for record in caplog.records if getattr(record, "metric", "") == "slow_cleaning"]
    assert told.getMessage() == (
        "build hello-000000000001 has been cleaning for 60 minutes; left: disk gs-hello-000000000001-a1-boot"
    )
