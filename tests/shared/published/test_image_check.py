"""Whether an image may be used, and why not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import Outcome, Revocation, State
from shared.errors import InputError
from shared.ports import Image
from shared.published.image_check import ImageVerdict, check_image
from tests.world import values
from tests.world.published import add_build, build_of, image_of
from tests.world.world import World


@pytest.fixture
def world() -> World:
    made = World()
    build = build_of("one")
    add_build(made.store, build)
    made.compute.all_images["one"] = image_of(build)
    return made


def check(world: World, name: str = "one", *, must_be_verified: bool = False) -> ImageVerdict:
    return check_image("local", name, world.backend, must_be_verified=must_be_verified)


def record(world: World, **changes: object) -> None:
    known = world.store.image("local", "one")
    assert known is not None
    changed = replace(known, **changes)  # type: ignore[arg-type]  # by name
    assert world.store.save_image(changed, known)


def test_a_published_image_may_be_used(world: World) -> None:
    found = check(world, must_be_verified=True)
    assert found == ImageVerdict("local", "one", True, True, True, build_of("one").id, None, None, (), ())
    assert found.is_usable


def test_a_revoked_image_may_not_and_its_reason_is_told_also_when_it_is_deleted(world: World) -> None:
    record(world, revoked=Revocation("bad", values.NOON))
    told = "it was revoked at 2026-11-20 12:00:00Z: bad"
    assert check(world).problems == (told,)
    del world.compute.all_images["one"]
    assert check(world).problems == (told, "it has been deleted")


def test_what_is_not_ours_may_not_whatever_its_labels_say(world: World) -> None:
    world.compute.all_images["one"] = replace(world.compute.all_images["one"], id="another")
    assert check(world).problems == ("Goldsmith has not made it",)
    assert check(world, "none").problems == ("it is not there; it has been deleted, or never was",)


@pytest.mark.parametrize("state", ["reserved", "made", "kept"])
def test_what_is_not_published_may_not(world: World, state: str) -> None:
    record(world, state=state)
    assert check(world).problems == (f"its build {build_of('one').id} has not published it",)


def test_an_obsolete_image_may_not_and_a_deprecated_one_may(world: World) -> None:
    image = world.compute.all_images["one"]
    world.compute.all_images["one"] = replace(image, deprecated="OBSOLETE")
    assert check(world).problems == ("it is OBSOLETE, so nothing can start from it",)
    world.compute.all_images["one"] = replace(image, deprecated="DEPRECATED", replacement="two")
    assert (check(world).problems, check(world).notes) == ((), ("it is deprecated; use two",))


def test_an_image_without_verify_may_be_used_unless_it_must_be_verified(world: World) -> None:
    record(world, verified=False)
    assert (check(world).is_usable, check(world).verified) == (True, False)
    assert check(world, must_be_verified=True).problems == ("it was not verified",)


def test_whether_an_image_of_the_release_before_was_verified_its_build_says(world: World) -> None:
    record(world, verified=None)
    assert check(world).verified is True
    record(world, verified=None, build_id="gone-0123456789ab")
    assert check(world).verified is None
    assert check(world, must_be_verified=True).problems == ("it was not verified",)


def test_an_image_from_before_there_were_documents_is_known_by_its_build() -> None:
    world, build = World(), build_of("one")
    world.store.create(build, values.requested(build_id=build.id, plan=build.plan))
    world.compute.all_images["one"] = image_of(build)
    assert (check(world).is_usable, check(world).verified) == (True, True)
    failed = build_of("two", outcome=Outcome.FAILED, state=State.FINISHED)
    world.store.create(failed, values.requested(build_id=failed.id, plan=failed.plan))
    world.compute.all_images["two"] = image_of(failed)
    assert check(world, "two").problems == ("Goldsmith has not made it",)


def test_a_name_that_no_image_can_have_is_an_error(world: World) -> None:
    world.compute.all_images["X"] = Image("local", "X", "1", 0.0)
    with pytest.raises(InputError, match="not a valid name"):
        check(world, "X")
