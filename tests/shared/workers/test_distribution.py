"""A published image is shared and copied: each target by itself, whatever becomes of the others."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from shared.build.build import Build, ImageDocument, ImageRecord, Outcome, Revocation, State
from shared.build.events import ImagesDeprecated
from shared.build.orders import Order
from shared.build.plan import ImageCopyPlan
from shared.engine.lifecycle import advance
from shared.errors import Permanent, Transient
from shared.names import COPY_LABEL
from shared.ports import Image
from shared.published.revocation import revoke_image
from shared.workers.deprecate_images import deprecate_images
from tests.world import values
from tests.world.fuse import Died
from tests.world.published import FAMILY, add_build, build_of, image_of
from tests.world.world import World

PROJECT, TEAM, ROBOT = "my-project", "group:team@example.com", "serviceAccount:robot@my-project.iam.gserviceaccount.com"
COPIES = (ImageCopyPlan("their-project"), ImageCopyPlan(PROJECT, storage_location="asia"))
PLACES = ["their-project/web", f"{PROJECT}/web-asia"]


def published(world: World, **wanted: Any) -> Build:
    """A build whose image is published in a project, with what it is distributed to."""
    build = build_of("web")
    assert build.plan is not None
    options = {"share": (TEAM, ROBOT), "copies": COPIES, "deprecate_old": None, **wanted}
    image = replace(build.plan.image, project=PROJECT, **options)
    record = ImageRecord(PROJECT, "web", "sha256-web")
    build = replace(build, plan=replace(build.plan, image=image), image=record)
    add_build(world.store, build)
    world.compute.all_images["web"] = replace(image_of(build), project=PROJECT)
    return build


def carry_out(build: Build, world: World, number: int = 1) -> ImagesDeprecated:
    return deprecate_images(build, Order(build.id, number, "deprecate_images", 1), world.backend)


def known(world: World) -> ImageDocument:
    found = world.store.image(PROJECT, "web")
    assert found is not None
    return found


def test_members_and_copies() -> None:
    world = World()
    fact = carry_out(published(world), world)
    assert (fact.names, fact.refused) == ((), ())
    assert world.compute.users == [TEAM, ROBOT]
    assert list(world.compute.duplicates) == PLACES
    theirs, here = world.compute.duplicates.values()
    assert (theirs.family, here.family) == (FAMILY, None)  # two images would lead the family of one project
    assert theirs.labels == {**world.compute.all_images["web"].labels, COPY_LABEL: "sha256-web"}
    assert [(each.target, each.id, each.refused) for each in known(world).distributed] == [
        (TEAM, "", ""), (ROBOT, "", ""), *((place, f"copy-{place}", "") for place in PLACES)
    ]  # fmt: skip


def test_older_images_are_deprecated_as_well() -> None:
    world = World()
    build = published(world, deprecate_old=build_of("web").plan.image.deprecate_old)  # type: ignore[union-attr]  # it has one
    old = Image(PROJECT, "old", "sha256-old", values.NOON - 9, family=FAMILY)
    world.compute.all_images["old"] = old
    assert carry_out(build, world).names == ("old",)
    assert len(known(world).distributed) == 4


def test_a_target_that_is_refused_keeps_no_other_from_its_image() -> None:
    world = World()
    build = published(world)
    world.compute.faults["share_image"] = Permanent("there is no group team@example.com")
    world.compute.faults["duplicate_image"] = Permanent("permission compute.images.create is missing")
    refused = (
        f"not distributed to {TEAM}: there is no group team@example.com",
        f"not distributed to {PLACES[0]}: permission compute.images.create is missing",
    )
    assert carry_out(build, world).refused == refused
    assert (world.compute.users, list(world.compute.duplicates)) == ([ROBOT], PLACES[1:])
    assert carry_out(build, world, 2).refused == refused  # and nothing is tried again
    assert (world.compute.users, list(world.compute.duplicates)) == ([ROBOT], PLACES[1:])


def test_one_that_passes_is_tried_again_by_itself() -> None:
    world = World()
    build = published(world)
    world.compute.faults["share_image"] = Transient("it is slow")
    with pytest.raises(Transient, match=f"image web is not distributed yet: {TEAM}: it is slow"):
        carry_out(build, world)
    assert (world.compute.users, list(world.compute.duplicates)) == ([ROBOT], PLACES)
    assert carry_out(build, world).refused == ()
    assert world.compute.users == [ROBOT, TEAM]


def test_a_death_at_any_call_leaves_what_the_next_delivery_completes() -> None:
    calls = 0
    for last in range(1, 200):
        world = World()
        build = published(world)
        world.compute.fuse = type(world.compute.fuse)(last)
        try:
            carry_out(build, world)
        except Died:
            calls = last
            world.compute.fuse = type(world.compute.fuse)()
            assert carry_out(build, world).refused == ()
            assert set(world.compute.users) == {TEAM, ROBOT}
            assert list(world.compute.duplicates) == PLACES
        else:
            break
    assert calls >= 8


def test_nothing_is_given_of_a_revoked_image() -> None:
    world = World()
    build = published(world)
    before = known(world)
    assert world.store.save_image(replace(before, revoked=Revocation("bad", values.NOON)), before)
    fact = carry_out(build, world)
    why = "the image was revoked meanwhile"
    assert fact.refused == tuple(f"not distributed to {target}: {why}" for target in (TEAM, ROBOT, *PLACES))
    assert (world.compute.users, world.compute.duplicates) == ([], {})


class RevokedMeanwhile:
    """The world's Compute Engine, where the image is recorded as revoked just before a copy of it is made."""

    def __init__(self, world: World) -> None:
        self._world = world

    def duplicate_image(self, wanted: Any) -> Image:
        before = known(self._world)
        assert self._world.store.save_image(replace(before, revoked=Revocation("bad", values.NOON)), before)
        return self._world.compute.duplicate_image(wanted)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.compute, name)


def test_a_copy_that_is_made_too_late_is_obsolete() -> None:
    world = World()
    build = published(world, copies=COPIES[:1])
    backend = replace(world.backend, compute=RevokedMeanwhile(world))
    deprecate_images(build, Order(build.id, 1, "deprecate_images", 1), backend)
    assert [each.deprecated for each in world.compute.duplicates.values()] == ["OBSOLETE"]


def test_copies_are_revoked_with_their_image() -> None:
    world = World()
    carry_out(published(world), world)
    world.compute.duplicates[PLACES[1]] = replace(world.compute.duplicates[PLACES[1]], id="another")  # by a person
    revoke_image(PROJECT, "web", "its sshd takes any password", world.backend, alone=True)
    assert [world.compute.duplicates[place].deprecated for place in PLACES] == ["OBSOLETE", None]


def test_older_images_that_cannot_be_deprecated_keep_nobody_from_a_second_try() -> None:
    world = World()
    build = published(world, deprecate_old=build_of("web").plan.image.deprecate_old)  # type: ignore[union-attr]  # it has one
    world.compute.all_images["web"] = replace(world.compute.all_images["web"], family="other")
    world.compute.faults["share_image"] = Transient("it is slow")
    world.compute.faults["duplicate_image"] = Permanent("it is forbidden")
    with pytest.raises(Transient, match=f"not in family {FAMILY} any more; image web is not distributed yet: {TEAM}"):
        carry_out(build, world)
    with pytest.raises(Permanent, match=f"any more; not distributed to {PLACES[0]}: it is forbidden"):
        carry_out(build, world)
    assert world.compute.users == [ROBOT, TEAM]


def revoke(world: World) -> None:
    revoke_image(PROJECT, "web", "its sshd takes any password", world.backend, alone=True)


@pytest.mark.parametrize("last", range(1, 20))
def test_no_death_before_a_revocation_leaves_a_copy_that_is_usable(last: int) -> None:
    world = World()
    build = published(world, share=())
    world.compute.fuse = type(world.compute.fuse)(last)
    with suppress(Died):
        carry_out(build, world)
    world.compute.fuse = type(world.compute.fuse)()
    revoke(world)
    assert {each.deprecated for each in world.compute.duplicates.values()} <= {"OBSOLETE"}


class RefusedHalfWay(RevokedMeanwhile):
    """The world's Compute Engine, where a copy is made, and may not join its family."""

    def duplicate_image(self, wanted: Any) -> Image:
        self._world.compute.duplicate_image(wanted)
        raise Permanent("permission compute.images.update is missing")


def test_a_copy_that_was_refused_half_way_is_revoked_too() -> None:
    world = World()
    build = published(world, copies=COPIES[:1])
    backend = replace(world.backend, compute=RefusedHalfWay(world))
    deprecate_images(build, Order(build.id, 1, "deprecate_images", 1), backend)
    revoke(world)
    assert [each.deprecated for each in world.compute.duplicates.values()] == ["OBSOLETE"]


def test_a_late_copy_does_not_lead_the_family_of_its_project() -> None:
    world = World()
    build = published(world, copies=COPIES[:1])
    world.compute.all_images["newer"] = Image(PROJECT, "newer", "sha256-newer", values.NOON + 9999, family=FAMILY)
    carry_out(build, world)
    assert [each.family for each in world.compute.duplicates.values()] == [None]


def test_an_image_is_distributed_after_its_publication() -> None:
    """Of one machine it is not. A refusal is a warning, and the build has succeeded."""
    plan = values.plan()
    given = replace(plan.image, project=PROJECT, share=(TEAM,))
    build = values.build(state=State.PUBLISHING, plan=replace(plan, image=given), committed=values.NOON)
    after, orders = advance(build, values.image_published())
    assert [order.kind for order in orders] == ["deprecate_images", "clean_up"]
    refused = f"not distributed to {TEAM}: there is none"
    told, _ = advance(after, values.images_deprecated(names=(), refused=(refused,)))
    assert (told.outcome, told.warnings, told.retiring) == (Outcome.SUCCEEDED, (refused,), False)
    here = replace(build, plan=replace(plan, image=replace(plan.image, share=(TEAM,), copies=COPIES)))
    assert [order.kind for order in advance(here, values.image_published())[1]] == ["clean_up"]
    share = replace(plan, image=replace(given, deprecate_old=None))
    late = values.order_failed(order="deprecate_images", reason="it is slow")
    left, _ = advance(advance(replace(build, plan=share), values.image_published())[0], late)
    assert left.warnings == ("the image is not distributed to all: it is slow",)
