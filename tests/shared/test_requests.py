"""From a spec to a request: what is found out before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shared.build import Outcome
from shared.errors import EnvironmentFault, InputError, NameTaken, Permanent
from shared.events import BuildRequested, CancelRequested
from shared.messages import read_event_message
from shared.plan import Plan, SourceImage
from shared.ports import Image
from shared.requests import cancel, request_build
from shared.spec import Spec
from shared.sweep import sweep
from tests import values
from tests.world import World

SOURCE = SourceImage("local", "debian-12-20261101", "sha256-0001")


def spec(**keys: object) -> Spec:
    step = {"name": "greet", "action": "install-packages", "inputs": {"packages": ["nginx"]}}
    return Spec.model_validate(
        {"name": "hello", "source": {"project": "local", "family": "debian-12"}, "steps": [step], **keys}
    )


def same(plan: Plan) -> Plan:
    return plan


def request(world: World, asked: Spec, text: str = "one", amend: Callable[[Plan], Plan] = same) -> BuildRequested:
    return request_build(
        asked, world.factory, source=SOURCE, context=None, request=text, provisioner_version="1", amend=amend
    )


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


def test_plan_is_amended_before_it_is_checked() -> None:
    world = World()
    world.compute.all_images["hello-20261120-x"] = Image("other", "hello-20261120-x", "id", values.NOON)

    def amend(plan: Plan) -> Plan:
        return replace(plan, image=replace(plan.image, project="other", export_to=f"out/{plan.image.name}"))

    event = request(world, spec(), amend=amend)
    assert (event.plan.image.project, event.plan.image.export_to) == ("other", f"out/{event.plan.image.name}")


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


def test_an_image_that_another_build_is_making_is_refused_before_the_build() -> None:
    world = World()
    first = request(world, spec(output=FIXED))
    world.engine.request(first)
    with pytest.raises(InputError, match=f"image fixed .* is being made by build {first.build_id}"):
        request(world, spec(output=FIXED), "two")


@pytest.mark.parametrize(
    ("rebuild", "changes", "found"),
    [
        ("changed", {}, True),
        ("always", {}, False),
        ("changed", {"deprecated": "DEPRECATED"}, False),
        ("changed", {"family": "other"}, False),
        ("changed", {"labels": {"goldsmith-digest": "0" * 40}}, False),
        ("changed", {"labels": {}}, False),
        ("changed", {"id": "another"}, False),  # made anew by hand, with our labels
    ],
)
def test_a_published_image_of_the_content(rebuild: str, changes: dict[str, object], found: bool) -> None:
    world = World()
    asked = spec(rebuild=rebuild, output={"family": "hello"})
    made = published(world, request(world, asked))
    world.compute.all_images[made.name] = replace(made, **changes)  # type: ignore[arg-type]  # fields of Image, by name
    assert (request(world, asked, "another").unchanged is not None) is found


def test_labels_that_somebody_else_has_set_make_no_image_ours() -> None:
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

    def test_a_kept_image_of_another_project_goes_with_the_sweep_of_any(self) -> None:
        world = World()
        first = self.kept(world, spec(output=FIXED))
        world.clock.time = world.build(first.build_id).kept_until
        assert [each.name for each in sweep("another-project", world.factory)] == ["fixed"]

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
        assert sweep("local", world.factory) == []
        world.clock.time = until
        assert [each.name for each in sweep("local", world.factory)] == ["fixed"]
        assert (world.compute.all_images, world.store.image("local", "fixed")) == ({}, None)

    def test_another_image_of_its_name_is_never_deleted(self) -> None:
        world = World()
        first = self.kept(world, spec(output=FIXED))
        other = replace(world.compute.all_images["fixed"], id="by-hand")
        world.compute.all_images["fixed"] = other
        world.clock.time = world.build(first.build_id).kept_until
        assert sweep("local", world.factory) == []
        assert world.compute.all_images == {"fixed": other}


def test_cancel_publishes_a_wish_with_its_reason() -> None:
    world = World()
    cancel(values.BUILD_ID, "cancelled by a person", world.bus, world.clock)
    world.clock.time += 1
    cancel(values.BUILD_ID, "again", world.bus, world.clock)
    events = [read_event_message(message) for message in world.bus.published]
    assert [event.build_id for event in events] == [values.BUILD_ID] * 2
    assert all(isinstance(event, CancelRequested) for event in events)
    assert len({event.event_id for event in events}) == 2
    assert events[0].time == values.NOON
