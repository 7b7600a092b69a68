"""What people ask for: who may, that things are as they were shown, what comes of it, and what a death leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.backend import Backend
from shared.build.build import Outcome, Revocation
from shared.build.image.approval import promotion_id
from shared.build.image.channels import Channel
from shared.build.image.people import PersonRule
from shared.build.trigger import Trigger, trigger_id
from shared.errors import InputError, PoisonMessage, Transient
from shared.gcp.identities import GoogleIdentities
from shared.names import BUILD_LABEL, SOURCE_LABEL
from shared.people.acts import image_acts, resume_triggers
from shared.people.take import Act, take_person_request, why_not
from shared.people.targets import seen_now
from shared.person_requests import PersonRequest, PersonRequestKind, read_asked, write_person_request
from shared.published.cascade import ask_for_rebuilds
from shared.published.revocation import RevokedImage
from tests.world import values
from tests.world.fuse import Died, Fuse
from tests.world.published import add_build, build_of, image_of
from tests.world.world import World

ANN, BEN, EVE = "ann@example.com", "ben@example.com", "eve@example.com"
PEOPLE = {"ann": PersonRule((ANN,), operator=True), "ben": PersonRule((BEN,))}
SPEC = "gs://bucket/specs/hello.yaml"
ACTS = {**image_acts(lambda revoked: revoked), "resume": resume_triggers}


@pytest.fixture
def world() -> World:
    made = World()
    channels = {"prod": Channel((BEN, EVE)), "dev": Channel()}
    identities = GoogleIdentities("my-project", "http://127.0.0.1:9/certs")
    made.backend = replace(made.backend, channels=lambda: channels, people=lambda: PEOPLE, identities=identities)
    for age, name in enumerate(("two", "one")):
        build = build_of(name)
        add_build(made.store, build)
        made.compute.all_images[name] = image_of(build, 1000.0 * age)
    trigger = Trigger(trigger_id(SPEC), SPEC, "hello", "text", "digest", values.NOON, paused=values.NOON, failures=5)
    made.store.save_trigger(trigger, None)
    return made


def ask(world: World, kind: PersonRequestKind, target: str, **more: Any) -> PersonRequest:
    """Return what a person asks for after a look at it."""
    seen = seen_now(kind, target, more.get("channel", ""), world.backend)
    asked = PersonRequest("ab" * 16, kind, target, ANN, "it is time", 1.0, seen=seen)
    return replace(asked, **more)


def take(world: World, asked: PersonRequest, acts: dict[Any, Act] | None = None) -> PersonRequest:
    return take_person_request(read_asked(write_person_request(asked).encode()), acts or ACTS, world.backend)


def test_an_image_is_revoked_and_the_record_says_who_and_why(world: World) -> None:
    done = take(world, ask(world, "revoke", "local/one"))
    assert (done.state, done.by, done.reason) == ("done", ANN, "it is time")
    known = world.store.image("local", "one")
    assert isinstance(known and known.revoked, Revocation)
    assert known is not None
    assert known.revoked is not None
    assert known.revoked.reason == f"it is time ({ANN})"
    assert world.store.person_requests("local/one") == [done]


def test_the_last_good_image_is_revoked_only_where_that_is_said(world: World) -> None:
    take(world, ask(world, "revoke", "local/one"))
    asked = ask(world, "revoke", "local/two", id="cd" * 16)
    failed = take(world, asked)
    assert (failed.state, "has no other good image" in failed.told) == ("failed", True), failed.told
    assert world.compute.all_images["two"].deprecated is None
    done = take(world, replace(asked, id="ef" * 16, alone=True))
    assert (done.state, done.alone) == ("done", True), done.told
    assert world.compute.all_images["two"].deprecated == "OBSOLETE"


def test_what_was_built_from_a_revoked_image_is_built_again(world: World) -> None:
    child = build_of("child", source="one")
    add_build(world.store, child)
    source = {BUILD_LABEL: child.id, SOURCE_LABEL: "one"}
    world.compute.all_images["child"] = image_of(child, labels=source)
    rebuilt: list[str] = []

    def rebuild(revoked: RevokedImage, _backend: Backend) -> RevokedImage:
        rebuilt.extend(revoked.descendants)
        return ask_for_rebuilds(revoked, _backend)

    acts = dict(image_acts(lambda revoked: revoked, rebuild))
    done = take(world, ask(world, "revoke", "local/one", cascade=True), acts)
    assert (done.state, rebuilt) == ("done", ["child"]), done.told
    assert "child" in done.told


def test_where_a_command_builds_again_nothing_is_done(world: World) -> None:
    failed = take(world, ask(world, "revoke", "local/one", cascade=True))
    assert (failed.state, "goldsmith images revoke --cascade" in failed.told) == ("failed", True)
    assert world.compute.all_images["one"].deprecated is None


def test_a_promotion_is_asked_for_approved_and_carried_out(world: World) -> None:
    asked = take(world, ask(world, "promote", "local/one", channel="prod"))
    assert (asked.state, "waits for approval" in asked.told) == ("done", True)
    for number, mail in enumerate((BEN, EVE)):
        said = ask(world, "approve", "local/one", channel="prod", by=mail, id=f"{number:032x}", reason="it ran a week")
        assert take(world, said).state == "done"
    promotion = world.store.promotion(promotion_id("local", "one", "prod"))
    assert promotion is not None
    assert (promotion.state, promotion.by) == ("promoted", ANN)
    assert [(each.by, each.reason) for each in promotion.approvals] == [(BEN, "it ran a week"), (EVE, "it ran a week")]
    assert world.compute.all_images["one-prod"].family == "hello-prod"


def test_a_promotion_is_refused(world: World) -> None:
    take(world, ask(world, "promote", "local/one", channel="prod"))
    said = ask(world, "refuse", "local/one", channel="prod", by=BEN, id="0" * 32)
    assert f"was refused by {BEN}: it is time" in take(world, said).told
    assert "one-prod" not in world.compute.all_images


def test_triggers_go_on(world: World) -> None:
    assert take(world, ask(world, "resume", SPEC)).state == "done"
    known = world.store.trigger(trigger_id(SPEC))
    assert known is not None
    assert (known.paused, known.failures) == (0.0, 0)


@pytest.mark.parametrize(
    ("kind", "by", "channel", "told"),
    [
        ("revoke", BEN, "", f"{BEN} is no operator"),
        ("revoke", "nobody@example.com", "", "nobody@example.com is no operator"),
        ("promote", EVE, "prod", f"{EVE} is no operator"),
        ("approve", ANN, "prod", f"{ANN} is no approver of the channel prod"),
        ("refuse", BEN, "dev", f"{BEN} is no approver of the channel dev"),
        ("approve", BEN, "none", "is no approver of the channel none"),
        ("revoke", "", "", "nothing proves who you are"),
    ],
)
def test_who_may_not_is_told_so(world: World, kind: PersonRequestKind, by: str, channel: str, told: str) -> None:
    assert told in why_not(kind, by, channel, world.backend)
    if by:
        take(world, ask(world, "promote", "local/two", channel="prod", id="1" * 32))
        asked = PersonRequest("ab" * 16, kind, "local/two", by, "it is time", 1.0, channel=channel, seen="x")
        done = take(world, asked)
        assert (done.state, told in done.told) == ("refused", True)
    assert world.compute.all_images["two"].deprecated is None


def test_on_one_machine_everybody_who_is_there_may(world: World) -> None:
    world.backend = replace(world.backend, identities=None)
    assert why_not("revoke", "someone", "", world.backend) == ""


def test_what_has_changed_since_it_was_shown_is_not_done(world: World) -> None:
    asked = ask(world, "revoke", "local/one")
    known = world.store.image("local", "one")
    assert known is not None
    world.store.save_image(replace(known, id="another"), known)
    done = take(world, asked)
    assert (done.state, "look again" in done.told) == ("refused", True)
    assert world.compute.all_images["one"].deprecated is None


def test_what_is_not_there_any_more_is_said(world: World) -> None:
    for kind, target in (("cancel", "hello-0123456789ab"), ("revoke", "local/none"), ("resume", "gs://b/specs/x.yaml")):
        asked = PersonRequest(f"{len(target):032x}", kind, target, ANN, "why", 1.0)  # type: ignore[arg-type]
        done = take(world, asked, {**ACTS, "cancel": lambda _asked, _backend: "done"})
        assert (done.state, done.told != "") == ("refused", True)


def test_an_approval_is_for_the_promotion_that_was_shown(world: World) -> None:
    take(world, ask(world, "promote", "local/one", channel="prod"))
    shown = ask(world, "approve", "local/one", channel="prod", by=BEN, id="1" * 32)
    take(world, ask(world, "refuse", "local/one", channel="prod", by=EVE, id="2" * 32))
    take(world, ask(world, "promote", "local/one", channel="prod", id="3" * 32))
    assert take(world, shown).state == "refused"


def test_the_same_request_twice_is_done_once(world: World) -> None:
    calls: list[str] = []

    def act(asked: PersonRequest, _backend: Backend) -> str:
        calls.append(asked.id)
        return "done"

    asked = ask(world, "resume", SPEC)
    first = [take(world, asked, {"resume": act}) for _ in range(3)]
    assert (len(set(first)), calls) == (1, [asked.id])
    with pytest.raises(PoisonMessage, match="of another person"):
        take(world, replace(asked, by=BEN), {"resume": act})


def test_what_cannot_be_done_is_recorded_and_what_may_pass_is_tried_again(world: World) -> None:
    def fail(error: Exception) -> Act:
        def act(_asked: PersonRequest, _backend: Backend) -> str:
            raise error

        return act

    asked = ask(world, "resume", SPEC)
    with pytest.raises(Transient):
        take(world, asked, {"resume": fail(Transient("not now"))})
    known = world.store.person_request(asked.id)
    assert known is not None
    assert known.state == "accepted"
    done = take(world, asked, {"resume": fail(InputError("its disk is gone"))})
    assert (done.state, done.told) == ("failed", "its disk is gone")


@pytest.mark.parametrize("kind", ["revoke", "promote"])
def test_a_process_that_dies_anywhere_leaves_what_the_next_one_ends(world: World, kind: PersonRequestKind) -> None:
    channel = "dev" if kind == "promote" else ""
    for burns in range(1, 60):
        fresh = world_again(world)
        asked = ask(fresh, kind, "local/one", channel=channel)
        fuse = Fuse(burns)
        fresh.store.fuse = fresh.compute.fuse = fuse
        try:
            take(fresh, asked)
        except Died:
            fresh.store.fuse = fresh.compute.fuse = Fuse()
            done = take(fresh, asked)
            assert done.state == "done", (burns, done.told)
            continue
        break
    else:
        raise AssertionError("it never came to its end")
    assert burns > 4


def world_again(world: World) -> World:
    made = World()
    made.backend = replace(made.backend, channels=world.backend.channels, people=world.backend.people)
    made.backend = replace(made.backend, identities=world.backend.identities)
    for age, name in enumerate(("two", "one")):
        build = build_of(name)
        add_build(made.store, build)
        made.compute.all_images[name] = image_of(build, 1000.0 * age)
    return made


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"{}",
        b"[" * 5000,
        b"x" * 20000,
        write_person_request(PersonRequest("../x", "cancel", "t", ANN, "why", 1.0)).encode(),
        write_person_request(PersonRequest("ab" * 16, "cancel", "", ANN, "why", 1.0)).encode(),
        write_person_request(PersonRequest("ab" * 16, "cancel", "t", "", "why", 1.0)).encode(),
        write_person_request(PersonRequest("ab" * 16, "cancel", "t", ANN, "w" * 1001, 1.0)).encode(),
        write_person_request(PersonRequest("ab" * 16, "delete", "t", ANN, "why", 1.0)).encode(),  # type: ignore[arg-type]
    ],
)
def test_messages_of_another_form_are_poison(data: bytes) -> None:
    with pytest.raises(PoisonMessage):
        read_asked(data)


def test_who_sends_a_message_does_not_say_what_has_come_of_it() -> None:
    forged = PersonRequest("ab" * 16, "cancel", "t", ANN, "why", 1.0, state="done", told="ha", ended=2.0)
    assert read_asked(write_person_request(forged).encode()).state == "asked"


def test_an_act_of_another_function_is_poison(world: World) -> None:
    with pytest.raises(PoisonMessage, match="does not belong here"):
        take(world, ask(world, "revoke", "local/one"), {"resume": resume_triggers})


def test_builds_are_as_they_were_seen() -> None:
    world = World()
    build = world.run(values.plan())
    assert build.outcome is Outcome.SUCCEEDED
    assert seen_now("cancel", build.id, "", world.backend).startswith("finished succeeded 1")
