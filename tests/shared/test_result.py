"""The result object: what a person reads who has nothing but the bucket."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from shared.build import LedgerEntry, Outcome, State
from shared.errors import Permanent, Transient
from shared.lifecycle import begin
from shared.result import result
from shared.workers import carry_out
from tests import values
from tests.memory_bucket import MemoryBucket
from tests.shared.mid_build import facts, order_of, world_at
from tests.world import World

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
    carry_out(order_of(world, "clean_up"), world.factory)
    told = read(world)
    assert (told["outcome"], told["reason"]) == ("failed", "hello.yaml:1:1: spec: is empty")
    assert (told["logs"], told["left"], told["image"]) == (None, [], None)


def test_what_is_not_deleted_yet_is_told_until_it_is() -> None:
    world = world_at("clean_up")
    stored = world.store.load(values.BUILD_ID)
    world.store.save(replace(stored.build, result=URI), stored.version)
    world.compute.faults["delete"] = Permanent("locked")
    carry_out(order_of(world, "clean_up"), world.factory)
    assert {entry["kind"] for entry in read(world)["left"]} == {"machine", "disk"}
    carry_out(order_of(world, "clean_up", 2), world.factory)
    assert read(world)["left"] == []


def test_a_build_that_nobody_waits_for_writes_none() -> None:
    world = world_at("clean_up")
    carry_out(order_of(world, "clean_up"), world.factory)
    assert not any("results" in uri for uri in world.bucket.objects)


class BusyBucket(MemoryBucket):
    """Takes logs, and no results yet."""

    def write(self, uri: str, data: bytes) -> None:
        if uri == URI:
            raise Transient("busy")
        super().write(uri, data)


def test_a_result_that_cannot_be_written_yet_is_tried_again() -> None:
    world = world_at("clean_up")
    stored = world.store.load(values.BUILD_ID)
    world.store.save(replace(stored.build, result=URI), stored.version)
    with pytest.raises(Transient):
        carry_out(order_of(world, "clean_up"), replace(world.factory, bucket=BusyBucket()))
    assert facts(world) == []
