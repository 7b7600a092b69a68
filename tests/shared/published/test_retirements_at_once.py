"""Retirement among publications, revocations, users and people: what is deleted is looked at in the call that does it.

    never deleted    what is in use, what its family leads to, its newest, what Goldsmith has not made and published,
                     what was not OBSOLETE at the last look
    in the end       what nothing needs is gone

Users come as they do on Compute Engine: nothing new is made of an image that is OBSOLETE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from hypothesis import event, given, settings
from hypothesis import strategies as st

from shared.build.image.retire_rules import RetireRule
from shared.errors import InputError, Permanent, Transient
from shared.image_users import ImageUse
from shared.ports import Image, ResourceKind
from shared.published.retirement import Retiring, retire_images
from shared.published.revocation import revoke_image
from tests.world.fakes import FakeCompute
from tests.world.fuse import Died, Fuse, Interleaved
from tests.world.published import FAMILY, add_build, build_of, image_of
from tests.world.world import World

DAY = 86400.0
NAMES = ("one", "two", "three", "four")


class Watched(FakeCompute):
    """Shows each deletion to the test before it happens."""

    watch: Callable[[Image], None]

    def delete(self, kind: ResourceKind, name: str, project: str, zone: str, *, image_id: str = "") -> None:
        if kind == "image" and name in self.all_images and self.all_images[name].id == image_id:
            self.watch(self.all_images[name])
        super().delete(kind, name, project, zone, image_id=image_id)


class Life:
    """A family, those that use it, and what has been deleted."""

    def __init__(self, keep: int) -> None:
        self.world = World()
        self.compute = Watched(self.world.clock, self.world.bucket)
        self.compute.watch = self.check_deletion
        self.backend = replace(self.world.backend, compute=self.compute)
        self.used: dict[str, str] = {}  # names of images, by their ids
        self.ours: set[str] = set()  # ids of those that were published
        self.unreadable = False
        self.count = 0
        self.keep = keep
        self.deleted: list[str] = []
        for _ in range(5):
            self.publish("")

    def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
        yield from [ImageUse(name, image_id, f"disk of {name}") for image_id, name in self.used.items()]
        if self.unreadable:
            raise Permanent("403")

    def check_deletion(self, image: Image) -> None:
        family = [each for each in self.compute.all_images.values() if each.family == FAMILY]
        active = [each for each in family if each.deprecated is None]
        assert image.id in self.ours, "nothing that is not ours"
        assert image.id not in self.used, "nothing in use"
        assert image != max(family, key=lambda each: each.created), "nothing newest"
        assert not active or image != max(active, key=lambda each: each.created), "nothing that the family leads to"
        assert image.deprecated == "OBSOLETE"
        assert not self.unreadable
        self.deleted.append(image.name)

    # What may happen, to an image or at all.

    def publish(self, _name: str) -> None:
        self.count += 1
        self.world.clock.time += 60
        build = build_of(f"image-{self.count}")
        add_build(self.world.store, build)
        made = replace(image_of(build), created=self.world.clock.now())
        for older in [each for each in self.compute.all_images.values() if each.family == FAMILY]:
            if older.deprecated is None and older.id in self.ours:
                self.compute.all_images[older.name] = replace(older, deprecated="DEPRECATED", replacement=made.name)
                known = self.world.store.image("local", made.name)
                assert known is not None
                self.world.store.save_image(replace(known, replaced=(*known.replaced, older.name)), known)
        self.compute.all_images[made.name] = made
        self.ours.add(made.id)

    def make_by_hand(self, _name: str) -> None:
        self.count += 1
        made = Image("local", f"alien-{self.count}", f"by-hand-{self.count}", self.world.clock.now(), family=FAMILY)
        self.compute.all_images[made.name] = made

    def make_again(self, name: str) -> None:
        """A person deletes it and makes another of the name, outside of Goldsmith."""
        image = self.compute.all_images[name]
        if image.id not in self.used:
            self.compute.all_images[name] = replace(image, id=image.id + "-again", deprecated=None)

    def use(self, name: str) -> None:
        if not self.compute.all_images[name].is_obsolete:
            self.used[self.compute.all_images[name].id] = name

    def leave(self, name: str) -> None:
        self.used.pop(self.compute.all_images[name].id, None)

    def activate(self, name: str) -> None:
        self.compute.all_images[name] = replace(self.compute.all_images[name], deprecated=None, replacement=None)

    def revoke(self, name: str) -> None:
        with suppress(InputError, Permanent, Transient):
            revoke_image("local", name, "bad", self.backend)

    def wait(self, _name: str) -> None:
        self.world.clock.time += DAY

    def turn_readable(self, _name: str) -> None:
        self.unreadable = not self.unreadable

    def run(self, fuse: Fuse) -> None:
        self.world.store.fuse = self.compute.fuse = fuse
        retiring = Retiring("local", {FAMILY: RetireRule(keep=self.keep)}, ("local",), self)
        try:
            with suppress(Died):
                list(retire_images(retiring, self.backend, self.world.clock.now() + 9 * DAY))
        finally:
            self.world.store.fuse = self.compute.fuse = Fuse()


HAPPENINGS = (
    *("publish", "make_by_hand", "make_again", "use", "leave", "activate", "revoke", "wait", "turn_readable"),
)
RUN = st.tuples(st.sampled_from(["whole", "killed", "interrupted"]), st.integers(1, 60), st.sampled_from(HAPPENINGS))
STEPS = st.lists(
    st.tuples(st.sampled_from((*HAPPENINGS, *["wait"] * 4, *["run"] * 8)), RUN, st.integers(0, 9)),
    min_size=3,
    max_size=25,
)


def happen(life: Life, what: str, which: int) -> None:
    names = sorted(life.compute.all_images)
    getattr(life, what)(names[which % len(names)])


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 3))
def test_nothing_that_is_needed_is_ever_deleted(steps: list[tuple[str, tuple[str, int, str], int]], keep: int) -> None:
    life = Life(keep)
    for what, (how, at, meanwhile), which in steps:
        if what != "run":
            happen(life, what, which)
        elif how == "interrupted" and meanwhile != "turn_readable":
            life.run(Interleaved(at, lambda m=meanwhile, w=which: happen(life, m, w), dies=False))  # type: ignore[misc]  # bound now
        else:
            life.run(Fuse(at if how == "killed" else None))
    event(f"{min(len(life.deleted), 3)} deleted on the way")
    life.unreadable = False
    life.used.clear()
    for _ in range(3):
        life.run(Fuse())
        life.world.clock.time += DAY
    for image in life.compute.all_images.values():
        known = life.world.store.image("local", image.name)
        if known is not None and known.id == image.id and known.retired is not None and known.retired.obsolete:
            assert known.retired.left or image == max(life.compute.all_images.values(), key=lambda each: each.created)
