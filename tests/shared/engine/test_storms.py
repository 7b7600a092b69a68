"""Everything at once: deaths, faults that pass, lost answers, duplicates, disorder, cancellations - and then calm.

Whatever happened, in the end the build is finished, what it made is gone or kept on purpose, and nothing untested is in
a family.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provisioner.protocol import DiskLayout
from shared.build.build import Outcome, State
from shared.build.events import MachineStopped
from shared.build.plan import Deprecation, OriginPlan, Plan, VerifyMachinePlan
from shared.engine.history import each_event
from shared.errors import Transient
from shared.ports import Image
from shared.topology import FINISHED_TOPIC
from tests.world import values
from tests.world.fuse import Died, Fuse
from tests.world.world import Guest, World

OLDER = Image("local", "hello-older", "sha256-older", created=values.NOON - 1000, family="hello")
IMAGE = "hello-20261120"
ARCHIVE = "out/hello.tar.gz"
PUBLISHED = ["out/hello.cdx.json", "out/hello.json", "out/hello.spdx.json", ARCHIVE]
LASTS = 400  # calls; a whole build makes some 160


class StormFuse(Fuse):
    """Until it is over, calls kill the process or fail, before or after their effect; others work meanwhile, always."""

    def __init__(self, draw: random.Random, rage: float, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self._draw = draw
        self._rage = rage
        self._meanwhile = meanwhile
        self._nested = False

    def touch(self) -> None:
        self.count += 1
        if self.count < LASTS and self._draw.random() < self._rage:
            raise self._draw.choice([Died, Transient])(f"the storm, at call {self.count}")
        if not self._nested and self._draw.random() < 0.1:
            self._nested = True
            try:
                for _ in range(self._draw.randint(1, 8)):
                    self._meanwhile()
            finally:
                self._nested = False


class StormWorld(World):
    """A world that is cancelled at some message, and takes its messages at random, some of them twice."""

    def __init__(self, guest: Guest, draw: random.Random, cancel_at: int, rage: float) -> None:
        super().__init__(guest, draw.randrange)
        fuse = StormFuse(draw, rage, self.meanwhile)
        self.store.fuse = self.bus.fuse = self.bucket.fuse = self.compute.fuse = fuse
        self.compute.all_images[OLDER.name] = OLDER
        self._draw = draw
        self._left = cancel_at

    def handle(self) -> bool:
        self._left -= 1
        if self._left == 0:
            self.cancel()
        if not self.bus.waiting:  # others have been busy while we published
            return True
        message = self._draw.choice(self.bus.waiting)
        if self._draw.random() < 0.2:
            self.bus.waiting.append(message)
        return super().handle()

    def meanwhile(self) -> None:
        """Another process handles a message, while this one is in a call; or a guest runs on."""
        if self.bus.waiting:
            self.handle()
        self.boot()

    def survives(self, work: Callable[[], object]) -> bool:
        try:
            return super().survives(work)
        except Transient:
            return False


SEVERAL = tuple(VerifyMachinePlan(name) for name in "abc")


def plan_of(draw: random.Random) -> Plan:
    plan = values.plan(attempts=draw.randint(1, 3))
    steps = tuple(replace(plan.steps[0], name=f"step-{number}") for number in range(draw.randint(1, 3)))
    image = replace(
        plan.image,
        labels={"goldsmith-build": plan.build_id},
        export_to=draw.choice([None, ARCHIVE]),
        deprecate_old=draw.choice([None, Deprecation()]),
    )
    zones = draw.choice([(), ("here",), ("full", "here")])
    machine = replace(plan.machine, zones=zones, scratch_gb=draw.choice([0, 10]))
    layout = draw.choice([None, DiskLayout(disk_size=12 << 30)])
    verify = draw.choice([None, (), steps])
    origin = draw.choice([None, OriginPlan("rootfs", plan.source, 12)]) if layout is None else None
    machine = replace(machine, project=draw.choice(["local", "my-project"]))
    plan = replace(plan, steps=steps, image=image, machine=machine, layout=layout, verify_steps=verify, origin=origin)
    return replace(plan, verify_machines=draw.choice([(), SEVERAL]) if verify is not None else ())


def guest_of(draw: random.Random) -> Guest:
    chance = [None, None, 0]
    return Guest(
        fails_at=draw.choice([*chance, None]),
        ends_at=draw.choice(chance),
        ends=draw.choice(["preempted", "lost", "panicked", "powered-off"]),
        silent=draw.random() < 0.1,
        offline=draw.random() < 0.2,
        phase=draw.choice(["build", "verify"]),
        machine=draw.choice(["", "", "b"]),
    )


@given(seed=st.integers(0, 2**32), rage=st.sampled_from([0.0, 0.02, 0.1, 0.25]))
@example(seed=0, rage=0.1)
def test_after_the_storm_all_is_in_order(seed: int, rage: float) -> None:
    draw = random.Random(seed)
    plan = plan_of(draw)
    world = StormWorld(guest_of(draw), draw, draw.choice([0, 0, draw.randint(1, 40)]), rage)
    request = values.requested(plan=plan)
    while not world.survives(lambda: world.engine.request(request)):
        pass
    world.finish()
    world.burn_at(None)
    assert_in_order(world, plan)


def assert_in_order(world: World, plan: Plan) -> None:
    build, left = world.build(), world.left()
    assert (build.state, build.outbox) == (State.FINISHED, ())
    assert build.outcome in (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CANCELLED)
    assert (left["machines"], left["disks"]) == ([], [])
    kept = [entry.name for entry in build.ledger]
    assert left["images"] == sorted([*kept, OLDER.name])
    assert set(left["objects"]) <= set(PUBLISHED)
    assert any(message.topic == FINISHED_TOPIC for message in world.bus.published)
    events = [event.kind for event in each_event(world.store, build.id)]
    image = world.compute.all_images.get(IMAGE)
    if image is not None and image.family is not None:
        assert "ImageExported" in events
        recorded = [event.event_id for event in each_event(world.store, build.id)]
        assert plan.verify_steps is None or any(event_id.startswith("v") for event_id in recorded)
        stops = [event for event in each_event(world.store, build.id) if isinstance(event, MachineStopped)]
        assert {each.name for each in plan.verify_machines} <= {stop.machine for stop in stops}
        assert all(verifier.passed for verifier in build.verifiers)
    if build.outcome is Outcome.SUCCEEDED:
        assert kept == [IMAGE]
        assert image is not None
        assert image.family == "hello"
        assert left["objects"] == (PUBLISHED if plan.image.export_to else [])
        assert (world.compute.all_images[OLDER.name].deprecated is not None) == (plan.image.deprecate_old is not None)
    if "ImageExported" not in events:
        assert kept == []


@pytest.mark.parametrize("seed", range(20))
def test_a_storm_without_a_cancellation_or_a_bad_guest_is_weathered(seed: int) -> None:
    """Deaths and faults that pass cost time, never the build."""
    draw = random.Random(seed)
    world = StormWorld(Guest(), draw, cancel_at=0, rage=0.05)
    plan = replace(plan_of(draw), attempts=3)
    while not world.survives(lambda: world.engine.request(values.requested(plan=plan))):
        pass
    world.finish()
    world.burn_at(None)
    assert world.build().outcome is Outcome.SUCCEEDED, world.build().reason
    assert_in_order(world, plan)
