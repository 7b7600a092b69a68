"""What uses an image that is revoked is told, and recorded with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from shared.build.build import Distributed, ImageDocument, ImageUsage
from shared.build.image.channels import Channel
from shared.build.limits import Limits
from shared.errors import Permanent
from shared.image_users import ImageUse
from shared.published.image_check import check_image
from shared.published.image_requests import shown_result, take_image_request
from shared.published.promotion import promote_image
from shared.published.revocation import RevokedImage
from shared.published.usage import (
    LISTING_SECONDS,
    LONGEST_USER,
    MOST_HELD_USERS,
    MOST_USERS,
    Consumers,
    usage_lines,
    usage_of,
    with_usage,
)
from tests.world.published import add_build, build_of, image_of
from tests.world.world import World


class Users:
    """What uses images, by the projects where it is and whose images these are."""

    def __init__(self, world: World, **uses: list[ImageUse] | Permanent) -> None:
        self.uses_of, self.world, self.seconds = uses, world, 0.0

    def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
        self.world.clock.time += self.seconds
        found = self.uses_of.get(f"{project}_{images_of}", [])
        if isinstance(found, Permanent):
            raise found
        yield from found


@pytest.fixture
def world() -> World:
    made = World()
    made.backend = replace(made.backend, channels=lambda: {"prod": Channel()})
    for name, age in (("one", 1000.0), ("two", 0.0)):
        build = build_of(name)
        add_build(made.store, build)
        made.compute.all_images[name] = image_of(build, age)
    return made


def known(world: World) -> ImageDocument:
    found = world.store.image("local", "two")
    assert found is not None
    return found


def use(name: str, image_id: str = "", user: str = "") -> ImageUse:
    return ImageUse(name, image_id, user or f"user of {name} {image_id}")


def test_users_of_the_image_and_of_its_copies_are_told_and_of_no_other(world: World) -> None:
    promote_image("local", "two", "prod", world.backend)
    copy = world.compute.all_images["two-prod"]
    elsewhere = Distributed("europe/two", 1.0, id="9", is_copy=True), Distributed("group:ops@example.com", 1.0)
    before = known(world)
    assert world.store.save_image(replace(before, distributed=elsewhere), before)
    users = Users(
        world,
        local_local=[
            use("two", "sha256-two"),
            use("two", "another of that name"),
            use("one", "sha256-one"),
            use("two"),
        ],
        web_local=[use("two-prod", copy.id)],
        web_europe=[use("two", "9"), use("two", "8")],
    )
    found = usage_of(known(world), Consumers(users, ("local", "web")), world.backend)
    assert found.users == ("user of two ", "user of two 9", "user of two sha256-two", f"user of two-prod {copy.id}")
    assert (found.more, found.unread) == (0, ())


def test_it_is_bounded_and_what_cannot_be_read_is_named(world: World) -> None:
    many = [use("two", user=f"disk {number:04d} {'x' * 999}") for number in range(MOST_USERS + 5)]
    users = Users(world, a_local=many, b_local=Permanent("403: compute.disks.list"))
    consumers = Consumers(users, ("a", "b", "c"))
    found = usage_of(known(world), consumers, world.backend)
    assert (len(found.users), found.more, found.unread) == (MOST_USERS, 5, ("b: 403: compute.disks.list",))
    assert max(map(len, found.users)) == LONGEST_USER
    assert usage_lines(found)[-2:] == (
        "5 more use it",
        "not known whether anything uses it in project b: 403: compute.disks.list",
    )
    users.uses_of["a_local"] = [use("two", user=str(number)) for number in range(MOST_HELD_USERS + 7)]
    crowded = usage_of(known(world), consumers, world.backend)
    assert len(crowded.users) + crowded.more == MOST_HELD_USERS + 7
    users.seconds = LISTING_SECONDS
    late = usage_of(known(world), consumers, world.backend)
    assert late.unread == ("b: there was no time for it", "c: there was no time for it")


def test_a_revocation_records_what_uses_the_image_then(world: World) -> None:
    users = Users(world, local_local=[use("two", "sha256-two", "disk d of project local in zone")])
    users.uses_of["web_local"] = Permanent("403")
    asked = b'{"revoke": {"image": "two", "reason": "bad"}}'
    for _ in range(2):
        done = take_image_request(asked, "local", world.backend, Limits(consumers=("web",)), users=users)
        assert isinstance(done, RevokedImage)
        usage = ImageUsage(("disk d of project local in zone",), 0, ("web: 403",))
        assert done.usage == usage
        assert "in use by disk d of project local in zone; not known whether" in shown_result(done)
        revoked = check_image("local", "two", world.backend).revoked
        assert revoked is not None
        assert (revoked.done, revoked.usage) == (True, usage)
    users.uses_of.clear()
    done = take_image_request(asked, "local", world.backend, Limits(), users=users)
    assert "; nothing uses it" in shown_result(done)
    assert "; its users are not known" in shown_result(take_image_request(asked, "local", world.backend))


def test_an_image_that_is_gone_meanwhile_has_no_record(world: World) -> None:
    done = take_image_request(b'{"revoke": {"image": "two", "reason": "bad"}}', "local", world.backend)
    assert isinstance(done, RevokedImage)
    now = known(world)
    assert world.store.save_image(replace(now, state="gone"), now)
    assert with_usage(done, Consumers(Users(world), ("local",)), world.backend) == done
