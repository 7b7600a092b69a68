"""The report of what needs a person: written where it says something new, and bounded."""

from __future__ import annotations

import pytest

from shared.backlog import Backlog
from shared.errors import NotFound, StoreError
from shared.upkeep.expiry import Expiry
from shared.upkeep.sweep import LeftResource
from shared.upkeep.upkeep_report import (
    EVERY,
    MOST_LEFT,
    NOT_MEASURED,
    TEXT_LENGTH,
    UpkeepReport,
    read_upkeep,
    tell_upkeep,
)
from tests.world.counted import FakeBacklogs
from tests.world.world import World

URI = "gs://b/upkeep/report.json"
NOTHING = Expiry(0, (), (), (), ())


@pytest.fixture
def world() -> World:
    return World()


def tell(world: World, passed: Expiry = NOTHING, backlogs: FakeBacklogs | None = None) -> UpkeepReport:
    tell_upkeep(passed, backlogs or FakeBacklogs(), URI, world.backend)
    return read_upkeep(URI, world.backend)


def test_a_report_is_written_where_it_says_something_new(world: World) -> None:
    first = tell(world)
    world.clock.time += 60.0
    assert tell(world) == first
    backlogs = FakeBacklogs()
    backlogs.measured = Backlog(1, world.clock.now() - 9.0, world.clock.now())
    second = tell(world, backlogs=backlogs)
    assert (second.time, second.dead_letters, second.unmeasured) == (world.clock.now(), backlogs.measured, "")
    world.clock.time += 60.0
    backlogs.measured = Backlog(1, world.clock.now() - 69.0, world.clock.now())
    assert tell(world, backlogs=backlogs) == second, "its age alone is nothing new"
    assert tell(world, Expiry(1, (), ("build b: a fault",), (), ()), backlogs).faults == ("build b: a fault",)


def test_a_report_that_says_nothing_new_shows_that_time_passes(world: World) -> None:
    first = tell(world)
    assert first.unmeasured == NOT_MEASURED
    for step in (EVERY, -2 * EVERY):  # and where the clock was set back
        world.clock.time += step
        assert tell(world).time == world.clock.now()


def test_a_report_is_bounded(world: World) -> None:
    left = LeftResource("disk", "gs-d", "p", "z", "b", "x" * 10_000)
    many = MOST_LEFT + 9
    faults = tuple(f"build {number}: {'y' * 1000}" for number in range(many))
    told = tell(
        world, Expiry(0, (), (*faults, "the sweep of p: no"), (), (), (), (left,) * many, ("the sweep of p: no",))
    )
    assert (len(told.left), told.left_count, len(told.faults)) == (MOST_LEFT, many, MOST_LEFT)
    assert {len(each.why) for each in told.left} | {len(each) for each in told.faults} == {TEXT_LENGTH}
    assert told.unswept == ("the sweep of p: no",)


def test_a_bucket_that_fails_keeps_nothing_from_being_done(world: World) -> None:
    class Broken(FakeBacklogs):
        def backlog(self, subscription: str) -> Backlog | None:
            raise StoreError("no")

    with pytest.raises(NotFound, match="no report yet"):
        read_upkeep(URI, world.backend)
    assert tell(world, backlogs=Broken()).unmeasured == "no"
    world.bucket.write(URI, b"{")
    assert tell(world).time == world.clock.now()
