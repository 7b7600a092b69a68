"""The sweep: deletes what nothing else will delete, and nothing that a build still needs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import LedgerEntry, Outcome, State
from shared.build.resources import EXPIRY_MARGIN
from shared.errors import EnvironmentFault, Permanent, Transient
from shared.upkeep.sweep import sweep_project
from tests.world import values
from tests.world.given_orders import BOOT, VM, put, world_at
from tests.world.world import World

SCRATCH = f"gs-{values.BUILD_ID}-a1-scratch"
EXPIRES = values.NOON + values.plan().timeout + EXPIRY_MARGIN


@pytest.fixture
def world() -> World:
    """A build with a machine and its disks."""
    made = world_at("export_image")
    assert (set(made.compute.machines), set(made.compute.disks)) == ({VM}, {BOOT, SCRATCH})
    return made


def deleted(world: World) -> list[str]:
    return [resource.name for resource in sweep_project("local", world.backend)]


def test_build_at_work_keeps_what_it_has_however_late_it_is(world: World) -> None:
    world.clock.time = EXPIRES + 1_000_000
    assert deleted(world) == []
    assert set(world.compute.machines) == {VM}


@pytest.mark.parametrize("state", [state for state in State if state is not State.FINISHED])
def test_build_in_any_other_state_keeps_what_it_has(world: World, state: State) -> None:
    """`cleaning` too: its clean-up keeps consoles before it deletes what they are of, and knows what is to stay."""
    put(world, state, outcome=Outcome.FAILED)
    world.clock.time = EXPIRES + 1_000_000
    assert deleted(world) == []
    assert (set(world.compute.machines), set(world.compute.disks)) == ({VM}, {BOOT, SCRATCH})


def test_build_that_keeps_a_disk_keeps_that_alone(world: World) -> None:
    """A worker that came too late may have made the others anew."""
    put(world, State.HELD, outcome=Outcome.FAILED, ledger=(LedgerEntry("disk", BOOT, "local", "here", keep=True),))
    world.clock.time = EXPIRES + 1_000_000
    assert deleted(world) == [VM, SCRATCH]
    assert (set(world.compute.machines), set(world.compute.disks)) == (set(), {BOOT})


@pytest.mark.parametrize(("late", "gone"), [(-1.0, []), (0.0, [VM, BOOT, SCRATCH])])
def test_damaged_build_keeps_what_it_has_until_its_time(world: World, late: float, gone: list[str]) -> None:
    world.store.damage(values.BUILD_ID, "{")
    world.clock.time = EXPIRES + late
    assert deleted(world) == gone


def test_finished_build_keeps_nothing(world: World) -> None:
    put(world, State.FINISHED, outcome=Outcome.FAILED)
    assert deleted(world) == [VM, BOOT, SCRATCH]  # the disk after the machine that has it
    assert world.left()["machines"] == world.left()["disks"] == []
    assert deleted(world) == []
    assert "old" in world.compute.all_images


@pytest.mark.parametrize(("late", "gone"), [(-1.0, []), (0.0, [VM, BOOT, SCRATCH])])
def test_unknown_build_keeps_what_it_has_until_its_time(world: World, late: float, gone: list[str]) -> None:
    """finish-image-build -enable-cleanup: what earlier builds have left goes by itself, known by its labels."""
    stranger = World()  # another installation's store, or one that was lost
    stranger.clock.time = EXPIRES + late
    backend = replace(world.backend, store=stranger.store, clock=stranger.clock)
    assert [resource.name for resource in sweep_project("local", backend)] == gone


@pytest.mark.parametrize("fault", [Permanent("no right"), Transient("busy"), EnvironmentFault("no such mode")])
def test_what_cannot_be_deleted_is_logged_and_left(
    world: World, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    put(world, State.FINISHED, outcome=Outcome.FAILED)
    world.compute.faults["delete"] = fault
    assert deleted(world) == []  # and so the disk is in use
    assert f"orphan machine {VM} cannot be deleted: {fault}" in caplog.text
    assert deleted(world) == [VM, BOOT, SCRATCH]
