"""From a spec to a request: what is found out before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from shared.errors import EnvironmentFault, InputError
from shared.events import BuildRequested, CancelRequested
from shared.messages import read_event_message
from shared.plan import Plan, SourceImage
from shared.ports import Image
from shared.requests import cancel, find_unchanged, request_build
from shared.spec import Spec
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


def of_content(made: Plan, name: str, **changes: object) -> Image:
    plan = made.image
    labels = {**plan.labels, "goldsmith-digest": made.content_digest[:40]}
    image = Image("local", name, f"id-{name}", values.NOON, family=plan.family, labels=labels)
    image = replace(image, disk_size_gb=plan.disk_size_gb)
    return replace(image, **changes)  # type: ignore[arg-type]  # fields of Image, by name


def test_request_has_the_plan_and_the_servers_time() -> None:
    world = World()
    event = request(world, spec())
    assert (event.build_id, event.time, event.unchanged) == (event.plan.build_id, values.NOON, None)
    assert event.plan.source == SOURCE
    assert event == request(world, spec())
    assert event.build_id != request(world, spec(), "two").build_id


def test_plan_is_amended_before_it_is_checked() -> None:
    world = World()
    event = request(world, spec(), amend=lambda plan: replace(plan, image=replace(plan.image, name="other")))
    assert event.plan.image.name == "other"
    world.compute.all_images["other"] = Image("local", "other", "id", values.NOON)
    with pytest.raises(InputError, match="image other exists in project local with other content"):
        request(world, spec(), amend=lambda plan: replace(plan, image=replace(plan.image, name="other")))


def test_what_the_machine_cannot_carry_is_refused_before_anything_is_made() -> None:
    world = World()
    world.compute.faults["check"] = EnvironmentFault("no room")
    with pytest.raises(EnvironmentFault, match="no room"):
        request(world, spec())
    assert world.bus.published == []
    assert world.store.builds() == []


def test_image_of_the_name_and_content_is_unchanged_and_needs_no_room() -> None:
    world = World()
    asked = spec(output={"name": "fixed"})
    made = request(world, asked).plan
    world.compute.all_images["fixed"] = of_content(made, "fixed")
    world.compute.faults["check"] = EnvironmentFault("no room")
    event = request(world, asked, "another")
    assert event.unchanged is not None
    assert (event.unchanged.name, event.unchanged.id) == ("fixed", "id-fixed")


@pytest.mark.parametrize("changes", [{"family": "other"}, {"disk_size_gb": 999}, {"labels": {"team": "b"}}])
def test_image_of_the_name_and_content_with_another_output_is_an_error(changes: dict[str, object]) -> None:
    world = World()
    asked = spec(output={"name": "fixed"})
    made = request(world, asked).plan
    labels = {**made.image.labels, **changes.pop("labels", {})}  # type: ignore[dict-item]  # the last case's
    world.compute.all_images["fixed"] = of_content(made, "fixed", labels=labels, **changes)
    with pytest.raises(InputError, match=r"output\.name: image fixed exists .* another family, size or labels"):
        request(world, asked)


def test_image_of_the_name_with_other_content_is_an_error_with_a_remedy() -> None:
    world = World()
    world.compute.all_images["fixed"] = Image("local", "fixed", "id", values.NOON)
    with pytest.raises(InputError, match=r"output\.name: image fixed exists .*; choose another name, or delete it"):
        request(world, spec(output={"name": "fixed"}))


@pytest.mark.parametrize(
    ("rebuild", "changes", "found"),
    [
        ("changed", {}, True),
        ("always", {}, False),
        ("changed", {"deprecated": "DEPRECATED"}, False),
        ("changed", {"family": "other"}, False),
        ("changed", {"labels": {"goldsmith-digest": "0" * 40}}, False),
        ("changed", {"labels": {}}, False),
    ],
)
def test_image_of_the_content_under_another_name(rebuild: str, changes: dict[str, object], found: bool) -> None:
    world = World()
    asked = spec(rebuild=rebuild, output={"family": "hello"})
    world.compute.all_images["older"] = of_content(request(world, asked).plan, "older", **changes)
    assert (request(world, asked, "another").unchanged is not None) is found


def test_newest_of_several_is_given() -> None:
    world = World()
    made = values.plan()
    for name, age in (("old", 20), ("new", 10), ("older", 30)):
        world.compute.all_images[name] = of_content(made, name, created=values.NOON - age)
    unchanged = find_unchanged(made, anywhere=True, factory=world.factory)
    assert unchanged is not None
    assert unchanged.name == "new"
    assert find_unchanged(made, anywhere=False, factory=world.factory) is None


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
