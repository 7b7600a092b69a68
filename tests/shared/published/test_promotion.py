"""Promotions: what comes of one, what is refused, and what a process that was killed leaves to the next one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from shared.build.build import ImageDocument, Revocation
from shared.build.image.channels import read_channels
from shared.errors import DamagedDocument, InputError, Permanent
from shared.ports import Image
from shared.published.image_check import check_image
from shared.published.promotion import PromotedImage, promote_image
from shared.published.revocation import revoke_image
from tests.world import values
from tests.world.fuse import Died, Fuse, Interleaved
from tests.world.published import FAMILY, add_build, build_of, image_of
from tests.world.world import World

CHANNELS = '{"dev": {}, "prod": {}, "vault": {"approvers": ["ann@example.com"]}}'


def world_of(*names: str) -> World:
    """Images of one family, the newest last."""
    world = World()
    world.backend = replace(world.backend, channels=lambda: read_channels(CHANNELS))
    for age, name in enumerate(reversed(names)):
        build = build_of(name)
        add_build(world.store, build)
        world.compute.all_images[name] = image_of(build, 1000.0 * age)
    return world


def promote(world: World, name: str, channel: str = "prod") -> PromotedImage:
    return promote_image("local", name, channel, world.backend)


def leads_to(world: World, family: str = f"{FAMILY}-prod") -> str | None:
    active = [i for i in world.compute.all_images.values() if i.family == family and i.deprecated is None]
    return max(active, key=lambda image: image.created).name if active else None


def known_of(world: World, name: str) -> ImageDocument:
    known = world.store.image("local", name)
    assert known is not None
    return known


def change(world: World, name: str, **changes: object) -> None:
    known = known_of(world, name)
    assert world.store.save_image(replace(known, **changes), known)  # type: ignore[arg-type]  # by name


def test_a_copy_joins_the_channel_and_is_known_as_one() -> None:
    world = world_of("one", "two")
    done = promote(world, "one")
    assert done == PromotedImage("local", "one-prod", "one", "prod", "hello-prod", "one-prod", already=False)
    assert (leads_to(world), leads_to(world, FAMILY)) == ("one-prod", "two")
    known = known_of(world, "one-prod")
    assert (known.state, known.verified, known.build_id) == ("published", True, known_of(world, "one").build_id)
    assert known.copy is not None
    assert (known.copy.of, known.copy.id, known.copy.channel) == ("one", "sha256-one", "prod")
    assert known_of(world, "one").copies == ("one-prod",)
    verdict = check_image("local", "one-prod", world.backend, must_be_verified=True)
    assert (verdict.problems, verdict.notes) == ((), ("it is the copy of one in the channel prod",))
    assert check_image("local", "one", world.backend).copies == ("one-prod",)


def test_the_same_promotion_again_changes_nothing_and_says_so() -> None:
    world = world_of("one")
    promote(world, "one")
    before = dict(world.compute.all_images), dict(world.store.images)
    assert promote(world, "one").already
    assert (dict(world.compute.all_images), dict(world.store.images)) == before


def test_a_channel_leads_to_what_was_promoted_last_also_to_an_older_image() -> None:
    world = world_of("one", "two")
    assert [promote(world, name).leads_to for name in ("two", "one")] == ["two-prod", "one-prod"]
    assert promote(world, "two", "dev").leads_to == "two-dev"
    assert known_of(world, "two").copies == ("two-prod", "two-dev")


def test_a_copy_that_a_newer_one_has_replaced_is_not_told_as_promoted() -> None:
    """An operator who goes back by a promotion has to learn that the channel did not."""
    world = world_of("one", "two")
    promote(world, "one")
    promote(world, "two")
    remedy = "leads to two-prod, which was promoted later; revoke that one, or delete one-prod and promote again"
    with pytest.raises(InputError, match=remedy):
        promote(world, "one")
    assert leads_to(world) == "two-prod"
    del world.compute.all_images["one-prod"]
    assert promote(world, "one").leads_to == "one-prod"


@pytest.mark.parametrize(
    ("name", "channel", "text"),
    [
        ("one", "test", "there is no channel 'test'; write one of: dev, prod, vault"),
        ("one", "prd", "there is no channel 'prd'; did you mean prod?"),
        ("one", "vault", "channel vault has approvers"),
        ("none", "prod", "image none of project local cannot be promoted: it is not there"),
        ("No Name", "prod", "not a valid name"),
        ("alien", "prod", "Goldsmith has not made it"),
        ("bad", "prod", "it was revoked at "),
        ("untested", "prod", "it was not verified"),
        ("old", "prod", "it is OBSOLETE, so nothing can start from it"),
        ("alone", "prod", "it is in no family"),
        ("a" * 59, "prod", "the name of the copy would be " + "a" * 59 + "-prod, which has 64 characters"),
        ("wide", "prod", "the family of the copy would be " + "f" * 60 + "-prod, which has 65 characters"),
        ("two-prod", "dev", "it is a copy itself; promote two"),
        ("taken", "prod", "image taken-prod of project local exists, and no promotion of this taken has made it"),
        ("reserved", "prod", "the name reserved-prod is taken by build another-0123456789ab"),
        ("other", "prod", "family other-prod of project local has an image that no promotion has made: foreign"),
        ("cut", "prod", "its build cut-0123456789ab has not published it"),
    ],
)
def test_what_is_refused_changes_nothing(name: str, channel: str, text: str) -> None:
    world = world_of(
        "one", "two", "bad", "untested", "old", "alone", "a" * 59, "wide", "taken", "reserved", "other", "cut"
    )
    promote(world, "two")
    images = world.compute.all_images
    images["alien"] = Image("local", "alien", "by hand", values.NOON, family=FAMILY)
    images["taken-prod"] = replace(images["alien"], name="taken-prod", family=None)
    images["old"] = replace(images["old"], deprecated="OBSOLETE")
    images["alone"] = replace(images["alone"], family=None)
    images["wide"] = replace(images["wide"], family="f" * 60)
    images["other"] = replace(images["other"], family="other")
    images["foreign"] = replace(images["alien"], name="foreign", family="other-prod")
    change(world, "bad", revoked=Revocation("bad", values.NOON))
    change(world, "untested", verified=False)
    change(world, "cut", state="made")
    assert world.store.save_image(ImageDocument("local", "reserved-prod", "another-0123456789ab", ""), None)
    before = (
        dict(images),
        {key: text for key, text in world.store.images.items() if key[1] not in ("taken", "reserved")},
    )
    with pytest.raises(InputError, match=text.replace("+", r"\+")):
        promote(world, name, channel)
    after = {key: text for key, text in world.store.images.items() if key[1] not in ("taken", "reserved")}
    assert (dict(images), after) == before


def test_without_channels_it_is_said_where_they_are_written() -> None:
    world = world_of("one")
    world.backend = replace(world.backend, channels=dict)
    with pytest.raises(InputError, match=r"no channels are set up; docs/published-images\.md says how"):
        promote(world, "one")


def test_a_document_that_cannot_be_read_is_no_yes() -> None:
    world = world_of("one")
    world.store.damage("", "{", image=("local", "one"))
    with pytest.raises(DamagedDocument):
        promote(world, "one")
    world = world_of("one")
    world.store.damage("", "{", image=("local", "one-prod"))
    with pytest.raises(DamagedDocument):
        promote(world, "one")
    assert leads_to(world) is None


def test_a_copy_that_was_deleted_is_made_again() -> None:
    world = world_of("one")
    first = promote(world, "one")
    del world.compute.all_images["one-prod"]
    again = promote(world, "one")
    assert (first.already, again.already, leads_to(world)) == (False, False, "one-prod")
    assert known_of(world, "one-prod").id == world.compute.all_images["one-prod"].id == "copy-2"


def test_a_copy_of_an_earlier_image_of_that_name_is_in_the_way_until_it_is_deleted() -> None:
    world = world_of("one")
    promote(world, "one")
    build = build_of("one")
    assert build.image is not None
    change(world, "one", id="newer", copies=())
    world.compute.all_images["one"] = replace(world.compute.all_images["one"], id="newer")
    with pytest.raises(InputError, match="one-prod of project local exists"):
        promote(world, "one")
    del world.compute.all_images["one-prod"]
    assert promote(world, "one").leads_to == "one-prod"
    assert known_of(world, "one-prod").id == "copy-2"


def test_a_revocation_takes_the_copies_along_and_each_channel_goes_back() -> None:
    world = world_of("one", "two")
    for name in ("one", "two"):
        promote(world, name)
    promote(world, "two", "dev")
    with pytest.raises(InputError, match=r"family hello-dev of project local has no other good image.*revoke two"):
        revoke_image("local", "two", "bad", world.backend)
    assert leads_to(world) == "two-prod"
    done = revoke_image("local", "two", "bad", world.backend, alone=True)
    assert [(each.name, each.leads_to) for each in done.copies] == [("two-prod", "one-prod"), ("two-dev", None)]
    assert (done.leads_to, leads_to(world), leads_to(world, "hello-dev")) == ("one", "one-prod", None)
    assert {name: image.deprecated for name, image in world.compute.all_images.items()} == {
        "one": None,
        "two": "OBSOLETE",
        "one-prod": None,
        "two-prod": "OBSOLETE",
        "two-dev": "OBSOLETE",
    }
    [problem] = check_image("local", "two-prod", world.backend).problems
    assert problem.endswith(": bad")
    with pytest.raises(InputError, match="it was revoked at"):
        promote(world, "two")


def test_a_copy_is_revoked_by_itself() -> None:
    world = world_of("one", "two")
    for name in ("one", "two"):
        promote(world, name)
    done = revoke_image("local", "two-prod", "bad in production", world.backend)
    assert (done.copy_of, done.leads_to, leads_to(world, FAMILY)) == ("two", "one-prod", "two")
    assert check_image("local", "two", world.backend).problems == ()
    with pytest.raises(InputError, match=r"its copy two-prod was revoked at .*; build another image to promote"):
        promote(world, "two")


def test_the_copy_of_a_revoked_image_is_not_good_before_its_own_record_says_so() -> None:
    world = world_of("one", "two")
    promote(world, "two")
    change(world, "two", revoked=Revocation("bad", values.NOON))
    [problem] = check_image("local", "two-prod", world.backend).problems
    assert problem.startswith("the image that it is a copy of was revoked at")


def test_a_channel_goes_back_to_promoted_images_alone() -> None:
    """An image that a build of ours has published, and that came into the channel's family by hand, is none."""
    world = world_of("one", "two", "odd")
    promote(world, "one")
    world.compute.set_family("local", "odd", "hello-prod")
    with pytest.raises(InputError, match="family hello-prod of project local has no other good image"):
        revoke_image("local", "one", "bad", world.backend)


@dataclass
class Recorded:
    """A revocation whose process dies when it is recorded."""

    world: World
    joined: bool = False  # whether the copy was in its channel by then

    def __call__(self) -> None:
        copy = self.world.compute.all_images.get("two-prod")
        self.joined = copy is not None and copy.family == "hello-prod"
        change(self.world, "two", revoked=Revocation("bad", values.NOON))


def test_a_revocation_that_was_only_recorded_is_seen_before_and_after_the_copy_joins() -> None:
    for call in range(1, 80):
        world = world_of("one", "two")
        promote(world, "one")
        recorded = Recorded(world)
        world.store.fuse = world.compute.fuse = fuse = Interleaved(call, recorded, dies=False)
        refused = ""
        try:
            promote(world, "two")
        except InputError as error:
            refused = str(error)
        world.store.fuse = world.compute.fuse = Fuse()
        if fuse.count < call:
            assert (leads_to(world), refused) == ("two-prod", "")
            return
        assert "was revoked at" in refused or recorded.joined, call
        if not refused:
            revoke_image("local", "two", "bad", world.backend)
        copy = world.compute.all_images.get("two-prod")
        assert (leads_to(world), copy is None or copy.is_obsolete) == ("one-prod", True), call
    raise AssertionError("it does not end")


def test_what_is_built_from_a_copy_is_told_of_its_original() -> None:
    world = world_of("one", "two")
    promote(world, "one")
    child = build_of("child", source="one-prod")
    assert child.plan is not None
    child = replace(child, plan=replace(child.plan, source=replace(child.plan.source, id="copy-1")))
    add_build(world.store, child)
    world.compute.all_images["child"] = image_of(child, family="children")
    assert revoke_image("local", "one", "bad", world.backend, alone=True).descendants == ("child",)


def test_killed_at_any_call_the_same_promotion_goes_on() -> None:
    for last in range(1, 60):
        world = world_of("one", "two")
        promote(world, "one")
        world.store.fuse = world.compute.fuse = Fuse(last)
        try:
            promote(world, "two")
        except Died:
            world.store.fuse = world.compute.fuse = Fuse()
            assert leads_to(world) in ("one-prod", "two-prod")
            assert promote(world, "two").leads_to == "two-prod"
            assert known_of(world, "two-prod").state == "published"
            assert world.compute.copies == 2
            continue
        assert last > 15
        return
    raise AssertionError("it does not end")


def test_wherever_a_promotion_is_killed_a_revocation_takes_back_what_it_has_made() -> None:
    for last in range(1, 60):
        world = world_of("one", "two")
        promote(world, "one")
        world.store.fuse = world.compute.fuse = Fuse(last)
        try:
            promote(world, "two")
        except Died:
            world.store.fuse = world.compute.fuse = Fuse()
            revoke_image("local", "two", "bad", world.backend)
            made = world.compute.all_images.get("two-prod")
            assert made is None or made.is_obsolete
            with pytest.raises(InputError, match="revoked"):
                promote(world, "two")
            assert leads_to(world) == "one-prod"
            continue
        return
    raise AssertionError("it does not end")


def test_an_image_that_takes_the_name_meanwhile_is_not_touched() -> None:
    world = world_of("one")
    world.store.fuse = world.compute.fuse = Fuse(12)
    with pytest.raises(Died):
        promote(world, "one")
    world.store.fuse = world.compute.fuse = Fuse()
    assert known_of(world, "one-prod").state == "reserved"
    hand = Image("local", "one-prod", "by hand", values.NOON)
    world.compute.all_images["one-prod"] = hand
    with pytest.raises(InputError, match="there is another image one-prod"):
        promote(world, "one")
    revoke_image("local", "one", "bad", world.backend, alone=True)
    assert world.compute.all_images["one-prod"] == hand


def test_a_source_that_became_obsolete_by_hand_is_no_copy() -> None:
    world = world_of("one")
    world.compute.faults["copy_image"] = Permanent("image one is OBSOLETE")
    with pytest.raises(Permanent):
        promote(world, "one")
    assert leads_to(world) is None
    assert promote(world, "one").leads_to == "one-prod"
