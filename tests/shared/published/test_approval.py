"""Promotions to a channel with approvers: whose word counts, what it leads to, and what a process that dies leaves."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

import pytest

from shared.build.build import Revocation
from shared.build.image.approval import AskedPromotion, PromotionAnswer, promotion_id, purpose_of
from shared.build.image.channels import Channel
from shared.build.image.people import PersonRule
from shared.errors import DamagedDocument, InputError, Permanent, PoisonMessage
from shared.gcp.identities import GoogleIdentities
from shared.published.approval import (
    GIVEN_UP,
    PersonsWord,
    answer_promotion,
    ask_promotion,
    lapse_promotions,
)
from shared.published.image_requests import shown_result, take_image_request
from shared.published.promotion import PromotedImage, promote_image
from shared.published.revocation import revoke_image
from tests.world.fuse import Died, Fuse, Interleaved
from tests.world.published import add_build, build_of, image_of
from tests.world.tokens import DEPLOYMENT, SigningKey, certificates_page
from tests.world.world import World

ANN, BEN, EVE = "ann@example.com", "ben@example.com", "eve@example.com"
WEEK = 7 * 86_400.0
CHANNELS = {"dev": Channel(), "prod": Channel((ANN, BEN, "cay@example.com")), "lonely": Channel((ANN,))}
KEY = SigningKey("a1")


@pytest.fixture(scope="module")
def identities() -> Iterator[GoogleIdentities]:
    with certificates_page(KEY) as page:
        yield GoogleIdentities(DEPLOYMENT, page.url)


@pytest.fixture
def world(identities: GoogleIdentities) -> World:
    return world_of(identities)


def world_of(identities: GoogleIdentities | None) -> World:
    made = World()
    made.backend = replace(made.backend, channels=lambda: CHANNELS, identities=identities)
    for age, name in enumerate(("two", "one")):
        build = build_of(name)
        add_build(made.store, build)
        made.compute.all_images[name] = image_of(build, 1000.0 * age)
    return made


def ask(world: World, name: str = "one", request: str = "") -> PromotedImage | AskedPromotion:
    return ask_promotion("local", name, "prod", world.backend, request=request)


def known(world: World, name: str = "one") -> AskedPromotion:
    found = world.store.promotion(promotion_id("local", name, "prod"))
    assert found is not None
    return found


def token(asked: AskedPromotion, mail: str, answer: PromotionAnswer = "approve") -> str:
    return KEY.token(mail, purpose_of(asked, answer))


def say(
    world: World, mail: str, answer: PromotionAnswer = "approve", asked: AskedPromotion | None = None
) -> PromotedImage | AskedPromotion:
    asked = known(world) if asked is None else asked
    return give(world, token(asked, mail, answer), answer, asked.image)


def give(
    world: World, shown: str, answer: PromotionAnswer = "approve", name: str = "one"
) -> PromotedImage | AskedPromotion:
    return answer_promotion("local", name, "prod", answer, PersonsWord("it is good", shown), world.backend)


def in_channel(world: World, channel: str = "prod") -> list[str]:
    return [image.name for image in world.compute.all_images.values() if image.family == f"hello-{channel}"]


def test_a_promotion_waits_for_two_people_and_is_carried_out() -> None:
    with certificates_page(KEY) as page:
        world = world_of(GoogleIdentities(DEPLOYMENT, page.url))
        asked = ask(world, request="17")
        assert asked == AskedPromotion(
            "local", "one", "sha256-one", "prod", 1, world.clock.now(), world.clock.now() + WEEK, request="17"
        )
        waits = say(world, "Ann@Example.com")
    assert isinstance(waits, AskedPromotion)
    assert waits.text.endswith(f"to the channel prod waits for approval until 2026-11-27 12:00:00Z, approved by {ANN}")
    assert in_channel(world) == []
    second = token(waits, BEN)
    done = give(world, second)  # the page is gone, and its certificates are still known
    assert isinstance(done, PromotedImage)
    assert (done.name, done.leads_to, in_channel(world)) == ("one-prod", "one-prod", ["one-prod"])
    ended = known(world)
    assert (ended.state, [each.by for each in ended.approvals]) == ("promoted", [ANN, BEN])
    assert [(each.reason, len(each.proof)) for each in ended.approvals] == [("it is good", 64)] * 2
    assert all(piece not in json.dumps(world.store.promotion_texts) for piece in second.split("."))


def test_a_channel_without_approvers_asks_nobody(world: World) -> None:
    assert isinstance(ask_promotion("local", "one", "dev", world.backend), PromotedImage)
    assert world.store.promotion_texts == {}
    with pytest.raises(InputError, match="channel prod has approvers, who have not been asked"):
        promote_image("local", "one", "prod", world.backend)


def test_what_is_delivered_again_counts_once(world: World) -> None:
    first = ask(world, request="17")
    assert [ask(world, request=request) for request in ("17", "18")] == [first, first]
    yes = token(known(world), ANN)
    waits = [give(world, yes), give(world, yes), say(world, ANN)]
    assert waits == [known(world)] * 3
    last = token(known(world), BEN)
    assert isinstance(give(world, last), PromotedImage)
    done = known(world)
    assert [give(world, last), give(world, yes)] == [done, done]
    again = ask(world, request="19")
    assert isinstance(again, PromotedImage)
    assert (again.already, known(world)) == (True, done)
    del world.compute.all_images["one-prod"]
    assert ask(world, request="17") == done, "an old message asks for nothing new"
    new = ask(world, request="20")
    assert isinstance(new, AskedPromotion)
    assert (new.number, new.approvals) == (2, ())


@pytest.mark.parametrize(
    ("mail", "purpose", "text"),
    [
        (EVE, "approve/local/one/sha256-one/prod/1", "eve@example.com is no approver of the channel prod"),
        (BEN, "approve/local/two/sha256-two/prod/1", "the token is for "),
        (BEN, "approve/local/one/sha256-two/prod/1", "the token is for "),
        (BEN, "approve/local/one/sha256-one/dev/1", "the token is for "),
        (BEN, "approve/local/one/sha256-one/prod/2", "the token is for "),
        (BEN, "refuse/local/one/sha256-one/prod/1", "the token is for "),
        ("", "", "a token has to prove who says so"),
    ],
)
def test_a_word_that_does_not_count_changes_nothing(world: World, mail: str, purpose: str, text: str) -> None:
    ask(world)
    say(world, ANN)
    before = known(world)
    with pytest.raises(InputError, match=text):
        give(world, KEY.token(mail, purpose) if mail else "")
    assert (known(world), in_channel(world)) == (before, [])


def test_what_cannot_be_asked_for_is_said_at_once(world: World) -> None:
    with pytest.raises(InputError, match="channel lonely has too few approvers: two people have to approve"):
        ask_promotion("local", "one", "lonely", world.backend)
    with pytest.raises(InputError, match="image none of project local cannot be promoted"):
        ask(world, "none")
    with pytest.raises(InputError, match="no promotion of image one of project local to the channel prod waits"):
        give(world, "")
    ask(world)
    for reason in ("", "two\nlines", "x" * 501):
        with pytest.raises(InputError, match="reason: write one line of 1 to 500 characters that says why"):
            answer_promotion("local", "one", "prod", "approve", PersonsWord(reason, "x"), world.backend)


def test_an_approver_can_refuse_until_there_are_enough(world: World) -> None:
    ask(world)
    say(world, ANN)
    no = token(known(world), BEN, "refuse")
    refused = give(world, no, "refuse")
    assert isinstance(refused, AskedPromotion)
    assert refused.text.endswith("to the channel prod was refused by ben@example.com: it is good")
    assert give(world, no, "refuse") == refused == known(world)
    with pytest.raises(InputError, match="was refused by ben"):
        say(world, "cay@example.com")
    old = token(known(world), ANN)
    again = ask(world)
    assert isinstance(again, AskedPromotion)
    assert (again.number, again.approvals, again.refused) == (2, (), None)
    with pytest.raises(InputError, match="the token is for"):
        give(world, old)
    say(world, ANN)
    assert isinstance(say(world, BEN), PromotedImage)
    with pytest.raises(InputError, match=r"was approved by ann@example\.com, ben@example\.com"):
        say(world, BEN, "refuse")


def test_a_promotion_lapses_and_is_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    ask(world)
    ask(world, "two")
    say(world, ANN)
    world.clock.time += WEEK - 1
    assert lapse_promotions(world.backend) == ()
    world.clock.time += 1
    with pytest.raises(InputError, match="has lapsed at 2026-11-27 12:00:00Z; ask for it again"):
        say(world, BEN)
    assert lapse_promotions(world.backend) == ("local~two~prod",), "the other one has lapsed just now"
    assert lapse_promotions(world.backend) == ()
    assert [getattr(record, "metric", "") for record in caplog.records] == ["promotion_lapsed"] * 2
    assert (known(world).state, known(world, "two").state, in_channel(world)) == ("lapsed", "lapsed", [])
    assert isinstance(ask(world), AskedPromotion)


def test_who_may_approve_is_looked_at_when_it_is_carried_out(world: World) -> None:
    ask(world)
    say(world, ANN)
    world.backend = replace(world.backend, channels=lambda: {"prod": Channel((BEN, "cay@example.com"))})
    waits = say(world, BEN)
    assert isinstance(waits, AskedPromotion)
    assert (waits.state, in_channel(world)) == ("waiting", [])
    world.backend = replace(world.backend, channels=lambda: {"prod": Channel()})
    with pytest.raises(InputError, match="channel prod has no approvers any more; promote the image without"):
        say(world, "cay@example.com")
    world.backend = replace(world.backend, channels=lambda: {"dev": Channel()})
    with pytest.raises(InputError, match="there is no channel 'prod'"):
        say(world, "cay@example.com")
    world.backend = replace(world.backend, channels=lambda: CHANNELS)
    assert isinstance(say(world, "cay@example.com"), PromotedImage)


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("revoked", "cannot be promoted: it was revoked at"),
        ("deleted", "cannot be promoted: it has been deleted"),
        ("replaced", "is another one than was approved; ask for its promotion"),
    ],
)
def test_an_image_that_changes_meanwhile_is_not_promoted(world: World, what: str, text: str) -> None:
    ask(world)
    say(world, ANN)
    if what == "revoked":
        revoke_image("local", "one", "bad", world.backend, alone=True)
    elif what == "deleted":
        del world.compute.all_images["one"]
    else:
        document = world.store.image("local", "one")
        assert document is not None
        assert world.store.save_image(replace(document, id="newer"), document)
        world.compute.all_images["one"] = replace(world.compute.all_images["one"], id="newer")
    yes = token(known(world), BEN)
    with pytest.raises(InputError, match=text):
        give(world, yes)
    ended = give(world, yes)
    assert isinstance(ended, AskedPromotion)
    assert (ended.state, text in ended.text, in_channel(world)) == ("failed", True, [])


def test_another_image_of_the_name_is_asked_for_anew(world: World) -> None:
    ask(world)
    say(world, ANN)
    document = world.store.image("local", "one")
    assert document is not None
    world.store.save_image(replace(document, id="newer"), document)
    world.compute.all_images["one"] = replace(world.compute.all_images["one"], id="newer")
    asked = ask(world)
    assert isinstance(asked, AskedPromotion)
    assert (asked.number, asked.image_id, asked.approvals) == (2, "newer", ())


def test_wherever_a_process_dies_the_next_delivery_goes_on(world: World, identities: GoogleIdentities) -> None:
    for call in itertools.count(1):
        world = world_of(identities)
        shown: dict[str, str] = {}

        def deliver(world: World = world, shown: dict[str, str] = shown) -> None:
            """Deliver what three people have published, in this order."""
            ask(world, request="17")
            for mail in (ANN, BEN):
                give(world, shown.setdefault(mail, token(known(world), mail)))

        fuse = world.burn_at(call)
        try:
            deliver()
        except Died:
            assert len(known_by(world)) == 2 or in_channel(world) == [], call
            world.burn_at(None)
            deliver()
        count = fuse.count
        world.burn_at(None)
        assert (known(world).state, known(world).number, in_channel(world)) == ("promoted", 1, ["one-prod"]), call
        assert [each.by for each in known(world).approvals] == [ANN, BEN]
        if count < call:
            return


def known_by(world: World) -> set[str]:
    """Return who has approved, without a call that counts."""
    text = world.store.promotion_texts.get(promotion_id("local", "one", "prod"), "{}")
    return {each["by"] for each in json.loads(text).get("approvals", [])}


@pytest.mark.parametrize("other", ["refuse", "approve", "lapse", "revoke"])
def test_wherever_something_else_comes_between_one_of_both_is_first(
    world: World, identities: GoogleIdentities, other: str
) -> None:
    for call in itertools.count(1):
        world = world_of(identities)
        ask(world)
        say(world, ANN)
        yes = token(known(world), BEN)

        def come_between(world: World = world) -> None:
            world.burn_at(None)
            with suppress(InputError):
                if other == "lapse":
                    world.clock.time += WEEK + GIVEN_UP
                    lapse_promotions(world.backend)
                elif other == "revoke":
                    revoke_image("local", "one", "bad", world.backend, alone=True)
                else:
                    say(world, "cay@example.com", other)  # type: ignore[arg-type]  # one of both

        fuse = Interleaved(call, come_between, dies=False)
        world.store.fuse = world.compute.fuse = fuse
        with suppress(InputError, Permanent):
            give(world, yes)
        count = fuse.count
        world.store.fuse = world.compute.fuse = Fuse()
        ended = known(world)
        active = [name for name in in_channel(world) if world.compute.all_images[name].deprecated is None]
        if other == "revoke":
            assert active == [] or count < call, call
        elif ended.state == "refused":
            assert active == [], call
        else:
            assert len(ended.approvals) >= 2 or active == [], call
            assert other == "lapse" or ended.state == "promoted", (call, ended)
        if count < call:
            return


def test_on_one_machine_a_word_is_recorded_and_no_border() -> None:
    world = world_of(None)
    asked = ask_promotion("local", "one", "lonely", world.backend, account="ann")
    assert isinstance(asked, AskedPromotion)
    assert asked.by == "ann"
    with pytest.raises(InputError, match="nothing here tells who says so"):
        answer_promotion("local", "one", "lonely", "approve", PersonsWord("good", "a.b.c"), world.backend)
    done = answer_promotion("local", "one", "lonely", "approve", PersonsWord("good", account="ann"), world.backend)
    assert isinstance(done, PromotedImage)
    [approval] = json.loads(world.store.promotion_texts["local~one~lonely"])["approvals"]
    assert (approval["by"], approval["reason"], approval["proof"]) == ("ann", "good", "")


def take(world: World, message: str = "", **asked: object) -> str:
    return shown_result(take_image_request(json.dumps(asked).encode(), "local", world.backend, message=message))


def test_requests_for_approval(world: World) -> None:
    for _ in range(2):
        told = take(world, "17", promote={"image": "one", "to": "prod"})
        assert told.endswith("waits for approval until 2026-11-27 12:00:00Z; 2 approvers are needed")
    said = {"image": "local/one", "channel": "prod", "reason": "good"}
    assert "approved by ann@example.com" in take(world, approve={**said, "token": token(known(world), ANN)})
    with pytest.raises(PoisonMessage, match="a request to approve an image is refused: the token is for"):
        take(world, approve={**said, "token": token(known(world), BEN, "refuse")})
    told = take(world, approve={**said, "token": token(known(world), BEN)})
    assert told == "image one of project local is in the channel prod, as one-prod; family hello-prod leads to one-prod"
    take(world, promote={"image": "two", "to": "prod"})
    no = {**said, "image": "two", "token": token(known(world, "two"), ANN, "refuse")}
    assert take(world, refuse=no).endswith("was refused by ann@example.com: good")
    for wrong in ({}, {**said}, {**said, "token": 5}, {**said, "token": "x", "more": 1}):
        with pytest.raises(PoisonMessage):
            take(world, approve=wrong)


def test_a_document_that_cannot_be_read_is_no_yes(world: World) -> None:
    ask(world)
    world.store.damage("", "{", promotion="local~one~prod")
    with pytest.raises(DamagedDocument):
        ask(world)
    with pytest.raises(DamagedDocument):
        give(world, "x")
    assert lapse_promotions(world.backend) == ()
    assert in_channel(world) == []


def test_a_revocation_before_the_second_yes_is_seen_by_it(world: World) -> None:
    """Also one that is only recorded, by a process that has died."""
    ask(world)
    say(world, ANN)
    document = world.store.image("local", "one")
    assert document is not None
    assert world.store.save_image(replace(document, revoked=Revocation("bad", world.clock.now())), document)
    with pytest.raises(InputError, match="it was revoked at"):
        say(world, BEN)
    assert in_channel(world) == []


class TestAuthors:
    """Ann has a login and a service account; both are approvers' addresses."""

    ROBOT = "ann@my-project.iam.gserviceaccount.com"
    PEOPLE: ClassVar = {"ann": PersonRule((ANN, ROBOT)), "ben": PersonRule((BEN,))}

    @pytest.fixture
    def written(self, world: World) -> World:
        return self.world_of(world, ANN)

    def world_of(self, world: World, author: str) -> World:
        channels = {"prod": Channel((ANN, BEN, self.ROBOT)), "own": Channel((ANN, self.ROBOT))}
        world.backend = replace(world.backend, channels=lambda: channels, people=lambda: self.PEOPLE)
        known = world.store.image("local", "one")
        assert known is not None
        assert world.store.save_image(replace(known, author=author), known)
        return world

    def test_an_author_needs_one_other_person(self, written: World) -> None:
        asked = ask(written)
        assert isinstance(asked, AskedPromotion)
        assert shown_result(asked).endswith(f"; one approver other than {ANN} is needed")
        assert f"whose author is {ANN}," in asked.text
        for own in (ANN, self.ROBOT):
            assert isinstance(say(written, own), AskedPromotion)
        assert in_channel(written) == []
        assert isinstance(say(written, BEN), PromotedImage)
        copy = written.store.image("local", "one-prod")
        assert (in_channel(written), copy and copy.author) == (["one-prod"], ANN)

    def test_no_spelling_of_an_address_makes_another_person_of_an_author(self, written: World) -> None:
        ask(written)
        for own in (ANN.upper(), "Ann@Example.com", self.ROBOT.upper()):
            assert isinstance(say(written, own), AskedPromotion)
        with pytest.raises(InputError, match=r"ann\+2@example.com is no approver of the channel prod"):
            say(written, "ann+2@example.com")
        assert in_channel(written) == []

    def test_a_spec_cannot_ask_for_fewer_than_the_deployment(self, world: World) -> None:
        self.world_of(world, "")
        asks_for(world, 1)
        ask(world)
        assert isinstance(say(world, BEN), AskedPromotion)
        assert in_channel(world) == []

    def test_another_person_is_enough_alone(self, written: World) -> None:
        ask(written)
        assert isinstance(say(written, BEN), PromotedImage)

    def test_two_addresses_of_one_person_are_not_two_people(self, world: World) -> None:
        self.world_of(world, "")
        asked = ask(world)
        assert isinstance(asked, AskedPromotion)
        assert shown_result(asked).endswith("; 2 approvers are needed")
        assert [type(say(world, mail)) for mail in (ANN, self.ROBOT)] == [AskedPromotion, AskedPromotion]
        assert isinstance(say(world, BEN), PromotedImage)

    def test_whose_addresses_are_not_named_any_more_is_no_author(self, written: World) -> None:
        ask(written)
        written.backend = replace(written.backend, people=dict)
        assert isinstance(say(written, BEN), AskedPromotion)
        assert isinstance(say(written, ANN), PromotedImage)

    def test_an_author_may_be_one_of_several_that_the_spec_asks_for(self, written: World) -> None:
        asks_for(written, 2)
        asked = ask(written)
        assert isinstance(asked, AskedPromotion)
        assert shown_result(asked).endswith(f"; 2 approvers are needed, one of them other than {ANN}")
        for own in (ANN, self.ROBOT):
            assert isinstance(say(written, own), AskedPromotion)
        assert in_channel(written) == []
        assert isinstance(say(written, BEN), PromotedImage)

    def test_two_addresses_of_one_person_are_not_two_that_the_spec_asks_for(self, written: World) -> None:
        asks_for(written, 3)
        told = f"channel prod has too few approvers: 3 people, one of them other than its author, {ANN}, have to"
        with pytest.raises(InputError, match=told):
            ask(written)

    def test_a_channel_whose_only_approver_is_the_author_is_refused(self, written: World) -> None:
        with pytest.raises(InputError, match=f"a person other than its author, {ANN}, has to approve"):
            ask_promotion("local", "one", "own", written.backend)


def asks_for(world: World, approvals: int, channel: str = "prod") -> None:
    """Let the spec of an image have asked for approvals."""
    known = world.store.image("local", "one")
    assert known is not None
    assert world.store.save_image(replace(known, approvals={channel: approvals}), known)


class TestAskedBySpec:
    def test_a_promotion_waits_for_as_many_different_people(self, world: World) -> None:
        asks_for(world, 3)
        asked = ask(world, request="17")
        assert isinstance(asked, AskedPromotion)
        assert (asked.at_least, shown_result(asked).endswith("; 3 approvers are needed")) == (3, True)
        assert "waits for 3 approvals until " in asked.text
        for mail in (ANN, BEN, ANN, BEN):
            assert isinstance(say(world, mail), AskedPromotion)
        assert (known(world).state, in_channel(world)) == ("waiting", [])
        assert isinstance(say(world, "cay@example.com"), PromotedImage)
        copy = world.store.image("local", "one-prod")
        assert (in_channel(world), copy and copy.approvals) == (["one-prod"], {"prod": 3})

    def test_one_approval_is_never_made_enough_by_a_spec(self, world: World) -> None:
        asks_for(world, 1)
        ask(world)
        assert isinstance(say(world, ANN), AskedPromotion)
        assert isinstance(say(world, BEN), PromotedImage)

    def test_another_channel_asks_as_before(self, world: World) -> None:
        asks_for(world, 3, "elsewhere")
        asked = ask(world)
        assert isinstance(asked, AskedPromotion)
        assert (asked.at_least, shown_result(asked).endswith("; 2 approvers are needed")) == (0, True)

    def test_a_channel_that_has_lost_its_approvers_takes_nothing(self, world: World) -> None:
        asks_for(world, 2, "dev")
        with pytest.raises(InputError, match="asks for 2 approvals in the channel dev, which has no approvers"):
            ask_promotion("local", "one", "dev", world.backend)
        asks_for(world, 4)
        with pytest.raises(InputError, match="channel prod has too few approvers: 4 people have to approve"):
            ask(world)
        assert (world.store.promotion_texts, in_channel(world, "dev")) == ({}, [])

    def test_on_one_machine_as_many_accounts_are_recorded(self) -> None:
        world = world_of(None)
        asks_for(world, 2, "lonely")
        ask_promotion("local", "one", "lonely", world.backend, account="ann")
        for account in ("ann", "ann"):
            waits = answer_promotion(
                "local", "one", "lonely", "approve", PersonsWord("good", account=account), world.backend
            )
            assert isinstance(waits, AskedPromotion)
        assert in_channel(world, "lonely") == []
        done = answer_promotion("local", "one", "lonely", "approve", PersonsWord("good", account="ben"), world.backend)
        assert isinstance(done, PromotedImage)
