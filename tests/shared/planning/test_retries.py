"""Retries: from which phase, of which builds, by how many at once; and that nothing is lost or published by mistake."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.build.build import Build, ImageDocument, Outcome, Revocation
from shared.build.image.channels import Channel
from shared.build.orders import Order
from shared.build.plan import Context, Plan
from shared.errors import EnvironmentFault, InputError, NameTaken, Permanent
from shared.names import BUILD_LABEL
from shared.planning.requests import admit
from shared.planning.retries import ask_for_retry, needs_context, retry_id
from shared.ports import Image
from shared.provenance.signing_key import SigningKey
from shared.upkeep.sweep import let_go_of_earlier, sweep_kept
from shared.workers.export_image import export_image
from shared.workers.withdraw import withdraw
from tests.world import values
from tests.world.fuse import Died, Interleaved
from tests.world.world import Guest, World

IMAGE = "hello-20261120"
DAY = 86_400.0
SUCCEEDED = Outcome.SUCCEEDED
REFUSED = Permanent("403: it is not permitted")


def late_plan(*, retry_for: float = DAY, **changes: Any) -> Plan:
    """A plan with an export and a verification, whose image waits for a day."""
    plan = values.plan(**changes)
    labels = {**plan.image.labels, BUILD_LABEL: plan.build_id}
    image = replace(plan.image, export_to=f"out/{IMAGE}.tar.gz", labels=labels)
    return replace(plan, image=image, verify_steps=plan.steps, retry_for=retry_for)


def failed(phase: str, **changes: Any) -> tuple[World, Build]:
    """A build that has failed in a phase, and is finished."""
    world = World(guest=Guest(fails_at=0, phase="verify") if phase == "verify" else None)
    method = {"export": "export_image", "publish": "set_family"}.get(phase)
    if method is not None:
        world.compute.faults[method] = REFUSED
    build = world.run(late_plan(**changes))
    assert (build.outcome, build.finished) == (Outcome.FAILED, True)
    world.guest = Guest()
    return world, build


def retried(world: World, first: Build, start: str | None = None) -> Build:
    world.engine.request(ask_for_retry(first, start, world.backend))
    world.finish()
    return world.build(retry_id(first))


def verified(world: World, build: Build) -> bool:
    return any(name.endswith("-verify") and build.id in name for name in world.booted)


@pytest.mark.parametrize(
    ("phase", "start", "verifies"),
    [
        ("export", None, True),
        ("export", "export", True),
        ("verify", None, True),
        ("verify", "export", True),
        ("publish", None, False),
        ("publish", "verify", True),
        ("publish", "export", True),
    ],
)
def test_a_retry_goes_on_with_the_image(phase: str, start: str | None, verifies: bool) -> None:
    world, first = failed(phase)
    made = world.compute.all_images[IMAGE]
    assert (made.family, made.labels["goldsmith-expires"]) == (None, str(int(first.kept_until)))
    second = retried(world, first, start)
    image = world.compute.all_images[IMAGE]
    assert (second.outcome, second.retry_of) == (SUCCEEDED, first.id)
    assert (image.id, image.family, image.labels["team"]) == (made.id, "hello", "infra")
    assert not any(name.endswith("-vm") and second.id in name for name in world.booted)
    assert verified(world, second) is verifies
    assert [step.status for step in second.steps] == ["done"]
    assert f"out/{IMAGE}.tar.gz" in world.bucket.objects
    assert json.loads(world.bucket.objects[f"out/{IMAGE}.json"])["build"]["retry_of"] == first.id
    left = world.left()
    assert (left["machines"], left["disks"], left["images"]) == ([], [], [IMAGE])
    known = world.store.image("local", IMAGE)
    assert known is not None
    assert (known.build_id, known.state) == (second.id, "published")


def test_a_late_delivery_of_the_first_build_takes_nothing_back_of_its_retry() -> None:
    """Both have written the same archive, under the same name."""
    world, first = failed("publish")
    retried(world, first)
    shown = dict(world.bucket.objects)
    assert withdraw(first, world.backend, may_delete=True).lost == ""
    assert {name for name in shown if name.startswith("out/")} <= set(world.bucket.objects)
    assert world.compute.all_images[IMAGE].family == "hello"


def test_a_retry_has_the_author_and_the_approvals_of_the_first_build() -> None:
    world, first = failed("publish", author="ann@example.com", approvals={"prod": 2})
    retried(world, first)
    image = world.store.image("local", IMAGE)
    assert image is not None
    assert (image.state, image.author, image.approvals) == ("published", "ann@example.com", {"prod": 2})


def test_the_reason_names_the_command_and_the_end() -> None:
    _world, first = failed("verify")
    assert first.reason.endswith(
        f"; image {IMAGE} is in no family, and is kept until 2026-11-21 12:00 UTC: go on with: "
        f"goldsmith builds retry {first.id}"
    ), first.reason
    _world, first = failed("publish")
    assert first.reason.endswith(f"publish it, or retry with: goldsmith builds retry {first.id}")


@pytest.mark.parametrize(("phase", "start"), [("export", "verify"), ("export", "publish"), ("verify", "publish")])
def test_a_later_phase_than_the_failed_one_is_refused(phase: str, start: str) -> None:
    world, first = failed(phase)
    with pytest.raises(InputError, match=f"--from {start}: build {first.id} failed at {phase}"):
        ask_for_retry(first, start, world.backend)


def test_an_image_that_failed_verification_in_the_release_before_is_verified() -> None:
    """Its builds say that the image is unfit, but not where they stood."""
    world, first = failed("verify", keep_failed=True)
    first = replace(first, failed_in=None)
    with pytest.raises(InputError, match=f"--from publish: build {first.id} failed at verify"):
        ask_for_retry(first, "publish", world.backend)
    assert ask_for_retry(first, None, world.backend).verify_again


def test_an_image_whose_source_was_revoked_is_not_retried() -> None:
    world, first = failed("publish")
    assert first.plan is not None
    source = first.plan.source
    revoked = Revocation("its sshd takes any password", values.NOON)
    known = ImageDocument(source.project, source.name, "maker", "c1", state="published", id=source.id, revoked=revoked)
    world.store.create(values.build(id="maker"), values.requested(build_id="maker"), known)
    with pytest.raises(InputError, match=f"source: image {source.name} of project local was revoked at"):
        ask_for_retry(first, None, world.backend)


def test_an_image_whose_family_has_become_a_channel_is_not_retried() -> None:
    world, first = failed("publish", image=replace(values.plan().image, family="hello-prod"))
    world.compute.all_images["web"] = Image("local", "web", "web", values.NOON, family="hello")
    ask_for_retry(first, None, world.backend)
    backend = replace(world.backend, channels=lambda: {"prod": Channel()})
    with pytest.raises(InputError, match=r"output\.family: hello-prod is the channel prod of the family hello"):
        ask_for_retry(first, None, backend)


def test_the_label_of_an_image_names_its_retry_before_it_is_verified() -> None:
    """Else the sweep takes it for one that the first build, which is finished, has left."""
    world, first = failed("export")
    world.engine.request(ask_for_retry(first, None, world.backend))
    second = world.build(retry_id(first))
    export_image(second, Order(second.id, second.orders, "export_image", second.attempt), world.backend)
    assert world.compute.all_images[IMAGE].labels[BUILD_LABEL] == second.id


def test_a_phase_that_there_is_not_is_refused() -> None:
    world, first = failed("publish")
    with pytest.raises(InputError, match="--from label: choose export, verify or publish"):
        ask_for_retry(first, "label", world.backend)
    world, first = failed("publish", name="plain")
    first = replace(first, plan=replace(late_plan(), verify_steps=None))
    with pytest.raises(InputError, match="has no section verify"):
        ask_for_retry(first, "verify", world.backend)


def test_only_what_has_failed_late_and_keeps_its_image_is_retried() -> None:
    world = World()
    world.engine.request(values.requested(plan=late_plan()))
    with pytest.raises(InputError, match=f"build {values.BUILD_ID} is preparing"):
        ask_for_retry(world.build(), None, world.backend)
    world.finish()
    with pytest.raises(InputError, match="is succeeded: there is nothing to retry"):
        ask_for_retry(world.build(), None, world.backend)
    world = World(guest=Guest(fails_at=0))
    with pytest.raises(InputError, match="is failed and keeps no image to go on with"):
        ask_for_retry(world.run(late_plan()), None, world.backend)
    world = World()
    world.compute.faults["export_image"] = REFUSED
    with pytest.raises(InputError, match="is failed and keeps no image"):
        ask_for_retry(world.run(replace(late_plan(), retry_for=0.0)), None, world.backend)
    assert world.left()["images"] == []
    rejected = values.build(plan=None, state="finished", outcome=Outcome.FAILED)
    with pytest.raises(InputError, match="keeps no image"):
        ask_for_retry(rejected, None, world.backend)


@pytest.mark.parametrize("gone", ["image", "document", "time", "another"])
def test_what_is_gone_is_said(gone: str) -> None:
    world, first = failed("verify")
    if gone == "image":
        del world.compute.all_images[IMAGE]
    elif gone == "document":
        world.store.images.clear()
    elif gone == "another":
        world.compute.all_images[IMAGE] = replace(world.compute.all_images[IMAGE], id="by-hand")
    else:
        world.clock.time = first.kept_until
    with pytest.raises(InputError, match=f"kept image {IMAGE} until .* and that is gone"):
        ask_for_retry(first, None, world.backend)


def test_a_build_is_retried_once_and_then_its_retry() -> None:
    world, first = failed("verify")
    early = ask_for_retry(first, None, world.backend)
    world.guest = Guest(fails_at=0, phase="verify")
    second = retried(world, first)
    assert (second.outcome, second.kept_until > world.clock.time) == (Outcome.FAILED, True)
    with pytest.raises(InputError, match=f"build {second.id} has taken over the image of build {first.id}"):
        ask_for_retry(first, None, world.backend)
    assert world.engine.request(early).id == second.id  # the same request again is the same build
    world.guest = Guest()
    third = retried(world, second)
    assert (third.outcome, third.retry_of, len({first.id, second.id, third.id})) == (SUCCEEDED, second.id, 3)


def test_a_retry_whose_files_cannot_be_written_leaves_a_fit_image_to_the_next() -> None:
    world, first = failed("publish", retry_for=0.0)
    until = first.kept_until
    world.compute.faults["export_image"] = REFUSED
    second = retried(world, first)
    known = world.store.image("local", IMAGE)
    assert known is not None
    assert (second.outcome, known.state, known.until >= until) == (Outcome.FAILED, "kept", True)
    third = retried(world, second)
    assert (third.outcome, verified(world, third)) == (SUCCEEDED, False)


def test_an_image_is_not_deleted_earlier_since_it_was_retried() -> None:
    world, first = failed("verify", keep_failed=True, retry_for=0.0)
    world.compute.faults["export_image"] = REFUSED
    second = retried(world, first)
    assert (second.outcome, world.left()["images"]) == (Outcome.FAILED, [IMAGE])
    assert second.kept_until >= first.kept_until
    with pytest.raises(InputError, match=f"--from publish: build {second.id} failed at export"):
        ask_for_retry(second, "publish", world.backend)


def test_who_has_the_image_now_is_said_with_what_is_left_to_do() -> None:
    world, first = failed("publish")
    second = retried(world, first)
    with pytest.raises(InputError, match=f"build {second.id} has published the image of build {first.id}; nothing is"):
        ask_for_retry(first, None, world.backend)
    world, first = failed("verify")
    world.guest = Guest(fails_at=0, phase="verify")
    second = retried(world, first)
    world.store.set_aside(second.id)
    with pytest.raises(InputError, match=f"was set aside or cannot be read; .*: goldsmith images delete {IMAGE}"):
        ask_for_retry(first, None, world.backend)


@pytest.mark.parametrize(("start", "boots"), [("publish", False), ("verify", True)])
def test_what_a_vm_needs_is_asked_for_where_one_is_made(start: str, boots: bool) -> None:
    world, first = failed("publish")
    ask_for_retry(first, start, world.backend)
    plan, asked = world.compute.plans_checked[-1]
    assert (asked, plan.verify_steps is not None, len(plan.steps)) == (boots, boots, int(boots))
    assert (plan.source.name, plan.context) == (IMAGE, None)


def test_a_key_that_cannot_sign_is_told_before_anything_is_taken_over(tmp_path: Path) -> None:
    world, first = failed("publish")
    (tmp_path / "signing.key").write_text("damaged")
    with pytest.raises(EnvironmentFault, match=r"signing\.key holds no private key"):
        ask_for_retry(first, None, replace(world.backend, signer=SigningKey(tmp_path)))


def test_a_cancelled_retry_keeps_nothing() -> None:
    world, first = failed("export")
    world.engine.request(ask_for_retry(first, None, world.backend))
    world.cancel(retry_id(first))
    world.finish()
    assert (world.left()["images"], world.store.image("local", IMAGE)) == ([], None)


def test_a_retry_has_a_deadline_of_its_own() -> None:
    world, first = failed("export")
    world.clock.time += 7200.0
    world.engine.request(ask_for_retry(first, None, world.backend))
    assert world.build(retry_id(first)).deadline == world.clock.time + 3600.0


@pytest.mark.parametrize("phase", ["verify", "publish"])
def test_a_verification_waits_for_no_place_and_takes_none_that_is_taken(phase: str) -> None:
    """Nor does a VM that writes the image's files."""
    world, first = failed(phase)
    if phase == "publish":
        assert first.plan is not None
        first = replace(first, plan=replace(first.plan, exporter=first.plan.source))
    backend = replace(world.backend, concurrency=1)
    other = values.plan(build_id="other-0123456789ab", name="other")
    other = replace(other, image=replace(other.image, name="other-1"))
    world.engine.request(values.requested(plan=other))
    with pytest.raises(EnvironmentFault, match="1 builds have VMs, and 1 may at once"):
        ask_for_retry(first, None, backend)
    world.finish()
    assert ask_for_retry(first, None, backend).retry_of == first.id


def test_an_image_that_failed_verification_is_not_taken_up_by_its_spec() -> None:
    """A chosen name is made anew, over it; a number of a name is not: what waits for a retry stays."""
    world, first = failed("verify")
    plan = replace(late_plan(build_id="hello-ba9876543210"), request="b" * 64)
    chosen = admit(plan, world.backend)
    assert (chosen.replaces, chosen.taken_up) == (first.id, None)
    numbered = admit(replace(plan, image=replace(plan.image, numbered=True, name="x")), world.backend)
    assert (numbered.replaces, numbered.taken_up) == ("", None)
    world.guest = Guest(fails_at=0)
    world.engine.request(chosen)
    world.finish()
    assert world.build(plan.build_id).outcome is Outcome.FAILED
    assert world.left()["images"] == []  # it went with the name
    assert world.store.image("local", IMAGE) is None


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("other", ["retry", "sweep"])
def test_of_two_at_once_one_wins_and_nothing_is_lost(other: str, dies: bool) -> None:
    """At each call of an adapter, another process retries the same build, or sweeps what is out of time."""
    at = calls = 0
    while at <= calls:
        at += 1
        world, first = failed("export")

        def ask(world: World = world, first: Build = first) -> None:
            with suppress(InputError, NameTaken):
                world.engine.request(ask_for_retry(first, None, world.backend))

        def sweep(world: World = world, first: Build = first) -> None:
            world.clock.time = first.kept_until
            sweep_kept(world.backend)

        fuse = Interleaved(at, ask if other == "retry" else sweep, dies=dies)
        world.store.fuse = world.compute.fuse = world.bucket.fuse = world.bus.fuse = fuse
        with suppress(Died):
            ask()
        calls = max(calls, fuse.count)
        world.burn_at(None)
        world.finish()
        sweep_kept(world.backend)
        builds = [build for build in world.store.builds() if isinstance(build, Build) and build.retry_of]
        assert len(builds) <= 1
        for name, image in world.compute.all_images.items():
            known = world.store.image("local", name)
            assert known is not None
            assert (known.id, known.state in ("published", "held")) == (image.id, True)
        if builds:  # a sweep takes place a day later, which is past the deadline of a retry that has begun
            over = (SUCCEEDED,) if other == "retry" else (SUCCEEDED, Outcome.TIMED_OUT)
            assert (builds[0].outcome in over, list(world.compute.all_images)) == (True, [IMAGE])
        elif other == "retry":  # the process died before its write, and was not started again
            assert list(world.compute.all_images) == [IMAGE]
    assert at > 3


@pytest.mark.slow
def test_a_retry_that_dies_anywhere_comes_to_its_end() -> None:
    at = calls = 0
    while at <= calls:
        at += 1
        world, first = failed("export")
        request = ask_for_retry(first, None, world.backend)
        fuse = world.burn_at(at)
        while not world.survives(lambda world=world, request=request: world.engine.request(request)):  # type: ignore[misc]
            pass
        world.finish()
        calls = max(calls, fuse.count)
        world.burn_at(None)
        assert world.build(request.build_id).outcome is SUCCEEDED
        left = world.left()
        assert (left["machines"], left["disks"], left["images"]) == ([], [], [IMAGE])
        assert not [name for name in left["objects"] if name.rpartition("/")[2].startswith(".")]
    assert at > 20


def test_of_one_spec_the_newest_image_alone_is_held() -> None:
    world, first = failed("verify")
    plan = replace(late_plan(build_id="hello-ba9876543210"), request="b" * 64)
    plan = replace(plan, image=replace(plan.image, name=f"{IMAGE}-2", export_to=None))
    world.guest = Guest(fails_at=0, phase="verify")
    world.engine.request(values.requested(plan=plan))
    world.finish()
    second = world.build(plan.build_id)
    assert world.left()["images"] == [IMAGE, f"{IMAGE}-2"]
    let_go_of_earlier(first, world.backend)  # the older one lets go of nothing
    assert world.left()["images"] == [IMAGE, f"{IMAGE}-2"]
    let_go_of_earlier(second, world.backend)
    assert world.left()["images"] == [f"{IMAGE}-2"]
    with pytest.raises(InputError, match="that is gone"):
        ask_for_retry(first, None, world.backend)
    world.guest = Guest()
    assert retried(world, second).outcome is SUCCEEDED


def another(world: World, number: int, **changes: Any) -> Build:
    """A build of the same spec, a day later, that fails its verification."""
    world.clock.time += 3600.0
    plan = replace(late_plan(build_id=f"hello-ba987654321{number}", **changes), request=str(number) * 64)
    plan = replace(plan, image=replace(plan.image, name=f"{IMAGE}-{number}", export_to=None))
    world.guest = Guest(fails_at=0, phase="verify")
    world.engine.request(values.requested(plan=plan, time=world.clock.time))
    world.finish()
    return world.build(plan.build_id)


def test_the_retry_of_an_earlier_build_lets_go_of_no_later_image() -> None:
    world, first = failed("verify")
    later = another(world, 2)
    world.guest = Guest(fails_at=0, phase="verify")
    second = retried(world, first)
    assert second.created > later.created
    let_go_of_earlier(second, world.backend)
    assert world.left()["images"] == [IMAGE, f"{IMAGE}-2"]


def test_a_build_that_holds_nothing_lets_go_of_nothing() -> None:
    world, _first = failed("verify")
    later = another(world, 2)
    world.guest = Guest()
    world.compute.faults["set_family"] = REFUSED
    fit = retried(world, later)
    assert (fit.outcome, fit.keeps_fit) == (Outcome.FAILED, True)
    let_go_of_earlier(fit, world.backend)
    let_go_of_earlier(later, world.backend)  # its retry has the image
    assert world.left()["images"] == [IMAGE, f"{IMAGE}-2"]


def test_an_image_that_is_kept_to_be_looked_at_is_not_let_go() -> None:
    world, _first = failed("verify", keep_failed=True)
    let_go_of_earlier(another(world, 2), world.backend)
    assert world.left()["images"] == [IMAGE, f"{IMAGE}-2"]


def test_a_context_is_needed_where_steps_verify() -> None:
    _world, first = failed("verify")
    assert not needs_context(first)  # it has none
    assert first.plan is not None
    plan = replace(first.plan, context=Context("/context.tar", "c" * 64, 10))
    with_context = replace(first, plan=plan)
    assert needs_context(with_context)
    assert needs_context(replace(first, plan=replace(plan, verify_steps=())))  # a VM is made
    assert not needs_context(replace(with_context, kept_until=0.0))
