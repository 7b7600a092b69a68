"""Of the builds of one family, one at a time publishes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import Build, Outcome, State
from shared.build.plan import Deprecation
from shared.engine.family_turn import TURN_SECONDS, is_publishing, take_turn_to_publish
from shared.errors import Transient
from tests.world import values
from tests.world.memory_store import MemoryStore
from tests.world.world import World

STAGED = "o9-PublicationStaged"
IDS = ("hello-aaaaaaaaaaaa", "hello-bbbbbbbbbbbb", "hello-cccccccccccc")


def publishing(world: World, build_id: str, family: str | None = "hello") -> None:
    """A build whose publication is staged."""
    plan = values.plan(build_id=build_id)
    name = f"{build_id}-image"
    image = replace(plan.image, name=name, family=family, deprecate_old=Deprecation())
    build = values.build(id=build_id, plan=replace(plan, image=image), state=State.PUBLISHING)
    world.store.create(build, values.requested(build_id=build_id, plan=build.plan))


def commit(world: World, build_id: str) -> Build:
    world.engine.receive(values.publication_staged(build_id=build_id, event_id=STAGED))
    return world.build(build_id)


def change(world: World, build_id: str, **changes: object) -> None:
    stored = world.store.load(build_id)
    world.store.save(replace(stored.build, **changes), stored.version)  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    world = World()
    for build_id in IDS:
        publishing(world, build_id)
    return world


def test_the_second_waits_until_the_first_has_deprecated_the_family_s_older_images(world: World) -> None:
    first, second, _third = IDS
    assert commit(world, first).committed
    for changes in ({}, {"state": State.CLEANING, "outcome": Outcome.SUCCEEDED, "retiring": True}):
        change(world, first, **changes)
        with pytest.raises(Transient, match=f"waits for build {first}, which publishes in family hello"):
            commit(world, second)
        assert not world.build(second).committed
    change(world, first, retiring=False)
    assert commit(world, second).committed
    assert world.store.publisher("local", "hello") == second


def test_a_refused_deprecation_and_a_build_that_is_gone_are_not_waited_for(world: World) -> None:
    first, second, third = IDS
    commit(world, first)
    change(world, first, state=State.CLEANING, outcome=Outcome.SUCCEEDED, retiring=True, warnings=("refused",))
    assert commit(world, second).committed
    change(world, second, state=State.FINISHED, outcome=Outcome.SUCCEEDED)
    world.store.set_aside(second)
    assert commit(world, third).committed


@pytest.mark.parametrize(
    "stuck",
    [
        {},
        {"state": State.CLEANING, "outcome": Outcome.SUCCEEDED, "retiring": True},
        {"state": State.CLEANING, "outcome": Outcome.FAILED, "withdrawing": values.NOON + 86_400},
    ],
    ids=["publication", "deprecation or copy", "withdrawal"],
)
def test_what_does_not_pass_holds_no_family_up(world: World, stuck: dict[str, object]) -> None:
    """It is tried for a day, and nothing is refused, so that no warning tells of it."""
    first, second, _third = IDS
    commit(world, first)
    change(world, first, **stuck)
    world.clock.time += TURN_SECONDS - 1
    with pytest.raises(Transient):
        commit(world, second)
    world.clock.time += 1
    assert commit(world, second).committed
    assert world.build(first).committed
    with pytest.raises(Transient, match=f"waits for build {second}"):
        commit(world, IDS[2])


def test_a_process_that_died_with_the_turn_leaves_it_to_its_build(world: World) -> None:
    first, second, _third = IDS
    assert world.store.pass_turn("local", "hello", first, "")
    with pytest.raises(Transient):
        commit(world, second)
    assert commit(world, first).committed


class _Overtaken(MemoryStore):
    """A store in which another worker takes a free turn, for some build, as soon as it has been seen to be free."""

    def __init__(self, build_id: str) -> None:
        super().__init__()
        self._build_id = build_id

    def publisher(self, project: str, family: str) -> str:
        found = super().publisher(project, family)
        if not found:
            self.pass_turn(project, family, self._build_id, "")
        return found


def test_two_workers_of_one_build_take_its_turn_at_once(world: World) -> None:
    first, second, _third = IDS
    take_turn_to_publish(world.build(first), _Overtaken(first), values.NOON)
    with pytest.raises(Transient, match="another build has just begun to publish"):
        take_turn_to_publish(world.build(first), _Overtaken(second), values.NOON)


def test_a_failed_publication_is_waited_for_until_it_is_withdrawn(world: World) -> None:
    assert is_publishing(replace(world.build(IDS[0]), state=State.CLEANING, withdrawing=values.NOON + 1), values.NOON)
    assert not is_publishing(replace(world.build(IDS[0]), state=State.CLEANING), values.NOON)


def test_other_families_and_images_without_one_do_not_wait(world: World) -> None:
    commit(world, IDS[0])
    for build_id, family in (("hello-dddddddddddd", "other"), ("hello-eeeeeeeeeeee", None)):
        publishing(world, build_id, family)
        assert commit(world, build_id).committed


def test_two_builds_of_one_family_end_well(world: World) -> None:
    """The message of the one that has to wait is delivered until the other is done."""
    fresh = World()
    for build_id in IDS:
        plan = values.plan(build_id=build_id)
        image = replace(plan.image, name=f"{build_id}-image", family="hello", deprecate_old=Deprecation())
        fresh.engine.request(values.requested(build_id=build_id, plan=replace(plan, image=image)))
    fresh.finish()
    assert [fresh.build(build_id).outcome for build_id in IDS] == [Outcome.SUCCEEDED] * 3
