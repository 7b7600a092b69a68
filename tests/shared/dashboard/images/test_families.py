"""Families: what each leads to, its channels, what waits, and what was built."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import Distributed, Outcome
from shared.build.image.approval import Approval, AskedPromotion
from shared.build.image.channels import Channel
from shared.errors import InputError
from shared.published.promotion import promote_image
from tests.shared.dashboard.pages_of import Pages
from tests.world import values
from tests.world.published import FAMILY, add_build, build_of, image_of
from tests.world.world import World

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def world() -> World:
    """Three images of the family hello, of which the oldest is deprecated and the one before the newest is in dev."""
    made = World()
    channels = {"dev": Channel(), "prod": Channel(("ann@example.com", "bo@example.com"))}
    made.backend = replace(made.backend, channels=lambda: channels)
    for age, name in enumerate(("hello-3", "hello-2", "hello-1")):
        build = build_of(name)
        marks = {"deprecated": "DEPRECATED", "replacement": "hello-3", "deletes_at": values.NOON + 9e5}
        made.compute.all_images[name] = image_of(build, age * 3600.0, **(marks if age == 2 else {}))
        add_build(made.store, replace(build, created=values.NOON - age * 3600.0))
    promote_image("local", "hello-2", "dev", made.backend)
    return made


def asked(**changes: object) -> AskedPromotion:
    known = AskedPromotion("local", "hello-3", "sha256-hello-3", "prod", 1, values.NOON, values.NOON + 7e5)
    return replace(known, **changes)  # type: ignore[arg-type]  # by name


def test_a_family_leads_to_its_newest_image_and_has_its_channels(world: World) -> None:
    document = Pages(world).json("/families")
    [row] = document["families"]
    assert (row["family"], row["leads_to"]["name"], row["images"]) == (FAMILY, "hello-3", 3)
    assert (row["leads_to"]["verified"], row["leads_to"]["is_ours"]) == (True, True)
    dev, prod = row["channels"]
    assert (dev["channel"], dev["copy_of"], dev["is_newest"]) == ("dev", "hello-2", False)
    assert (prod["channel"], prod["leads_to"]) == ("prod", None)
    assert row["last_build"]["id"] == "hello-3-0123456789ab"
    page = Pages(world).html("/families")
    assert "hello-2" in page
    assert "nothing promoted" in page


def test_a_family_without_an_active_image_says_so(world: World) -> None:
    for name, image in world.compute.all_images.items():
        world.compute.all_images[name] = replace(image, deprecated="OBSOLETE")
    assert Pages(world).json("/families")["families"][0]["leads_to"] is None
    assert "no active image" in Pages(world).html("/families")


def test_what_waits_for_approval_is_beside_its_family(world: World) -> None:
    world.store.save_promotion(asked(approvals=(Approval("ann@example.com", values.NOON, "fine"),)), None)
    world.store.save_promotion(asked(image="other", image_id="x", channel="dev"), None)
    [row] = Pages(world).json("/families")["families"]
    assert row["waiting"] == [
        {
            "image": "hello-3",
            "channel": "prod",
            "asked": values.NOON,
            "deadline": values.NOON + 7e5,
            "approved_by": ["ann@example.com"],
        }
    ]
    assert "hello-3 waits for prod" in Pages(world).html("/families")
    assert "Approved by ann@example.com." in Pages(world).html("/families/hello")


def test_the_page_of_a_family(world: World) -> None:
    known = world.store.image("local", "hello-3")
    assert known is not None
    told = (Distributed("other-project/hello-3", values.NOON, refused=HOSTILE, is_copy=True),)
    assert world.store.save_image(replace(known, distributed=told), known)
    paused = values.trigger(paused=values.NOON, failures=5)
    assert world.store.save_trigger(paused, None)
    document = Pages(world).json("/families/hello")
    assert [image["name"] for image in document["images"]] == ["hello-3", "hello-2", "hello-1"]
    assert document["images"][2]["state"] == "DEPRECATED"
    assert document["images"][2]["deletes_at"] == values.NOON + 9e5
    assert [trigger["failures"] for trigger in document["triggers"]] == [5]
    assert [build["id"][:7] for build in document["builds"]] == ["hello-3", "hello-2", "hello-1"]
    assert document["distributed"][0]["refused"] == HOSTILE
    page = Pages(world).html("/families/hello")
    for text in ("use hello-3", "5 builds in a row have failed", "every 7 d", "/diff?a=hello-2&amp;b=hello-3"):
        assert text in page
    assert HOSTILE not in page


def test_a_channel_is_a_family_with_a_page_too(world: World) -> None:
    document = Pages(world).json("/families/hello-dev")
    assert [image["copy_of"] for image in document["images"]] == ["hello-2"]


def test_a_family_that_is_not_there(world: World) -> None:
    assert Pages(world).json("/families/none", 404) == {"error": "there is no family none; see /families"}
    assert "&lt;b&gt;" in Pages(world).html("/families/<b>", 404)


def test_what_cannot_be_read_is_told(world: World) -> None:
    world.store.promotion_texts["local~hello-3~prod"] = "{"

    def broken() -> dict[str, Channel]:
        raise InputError("channels.json: not JSON <b>")

    world.backend = replace(world.backend, channels=broken)
    faults = Pages(world).json("/families")["faults"]
    assert faults[0] == "channels.json: not JSON <b>"
    assert len(faults) == 2
    assert "not JSON &lt;b&gt;" in Pages(world).html("/families")


def test_without_images_there_is_a_word(world: World) -> None:
    assert "No families yet" in Pages(World()).html("/families")
    lone = build_of("lone", outcome=Outcome.SUCCEEDED)
    empty = World()
    empty.compute.all_images["lone"] = image_of(lone, family=None)
    assert Pages(empty).json("/families")["without"] == 1
    assert "1 image is in no family" in Pages(empty).html("/families")
