"""Each minute: every build gets its time, whatever happens to the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build import Build, LedgerEntry, Outcome, State
from shared.damage import readable_builds
from shared.errors import Permanent, Transient
from shared.expiry import expire_builds
from shared.orders import Order
from shared.plan import Plan
from shared.ports import Message
from shared.resources import EXPIRY_MARGIN
from tests import values
from tests.world import Guest, World

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
    assert expire_builds(made.factory, "local").builds == 20
    assert set(states(made)) == {State.PREPARING}
    made.clock.time += PLAN.timeout
    expire_builds(made.factory, "local")
    assert {(each.state, each.outcome) for each in readable_builds(made.store.builds())} == {
        (State.CLEANING, Outcome.TIMED_OUT)
    }
    assert len(made.bus.published) == 20


def test_finished_builds_are_left_alone() -> None:
    made = world(build(1, state=State.FINISHED, outcome=Outcome.SUCCEEDED))
    assert expire_builds(made.factory, "local").builds == 0


def test_orders_of_a_process_that_died_are_published() -> None:
    order = Order("hello-000000000001", 1, "create_resources", 1)
    made = world(build(1, outbox=(order,)))
    expire_builds(made.factory, "local")
    assert [message.attributes["order"] for message in made.bus.published] == ["create_resources"]
    assert made.build("hello-000000000001").outbox == ()


def test_hazard_4_lost_machine_leads_to_the_next_attempt() -> None:
    made = World(Guest(ends_at=0))
    made.engine.request(values.requested())
    made.settle()
    expire_builds(made.factory, "local")
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
    assert expire_builds(made.factory, "local").deleted == (
        f"machine {machine}",
        f"disk gs-{values.BUILD_ID}-a1-boot",
    )
    assert made.left()["machines"] == made.left()["disks"] == []


@pytest.mark.parametrize("fault", [Transient("the API is away"), Permanent("permission compute.instances.get")])
def test_one_builds_fault_is_told_and_stops_no_other(fault: Exception) -> None:
    made = world(*(build(number, state=State.PROVISIONING, zone="here") for number in range(3)))
    made.clock.time += PLAN.timeout
    made.compute.faults["machine"] = fault  # of whichever build is first
    found = expire_builds(made.factory, "local")
    assert len(found.faults) == 1
    assert found.faults[0].startswith("build hello-")
    assert found.faults[0].endswith(str(fault))
    assert states(made) == [State.CLEANING] * 3  # the deadline needs no look at the machine


def test_silence_says_nothing_while_nobody_can_look() -> None:
    made = world(build(1, state=State.PROVISIONING, zone="here"))
    made.clock.time += PLAN.silence + 1
    made.compute.faults["machine"] = Transient("the API is away")
    expire_builds(made.factory, "local")
    assert states(made) == [State.PROVISIONING]


def test_what_nobody_has_foreseen_is_raised_after_all_others_and_keeps_no_deadline() -> None:
    made = world(*(build(number, state=State.PROVISIONING, zone="here") for number in range(3)))
    made.clock.time += PLAN.timeout
    made.compute.faults["machine"] = ZeroDivisionError("oh")
    with pytest.raises(ZeroDivisionError, match="oh"):
        expire_builds(made.factory, "local")
    assert states(made) == [State.CLEANING] * 3


@pytest.mark.parametrize("fault", [Transient("the topic is away"), ZeroDivisionError("oh")])
def test_orders_that_cannot_be_sent_keep_no_deadline(fault: Exception) -> None:
    order = Order("hello-000000000001", 1, "create_resources", 1)
    made = world(build(1, outbox=(order,)), build(2))
    made.clock.time += PLAN.timeout
    factory = replace(made.factory, bus=FaultyBus(fault))
    try:
        expire_builds(factory, "local")
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
    found = expire_builds(made.factory, "local")
    assert (found.builds, found.damaged, found.faults) == (2, ("hello-000000000001",), ())
    [told] = [record for record in caplog.records if getattr(record, "metric", "") == "damaged_document"]
    assert "the document of build hello-000000000001 is damaged" in told.getMessage()
    assert states(made) == [State.CLEANING] * 2


def test_what_a_damaged_build_has_made_is_kept_until_its_time() -> None:
    made = World(Guest(silent=True))
    made.engine.request(values.requested())
    made.settle()
    made.store.damage(values.BUILD_ID, "{")
    assert expire_builds(made.factory, "local").deleted == ()
    assert made.left()["machines"]
    made.clock.time = values.NOON + PLAN.timeout + EXPIRY_MARGIN
    assert len(expire_builds(made.factory, "local").deleted) == 2
    assert made.left()["machines"] == made.left()["disks"] == []


def test_no_more_is_begun_when_the_time_is_over() -> None:
    made = world(build(1), build(2))
    made.clock.time += PLAN.timeout
    found = expire_builds(made.factory, "local", seconds=0)
    assert sorted(found.late) == ["build hello-000000000001", "build hello-000000000002", "the sweep of local"]
    assert states(made) == [State.PREPARING] * 2


def test_a_clean_up_that_cannot_end_is_told_after_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    left = LedgerEntry("disk", "gs-hello-000000000001-a1-boot", "local")
    made = world(build(1, state=State.CLEANING, outcome=Outcome.FAILED, ledger=(left,), last_seen=values.NOON))
    made.clock.time += 3600
    expire_builds(made.factory, "local")
    assert "slow_cleaning" not in {getattr(record, "metric", "") for record in caplog.records}
    made.clock.time += 1
    expire_builds(made.factory, "local")
    [told] = [record for record in caplog.records if getattr(record, "metric", "") == "slow_cleaning"]
    assert told.getMessage() == (
        "build hello-000000000001 has been cleaning for 60 minutes; left: disk gs-hello-000000000001-a1-boot"
    )
