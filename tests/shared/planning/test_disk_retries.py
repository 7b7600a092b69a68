"""Retries that make the image of the boot disk of a build whose image could not be made."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from goldsmith.screen.words import release_lines
from shared.build.build import Build, Outcome, State
from shared.build.damage import readable_builds
from shared.build.orders import Order, OrderKind
from shared.build.plan import OriginPlan, Plan, SourceImage
from shared.build.resources import image_document, kept_disk, kept_disk_json
from shared.errors import InputError, NameTaken, Permanent, PoisonMessage
from shared.planning.requests import admit
from shared.planning.retries import ask_for_retry, check_retry, retry_id
from shared.ports import Resource
from shared.upkeep.expiry import expire_builds
from shared.upkeep.sweep import is_orphan, sweep_project
from shared.workers.carry_out import carry_out
from tests.world import values
from tests.world.fuse import Died, Interleaved
from tests.world.world import Guest, World

HOUR = 3600.0
IMAGE = "hello-20261120"
DISK = f"gs-{values.BUILD_ID}-a1-boot"
REFUSED = Permanent("403: quota IMAGES is used up")


def disk_plan(**changes: Any) -> Plan:
    return values.plan(retry_disk_for=HOUR, **changes)


def held(**changes: Any) -> tuple[World, Build]:
    """A build whose image could not be made, and that keeps its disk."""
    world = World()
    world.compute.faults["create_image"] = REFUSED
    world.engine.request(values.requested(plan=disk_plan(**changes)))
    while world.build().state is not State.HELD:
        world.settle()
        world.tick()
    world.compute.faults.clear()
    return world, world.build()


def retried(world: World, first: Build) -> Build:
    world.engine.request(ask_for_retry(first, None, world.backend))
    world.finish()
    return world.build(retry_id(first))


def test_the_disk_is_kept_and_told_and_goes_when_its_time_is_over() -> None:
    world, first = held()
    left = world.left()
    assert (left["machines"], left["disks"], left["images"]) == ([], [DISK], [])
    assert (first.outcome, first.disk_until) == (Outcome.FAILED, values.NOON + HOUR)
    assert first.reason.endswith(f"disk {DISK} is kept until 2026-11-20 13:00 UTC: make its image with: goldsmith "
                                 f"builds retry {first.id}")  # fmt: skip
    assert [message.attributes["build_id"] for message in world.announced] == [first.id]
    world.finish()
    assert (world.left()["disks"], world.build().finished) == ([], True)
    assert "builds retry" not in world.build().reason
    with pytest.raises(InputError, match="keeps no image to go on with"):
        ask_for_retry(world.build(), None, world.backend)


@pytest.mark.parametrize("kept", ["disk", "image"])
def test_an_image_with_the_identity_of_its_build_vm_fails_in_a_retry_as_well(kept: str) -> None:
    key = ("ssh_host_rsa_key " + "a" * 64,)
    world = World(guest=Guest(identities={"build": key, "verify": key}))
    if kept == "disk":
        world.compute.faults["create_image"] = REFUSED
    world.engine.request(values.requested(plan=disk_plan(retry_for=HOUR, verify_steps=values.plan().steps)))
    while not (first := world.build()).ended:
        world.settle()
        world.tick()
    world.compute.faults.clear()
    second = retried(world, first)
    assert second.outcome is Outcome.FAILED
    assert second.reason.startswith("identity: it has the same ssh_host_rsa_key as the build VM")


def test_nobody_is_told_to_boot_the_disk_that_becomes_an_image() -> None:
    _world, first = held()
    told = kept_disk_json(first)
    assert told is not None
    assert (told["name"], told["boot"], release_lines(first)) == (DISK, [], [])


@pytest.mark.parametrize("verified", [False, True])
def test_a_retry_makes_the_image_without_a_build_vm(verified: bool) -> None:
    world, first = held(verify_steps=values.plan().steps if verified else None)
    second = retried(world, first)
    assert (second.outcome, second.retry_of) == (Outcome.SUCCEEDED, first.id)
    assert {name for name in world.booted if second.id in name} == (
        {f"gs-{second.id}-a1-verify"} if verified else set()
    )
    image = world.compute.all_images[IMAGE]
    assert (image.family, image.source_disk) == ("hello", DISK)
    assert [step.status for step in second.steps] == ["done"]
    left = world.left()
    assert (left["machines"], left["disks"], left["images"]) == ([], [], [IMAGE])


def test_a_disk_that_a_person_has_deleted_is_told_and_none_is_said_to_be_kept() -> None:
    world, first = held()
    del world.compute.disks[DISK]
    second = retried(world, first)
    assert (second.outcome, second.disk_until, second.finished) == (Outcome.FAILED, 0, True)
    assert second.reason.endswith("is gone; it was deleted since its steps were done, so build its spec again")
    with pytest.raises(InputError, match="keeps no image to go on with; build its spec again"):
        ask_for_retry(second, None, world.backend)


def test_the_first_build_ends_at_the_next_tick_and_leaves_the_disk_to_its_retry() -> None:
    world, first = held()
    world.compute.faults["create_image"] = REFUSED
    world.engine.request(ask_for_retry(first, None, world.backend))
    second = retry_id(first)
    while world.build(second).state is not State.HELD:
        world.settle()
        world.clock.time += 1.0
        expire_builds(world.backend, "local")
    world.settle()
    assert world.build(first.id).finished
    assert world.left()["disks"] == [DISK]
    kept = kept_disk(world.build(second))
    assert kept is not None
    assert kept.name == DISK
    expire_builds(world.backend, "local")  # the disk's label names the first build
    assert world.left()["disks"] == [DISK]
    world.compute.faults.clear()
    third = retried(world, world.build(second))
    assert (third.outcome, third.disk and third.disk.maker) == (Outcome.SUCCEEDED, first.id)
    assert world.left()["disks"] == []


def test_the_disk_stays_with_its_retry_when_the_first_build_is_set_aside() -> None:
    world, first = held()
    world.engine.request(ask_for_retry(first, None, world.backend))
    world.bus.waiting.clear()  # its order is on its way
    world.cancel()
    world.settle()
    disk = Resource("disk", DISK, "here", first.id, world.clock.time)
    assert (world.build().finished, world.build(retry_id(first)).finished) == (True, False)
    world.store.set_aside(first.id)
    assert not is_orphan(disk, world.backend)
    world.finish()
    assert is_orphan(disk, world.backend)


def test_late_orders_of_the_first_build_delete_nothing_of_its_retry() -> None:
    world, first = held()
    world.engine.request(ask_for_retry(first, None, world.backend))
    orders: tuple[OrderKind, ...] = ("create_resources", "export_image", "clean_up")
    for number, kind in enumerate(orders, 1):
        with suppress(PoisonMessage):
            carry_out(Order(first.id, number, kind, 1), world.backend)
        assert world.left()["disks"] == [DISK], kind
    world.finish()
    assert world.build(retry_id(first)).outcome is Outcome.SUCCEEDED


def test_a_cancelled_hold_deletes_the_disk_and_nothing_is_retried() -> None:
    world, first = held()
    request = ask_for_retry(first, None, world.backend)
    world.cancel()
    world.settle()
    assert (world.left()["disks"], world.build().finished) == ([], True)
    with pytest.raises(NameTaken):  # which was planned before
        world.engine.request(request)
    assert len(readable_builds(world.store.builds())) == 1


@pytest.mark.parametrize("start", ["verify", "publish"])
def test_no_later_phase_than_the_image_is_begun_with(start: str) -> None:
    _world, first = held(verify_steps=values.plan().steps)
    with pytest.raises(InputError, match=f"--from {start}: build {first.id} failed at export"):
        check_retry(first, start)


ROOT = OriginPlan("rootfs", SourceImage("debian-cloud", "debian-12", "1"), 10)


@pytest.mark.parametrize("change", [{"retry_disk_for": 0.0}, {"origin": ROOT}])
def test_without_a_disk_that_stays_nothing_is_held(change: dict[str, Any]) -> None:
    """That of a root from nothing goes with its VM."""
    world = World()
    world.compute.faults["create_image"] = REFUSED
    build = world.run(replace(disk_plan(), **change))
    assert (build.outcome, build.finished, build.disk_until, world.left()["disks"]) == (Outcome.FAILED, True, 0.0, [])


def test_a_disk_that_is_not_known_to_be_whole_is_not_kept() -> None:
    """Its VM was not seen stopped: the deadline has passed before that."""
    world = World()
    world.guest.stays_on = True
    build = world.run(disk_plan())
    assert (build.outcome, build.disk_until, world.left()["disks"]) == (Outcome.TIMED_OUT, 0.0, [])


def test_a_new_build_of_the_chosen_name_takes_the_name_and_the_disk_goes_with_its_time() -> None:
    world, first = held()
    plan = replace(disk_plan(build_id="hello-ba9876543210"), request="b" * 64)
    asked = admit(plan, world.backend)
    assert asked.replaces == first.id
    world.engine.request(asked)
    with pytest.raises(InputError, match="kept its disk, and the name of its image"):
        ask_for_retry(first, None, world.backend)
    world.finish()
    assert world.build(plan.build_id).outcome is Outcome.SUCCEEDED
    assert (world.left()["disks"], world.left()["images"]) == ([], [IMAGE])


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("other", ["retry", "cancel", "time"])
def test_of_two_at_once_one_wins_and_nothing_leaks(other: str, dies: bool) -> None:
    """At each call of an adapter, another process retries the same build, or its hold ends."""
    at = calls = 0
    while at <= calls:
        at += 1
        world, first = held()

        def ask(world: World = world, first: Build = first) -> None:
            with suppress(InputError, NameTaken):
                world.engine.request(ask_for_retry(first, None, world.backend))

        def end(world: World = world, first: Build = first) -> None:
            if other == "cancel":
                world.cancel()
            else:
                world.clock.time = first.disk_until
                world.engine.tick(first.id)
            world.settle()

        fuse = Interleaved(at, ask if other == "retry" else end, dies=dies)
        world.store.fuse = world.compute.fuse = world.bucket.fuse = world.bus.fuse = fuse
        with suppress(Died):
            ask()
        calls = max(calls, fuse.count)
        world.burn_at(None)
        world.finish()
        sweep_project("local", world.backend)
        retries = [build for build in readable_builds(world.store.builds()) if build.retry_of]
        assert len(retries) <= 1
        assert (world.left()["machines"], world.left()["disks"]) == ([], [])
        outcomes = [build.outcome for build in retries]
        late = [Outcome.TIMED_OUT] if other == "time" and dies else outcomes  # an hour has passed while no one worked
        assert outcomes in ([], [Outcome.SUCCEEDED], late)
        assert world.left()["images"] == [IMAGE] * (outcomes == [Outcome.SUCCEEDED])
    assert at > 3


@pytest.mark.slow
def test_a_retry_that_dies_anywhere_comes_to_its_end() -> None:
    at = calls = 0
    while at <= calls:
        at += 1
        world, first = held()
        request = ask_for_retry(first, None, world.backend)
        fuse = world.burn_at(at)
        while not world.survives(lambda world=world, request=request: world.engine.request(request)):  # type: ignore[misc]
            pass
        world.finish()
        calls = max(calls, fuse.count)
        world.burn_at(None)
        assert world.build(request.build_id).outcome is Outcome.SUCCEEDED
        assert (world.left()["disks"], world.left()["images"]) == ([], [IMAGE])
    assert at > 20


def test_the_name_is_the_first_build_s_as_long_as_its_disk() -> None:
    _world, first = held()
    known = image_document(first)
    assert known is not None
    assert (known.build_id, known.state) == (first.id, "reserved")
