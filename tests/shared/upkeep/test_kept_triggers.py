"""The triggers of one machine: which file is built for what, and when it is built no more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import Outcome, State
from shared.build.trigger import Trigger, trigger_id
from shared.engine.engine import Engine
from shared.errors import InputError
from shared.upkeep.kept_triggers import KeptTriggers
from tests.world import values
from tests.world.world import World

PATH = "/home/ann/hello.yaml"
OFFERED = replace(
    values.trigger(), id=trigger_id(PATH), spec=PATH, generation="", text="", spec_changed=True, since=0.0
)


@pytest.fixture
def world() -> World:
    made = World()
    made.clock.time = values.NOON
    return made


@pytest.fixture
def kept(world: World) -> KeptTriggers:
    return KeptTriggers(world.backend)


def known(world: World) -> Trigger:
    found = world.store.trigger(OFFERED.id)
    assert found is not None
    return found


def end(world: World, build_id: str, outcome: Outcome) -> None:
    build = values.build(id=build_id, state=State.FINISHED, outcome=outcome)
    world.store.create(build, values.requested(build_id=build_id))


def test_what_was_added_is_built_at_the_next_look_and_for_each_cause_after_it(world: World, kept: KeptTriggers) -> None:
    kept.add(OFFERED)
    kinds = []
    for offered, source, later in (
        (OFFERED, "4711", 0.0),
        (OFFERED, "4711", 0.0),
        (OFFERED, "4712", 0.0),
        (replace(OFFERED, digest="d2"), "4712", 0.0),
        (replace(OFFERED, digest="d2"), "4712", 7 * 86_400.0),
        (replace(OFFERED, digest="d2"), "4712", 60.0),
    ):
        world.clock.time += later
        due = kept.due(known(world), offered, source)
        kinds.append([each.kind for each in due])
        for each in due:
            end(world, each.id, Outcome.SUCCEEDED)
    assert kinds == [["every"], [], ["source"], ["spec"], ["every"], []]


def test_what_a_killed_process_has_not_begun_is_due_again(world: World, kept: KeptTriggers) -> None:
    kept.add(OFFERED)
    first = kept.due(known(world), OFFERED, "4711")
    assert kept.due(known(world), OFFERED, "4711") == first
    assert len(first) == 1


def test_failures_in_a_row_pause_it_once_and_a_changed_file_goes_on(world: World, kept: KeptTriggers) -> None:
    kept.add(OFFERED)
    announcement = None
    for number in range(5):
        [build] = kept.due(known(world), OFFERED, str(number))
        end(world, build.id, Outcome.FAILED)
        announcement = kept.count(known(world))
        assert (announcement is None) == (number < 4)
    assert announcement is not None
    assert announcement.reason.endswith(f"or: goldsmith triggers resume {PATH}")
    Engine(world.store, world.bus, world.clock).request(announcement)
    assert kept.count(known(world)) is None
    assert kept.due(known(world), OFFERED, "9") == ()
    [changed] = kept.due(known(world), replace(OFFERED, digest="d2"), "9")
    assert changed.kind == "spec"
    assert not known(world).paused


def test_what_the_release_before_has_kept_is_no_change_of_the_context(world: World, kept: KeptTriggers) -> None:
    kept.add(OFFERED)
    [first] = kept.due(known(world), OFFERED, "4711")
    end(world, first.id, Outcome.SUCCEEDED)
    with_context = replace(OFFERED, digest="with its context")
    assert kept.due(known(world), with_context, "4711", OFFERED.digest) == ()
    assert (known(world).digest, known(world).seen_digest) == ("with its context", "with its context")
    [changed] = kept.due(known(world), replace(OFFERED, digest="with another"), "4711", OFFERED.digest)
    assert changed.kind == "spec"


def test_a_person_resumes_it(world: World, kept: KeptTriggers) -> None:
    kept.add(OFFERED)
    world.store.save_trigger(replace(known(world), paused=1.0, failures=5), known(world))
    assert kept.due(known(world), OFFERED, "9") == ()
    kept.resume(PATH)
    assert len(kept.due(known(world), OFFERED, "9")) == 1
    kept.remove(PATH)
    for change in (kept.remove, kept.resume):
        with pytest.raises(InputError, match="has not been added"):
            change(PATH)
