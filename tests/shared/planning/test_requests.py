"""From a spec to a request: what is found out before anything is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, ClassVar

import pytest

from shared.build.build import ChannelCopy, ImageDocument, Outcome
from shared.build.damage import readable_builds
from shared.build.events import BuildRequested, CancelRequested
from shared.build.image.channels import Channel
from shared.build.image.people import PersonRule
from shared.build.plan import Plan, SourceImage
from shared.engine.messages import read_event_message
from shared.errors import EnvironmentFault, InputError, NameTaken, Permanent
from shared.gcp.identities import GoogleIdentities
from shared.names import BUILD_LABEL
from shared.planning.plan import make_plan
from shared.planning.requests import admit, ask_to_cancel, is_alike
from shared.planning.turns import give_turns
from shared.ports import Image
from shared.published.promotion import promote_image
from shared.published.revocation import revoke_image
from shared.spec.model import Spec
from shared.upkeep.sweep import sweep_project
from tests.world import values
from tests.world.fuse import Died, Interleaved
from tests.world.world import World

VERIFY_STEP = {"name": "look", "action": "install-packages", "inputs": {"packages": ["nginx"]}}
SOURCE = SourceImage("local", "debian-12-20261101", "sha256-0001")


def spec(**keys: object) -> Spec:
    step = {"name": "greet", "action": "install-packages", "inputs": {"packages": ["nginx"]}}
    return Spec.model_validate(
        {"name": "hello", "source": {"project": "local", "family": "debian-12"}, "steps": [step], **keys}
    )


def planned(world: World, asked: Spec, text: str = "one") -> Plan:
    now = world.clock.now()
    return make_plan(asked, source=SOURCE, context=None, request=text, requested=now, provisioner_version="1")


def request(world: World, asked: Spec, text: str = "one") -> BuildRequested:
    return admit(planned(world, asked, text), world.backend)


def published(world: World, event: BuildRequested) -> Image:
    """Build what a request asks for; return its image."""
    world.engine.request(event)
    world.finish()
    build = world.build(event.build_id)
    assert build.outcome is Outcome.SUCCEEDED, build.reason
    return world.compute.all_images[event.plan.image.name]


def test_request_has_the_plan_and_the_servers_time() -> None:
    world = World()
    event = request(world, spec())
    assert (event.build_id, event.time, event.unchanged) == (event.plan.build_id, values.NOON, None)
    assert event.plan.source == SOURCE
    assert event == request(world, spec())
    assert event.build_id != request(world, spec(), "two").build_id


def test_a_plan_that_the_caller_has_changed_is_checked_as_it_is_then() -> None:
    world = World()
    plan = planned(world, spec())
    world.compute.all_images[plan.image.name] = Image("other", plan.image.name, "id", values.NOON)
    export = f"out/{plan.image.name}.tar.gz"
    event = admit(replace(plan, image=replace(plan.image, project="other", export_to=export)), world.backend)
    assert (event.plan.image.project, event.plan.image.name) == ("other", f"{plan.image.name}-2")
    assert event.plan.image.export_to == f"out/{plan.image.name}-2.tar.gz"


def test_what_the_machine_cannot_carry_is_refused_before_anything_is_made() -> None:
    world = World()
    world.compute.faults["check"] = EnvironmentFault("no room")
    with pytest.raises(EnvironmentFault, match="no room"):
        request(world, spec())
    assert world.bus.published == []
    assert world.store.builds() == []


FIXED = {"name": "fixed", "family": "hello"}


@pytest.mark.parametrize("rebuild", ["always", "changed"])
def test_an_image_of_the_chosen_name_and_content_is_unchanged_and_needs_no_room(rebuild: str) -> None:
    world = World()
    asked = spec(output=FIXED, rebuild=rebuild)
    made = published(world, request(world, asked))
    world.compute.faults["check"] = EnvironmentFault("no room")
    event = request(world, asked, "another")
    assert event.unchanged is not None
    assert (event.unchanged.name, event.unchanged.id) == ("fixed", made.id)


@pytest.mark.parametrize("changes", [{"family": "other"}, {"disk_size_gb": 999}, {"labels": {"team": "b"}}])
def test_image_of_the_name_and_content_with_another_output_is_an_error(changes: dict[str, object]) -> None:
    world = World()
    asked = spec(output=FIXED)
    made = published(world, request(world, asked))
    labels = {**made.labels, **changes.pop("labels", {})}  # type: ignore[dict-item]  # the last case's
    world.compute.all_images["fixed"] = replace(made, labels=labels, **changes)  # type: ignore[arg-type]  # by name
    with pytest.raises(InputError, match=r"output\.name: image fixed exists .* another family, size or labels"):
        request(world, asked, "another")


def test_image_of_the_name_with_other_content_is_an_error_with_a_remedy() -> None:
    world = World()
    world.compute.all_images["fixed"] = Image("local", "fixed", "id", values.NOON)
    with pytest.raises(InputError, match=r"output\.name: image fixed exists .*; choose another name, or delete it"):
        request(world, spec(output=FIXED))


OTHER = {"name": "other", "action": "install-packages", "inputs": {"packages": ["redis"]}}


@pytest.mark.parametrize("changes", [{"steps": [OTHER]}, {"output": {**FIXED, "family": "other"}}])
@pytest.mark.parametrize("queued", [False, True])
def test_a_chosen_name_of_which_another_build_makes_something_else_is_refused(
    changes: dict[str, object], queued: bool
) -> None:
    world = World(concurrency=1 if queued else None)
    first = request(world, spec(output=FIXED))
    world.engine.request(first)
    with pytest.raises(InputError, match=f"image fixed .* is being made by build {first.build_id}, with other"):
        request(world, spec(**{"output": FIXED, **changes}), "two")


@pytest.mark.parametrize(
    ("concurrency", "rebuild", "queued"), [(None, "always", False), (None, "changed", True), (1, "always", True)]
)
def test_what_may_have_to_wait_is_queued(concurrency: int | None, rebuild: str, queued: bool) -> None:
    world = World(concurrency=concurrency)
    assert request(world, spec(rebuild=rebuild)).queued is queued


@pytest.mark.parametrize(
    ("rebuild", "changes", "found"),
    [
        ("changed", {}, True),
        ("always", {}, False),
        ("changed", {"deprecated": "DEPRECATED"}, False),
        ("changed", {"family": "other"}, False),
        ("changed", {"labels": {"goldsmith-digest": "0" * 40}}, False),
        ("changed", {"labels": {}}, True),  # which anyone may take off; the store knows it by its id
        ("changed", {"id": "another"}, False),  # made anew by hand, with our labels
    ],
)
def test_a_published_image_of_the_content(rebuild: str, changes: dict[str, object], found: bool) -> None:
    world = World()
    asked = spec(rebuild=rebuild, output={"family": "hello"})
    made = published(world, request(world, asked))
    world.compute.all_images[made.name] = replace(made, **changes)  # type: ignore[arg-type]  # fields of Image, by name
    assert (request(world, asked, "another").unchanged is not None) is found


@pytest.mark.parametrize("output", [{"family": "hello"}, FIXED])
def test_an_image_without_our_labels_is_known_by_its_id(output: dict[str, object]) -> None:
    """output.own_labels: false: the store says what is in it, for `rebuild: changed` and for a chosen name."""
    world = World()
    asked = spec(rebuild="changed", output={**output, "own_labels": False, "labels": {"team": "infra"}})
    made = published(world, request(world, asked))
    assert made.labels == {"team": "infra"}
    unchanged = request(world, asked, "another").unchanged
    assert unchanged is not None
    assert unchanged.id == made.id
    world.compute.all_images[made.name] = replace(made, id="another")  # made anew by hand
    if "name" in output:
        with pytest.raises(InputError, match=r"output\.name: image fixed exists"):
            request(world, asked, "another")
    else:
        assert request(world, asked, "another").unchanged is None


def test_an_image_without_our_labels_is_retired_by_the_next() -> None:
    """output.own_labels: false: that it is ours is in the store, so deprecate_old needs no adopted family."""
    world = World()
    output = {"family": "hello", "own_labels": False, "deprecate_old": {}}
    first = published(world, request(world, spec(output=output)))
    world.clock.time += 60
    second = published(world, request(world, spec(output=output), "another"))
    assert world.compute.all_images[first.name].replacement == second.name


def test_labels_that_others_have_set_make_no_image_ours() -> None:
    world = World()
    asked = spec(rebuild="changed", output={"family": "hello"})
    made = published(world, request(world, asked))
    world.compute.all_images = {"forged": replace(made, name="forged", id="id-forged", created=made.created + 9)}
    assert request(world, asked, "another").unchanged is None


def test_always_builds_again_on_the_same_day_under_the_next_number() -> None:
    world = World()
    names = [published(world, request(world, spec(), text)).name for text in ("one", "two", "three")]
    assert names == [names[0], f"{names[0]}-2", f"{names[0]}-3"]


def test_of_two_that_are_planned_at_the_same_moment_the_later_one_plans_again() -> None:
    world = World()
    first, second = request(world, spec(), "one"), request(world, spec(), "two")
    world.engine.request(first)
    with pytest.raises(NameTaken):
        world.engine.request(second)
    again = request(world, spec(), "two")
    assert again.plan.image.name == f"{first.plan.image.name}-2"
    world.engine.request(again)
    world.finish()
    outcomes = {world.build(event.build_id).outcome for event in (first, again)}
    assert outcomes == {Outcome.SUCCEEDED}


class TestTakingUp:
    """An image that a build has made and could not publish: hazard 14."""

    def kept(self, world: World, asked: Spec) -> BuildRequested:
        event = request(world, asked)
        world.compute.faults["set_family"] = Permanent("403: permission compute.images.update is missing")
        world.engine.request(event)
        world.finish()
        assert world.build(event.build_id).outcome is Outcome.FAILED
        return event

    @pytest.mark.parametrize("output", [FIXED, {"family": "hello"}])
    def test_the_same_spec_publishes_it_without_building_it_again(self, output: dict[str, object]) -> None:
        world = World()
        first = self.kept(world, spec(output=output, verify={"steps": []}))
        kept = world.compute.all_images[first.plan.image.name]
        assert (kept.family, "goldsmith-expires" in kept.labels) == (None, True)
        machines = len(world.booted)
        second = request(world, spec(output=output, verify={"steps": []}), "two")
        image = published(world, second)
        assert (image.id, image.name, image.family) == (kept.id, kept.name, "hello")
        assert image.labels == second.plan.image.labels
        assert len(world.booted) == machines
        assert world.build(second.build_id).taken_up

    def test_another_content_of_the_chosen_name_replaces_it(self) -> None:
        world = World()
        first = self.kept(world, spec(output=FIXED))
        other = {"name": "other", "action": "install-packages", "inputs": {"packages": ["redis"]}}
        image = published(world, request(world, spec(output=FIXED, steps=[other]), "two"))
        assert (image.name, image.labels["goldsmith-build"] == first.build_id) == ("fixed", False)

    @pytest.mark.parametrize(
        "changes", [{"hygiene": "warn"}, {"output": {**FIXED, "disk_size_gb": 50}}, {"description": "x"}]
    )
    def test_one_that_would_not_be_made_like_this_is_made_anew(self, changes: dict[str, Any]) -> None:
        """The content digest does not cover what findings lead to, a disk's size, licences and descriptions."""
        world = World()
        self.kept(world, spec(output=FIXED))
        second = request(world, spec(**{"output": FIXED, **changes}), "two")
        assert (second.taken_up, second.replaces != "") == (None, True)
        assert published(world, second).family == "hello"

    def test_one_that_has_failed_its_verification_is_made_anew(self) -> None:
        """verify.keep_failed: it stays to be looked at, and nothing else."""
        world = World()
        first = self.kept(world, spec(output=FIXED))
        build = world.build(first.build_id)
        assert is_alike(build, first.plan)
        assert not is_alike(replace(build, unfit=True), first.plan)

    def test_a_kept_image_of_another_project_goes_with_the_sweep_of_any(self) -> None:
        world = World()
        first = self.kept(world, spec(output=FIXED))
        world.clock.time = world.build(first.build_id).kept_until
        assert [each.name for each in sweep_project("another-project", world.backend)] == ["fixed"]

    def test_a_cancelled_one_leaves_nothing(self) -> None:
        world = World()
        first = self.kept(world, spec(output=FIXED))
        second = request(world, spec(output=FIXED), "two")
        world.engine.request(second)
        world.cancel(second.build_id)
        world.finish()
        assert world.build(second.build_id).outcome is Outcome.CANCELLED
        assert world.compute.all_images == {}
        assert world.store.image("local", first.plan.image.name) is None

    def test_it_is_deleted_when_its_time_is_over_and_only_then(self) -> None:
        world = World()
        first = self.kept(world, spec(output=FIXED))
        until = world.build(first.build_id).kept_until
        world.clock.time = until - 1
        assert sweep_project("local", world.backend) == []
        world.clock.time = until
        assert [each.name for each in sweep_project("local", world.backend)] == ["fixed"]
        assert (world.compute.all_images, world.store.image("local", "fixed")) == ({}, None)

    @pytest.mark.parametrize("sweeps_first", [True, False])
    def test_a_sweep_and_a_request_at_once(self, sweeps_first: bool) -> None:
        """Each does all of its work in the middle of the other's, at each call of an adapter; and dies there, too."""
        for dies in (False, True):
            at = calls = 0
            while at <= calls:
                at += 1
                world = World()
                self.kept(world, spec(output=FIXED))
                world.clock.time = world.build(world.store.builds()[0].id).kept_until
                work: list[Callable[[], object]] = [
                    partial(sweep_project, "local", world.backend),
                    partial(begun, world),
                ]
                first, other = work if sweeps_first else work[::-1]
                fuse = Interleaved(at, other, dies=dies)
                world.store.fuse = world.compute.fuse = world.bucket.fuse = fuse
                with suppress(InputError, NameTaken, Died):
                    first()
                calls = max(calls, fuse.count)
                world.burn_at(None)
                world.finish()
                for _ in range(2):
                    sweep_project("local", world.backend)
                ours = [world.store.image("local", name) for name in world.compute.all_images]
                assert all(known is not None and known.state == "published" for known in ours)
                done = [each for each in readable_builds(world.store.builds()) if each.outcome is Outcome.SUCCEEDED]
                assert {each.image.id for each in done if each.image} == {
                    image.id for image in world.compute.all_images.values()
                }
                taken = [each for each in readable_builds(world.store.builds()) if each.taken_up]
                assert all(each.outcome is Outcome.SUCCEEDED for each in taken)
            assert at > 3

    @pytest.mark.parametrize("output", [FIXED, {"family": "hello"}], ids=["chosen", "numbered"])
    def test_a_document_that_cannot_be_read_keeps_its_name(self, output: dict[str, object]) -> None:
        world = World()
        first = self.kept(world, spec(output=output))
        name = first.plan.image.name
        world.store.damage("", "{", image=("local", name))
        if output is FIXED:
            with pytest.raises(InputError, match=f"document of image {name} is damaged.*images forget local/{name}"):
                request(world, spec(output=output), "two")
        else:
            assert request(world, spec(output=output), "two").plan.image.name == f"{name}-2"
        world.clock.time = world.build(first.build_id).kept_until
        assert (sweep_project("local", world.backend), list(world.compute.all_images)) == ([], [name])

    @pytest.mark.parametrize("at_work", [True, False])
    @pytest.mark.parametrize("output", [FIXED, {"family": "hello"}], ids=["chosen", "numbered"])
    def test_a_build_that_cannot_be_read_keeps_its_name(self, output: dict[str, object], at_work: bool) -> None:
        world = World()
        if at_work:
            first = request(world, spec(output=output))
            world.engine.request(first)
        else:
            first = self.kept(world, spec(output=output))
        name = first.plan.image.name
        world.store.damage(first.build_id, "{")
        if output is FIXED:
            remedy = f"output.name: the document of build {first.build_id} is damaged.*builds forget {first.build_id}"
            with pytest.raises(InputError, match=remedy):
                request(world, spec(output=output), "two")
        else:
            assert request(world, spec(output=output), "two").plan.image.name == f"{name}-2"
        known = world.store.image("local", name)
        assert known is not None
        assert known.build_id == first.build_id

    def test_another_image_of_its_name_is_never_deleted(self) -> None:
        world = World()
        first = self.kept(world, spec(output=FIXED))
        other = replace(world.compute.all_images["fixed"], id="by-hand")
        world.compute.all_images["fixed"] = other
        world.clock.time = world.build(first.build_id).kept_until
        assert sweep_project("local", world.backend) == []
        assert world.compute.all_images == {"fixed": other}


def begun(world: World) -> None:
    """Ask for a build of the same content, as another process does."""
    with suppress(InputError, NameTaken):
        world.engine.request(request(world, spec(output=FIXED), "two"))


def test_cancel_publishes_a_wish_with_its_reason() -> None:
    world = World()
    ask_to_cancel(values.BUILD_ID, "cancelled by a person", world.bus, world.clock)
    world.clock.time += 1
    ask_to_cancel(values.BUILD_ID, "again", world.bus, world.clock)
    events = [read_event_message(message) for message in world.bus.published]
    assert [event.build_id for event in events] == [values.BUILD_ID] * 2
    assert all(isinstance(event, CancelRequested) for event in events)
    assert len({event.event_id for event in events}) == 2
    assert events[0].time == values.NOON


class TestRevokedImages:
    def revoked(self, world: World, made: Image) -> None:
        other = replace(made, name="other", id="another", family="hello")
        world.compute.all_images["other"] = other
        revoke_image("local", made.name, "its sshd takes any password", world.backend, alone=True)

    def test_no_build_starts_from_one(self) -> None:
        world = World()
        made = published(world, request(world, spec(output={"family": "hello"})))
        source = SourceImage("local", made.name, made.id)
        plan = replace(planned(world, spec(name="child")), source=source, content_digest="c1" * 32)
        queued = admit(replace(plan, rebuild="changed"), world.backend)
        world.engine.request(queued)
        self.revoked(world, made)
        told = rf"source: image {made.name} of project local was revoked at .*: its sshd takes any password; name \w+"
        for asked in (plan, replace(plan, source=replace(source, family="hello"))):
            with pytest.raises(InputError, match=told):
                admit(asked, world.backend)
        give_turns(world.backend, math.inf)
        build = world.build(queued.build_id)
        assert build.outcome is Outcome.FAILED
        assert "its sshd takes any password" in build.reason
        again = replace(plan, source=replace(source, id="made anew"))
        assert admit(again, world.backend).plan.source == again.source

    def test_a_family_goes_back_to_what_its_newest_build_has_deprecated(self) -> None:
        world = World()
        output = {"family": "hello", "deprecate_old": {"ttl": "30d"}}
        first = published(world, request(world, spec(output=output)))
        world.clock.time += 60
        second = published(world, request(world, spec(output=output), "two"))
        known = world.store.image("local", second.name)
        assert known is not None
        assert (known.replaced, known.verified, known.source_id) == ((first.name,), False, SOURCE.id)
        assert world.compute.all_images[first.name].deprecated == "DEPRECATED"
        done = revoke_image("local", second.name, "bad", world.backend)
        assert (done.leads_to, done.restored) == (first.name, True)

    @pytest.mark.parametrize("output", [{"family": "hello"}, FIXED])
    def test_the_same_content_is_built_anew(self, output: dict[str, object]) -> None:
        world = World()
        asked = spec(rebuild="changed", output=output)
        made = published(world, request(world, asked))
        self.revoked(world, made)
        if "name" in output:
            with pytest.raises(
                InputError, match=r"output\.name: image fixed .* was revoked at .*; choose another name"
            ):
                request(world, asked, "another")
        else:
            event = request(world, asked, "another")
            assert (event.unchanged, event.plan.image.name) == (None, f"{made.name}-2")


class TestChannels:
    CHANNELS: ClassVar = {"dev": Channel(), "prod": Channel()}

    def world(self) -> World:
        world = World()
        world.backend = replace(world.backend, channels=lambda: self.CHANNELS)
        return world

    def test_a_family_that_is_a_channel_of_another_one_is_refused(self) -> None:
        world = self.world()
        admitted = request(world, spec(output={"family": "hello-prod"}))  # there is no family hello yet
        assert admitted.plan.image.family == "hello-prod"
        published(world, request(world, spec(output={"family": "hello"})))
        told = r"output\.family: hello-prod is the channel prod of the family hello; name another family, and promote"
        with pytest.raises(InputError, match=told):
            request(world, spec(output={"family": "hello-prod"}), "another")
        for family in ("hello-test", "hello", "other-prod"):
            assert request(world, spec(output={"family": family}), family).plan.image.family == family

    def test_a_family_that_has_become_a_channel_is_refused_when_the_turn_comes(self) -> None:
        world = self.world()
        queued = request(world, spec(output={"family": "hello-prod"}, rebuild="changed"))
        world.engine.request(queued)
        assert queued.queued
        world.compute.all_images["web"] = Image("local", "web", "web", values.NOON, family="hello")
        give_turns(world.backend, math.inf)
        build = world.build(queued.build_id)
        assert build.outcome is Outcome.FAILED
        assert "hello-prod is the channel prod of the family hello" in build.reason

    def test_a_family_that_becomes_a_channel_during_a_build_gets_no_image(self) -> None:
        """Whatever has been done of the build by then; for what had joined before, promotions are refused."""
        ends = set()
        for moment in count():
            world = self.world()
            asked = request(world, spec(output={"family": "hello-prod"}))
            world.engine.request(asked)
            for _ in range(moment):
                if not world.bus.waiting or not world.handle():
                    world.boot()
            joined = world.compute.images("local", family="hello-prod")
            world.compute.all_images["web"] = Image("local", "web", "web", values.NOON, family="hello")
            world.finish()
            build = world.build(asked.build_id)
            ends.add(build.outcome)
            if joined:
                break
            assert world.compute.images("local", family="hello-prod") == [], moment
            assert build.outcome is Outcome.FAILED
            assert "hello-prod is the channel prod of the family hello" in build.reason
        assert ends == {Outcome.FAILED, Outcome.SUCCEEDED}
        assert moment > 8

    def test_approvals_that_nobody_could_give_are_refused(self) -> None:
        world = self.world()
        channels = {"dev": Channel(), "prod": Channel(("ann@example.com", "ann@example.org", "ben@example.com"))}
        ann = PersonRule(("ann@example.com", "ann@example.org"))
        world.backend = replace(world.backend, channels=lambda: channels, people=lambda: {"ann": ann})
        asked = {"prod": {"approvals": 3}, "dev": {"approvals": 1}, "prd": {"approvals": 1}}
        with pytest.raises(InputError) as refused:
            request(world, spec(channels=asked))
        assert str(refused.value).splitlines() == [
            "channels.prod.approvals: 3 people cannot approve, since the channel prod has 2; write at most 2, or name "
            "more approvers in the deployment's channels",
            "channels.dev: the channel dev has no approvers, so nobody could approve; leave it out, or name approvers "
            "in the deployment's channels",
            "channels.prd: there is no channel prd; did you mean prod?",
        ]
        admitted = request(world, spec(channels={"prod": {"approvals": 2}}))
        plain = request(world, spec(), "another")
        assert (admitted.plan.approvals, plain.plan.approvals) == ({"prod": 2}, {})
        assert admitted.plan.content_digest == plain.plan.content_digest
        image = published(world, admitted)
        document = world.store.image("local", image.name)
        assert document is not None
        assert (document.state, document.approvals) == ("published", {"prod": 2})
        world.backend = replace(world.backend, channels=dict)
        asks = spec(channels={"prod": {"approvals": 5}})
        assert request(world, asks, "where it is tried").plan.approvals == {"prod": 5}
        identities = GoogleIdentities("my-project", "http://127.0.0.1:9")  # which nobody is asked for
        world.backend = replace(world.backend, identities=identities)
        with pytest.raises(InputError, match=r"channels\.prod: there is no channel prod; no channels are set up"):
            request(world, asks, "where it is promoted")

    def test_a_copy_is_not_what_a_build_has_made(self) -> None:
        world = self.world()
        asked = spec(output={"family": "hello"}, rebuild="changed", verify={"steps": [VERIFY_STEP]})
        made = published(world, request(world, asked))
        promote_image("local", made.name, "prod", world.backend)
        again = request(world, asked, "another")
        assert again.unchanged is not None
        assert again.unchanged.name == made.name
        named = spec(output={"name": f"{made.name}-prod", "family": "hello"}, verify={"steps": [VERIFY_STEP]})
        with pytest.raises(InputError, match="exists in project local with other content"):
            request(world, named, "yet another")

    def test_a_name_that_a_promotion_has_taken_stays_its_own(self) -> None:
        world = self.world()
        made = published(world, request(world, spec(output={"family": "hello"}, verify={"steps": [VERIFY_STEP]})))
        copy = ChannelCopy(made.name, made.id, "prod", "hello-prod", values.NOON)
        document = ImageDocument("local", "fixed", made.labels[BUILD_LABEL], "d1" * 32, copy=copy)
        assert world.store.save_image(document, None)
        told = rf"output\.name: a promotion of image {made.name} to the channel prod makes image fixed"
        with pytest.raises(InputError, match=told):
            request(world, spec(output={"name": "fixed"}), "another")
