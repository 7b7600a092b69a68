"""Queued builds from request to end: how many have VMs, in which order, and what becomes of two of one content."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from shared.build.build import Build, LedgerEntry, Outcome, State
from shared.build.damage import readable_builds
from shared.build.events import BuildRequested, TurnCame
from shared.build.plan import SourceImage
from shared.engine.engine import Engine
from shared.errors import EnvironmentFault, InputError, NameTaken, Permanent, Transient
from shared.names import BUILD_LABEL
from shared.planning.line import turns
from shared.planning.plan import make_plan
from shared.planning.requests import MOST_QUEUED, admit, give_up
from shared.planning.turns import give_turn, give_turns, take_turn
from shared.ports import Image, Message
from shared.spec.model import Spec
from tests.world import values
from tests.world.world import Guest, World

PARTS = [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 8))]

SOURCE = SourceImage("local", "debian-12-20261101", "sha256-0001")
O = Outcome  # noqa: E741 - as in test_lifecycle.py


class Counting(World):
    """Counts the builds that have VMs at once."""

    most = 0

    def deliver(self, message: Message) -> None:
        super().deliver(message)
        self.most = max(self.most, len({m.request.labels[BUILD_LABEL] for m in self.compute.machines.values()}))


def spec(name: str = "hello", packages: str = "nginx", **keys: object) -> Spec:
    step = {"name": "greet", "action": "install-packages", "inputs": {"packages": [packages]}}
    source = {"project": "local", "family": "debian-12"}
    return Spec.model_validate({"name": name, "source": source, "steps": [step], "output": {"family": "f"}, **keys})


def plan_of(world: World, asked: Spec, text: str) -> BuildRequested:
    now = world.clock.now()
    plan = make_plan(asked, source=SOURCE, context=None, request=text, requested=now, provisioner_version="1")
    return admit(plan, world.backend)


def ask(world: World, asked: Spec, text: str) -> str:
    """Do what intake does; return the build's id."""
    event = plan_of(world, asked, text)
    world.engine.request(event)
    give_turns(world.backend, math.inf)
    return event.build_id


def states(world: World, *ids: str) -> list[State]:
    return [world.build(build_id).state for build_id in ids]


def turn_of(world: World, build_id: str) -> TurnCame:
    found = [e for e in world.store.events(build_id, kinds=("TurnCame",)) if isinstance(e, TurnCame)]
    assert len(found) == 1
    return found[0]


CHANGED = {"rebuild": "changed"}
FIXED = {"output": {"name": "fixed", "family": "f"}}


class TestConcurrency:
    def test_three_builds_have_vms_one_after_the_other(self) -> None:
        world = Counting(concurrency=1)
        ids = [ask(world, spec(name), name) for name in ("one", "two", "three")]
        assert states(world, *ids) == [State.PREPARING, State.QUEUED, State.QUEUED]
        world.finish()
        assert [world.build(each).outcome for each in ids] == [O.SUCCEEDED] * 3
        assert world.most == 1
        assert [turn_of(world, each).time for each in ids] == sorted(turn_of(world, each).time for each in ids)

    def test_two_at_once(self) -> None:
        world = Counting(concurrency=2)
        for name in ("one", "two", "three", "four"):
            ask(world, spec(name), name)
        world.finish()
        assert world.most == 2

    def test_without_a_limit_nothing_is_queued(self) -> None:
        world = Counting()
        ids = [ask(world, spec(name), name) for name in ("one", "two", "three")]
        assert states(world, *ids) == [State.PREPARING] * 3
        world.finish()
        assert world.most == 3

    @pytest.mark.parametrize("part", PARTS)
    def test_a_process_may_die_at_any_call(self, part: int) -> None:
        calls = self.run(None).calls
        assert calls > 100
        for call in range(part, calls, 8):
            world = self.run(call)
            builds = [world.build(build.id) for build in world.store.builds() if isinstance(build, Build)]
            assert [build.outcome for build in builds] == [O.SUCCEEDED] * 3, call
            assert world.most == 1, call
            assert world.left()["machines"] == world.left()["disks"] == [], call

    def run(self, burn_at: int | None) -> Counting:
        """Ask for three builds; the process dies at one call, and what asked asks again."""
        world = Counting(concurrency=1)
        fuse = world.burn_at(burn_at)
        for name in ("one", "two", "three"):
            while not world.survives(lambda name=name: ask(world, spec(name), name)):  # type: ignore[misc]  # its default
                pass
        world.finish()
        world.calls = fuse.count
        world.burn_at(None)
        return world

    def test_a_build_s_time_begins_with_its_turn(self) -> None:
        world = Counting(guest=Guest(silent=True), concurrency=1)
        first, second = (ask(world, spec(name), name) for name in ("one", "two"))
        world.settle()
        world.clock.time += 5000  # longer than a build may take
        world.finish()
        came = turn_of(world, second).time
        assert came > world.build(first).created + 5000
        ended = world.build(second)
        assert ended.deadline == came + 3600
        assert ended.reason.startswith("no sign of life"), "it had time to be silent in"

    def test_vms_expire_by_the_turn(self) -> None:
        world = Counting(guest=Guest(silent=True), concurrency=1)
        ask(world, spec("one"), "one")
        second = ask(world, spec("two"), "two")
        for _minute in range(30):
            world.settle()
            if world.compute.machines and world.build(second).state is State.PROVISIONING:
                break
            world.tick()
        (machine,) = world.compute.machines.values()
        assert machine.request.labels["goldsmith-expires"] == str(int(world.build(second).deadline + 3600))

    def test_what_waits_too_long_is_timed_out(self) -> None:
        world = World(concurrency=1)
        world.engine.request(plan_of(world, spec("one"), "one"))  # whose turn nothing gives here
        event = plan_of(world, spec("two"), "two")
        world.engine.request(event)
        world.clock.time += 7 * 86_400
        world.engine.tick(event.build_id)
        build = world.build(event.build_id)
        assert (build.outcome, build.reason) == (O.TIMED_OUT, "its turn has not come within 7d of the request")

    def test_a_cancelled_one_has_made_nothing_and_the_next_moves_up(self) -> None:
        world = Counting(concurrency=1)
        first, second, third = (ask(world, spec(name), name) for name in ("one", "two", "three"))
        world.cancel(second)
        world.finish()
        assert [world.build(each).outcome for each in (first, second, third)] == [O.SUCCEEDED, O.CANCELLED, O.SUCCEEDED]
        assert not [name for name in world.booted if second in name]
        assert world.store.image("local", world.build(second).plan.image.name) is None  # type: ignore[union-attr]  # has one

    def test_what_it_waits_for_is_told(self) -> None:
        world = Counting(concurrency=1)
        for name in ("one", "two"):
            ask(world, spec(name), name)
        event = plan_of(world, spec("three"), "three")
        build = world.engine.request(event)
        assert str(take_turn(build, world.backend, world.engine)) == "place 2 in the queue, 1 running"
        world.finish()
        assert world.build(event.build_id).outcome is O.SUCCEEDED

    def test_the_process_of_a_superseded_build_ends_it(self) -> None:
        world = World(concurrency=1)
        ask(world, spec("busy"), "busy")
        asked = [plan_of(world, spec(), text) for text in ("one", "two")]
        first, second = [world.engine.request(replace(each, plan=replace(each.plan, spec="same"))) for each in asked]
        assert take_turn(first, world.backend, world.engine) is None
        ended = world.build(first.id)
        told = f"superseded by build {second.id}, a newer request of the same spec"
        assert (ended.outcome, ended.reason) == (O.CANCELLED, told)
        assert str(take_turn(second, world.backend, world.engine)) == "place 1 in the queue, 1 running"


class TestSameContent:
    @pytest.mark.parametrize("keys", [CHANGED, {**CHANGED, **FIXED}, FIXED])
    def test_the_second_waits_and_is_unchanged(self, keys: dict[str, object]) -> None:
        world = Counting()
        first, second = (ask(world, spec(**keys), text) for text in ("one", "two"))  # type: ignore[arg-type]  # by name
        assert states(world, first, second) == [State.PREPARING, State.QUEUED]
        world.finish()
        made, same = world.build(first), world.build(second)
        assert (made.outcome, same.outcome) == (O.SUCCEEDED, O.UNCHANGED)
        assert made.image is not None
        assert same.image is not None
        assert (same.image.name, same.image.id) == (made.image.name, made.image.id)
        assert same.reason == f"image {made.image.name} has this content already"
        assert list(world.compute.all_images) == [made.image.name]

    def test_specs_of_other_names_and_the_same_content_too(self) -> None:
        world = World()
        first, second = ask(world, spec("one", **CHANGED), "a"), ask(world, spec("two", **CHANGED), "b")
        world.finish()
        assert [world.build(each).outcome for each in (first, second)] == [O.SUCCEEDED, O.UNCHANGED]

    def test_two_that_are_planned_at_the_same_moment(self) -> None:
        """Neither has seen the other before both are written down."""
        world = World()
        one, two = (plan_of(world, spec(**CHANGED), text) for text in ("one", "two"))
        for event in (two, one):
            world.engine.request(event)
        world.finish()
        assert world.build(two.build_id).outcome is O.SUCCEEDED, "it was written down first"
        assert world.build(one.build_id).outcome is O.UNCHANGED

    @pytest.mark.parametrize("keys", [CHANGED, FIXED])
    def test_when_the_first_fails_the_second_builds(self, keys: dict[str, object]) -> None:
        world = Counting(guest=Guest(fails_at=0))
        first, second = (ask(world, spec(**keys), text) for text in ("one", "two"))  # type: ignore[arg-type]  # by name
        world.settle()
        assert world.build(first).outcome is O.FAILED
        world.guest = Guest()
        world.finish()
        assert world.build(second).outcome is O.SUCCEEDED
        assert world.most == 1
        assert world.build(second).plan.image.name == world.build(first).plan.image.name  # type: ignore[union-attr]  # both have

    @pytest.mark.parametrize("keys", [CHANGED, FIXED])
    def test_when_the_first_is_cancelled_the_second_builds(self, keys: dict[str, object]) -> None:
        world = World()
        first, second = (ask(world, spec(**keys), text) for text in ("one", "two"))  # type: ignore[arg-type]  # by name
        world.cancel(first)
        world.finish()
        assert [world.build(each).outcome for each in (first, second)] == [O.CANCELLED, O.SUCCEEDED]

    @pytest.mark.parametrize("keys", [CHANGED, FIXED])
    def test_when_the_first_cannot_publish_the_second_does_with_its_image(self, keys: dict[str, object]) -> None:
        world = World()
        world.compute.faults["set_family"] = Permanent("403")
        first, second = (ask(world, spec(**keys), text) for text in ("one", "two"))  # type: ignore[arg-type]  # by name
        world.finish()
        assert [world.build(each).outcome for each in (first, second)] == [O.FAILED, O.SUCCEEDED]
        assert world.build(second).taken_up
        assert len(world.booted) == 1

    def test_the_first_may_be_queued_itself(self) -> None:
        world = Counting(concurrency=1)
        other, first, second = (
            ask(world, spec("other"), "o"),
            *(ask(world, spec(packages="x", **CHANGED), t) for t in "ab"),
        )
        assert states(world, other, first, second) == [State.PREPARING, State.QUEUED, State.QUEUED]
        world.finish()
        assert [world.build(each).outcome for each in (other, first, second)] == [O.SUCCEEDED, O.SUCCEEDED, O.UNCHANGED]

    def test_a_queued_first_that_is_cancelled_leaves_its_place(self) -> None:
        world = Counting(concurrency=1)
        other, first, second = (
            ask(world, spec("other"), "o"),
            *(ask(world, spec(packages="x", **CHANGED), t) for t in "ab"),
        )
        world.cancel(first)
        world.finish()
        assert [world.build(each).outcome for each in (other, first, second)] == [O.SUCCEEDED, O.CANCELLED, O.SUCCEEDED]

    def test_always_publishes_both_under_names_of_their_own(self) -> None:
        world = Counting(concurrency=2)
        ids = [ask(world, spec(), text) for text in ("one", "two")]
        world.finish()
        assert [world.build(each).outcome for each in ids] == [O.SUCCEEDED] * 2
        names = [build.image.name for build in map(world.build, ids) if build.image]
        assert names[1] == f"{names[0]}-2"

    @pytest.mark.parametrize("part", PARTS)
    def test_a_process_may_die_at_any_call(self, part: int) -> None:
        calls = self.run(None).calls
        for call in range(part, calls, 8):
            world = self.run(call)
            outcomes = sorted(str(build.outcome) for build in world.store.builds() if isinstance(build, Build))
            assert outcomes == ["succeeded", "unchanged"], call
            assert len(world.compute.all_images) == 1

    def run(self, burn_at: int | None) -> World:
        world = World()
        fuse = world.burn_at(burn_at)
        for text in ("one", "two"):
            while not world.survives(lambda text=text: ask(world, spec(**CHANGED), text)):  # type: ignore[misc]  # its default
                pass
        world.finish()
        world.calls = fuse.count
        world.burn_at(None)
        return world


class TestTurn:
    def test_what_cannot_be_built_any_more_fails_with_the_words_of_a_request(self) -> None:
        world = World(concurrency=1)
        event = plan_of(world, spec(**FIXED), "one")  # type: ignore[arg-type]  # by name
        world.engine.request(event)
        world.compute.all_images["fixed"] = Image("local", "fixed", "theirs", values.NOON)
        world.finish()
        build = world.build(event.build_id)
        assert build.outcome is O.FAILED
        assert build.reason.startswith("output.name: image fixed exists in project local with other content")
        assert world.compute.all_images["fixed"].id == "theirs"

    def test_what_the_project_cannot_carry_by_then_fails_too(self) -> None:
        world = World(concurrency=1)
        event = plan_of(world, spec(), "one")
        world.engine.request(event)
        world.compute.faults["check"] = InputError("there is no zone left")
        world.finish()
        build = world.build(event.build_id)
        assert (build.outcome, build.reason) == (O.FAILED, "there is no zone left")

    def test_what_this_machine_lacks_ends_the_only_build_that_there_is(self) -> None:
        world = World(concurrency=1)
        build = world.engine.request(plan_of(world, spec(), "one"))
        world.compute.faults["check"] = EnvironmentFault("no room")
        assert take_turn(build, world.backend, world.engine) is None
        world.finish()
        assert (world.build(build.id).outcome, world.build(build.id).reason) == (O.FAILED, "no room")

    @pytest.mark.parametrize(
        "fault",
        [Transient("503"), Permanent("permission compute.zones.list is missing"), EnvironmentFault("no credentials")],
    )
    def test_what_may_pass_or_is_no_fault_of_the_build_is_looked_at_again(self, fault: Exception) -> None:
        world = World(concurrency=1)
        event = plan_of(world, spec(), "one")
        world.engine.request(event)
        world.compute.faults["check"] = fault
        give_turns(world.backend, math.inf)
        assert world.build(event.build_id).state is State.QUEUED
        give_turns(world.backend, math.inf)
        assert world.build(event.build_id).state is State.PREPARING

    def test_a_name_that_another_build_has_taken_meanwhile_is_looked_for_again(self) -> None:
        world = World(concurrency=2)
        event = plan_of(world, spec(), "one")
        world.engine.request(event)
        stale = TurnCame(build_id=event.build_id, event_id="turn", time=0.0, image=event.plan.image)
        rival = plan_of(World(), spec(), "two")
        world.engine.request(rival)
        with pytest.raises(NameTaken):
            world.engine.receive(stale)
        give_turns(world.backend, math.inf)
        assert world.build(event.build_id).plan.image.name == f"{rival.plan.image.name}-2"  # type: ignore[union-attr]  # it has one

    def test_an_archive_that_is_named_for_its_image_keeps_to_that(self) -> None:
        world = World(concurrency=2)
        rival = plan_of(World(), spec(), "two")
        event = plan_of(world, spec(), "one")
        image = replace(event.plan.image, export_to=f"out/{event.plan.image.name}.tar.gz")
        world.engine.request(replace(event, plan=replace(event.plan, image=image)))
        world.engine.request(rival)
        give_turns(world.backend, math.inf)
        taken = turn_of(world, event.build_id).image
        assert taken.export_to == f"out/{taken.name}.tar.gz"
        assert taken.name.endswith("-2")

    @pytest.mark.parametrize(("seconds", "told"), [(3600, []), (3601, ["slow_turn"])])
    def test_one_that_cannot_begin_is_told_after_an_hour(
        self, seconds: float, told: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        world = World(concurrency=1)
        event = plan_of(world, spec(), "one")
        world.engine.request(event)
        world.clock.time += seconds
        world.compute.faults["check"] = Permanent("permission compute.zones.list is missing")
        give_turns(world.backend, math.inf)
        assert [record.metric for record in caplog.records if hasattr(record, "metric")] == told
        assert "compute.zones.list" in caplog.text
        assert event.build_id in caplog.text

    def test_none_begins_once_the_time_is_over(self) -> None:
        world = World(concurrency=2)
        events = [plan_of(world, spec(name), name) for name in ("one", "two")]
        for event in events:
            world.engine.request(event)
        ids = [event.build_id for event in events]
        give_turns(world.backend, world.clock.now())
        assert states(world, *ids) == [State.QUEUED] * 2
        give_turns(world.backend, world.clock.now() + 1)
        assert states(world, *ids) == [State.PREPARING] * 2

    def test_a_turn_that_was_computed_before_others_began_is_looked_at_anew(self) -> None:
        world = Counting(concurrency=2)
        first, same = ask(world, spec(**FIXED), "a"), ask(world, spec(**CHANGED), "b")  # type: ignore[arg-type]  # by name
        named = ask(world, spec(**FIXED), "y")  # type: ignore[arg-type]  # by name
        other = world.engine.request(plan_of(world, spec("other", "vim"), "c")).id
        assert other in {each.id for each in turns(readable_builds(world.store.line()), 2)}
        world.cancel(first)
        while not world.build(first).finished:
            world.engine.tick(first)
            world.settle()
        give_turns(world.backend, math.inf)
        assert states(world, same, named) == [State.PREPARING] * 2
        assert not give_turn(other, world.backend, world.engine)
        assert world.build(other).state is State.QUEUED

    def test_nothing_waits_behind_what_waits_for_a_clean_up_that_cannot_end(self) -> None:
        world = World(concurrency=1)
        first, same = (ask(world, spec(**CHANGED), text) for text in ("one", "two"))
        other = ask(world, spec("other", "vim"), "three")
        stored = world.store.load(first)
        left = LedgerEntry("object", "gs://elsewhere/.a.x", "p")
        stuck = replace(stored.build, state=State.CLEANING, outcome=O.CANCELLED, ledger=(left,))
        world.store.save(stuck, stored.version)
        give_turns(world.backend, math.inf)
        assert states(world, first, same, other) == [State.CLEANING, State.QUEUED, State.PREPARING]

    def test_the_queue_has_an_end(self) -> None:
        world = World(concurrency=1)
        asked = values.requested(queued=True)
        for number in range(MOST_QUEUED):
            assert asked.plan is not None
            each = replace(asked, build_id=f"hello-{number}", plan=replace(asked.plan, build_id=f"hello-{number}"))
            world.engine.request(each)
        with pytest.raises(InputError, match="the queue is full: 500 builds wait for their turn, and 500 may"):
            plan_of(world, spec(), "one more")
        world.cancel("hello-7")
        world.settle()
        assert plan_of(world, spec(), "one more").queued

    def test_an_unreadable_build_stops_no_other(self) -> None:
        world = World(concurrency=1)
        first, second = ask(world, spec("one"), "one"), ask(world, spec("two"), "two")
        world.store.damage(first, "{")
        give_turns(world.backend, math.inf)
        assert world.build(second).state is State.PREPARING

    def test_a_queued_build_can_be_given_up(self) -> None:
        world = World(concurrency=1)
        event = plan_of(world, spec(), "one")
        build = Engine(world.store, world.bus, world.clock).request(event)
        give_up(build, "no space left on this machine", world.bus, world.clock)
        world.settle()
        assert (world.build(build.id).outcome, world.build(build.id).reason) == (
            O.FAILED,
            "no space left on this machine",
        )
