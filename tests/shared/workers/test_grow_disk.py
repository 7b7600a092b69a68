"""A boot disk that grows while its VM waits for it: from the VM's wish to the image, whatever dies in between."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.protocol import DISK_WANTED, HYGIENE_OFF, DiskLayout
from shared.build import resources
from shared.build.build import Outcome, State
from shared.build.events import DiskGrown, Event, Reported
from shared.engine.history import each_event
from shared.errors import NotFound, Permanent
from shared.workers.carry_out import carry_out
from tests.world import values
from tests.world.given_orders import BOOT, IMAGE, facts, order_of, put, world_at
from tests.world.world import Guest, World

PLAN = values.growing_plan()
WAITS = 180.0  # seconds, of the VM


def moments(world: World) -> dict[str, float]:
    """When the VM asked, by the server's clock, and when the disk was there."""
    events: list[Event] = list(each_event(world.store, values.BUILD_ID))
    asked = [event.time for event in events if isinstance(event, Reported) and event.report.kind == DISK_WANTED]
    grown = [event.time for event in events if isinstance(event, DiskGrown)]
    return {"asked": asked[0], "grown": grown[0], "times": len(grown)}


def test_the_image_is_of_the_disk_that_has_grown() -> None:
    """finish-image-build -disk-size-gb: the disk is made at the source's size, and grows when the VM asks for it."""
    world = World()
    build = world.run(PLAN)
    assert (build.outcome, world.compute.all_images[IMAGE].disk_size_gb) == (Outcome.SUCCEEDED, 12)
    assert moments(world)["times"] == 1


def test_a_verifying_vm_has_a_disk_of_the_image_s_size_and_nothing_that_is_the_build_s() -> None:
    world = world_at("verify_image")
    carry_out(order_of(world, "verify_image"), world.backend)
    [verify] = [machine.request for name, machine in world.compute.machines.items() if name.endswith("-verify")]
    assert (verify.plan.disk_size_gb, verify.plan.scratch_gb, verify.scratch_disk) == (10, 0, "")
    job = verify.job
    assert (job.layout, job.scratch, job.hygiene, job.inventory, job.clean) == (None, False, HYGIENE_OFF, False, False)


@pytest.mark.parametrize("looks_inside", [True, False])
def test_the_vm_tells_of_itself_what_the_host_cannot_see(looks_inside: bool) -> None:
    """Hygiene and the list of packages: on one machine the host looks into the finished disk."""
    world = World()
    world.backend = replace(world.backend, reports=replace(world.backend.reports, of_contents=not looks_inside))
    world.engine.request(values.requested(plan=replace(PLAN, machine=replace(PLAN.machine, scratch_gb=10))))
    while not world.compute.machines:
        world.handle()
    [request] = [machine.request for machine in world.compute.machines.values()]
    job = request.job
    assert (job.hygiene, job.inventory) == ("fail", not looks_inside)  # an adapter that checks by itself turns it off
    assert (job.layout, job.scratch, request.plan.disk_size_gb) == (PLAN.layout, True, 10)
    assert request.scratch_disk == f"gs-{values.BUILD_ID}-a1-scratch"


def test_a_vm_that_reaches_nothing_but_its_port_is_heard_while_it_waits() -> None:
    world = World(Guest(offline=True))
    build = world.run(PLAN)
    assert build.outcome is Outcome.SUCCEEDED
    started = min(event.time for event in each_event(world.store, values.BUILD_ID))
    assert moments(world)["grown"] - started < WAITS


def test_hazard_1_killed_anywhere_the_build_ends_with_the_large_disk() -> None:
    straight = World()
    straight.run(PLAN)
    for call in range(1, straight.calls + 1):
        world = World()
        build = world.run(PLAN, burn_at=call)
        assert (build.outcome, world.deaths) == (Outcome.SUCCEEDED, 1), f"killed at call {call}"
        assert world.compute.all_images[IMAGE].disk_size_gb == 12
        assert world.left()["disks"] == world.left()["machines"] == []


def test_hazard_4_a_vm_that_is_taken_while_it_waits_leaves_its_disk_to_the_next() -> None:
    world = World()
    world.engine.request(values.requested(plan=PLAN))
    while not (machines := world.compute.machines):
        world.handle()
    world.boot()
    [(name, machine)] = machines.items()
    assert machine.waits
    machine.stop("preempted")
    world.finish()
    build = world.build()
    assert (build.outcome, build.attempt) == (Outcome.SUCCEEDED, 2)
    assert name.endswith("-a1-vm")
    assert world.compute.all_images[IMAGE].disk_size_gb == 12


def test_an_order_after_the_vm_is_gone_does_nothing() -> None:
    """It makes nothing, so that there is nothing to undo either."""
    for state, outcome in ((State.PREPARING, None), (State.CLEANING, Outcome.FAILED), (State.EXPORTING, None)):
        world = world_at("grow_disk")
        put(world, state, outcome=outcome)
        carry_out(order_of(world, "grow_disk"), world.backend)
        assert (facts(world), world.compute.disks[BOOT].gigabytes) == ([], 10)


def test_a_disk_that_is_gone_fails_the_build() -> None:
    world = world_at("grow_disk")
    world.compute.faults["grow_disk"] = NotFound("it is not there")
    carry_out(order_of(world, "grow_disk"), world.backend)
    assert facts(world) == [values.order_failed(time=values.NOON, order="grow_disk", reason="it is not there")]


def test_a_disk_that_cannot_grow_fails_the_build_with_the_reason() -> None:
    world = World()
    world.compute.faults["grow_disk"] = Permanent("quota DISKS_TOTAL_GB is used up")
    build = world.run(PLAN)
    assert (build.outcome, build.reason) == (Outcome.FAILED, "grow_disk: quota DISKS_TOTAL_GB is used up")


def test_a_vm_whose_zone_is_unknown_is_looked_for() -> None:
    world = world_at("grow_disk")
    put(world, State.PROVISIONING, zone="")
    carry_out(order_of(world, "grow_disk"), world.backend)
    assert world.compute.disks[BOOT].gigabytes == 12


@pytest.mark.parametrize(("wanted", "gigabytes"), [(12 << 30, 12), ((12 << 30) + 1, 13), (None, 0)])
def test_the_size_is_in_whole_gigabytes(wanted: int | None, gigabytes: int) -> None:
    assert resources.grown_gb(values.plan(layout=DiskLayout(disk_size=wanted))) == gigabytes
    assert resources.grown_gb(values.plan()) == 0


def test_a_guest_that_asks_and_has_no_such_plan_gets_nothing() -> None:
    world = World()
    world.engine.request(values.requested())
    world.engine.receive(values.reported(kind=DISK_WANTED))
    assert "grow_disk" not in [message.attributes.get("order") for message in world.bus.published]
