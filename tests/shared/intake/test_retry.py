"""Requests to retry a build: what begins one, what is rejected, and that it is of no matter who asks and how often."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from shared.build.build import Build, Outcome
from shared.build.damage import readable_builds
from shared.build.limits import FamilyBudget, Limits
from shared.errors import Permanent, PoisonMessage
from shared.planning.retries import retry_id
from shared.upkeep.sweep import sweep_kept
from tests.world.fuse import Interleaved
from tests.world.intake import BUCKET, SCRIPT, SPEC, Desk, planned, reason
from tests.world.world import Guest

DAY = 86_400.0
ALLOWED = Limits(retry_for=DAY)
VERIFIED = SPEC + "verify: {steps: [{name: look, action: run-script, inputs: {script: preload.sh}}]}\n"


def failed(limits: Limits = ALLOWED) -> tuple[Desk, Build]:
    """A build that has failed in its verification."""
    desk = Desk(limits)
    desk.put("specs/preload.sh", SCRIPT)
    desk.world.guest = Guest(fails_at=0, phase="verify")
    first = desk.upload(VERIFIED)
    desk.world.finish()
    desk.world.guest = Guest()
    return desk, desk.world.build(first.id)


def refused(desk: Desk, **request: Any) -> str:
    """Why a request is rejected: by a failed build, and not by one that makes anything."""
    made = desk.made()
    build = desk.publish(message_id="refused", **request)
    assert desk.made() == made + 1
    assert build.result.endswith(".request.json")
    return reason(build)


def test_an_image_that_failed_verification_is_published_by_a_retry_without_its_steps() -> None:
    desk, first = failed()
    assert (first.outcome, first.kept_until) == (Outcome.FAILED, first.updated + DAY)
    [made] = [name for name in desk.world.compute.all_images if name.startswith("hello")]
    begun = desk.publish(retry=first.id)
    assert (begun.id, begun.retry_of) == (retry_id(first), first.id)
    assert begun.result.startswith(f"gs://{BUCKET}/results/retry-of-{first.id}-")
    desk.world.finish()
    done = desk.world.build(begun.id)
    assert (done.outcome, done.image and done.image.name) == (Outcome.SUCCEEDED, made)
    assert {name for name in desk.world.booted if begun.id in name} == {f"gs-{begun.id}-a1-verify"}
    assert json.loads(desk.world.bucket.objects[done.result])["outcome"] == "succeeded"


def test_a_message_that_comes_again_is_the_same_retry_and_another_one_loses_in_words() -> None:
    desk, first = failed()
    begun = desk.publish(retry=first.id)
    assert desk.publish(retry=first.id).id == begun.id
    assert f"build {begun.id} has taken over the image of build {first.id}" in refused(desk, retry=first.id)
    desk.world.finish()
    assert desk.publish(retry=first.id).outcome is Outcome.SUCCEEDED
    again = desk.publish(message_id="refused", retry=first.id)  # as it was rejected before
    assert "has taken over" in again.reason


def test_of_two_at_once_one_begins_and_the_other_one_loses_in_words() -> None:
    """At each call of an adapter, another request for the same retry is taken from its beginning to its end."""
    at = calls = 0
    while at <= calls:
        at += 1
        desk, first = failed()

        def ask(desk: Desk = desk, first: Build = first) -> None:
            desk.publish(message_id="other", retry=first.id)

        world = desk.world
        fuse = Interleaved(at, ask, dies=False)
        world.store.fuse = world.compute.fuse = world.bucket.fuse = world.bus.fuse = fuse
        desk.publish(message_id="one", retry=first.id)
        calls = max(calls, fuse.count)
        world.burn_at(None)
        builds = [build for build in readable_builds(world.store.builds()) if build.id != first.id]
        if at > fuse.count:
            break
        [begun] = [build for build in builds if build.retry_of == first.id]
        [lost] = [build for build in builds if build.id != begun.id]
        assert begun.result != lost.result
        assert any(word in lost.reason for word in ("was retried already", "has taken over")), lost.reason
        world.finish()
        assert world.build(begun.id).outcome is Outcome.SUCCEEDED
    assert at > 5


def test_a_message_that_is_taken_twice_at_once_has_one_end() -> None:
    """At each call of an adapter, another delivery of the same message is taken from its beginning to its end."""
    at = calls = 0
    while at <= calls:
        at += 1
        desk, first = failed()

        def ask(desk: Desk = desk, first: Build = first) -> None:
            desk.publish(retry=first.id)

        world = desk.world
        fuse = Interleaved(at, ask, dies=False)
        world.store.fuse = world.compute.fuse = world.bucket.fuse = world.bus.fuse = fuse
        begun = desk.publish(retry=first.id)
        calls = max(calls, fuse.count)
        world.burn_at(None)
        builds = [build.id for build in readable_builds(world.store.builds()) if build.id != first.id]
        assert builds == [begun.id] == [retry_id(first)], begun.reason
    assert at > 5


def test_a_rejected_request_stays_rejected() -> None:
    """Else one message had two ends: the deployment may have room when it comes again."""
    desk, first = failed(replace(ALLOWED, concurrency=1))
    busy = desk.upload(VERIFIED, name="specs/busy.yaml")
    said = desk.publish(retry=first.id)
    assert "1 builds have VMs, and 1 may at once" in said.reason
    desk.world.finish()
    assert desk.world.build(busy.id).outcome is Outcome.SUCCEEDED
    assert desk.publish(retry=first.id).id == said.id
    assert desk.publish(message_id="18", retry=first.id).retry_of == first.id


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"from": "publish"}, "--from publish: build FIRST failed at verify"),
        ({"from": "label"}, "--from label: choose export, verify or publish"),
        ({"from": 1}, "from: is no text"),
        ({"spec": "gs://bucket/specs/other.yaml"}, "'spec' is no key of a request to retry; write retry and from"),
        ({"parameters": {}}, "'parameters' is no key of a request to retry"),
        ({"retry": "hello-000000000000"}, "there is no build 'hello-000000000000'"),
        ({"retry": "../builds/hello"}, "there is no build '../builds/hello'"),
        ({"retry": "hello"}, "there is no build 'hello'; name one by its whole id"),
    ],
)
def test_a_request_that_cannot_be_is_rejected_in_words(request_: dict[str, Any], told: str) -> None:
    desk, first = failed()
    assert told.replace("FIRST", first.id) in refused(desk, **{"retry": first.id, **request_})


@pytest.mark.parametrize("first", ["", 7, None, ["hello-000000000000"]])
def test_a_request_that_names_no_build_is_dropped(first: Any) -> None:
    with pytest.raises(PoisonMessage, match="a request to retry that names no build"):
        Desk().publish(retry=first)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (Limits(machine_types=("e2-*",)), "build.machine_type: n1-standard-1 is refused"),
        (Limits(max_timeout=60.0), "build.timeout: 1h is refused"),
    ],
)
def test_the_limits_are_those_of_now(limits: Limits, told: str) -> None:
    desk, first = failed()
    desk.intake = desk.intake_with(limits)
    assert told in refused(desk, retry=first.id)


def test_a_retry_that_a_budget_has_no_room_for_is_refused_and_keeps_its_image() -> None:
    desk, first = failed()
    desk.intake = desk.intake_with(replace(ALLOWED, budgets={"*": FamilyBudget(1e-9, DAY)}))
    assert "budgets: *: the builds of this deployment that" in refused(desk, retry=first.id)
    assert desk.world.build(first.id).kept_until == first.kept_until
    desk.intake = desk.intake_with(ALLOWED)
    assert desk.publish(retry=first.id, message_id="again").retry_of == first.id


def test_a_retry_is_held_as_long_as_the_deployment_says_now_and_no_shorter_than_before() -> None:
    desk, first = failed()
    desk.intake = desk.intake_with(Limits(retry_for=2 * DAY))
    assert planned(desk.publish(retry=first.id)).retry_for == 2 * DAY
    desk, first = failed()
    desk.intake = desk.intake_with(Limits())
    left = planned(desk.publish(retry=first.id)).retry_for
    assert left == first.kept_until - desk.world.clock.time


def test_without_the_files_of_its_context_nothing_is_verified() -> None:
    desk, first = failed()
    context = planned(first).context
    assert context is not None
    desk.objects.remove(context.uri)
    assert f"the context of build {first.id} is gone" in refused(desk, retry=first.id)


def test_where_nothing_is_held_nothing_is_retried() -> None:
    desk, first = failed(Limits())
    assert f"build {first.id} is failed and keeps no image to go on with" in refused(desk, retry=first.id)


def test_an_image_that_is_given_up_is_deleted_by_the_next_sweep_and_not_retried() -> None:
    desk, first = failed()
    desk.world.cancel(first.id)
    desk.world.settle()
    assert "its image is not kept any longer" in desk.world.build(first.id).reason
    assert "and that is gone; build its spec again" in refused(desk, retry=first.id)
    assert [deleted.kind for deleted in sweep_kept(desk.world.backend)] == ["image"]
    assert not [name for name in desk.world.compute.all_images if name.startswith("hello")]


def test_a_new_build_of_the_same_day_leaves_the_name_to_the_disk_that_waits() -> None:
    desk = Desk(replace(ALLOWED, retry_disk_for=DAY / 24))
    desk.put("specs/preload.sh", SCRIPT)
    desk.world.compute.faults["create_image"] = Permanent("403: quota IMAGES is used up")
    first = desk.upload(SPEC)
    while not desk.world.build(first.id).ended:
        desk.world.settle()
        desk.world.tick()
    desk.world.compute.faults.clear()
    second = desk.upload(SPEC)
    assert planned(second).image.name == f"{planned(first).image.name}-2"
    begun = desk.publish(retry=first.id)
    assert begun.retry_of == first.id
    desk.world.finish()
    outcomes = [desk.world.build(each.id).outcome for each in (second, begun)]
    assert outcomes == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]


def test_what_a_retry_has_taken_over_is_not_given_up_with_the_first_build() -> None:
    desk, first = failed()
    begun = desk.publish(retry=first.id)
    desk.world.cancel(first.id)
    desk.world.finish()
    sweep_kept(desk.world.backend)
    assert desk.world.build(begun.id).outcome is Outcome.SUCCEEDED
    assert [name for name in desk.world.compute.all_images if name.startswith("hello")] != []
