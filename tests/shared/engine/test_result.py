"""The result object: for people who can read only the bucket."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from shared.build.build import LedgerEntry, Outcome, State
from shared.engine.lifecycle import begin
from shared.engine.result import result, updated
from shared.errors import Permanent, Transient
from shared.workers.carry_out import carry_out
from tests.world import values
from tests.world.given_orders import facts, order_of, put, world_at
from tests.world.memory_bucket import MemoryBucket
from tests.world.world import World

URI = "gs://bucket/results/hello-1.json"
LOGS = "gs://bucket/logs/hello-0123456789ab"
KEPT = LedgerEntry("image", "hello-20261120", "local", keep=True)


def read(world: World) -> Any:
    return json.loads(world.bucket.objects[URI])


def test_a_published_image_is_told() -> None:
    build = values.build(state=State.CLEANING, outcome=Outcome.SUCCEEDED, image=values.image_record(), ledger=(KEPT,))
    told = json.loads(result(build, (), LOGS))
    assert (told["build"], told["outcome"], told["image"]["name"]) == (build.id, "succeeded", "hello-20261120")
    assert (told["logs"], told["sbom"]) == (LOGS, None)  # it has no object that the names follow from
    assert [step["name"] for step in told["steps"]] == ["greet"]


def test_the_bill_of_materials_of_a_published_image_is_named() -> None:
    build = values.build(state=State.CLEANING, outcome=Outcome.SUCCEEDED, result=URI, ledger=(KEPT,))
    assert json.loads(result(build, (), LOGS))["sbom"] == {
        "spdx": "gs://bucket/results/hello-1.spdx.json",
        "cyclonedx": "gs://bucket/results/hello-1.cdx.json",
    }
    failed = replace(build, outcome=Outcome.FAILED)
    assert json.loads(result(failed, (), LOGS))["sbom"] is None


def test_an_image_that_was_there_before_is_told() -> None:
    build = values.build(state=State.CLEANING, outcome=Outcome.UNCHANGED, image=values.image_record())
    assert json.loads(result(build, (), LOGS))["image"]["name"] == "hello-20261120"


def test_an_image_that_is_thrown_away_is_not_told() -> None:
    build = values.build(state=State.CLEANING, outcome=Outcome.FAILED, reason="verify", image=values.image_record())
    told = json.loads(result(build, (replace(KEPT, keep=False),), LOGS))
    assert (told["image"], told["reason"]) == (None, "verify")
    assert told["left"] == [{"kind": "image", "project": "local", "name": "hello-20261120"}]


def test_a_rejected_spec_leaves_its_errors_and_no_logs() -> None:
    world = World()
    event = replace(values.rejected(), result=URI, reason="hello.yaml:1:1: spec: is empty")
    world.store.create(begin(event).build, event)
    carry_out(order_of(world, "clean_up"), world.backend)
    told = read(world)
    assert (told["outcome"], told["reason"]) == ("failed", "hello.yaml:1:1: spec: is empty")
    assert (told["logs"], told["left"], told["image"]) == (None, [], None)


def test_what_is_not_deleted_yet_is_told_until_it_is() -> None:
    world = world_at("clean_up")
    stored = world.store.load(values.BUILD_ID)
    world.store.save(replace(stored.build, result=URI), stored.version)
    world.compute.faults["delete"] = Permanent("locked")
    carry_out(order_of(world, "clean_up"), world.backend)
    assert {entry["kind"] for entry in read(world)["left"]} == {"machine", "disk"}
    carry_out(order_of(world, "clean_up", 2), world.backend)
    assert read(world)["left"] == []


def test_a_build_without_a_reader_writes_none() -> None:
    world = world_at("clean_up")
    carry_out(order_of(world, "clean_up"), world.backend)
    assert not any("results" in uri for uri in world.bucket.objects)


class BusyBucket(MemoryBucket):
    """Takes logs, and no results yet."""

    def write_if_generation(self, uri: str, data: bytes, generation: str) -> str:
        if uri == URI:
            raise Transient("busy")
        return super().write_if_generation(uri, data, generation)


def test_a_result_that_cannot_be_written_yet_is_tried_again() -> None:
    world = world_at("clean_up")
    stored = world.store.load(values.BUILD_ID)
    world.store.save(replace(stored.build, result=URI), stored.version)
    with pytest.raises(Transient):
        carry_out(order_of(world, "clean_up"), replace(world.backend, bucket=BusyBucket()))
    assert facts(world) == []


class TestNumbers:
    """What two clean-ups of one build write, in any order: the simulator found 450 lies in 9,176 seeds."""

    BUILD = values.build(state=State.CLEANING, outcome=Outcome.FAILED, result=URI)
    DISK, VM = LedgerEntry("disk", "disk", "local"), LedgerEntry("machine", "vm", "local")

    def text(self, number: int, *left: LedgerEntry) -> bytes:
        return result(self.BUILD, left, LOGS, number)

    def left(self, text: bytes) -> list[str]:
        return [thing["name"] for thing in json.loads(text)["left"]]

    def test_a_slow_first_one_does_not_write_over_the_second(self) -> None:
        assert updated(self.text(6), self.text(5, self.DISK), ()) == self.text(6)

    def test_what_the_first_one_has_deleted_is_gone(self) -> None:
        assert self.left(updated(self.text(6, self.VM, self.DISK), self.text(5), (self.DISK,))) == ["vm"]

    def test_the_second_one_writes_over_the_first(self) -> None:
        assert updated(self.text(5, self.DISK), self.text(6), (self.DISK,)) == self.text(6)

    def test_another_delivery_of_one_order_lists_nothing_that_is_gone(self) -> None:
        assert self.left(updated(self.text(5, self.DISK), self.text(5, self.DISK, self.VM), ())) == ["disk"]
        assert self.left(updated(self.text(5), self.text(5, self.DISK), ())) == []

    def test_a_build_that_was_asked_for_again_after_it_was_set_aside_counts_anew(self) -> None:
        again = replace(self.BUILD, created=self.BUILD.created + 60.0, outcome=Outcome.CANCELLED)
        later = result(again, (), LOGS, 1)
        assert updated(self.text(6, self.DISK), later, ()) == later
        assert updated(later, self.text(7, self.DISK), (self.VM,)) == later

    @pytest.mark.parametrize("before", [b"", b"{}", b"[", b'{"left": [], "clean_up": "x"}', b"[" * 100_000])
    def test_what_is_no_result_of_ours_is_written_over(self, before: bytes) -> None:
        assert updated(before, self.text(5), ()) == self.text(5)

    def test_it_is_written_at_the_generation_that_was_read(self) -> None:
        world = world_at("clean_up")
        put(world, State.CLEANING, outcome=Outcome.FAILED, result=URI, image=None)
        bucket = OvertakenBucket(world.bucket, self.text(6))
        carry_out(order_of(world, "clean_up", 5), replace(world.backend, bucket=bucket))
        assert json.loads(bucket.objects[URI])["clean_up"] == 6


class OvertakenBucket(MemoryBucket):
    """A bucket in which another clean-up writes its result between one's look and its write, once."""

    def __init__(self, bucket: MemoryBucket, text: bytes) -> None:
        super().__init__()
        self.objects, self._text = bucket.objects, text

    def write_if_generation(self, uri: str, data: bytes, generation: str) -> str:
        if self._text:
            self.objects[uri], self._text = self._text, b""
        return super().write_if_generation(uri, data, generation)
