"""What is published is what was committed, whatever two deliveries of one order do in between."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

import pytest

from shared.build.build import State
from shared.build.events import PublicationStaged
from shared.errors import Conflict, Transient
from shared.ports import Package
from shared.workers.carry_out import carry_out
from shared.workers.files.stage import stage
from tests.world import values
from tests.world.fakes import FakeCompute
from tests.world.fuse import Fuse
from tests.world.given_orders import IMAGE, commit, facts, kinds, order_of, put, whole_plan, world_at
from tests.world.memory_bucket import MemoryBucket
from tests.world.world import World

RESULT = "results/hello-1.json"
TO = "gs://other/sboms/hello.spdx.json"
BESIDE = ("out/hello.json", "out/hello.spdx.json", "out/hello.cdx.json")


class Meanwhile(Fuse):
    """Lets something happen at one call of an adapter, before or after its effect."""

    def __init__(self, call: int, happens: Callable[[], object]) -> None:
        super().__init__()
        self.happened = False
        self._call = call
        self._happens = happens

    def touch(self) -> None:
        self.count += 1
        if self.count == self._call:
            self.happened = True
            self._happens()


class OtherWords(FakeCompute):
    """Says that something else is installed: as a list that could not be read before, and can be now."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock, world.bucket)
        self.all_images = world.compute.all_images

    def packages(self, project: str, name: str) -> Sequence[Package] | None:
        return (Package("other", "1", "amd64"),)


def staging_world() -> World:
    world = world_at("label_image", whole_plan(sbom_to=TO))
    put(world, State.PUBLISHING, result=RESULT)
    return world


def first_stage(world: World) -> None:
    """Carry the first stage out as another delivery does, whose bills of materials are others."""
    carry_out(order_of(world, "label_image"), replace(world.backend, compute=OtherWords(world)))


def show(world: World) -> None:
    """Commit what the first fact says, and show it."""
    staged = next(fact for fact in facts(world) if isinstance(fact, PublicationStaged))
    put(world, State.PUBLISHING, result=RESULT, committed=values.NOON, files=staged.files)
    carry_out(order_of(world, "label_image", 2), world.backend)


def check_published(world: World) -> None:
    files = {file.name: file.sha256 for file in world.build().files}
    assert {*BESIDE, TO} < set(files)
    assert {name: hashlib.sha256(world.bucket.objects[name]).hexdigest() for name in files} == files
    assert world.compute.all_images[IMAGE].family == "hello"


def at_each_call(happens: Callable[[World], None]) -> int:
    """Carry the first stage out, with something happening at each of its calls, and show it; return how many."""
    for call in count(1):
        world = staging_world()
        fuse = Meanwhile(call, lambda world=world: happens(world))  # type: ignore[misc]  # this one's, not the last one's
        world.bucket.fuse = world.compute.fuse = fuse
        carry_out(order_of(world, "label_image"), world.backend)
        if not fuse.happened:
            return call
        world.bucket.fuse = world.compute.fuse = Fuse()
        if not world.build().committed:
            assert len({fact for fact in facts(world) if isinstance(fact, PublicationStaged)}) == 1
        show(world) if not world.build().committed else carry_out(order_of(world, "label_image", 2), world.backend)
        assert "OrderFailed" not in kinds(world)
        check_published(world)
    raise AssertionError


def test_two_deliveries_of_the_first_stage_say_the_same_wherever_they_meet() -> None:
    assert at_each_call(first_stage) > 10


def test_a_publication_that_is_shown_while_the_first_stage_still_runs_is_what_was_committed() -> None:
    def publish(world: World) -> None:
        first_stage(world)
        show(world)

    assert at_each_call(publish) > 10


def test_two_deliveries_of_the_second_stage_show_it_once_wherever_they_meet() -> None:
    for call in count(1):
        world = commit(staging_world(), result=RESULT)
        again = order_of(world, "label_image", 2)
        fuse = Meanwhile(call, lambda world=world, again=again: carry_out(again, world.backend))  # type: ignore[misc]
        world.bucket.fuse = world.compute.fuse = fuse
        carry_out(again, world.backend)
        assert kinds(world) == {"ImagePublished"}
        check_published(world)
        if not fuse.happened:
            break


def test_a_staged_file_that_was_written_over_is_not_shown() -> None:
    world = commit(staging_world(), result=RESULT)
    world.bucket.objects[f"out/.{values.BUILD_ID}.hello.json"] = b"{}"
    carry_out(order_of(world, "label_image", 2), world.backend)
    assert kinds(world) == {"OrderFailed"}
    assert "is not what was committed" in getattr(facts(world)[0], "reason", "")
    assert world.compute.all_images[IMAGE].family is None


def test_what_an_earlier_build_of_the_id_has_left_is_written_over() -> None:
    world = staging_world()
    world.bucket.objects["results/hello-1.spdx.json"] = b"of an image that is gone"
    commit(world, result=RESULT)
    carry_out(order_of(world, "label_image", 2), world.backend)
    check_published(world)


class Busy(MemoryBucket):
    """Another writer is always faster."""

    def write_if_generation(self, uri: str, data: bytes, generation: str) -> str:
        raise Conflict(f"{uri} was written by another process")


def test_a_file_that_too_many_write_is_tried_again() -> None:
    world = staging_world()
    with pytest.raises(Transient, match="by too many at once"):
        stage("out/x", b"x", world.build(), replace(world.backend, bucket=Busy()))
