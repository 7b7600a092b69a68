"""Revocations, publications and deprecations of one family at once: what it leads to after each of their calls.

Each runs on a thread of its own, and stops before and after each call of an adapter; which goes on, and which is killed
there, Hypothesis draws.

    never      the family leads to no image, to a foreign one, or to one whose revocation has returned
               a revocation goes back to an image whose own was recorded before it began
    in the end it leads to the newest image that is published and not revoked
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.build.build import State
from shared.build.orders import Order
from shared.errors import InputError, Permanent, Transient
from shared.ports import Image
from shared.published.revocation import revoke_image
from shared.workers.deprecate_images import deprecate_images
from tests.world import values
from tests.world.published import FAMILY, add_build, build_of, image_of
from tests.world.race import Race, Steps
from tests.world.world import World

pytestmark = pytest.mark.slow

NAMES = ("one", "two", "three", "four")  # oldest first; the first is published when it begins
TRIES = 30
MOST = 1000  # calls of one piece of work


class Family:
    """The family, and what is known to be done."""

    def __init__(self) -> None:
        self.world = World()
        self.steps = Steps()
        self.world.store.fuse = self.world.compute.fuse = self.world.bus.fuse = self.steps
        self.world.clock.pause = lambda most: None  # type: ignore[method-assign]  # no test waits
        self.revoked: set[str] = set()  # whose revocation has returned
        self.published = {"one"}
        for age, name in enumerate(reversed(NAMES)):
            first = name == "one"
            build = build_of(name) if first else build_of(name, state=State.CLEANING, retiring=True, outcome=None)
            add_build(self.world.store, build)
            self.world.compute.all_images[name] = image_of(build, 1000.0 * age, family=FAMILY if first else None)
        alien = Image("local", "alien", "by hand", values.NOON - 9000, family=FAMILY)
        old = replace(alien, name="old", deprecated="DEPRECATED", replacement="two")
        self.world.compute.all_images |= {"alien": alien, "old": old}

    def leads_to(self) -> str | None:
        active = [i for i in self.world.compute.all_images.values() if i.family == FAMILY and i.deprecated is None]
        return max(active, key=lambda image: image.created).name if active else None

    def publish(self, name: str) -> None:
        """Do what label_image, the engine and deprecate_images do, also where another process has begun with it."""
        self.begin(name)
        build = build_of(name, state=State.CLEANING, retiring=True)
        order = Order(build.id, 1, "deprecate_images", 1)
        for _ in range(TRIES):
            with suppress(Transient):  # delivered again
                names = deprecate_images(build, order, self.world.backend).names
                break
        else:
            raise AssertionError(f"{name} cannot deprecate the older ones")
        for _ in range(TRIES):
            known = self.world.store.image("local", name)
            assert known is not None
            if self.world.store.save_image(replace(known, replaced=names), known):
                return
        raise AssertionError(f"{name} cannot be written")

    def begin(self, name: str) -> None:
        """Publish an image; nothing is deprecated yet."""
        known = self.world.store.image("local", name)
        assert known is not None
        if known.state != "published":
            self.published.add(name)
            self.world.compute.set_family("local", name, FAMILY)
            self.world.store.save_image(replace(known, state="published"), known)

    def revoke(self, name: str) -> None:
        recorded = {each for each in NAMES if self.is_recorded(each)}
        done_before = self.world.compute.all_images[name].is_obsolete
        with suppress(InputError, Permanent):  # not published yet, or the last good one
            revoke_image("local", name, "bad", self.world.backend)
            self.revoked.add(name)
            found = self.world.compute.all_images[name]
            assert done_before or found.replacement not in recorded, found

    def check(self) -> None:
        """What holds at every moment."""
        found = self.leads_to()
        assert found in self.published - self.revoked, f"{found} of {self.world.compute.all_images}"

    def check_end(self) -> None:
        """What holds when all have ended."""
        self.check()
        good = [name for name in NAMES if name in self.published and not self.is_recorded(name)]
        if good:
            assert self.leads_to() == good[-1], self.world.compute.all_images

    def is_recorded(self, name: str) -> bool:
        known = self.world.store.image("local", name)
        return known is not None and known.revoked is not None


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_family_always_leads_to_a_good_image(data: st.DataObject) -> None:
    family = Family()
    names = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4), label="revoked")
    works: list[Callable[[], None]] = [partial(family.publish, name) for name in NAMES[1:]]
    works += [partial(family.revoke, name) for name in names]
    with Race(family.steps, family.check, works) as race:
        while running := [actor for actor in race.actors if not actor.ended]:
            actor = running[data.draw(st.integers(0, len(running) - 1))]
            for _ in range(data.draw(st.integers(1, 6))):
                actor.killed = data.draw(st.integers(0, 60)) == 60
                race.step(actor)
    for work in works:  # what the killed ones have begun is finished
        work()
        family.check()
    family.check_end()


def test_a_build_that_ends_late_takes_the_place_of_a_newer_image_that_was_revoked() -> None:
    """Its image is in the family and deprecated, and the store does not know yet that it is published."""
    family = Family()
    family.world.compute.set_family("local", "two", FAMILY)
    family.publish("three")
    family.revoke("three")
    assert family.leads_to() == "one"
    family.publish("two")
    family.check_end()
    assert family.leads_to() == "two"


def test_no_image_gives_way_to_one_that_a_person_has_deprecated() -> None:
    family = Family()
    family.begin("two")
    two = family.world.compute.all_images["two"]
    family.world.compute.all_images["two"] = replace(two, deprecated="DEPRECATED")
    family.publish("two")
    assert family.leads_to() == "one"


PAIRS = {
    "its own build deprecates the older ones": (("publish", "three"), ("revoke", "three")),
    "a newer build deprecates it": (("publish", "four"), ("revoke", "three")),
    "its predecessor is revoked": (("revoke", "two"), ("revoke", "three")),
    "it is revoked twice": (("revoke", "three"), ("revoke", "three")),
}


LONG = ("its predecessor is revoked", "it is revoked twice")


@pytest.mark.parametrize("then", [1, pytest.param(MOST, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    "pair", [pytest.param(pair, marks=[pytest.mark.soak] if pair in LONG else []) for pair in PAIRS]
)
def test_wherever_two_interrupt_each_other_the_family_leads_to_a_good_image(pair: str, then: int) -> None:
    """All ways to stop the one, then the other; to let the one go on for a call or all, the other to its end."""
    for turned in (False, True):
        first, length = 0, 1
        while first < length:
            second, other = 0, 1
            while second < other:
                length, other = _interrupt(pair, (first, second, then), turned=turned)
                second += 1
            first += 1


def test_no_revocation_goes_back_to_an_image_whose_own_has_begun() -> None:
    """The predecessor is still active, since its build keeps it so; its revocation stops after each of its calls."""
    stop, calls = 0, 1
    while stop < calls:
        family = Family()
        for name in ("two", "three"):
            family.begin(name)
        with Race(family.steps, family.check, [partial(family.revoke, "two"), partial(family.revoke, "three")]) as race:
            first, second = race.actors
            calls = race.step(first, stop)
            race.step(second, MOST)
            calls += race.step(first, MOST)
        family.check_end()
        assert family.leads_to() == "one"
        stop += 1
    assert calls > 10


def _interrupt(pair: str, counts: tuple[int, int, int], *, turned: bool) -> tuple[int, int]:
    """Let one go on for so many calls, the other, the one again, then both to their ends; return the calls of each."""
    family = Family()
    for name in ("two", "three"):
        (family.begin if ("publish", name) in PAIRS[pair] else family.publish)(name)
    works = [partial(getattr(family, work), name) for work, name in PAIRS[pair]]
    with Race(family.steps, family.check, works[::-1] if turned else works) as race:
        one, other = race.actors
        calls = race.step(one, counts[0]), race.step(other, counts[1])
        more = race.step(one, counts[2]), race.step(other, MOST)
        last = race.step(one, MOST)
        assert one.ended
        assert other.ended
    family.check_end()
    return calls[0] + more[0] + last, calls[1] + more[1]
