"""What operators publish to image-requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from shared.build.build import ImageRecord
from shared.build.image.channels import Channel
from shared.build.limits import NO_LIMITS, Limits
from shared.errors import InputError, Permanent, PoisonMessage, Transient
from shared.published.distribution_request import AskedDistribution, DistributedImage, ask_to_distribute
from shared.published.image_requests import shown_result, take_image_request
from shared.published.promotion import PromotedImage
from shared.published.revocation import RevokedImage
from tests.world.published import add_build, build_of, image_of
from tests.world.world import World


@pytest.fixture
def world() -> World:
    made = World()
    for name, age in (("one", 1000.0), ("two", 0.0)):
        build = build_of(name, replaced=("one",) if name == "two" else ())
        add_build(made.store, build)
        made.compute.all_images[name] = image_of(build, age)
    one = made.compute.all_images["one"]
    made.compute.all_images["one"] = replace(one, deprecated="DEPRECATED", replacement="two")
    return made


def take(world: World, **asked: object) -> str | None:
    data = json.dumps({"revoke": asked}).encode()
    done = take_image_request(data, "local", world.backend)
    assert isinstance(done, RevokedImage)
    return done.leads_to


@pytest.mark.parametrize("image", ["two", "local/two"])
def test_an_image_is_revoked_and_the_same_again_changes_nothing(world: World, image: str) -> None:
    for _ in range(2):
        assert take(world, image=image, reason="bad") == "one"
    assert world.compute.all_images["two"].deprecated == "OBSOLETE"


def test_what_is_refused_is_dropped_with_the_reason(world: World) -> None:
    with pytest.raises(PoisonMessage, match="refused: there is no image none in project local"):
        take(world, image="none", reason="bad")
    take(world, image="two", reason="bad")
    with pytest.raises(PoisonMessage, match="refused: family hello of project local has no other good image"):
        take(world, image="one", reason="bad")
    assert take(world, image="one", reason="bad", alone=True) is None


def promote(world: World, **asked: object) -> PromotedImage:
    done = take_image_request(json.dumps({"promote": asked}).encode(), "local", world.backend)
    assert isinstance(done, PromotedImage)
    return done


def test_an_image_is_promoted_and_the_same_again_changes_nothing(world: World) -> None:
    world.backend = replace(world.backend, channels=lambda: {"prod": Channel()})
    told = []
    for image in ("two", "local/two"):
        done = promote(world, image=image, to="prod")
        assert (done.name, done.leads_to) == ("two-prod", "two-prod")
        told.append(shown_result(done))
    assert told[0] == (
        "image two of project local is in the channel prod, as two-prod; family hello-prod leads to two-prod"
    )
    assert "is already in the channel prod" in told[1]
    revoked = take_image_request(
        b'{"revoke": {"image": "two", "reason": "bad", "alone": true}}', "local", world.backend
    )
    assert "copies: two-prod, whose family hello-prod leads to no image;" in shown_result(revoked)
    with pytest.raises(PoisonMessage, match="refused: there is no channel 'test'"):
        promote(world, image="one", to="test")
    with pytest.raises(PoisonMessage, match=r"a request to promote an image is refused: .* was revoked at"):
        promote(world, image="two", to="prod")


@pytest.mark.parametrize("channel", ["x" * 1_000_000, "\ud800", "a\nb", "\x1b[31m", ""])
def test_a_channel_of_any_text_is_refused_in_one_short_line_that_can_be_logged(world: World, channel: str) -> None:
    world.backend = replace(world.backend, channels=lambda: {"prod": Channel()})
    with pytest.raises(PoisonMessage, match="there is no channel '") as refused:
        promote(world, image="two", to=channel)
    told = str(refused.value)
    assert (told.isprintable(), len(told) < 200, told.encode().decode()) == (True, True, told)


def test_what_cannot_be_ended_is_not_delivered_again(world: World) -> None:
    world.compute.faults["obsolete_image"] = Permanent("not allowed")
    with pytest.raises(PoisonMessage, match="image two cannot be carried out to its end: not allowed"):
        take(world, image="two", reason="bad")
    world.store.images["local", "two"] = "{"
    with pytest.raises(PoisonMessage, match="image two cannot be carried out to its end"):
        take(world, image="two", reason="bad")


@pytest.mark.parametrize("project", ["a/b", "../c", "\ud800", "Ä", "x" * 64])
def test_a_project_that_is_none_is_not_asked_for(world: World, project: str) -> None:
    world.compute.faults["image"] = AssertionError("asked for")
    with pytest.raises(PoisonMessage, match="which is no project"):
        take(world, image=f"{project}/two", reason="bad")


@pytest.mark.parametrize("name", ["", "Two", "a~b", "..", "two?alt=media", "\ud800", "x" * 64])
def test_a_name_that_is_none_is_not_asked_for(world: World, name: str) -> None:
    world.compute.faults["image"] = AssertionError("asked for")
    said = {"image": f"my-project/{name}", "channel": "prod", "reason": "good", "token": "x"}
    for asked in ({"distribute": {"image": said["image"], "share": ["user:me@example.com"]}}, {"approve": said}):
        with pytest.raises(PoisonMessage, match="is not a valid name"):
            take_image_request(json.dumps(asked).encode(), "my-project", world.backend)


@pytest.mark.parametrize("channel", ["", "a/b", "a/b/c", "prod~x", "\ud800"])
def test_a_channel_that_is_none_is_not_asked_for(world: World, channel: str) -> None:
    said = {"image": "two", "channel": channel, "reason": "good", "token": "x"}
    with pytest.raises(PoisonMessage, match=r"a request to refuse an image is refused: .* is not a valid name"):
        take_image_request(json.dumps({"refuse": said}).encode(), "my-project", world.backend)


def test_what_may_pass_is_raised(world: World) -> None:
    world.compute.faults["image"] = Transient("the API is away")
    with pytest.raises(Transient):
        take(world, image="two", reason="bad")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"spec": {}}',
        b'{"revoke": "two"}',
        b'{"promote": {"image": "two"}}',
        b'{"promote": {"image": "two", "to": ["prod"]}}',
        b'{"promote": {"image": "two", "to": "prod", "reason": "good"}}',
        b'{"promote": {"image": "two", "to": "prod"}, "revoke": {"image": "two", "reason": "bad"}}',
        b'{"promote": {"image": "two", "to": "prod"}}',
        b'{"revoke": {"image": "two"}}',
        b'{"revoke": {"image": "two", "reason": "bad", "why": "so"}}',
        b'{"revoke": {"image": "two", "reason": "bad"}, "spec": {}}',
        b'{"revoke": {"image": 2, "reason": "bad"}}',
        b'{"revoke": {"image": "two", "reason": "bad", "alone": "yes"}}',
        b'{"revoke": {"image": "two", "reason": ""}}',
        b'{"revoke": {"image": "local/", "reason": "bad"}}',
        b'{"revoke": {"image": "../two", "reason": "\\ud800"}}',
    ],
)
def test_what_is_no_request_changes_nothing(world: World, data: bytes) -> None:
    before = dict(world.compute.all_images), dict(world.store.images)
    with pytest.raises(PoisonMessage):
        take_image_request(data, "local", world.backend)
    assert (dict(world.compute.all_images), dict(world.store.images)) == before


def distribute(world: World, limits: Limits = NO_LIMITS, **asked: object) -> DistributedImage:
    data = json.dumps({"distribute": {"image": "my-project/web", **asked}}).encode()
    done = take_image_request(data, "my-project", world.backend, limits)
    assert isinstance(done, DistributedImage)
    return done


@pytest.fixture
def web(world: World) -> World:
    """A published image of a project on Google Cloud."""
    build = build_of("web")
    assert build.plan is not None
    plan = replace(build.plan, image=replace(build.plan.image, project="my-project"))
    add_build(world.store, replace(build, plan=plan, image=ImageRecord("my-project", "web", "sha256-web")))
    world.compute.all_images["web"] = replace(image_of(build), project="my-project")
    return world


def test_an_image_is_distributed_and_the_same_again_changes_nothing(web: World) -> None:
    targets = ("group:team@example.com", "their-project/web")
    wanted: dict[str, Any] = {"share": ["group:team@example.com"], "copies": [{"project": "their-project"}]}
    done = distribute(web, **wanted)
    assert (done.targets, done.refused) == (targets, ())
    assert distribute(web, **wanted) == done
    assert (web.compute.users, list(web.compute.duplicates)) == (["group:team@example.com"], ["their-project/web"])
    assert (
        shown_result(done) == f"image web of project my-project is distributed to: {', '.join(targets)}; refused: none"
    )


def test_a_target_that_was_refused_is_tried_again(web: World) -> None:
    web.compute.faults["share_image"] = Permanent("there is no such group")
    refused = distribute(web, share=["group:team@example.com"]).refused
    assert refused == ("group:team@example.com: there is no such group",)
    assert distribute(web, share=["group:team@example.com"]).refused == ()
    assert web.compute.users == ["group:team@example.com"]


def test_what_an_image_is_given_to_has_a_limit_in_all_requests_and_so_have_refusals(web: World) -> None:
    web.compute.faults["share_image"] = Permanent("no " * 1000)
    [refused] = distribute(web, share=["user:a@example.com"]).refused
    assert len(refused) == len("user:a@example.com: ") + 500
    for part in range(10):
        distribute(web, share=[f"user:u{part}x{number}@example.com" for number in range(49 if part == 9 else 50)])
    with pytest.raises(PoisonMessage, match="image web of project my-project has 500 targets of 500"):
        distribute(web, share=["user:b@example.com"])
    assert distribute(web, share=["user:a@example.com"]).refused == ()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({}, "name 1 to 50 targets"),
        ({"share": [5]}, "share: is no text"),
        ({"share": ["all"]}, "share: 'all' is no member"),
        ({"share": "all"}, "whose share is no list"),
        ({"copies": ["p"]}, "copies: each is an object with some of project, name"),
        ({"copies": [{"project": "local"}]}, "copies: project: local stands for this machine"),
        ({"copies": [{"name": "gs-x"}]}, "copies: name: 'gs-x' begins with gs-"),
        ({"copies": [{"storage_location": "Europe"}]}, "write a region such as europe-west4"),
        ({"copies": [{"name": "other"}]}, "project my-project has the image; name a storage_location"),
        ({"copies": [{"project": "their-project", **at} for at in ({}, {"name": "web"})]}, "two images of one name"),
        ({"copies": [{"name": "web", "storage_location": "asia"}]}, "two images of one name in project my-project"),
        (
            {"image": "two", "share": ["user:me@example.com"]},
            "no image two in project my-project that Gold",
        ),
    ],
)
def test_wrong_targets_are_told_and_nothing_is_given(web: World, asked: dict[str, Any], why: str) -> None:
    with pytest.raises(PoisonMessage, match=why):
        distribute(web, **asked)
    assert (web.compute.users, web.compute.duplicates) == ([], {})


def test_the_deployment_says_who_may_get_an_image(web: World) -> None:
    with pytest.raises(PoisonMessage, match="share_with of this deployment is empty"):
        distribute(web, Limits(share_with=()), share=["user:me@example.com"])


def test_the_command_that_asks_sees_that_its_request_is_refused_and_what_was_given_before_stays(web: World) -> None:
    """It cannot know the limits of the deployment, nor whether a person has made the image OBSOLETE."""
    distribute(web, share=["user:a@example.com"])
    wanted: dict[str, Any] = {
        "share": ["user:a@example.com", "user:b@example.com"],
        "copies": [{"project": "their-project"}],
    }
    for limits, why in ((Limits(share_with=()), "share_with of this deployment is empty"), (NO_LIMITS, "is OBSOLETE")):
        asked = ask(web, *wanted["share"], copies=wanted["copies"])
        with pytest.raises(PoisonMessage, match=why):
            distribute(web, limits, **wanted)
        settled = {each.target: each.refused for each in asked.settled(web.store.image("my-project", "web"))}
        assert settled.pop("user:a@example.com") == ""
        assert set(settled) == {"user:b@example.com", "their-project/web"}
        assert all(why in each for each in settled.values())
        web.compute.all_images["web"] = replace(web.compute.all_images["web"], deprecated="OBSOLETE")
    assert (web.compute.users, web.compute.duplicates) == (["user:a@example.com"], {})


def test_a_revoked_image_is_not_distributed(web: World) -> None:
    take_image_request(b'{"revoke": {"image": "web", "reason": "bad", "alone": true}}', "my-project", web.backend)
    with pytest.raises(PoisonMessage, match="image web of project my-project is revoked, and is not distributed"):
        distribute(web, share=["user:me@example.com"])


def ask(world: World, *share: str, copies: Sequence[object] = (), name: str = "web") -> AskedDistribution:
    return ask_to_distribute("my-project", name, share, copies, world.store, world.bus)


def test_what_a_command_asks_for_is_what_the_function_does_and_it_sees_what_came_of_it(web: World) -> None:
    web.compute.faults["share_image"] = Permanent("there is no such group")
    copies = [{"project": "their-project", "name": "theirs"}, {"storage_location": "asia"}]
    for refused in ("there is no such group", ""):
        asked = ask(web, "group:team@example.com", copies=copies)
        known = web.store.image("my-project", "web")
        assert "group:team@example.com" not in {each.target for each in asked.settled(known)}
        message = web.bus.published[-1]
        assert message.topic == "image-requests"
        take_image_request(message.data, "my-project", web.backend)
        settled = asked.settled(web.store.image("my-project", "web"))
        assert {each.target: each.refused for each in settled} == {
            "group:team@example.com": refused, "their-project/theirs": "", "my-project/web-asia": ""
        }  # fmt: skip


def test_a_command_publishes_nothing_that_would_be_refused(web: World) -> None:
    for wrong, why in (((), "1 to 50 targets"), (("all",), "'all' is no member")):
        with pytest.raises(InputError, match=why):
            ask(web, *wrong)
    with pytest.raises(InputError, match="no image none in project my-project"):
        ask(web, "user:me@example.com", name="none")
    take_image_request(b'{"revoke": {"image": "web", "reason": "bad", "alone": true}}', "my-project", web.backend)
    with pytest.raises(InputError, match=r"web of project my-project was revoked at .*: bad, and is not distributed"):
        ask(web, "user:me@example.com")
    assert web.bus.published == []
