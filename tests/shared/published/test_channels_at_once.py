"""Builds, promotions, revocations and deletions of one family at once: what its channels lead to after each call.

Each runs on a thread of its own, and stops before and after each call of an adapter; which goes on, and which is killed
there, Hypothesis draws.

    never      a channel leads to an image that no promotion has recorded as its copy, to a copy of an unverified image,
               or to one of an image whose revocation has returned
    in the end no channel leads to an image that was revoked, however far its revocation came
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.build.build import ImageDocument, State
from shared.build.image.channels import Channel
from shared.errors import InputError, NotFound, Permanent, Transient
from shared.ownership import revocation_of
from shared.ports import Image
from shared.published.promotion import promote_image
from shared.published.revocation import revoke_image
from tests.world.published import FAMILY, add_build, build_of, image_of
from tests.world.race import Race, Steps
from tests.world.world import World

NAMES = ("one", "two", "three", "untested")  # `three` is published by a work, and `untested` never verified
CHANNELS = ("dev", "prod")
MOST = 1000  # calls of one piece of work


class Channelled:
    """A family with channels, and what is known to be done."""

    def __init__(self) -> None:
        self.world = World()
        self.world.backend = replace(self.world.backend, channels=lambda: dict.fromkeys(CHANNELS, Channel()))
        self.steps = Steps()
        self.world.store.fuse = self.world.compute.fuse = self.world.bus.fuse = self.steps
        self.world.clock.pause = lambda most: None  # type: ignore[method-assign]  # no test waits
        self.revoked: set[str] = set()  # whose revocation has returned
        self.promoted: set[str] = set()
        for age, name in enumerate(reversed(NAMES)):
            build = build_of(name) if name != "three" else build_of(name, state=State.PUBLISHING, outcome=None)
            assert build.plan is not None
            if name == "untested":
                build = replace(build, plan=replace(build.plan, verify_steps=None))
            add_build(self.world.store, build)
            self.world.compute.all_images[name] = image_of(build, 1000.0 * age)

    def publish(self, name: str) -> None:
        """Do what the engine does when an image has joined its family."""
        known = self.world.store.image("local", name)
        assert known is not None
        if known.state != "published":
            self.world.store.save_image(replace(known, state="published", verified=True), known)

    def promote(self, name: str, channel: str) -> None:
        with suppress(InputError, Permanent, Transient):
            promote_image("local", name, channel, self.world.backend)
            self.promoted.add(f"{name}-{channel}")

    def revoke(self, name: str) -> None:
        with suppress(InputError):  # not there, or not published yet
            revoke_image("local", name, "bad", self.world.backend, alone=True)
            self.revoked.add(name)

    def delete(self, name: str) -> None:
        """Do what a person does, also to a copy."""
        with suppress(NotFound):
            self.world.compute.delete("image", name, "local", "")

    def leads_to(self, channel: str) -> Image | None:
        family = f"{FAMILY}-{channel}"
        active = [i for i in self.world.compute.all_images.values() if i.family == family and i.deprecated is None]
        return max(active, key=lambda image: (image.created, image.name)) if active else None

    def check(self) -> None:
        """What holds at every moment."""
        for channel in CHANNELS:
            found = self.leads_to(channel)
            if found is None:
                continue
            known = self.read(found.name)
            assert known is not None, found
            assert (known.id, known.state, known.verified) == (found.id, "published", True), (known, found)
            assert known.copy is not None
            assert known.copy.channel == channel
            assert known.copy.of != "untested"
            assert not {found.name, known.copy.of} & self.revoked, (found, self.revoked)

    def check_end(self) -> None:
        """What holds when all have ended."""
        self.check()
        for channel in CHANNELS:
            found = self.leads_to(channel)
            assert found is None or revocation_of(found, self.world.backend) is None, found

    def read(self, name: str) -> ImageDocument | None:
        """Look a document up without a call that counts."""
        return self.world.store.image("local", name)


def works_of(channelled: Channelled) -> st.SearchStrategy[Callable[[], None]]:
    copies = [f"{name}-{channel}" for name in NAMES for channel in CHANNELS]
    return st.one_of(
        st.builds(partial, st.just(channelled.promote), st.sampled_from(NAMES), st.sampled_from(CHANNELS)),
        st.builds(partial, st.just(channelled.revoke), st.sampled_from([*NAMES, *copies])),
        st.builds(partial, st.just(channelled.delete), st.sampled_from([*NAMES, *copies])),
        st.just(partial(channelled.publish, "three")),
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_channel_never_leads_to_an_image_that_must_not_be_used(data: st.DataObject) -> None:
    channelled = Channelled()
    works = data.draw(st.lists(works_of(channelled), min_size=2, max_size=6), label="works")
    with Race(channelled.steps, channelled.check, works) as race:
        while running := [actor for actor in race.actors if not actor.ended]:
            actor = running[data.draw(st.integers(0, len(running) - 1))]
            for _ in range(data.draw(st.integers(1, 8))):
                actor.killed = data.draw(st.integers(0, 60)) == 60
                race.step(actor)
    for work in works:  # what the killed ones have begun is finished, and a deletion is done once more
        work()
        channelled.check()
    channelled.check_end()


PAIRS = {
    "the image is revoked": (("promote", "two", "prod"), ("revoke", "two")),
    "the copy is revoked": (("promote", "two", "prod"), ("revoke", "two-prod")),
    "the copy is deleted": (("promote", "two", "prod"), ("delete", "two-prod")),
    "it is promoted twice": (("promote", "two", "prod"), ("promote", "two", "prod")),
    "another one is promoted": (("promote", "two", "prod"), ("promote", "one", "prod")),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_wherever_a_promotion_is_interrupted_the_channel_leads_to_a_good_image(pair: str) -> None:
    """All ways to stop the one, let the other go on to its end, and then the one."""
    for turned in (False, True):
        first, length = 0, 1
        while first < length:
            channelled = Channelled()
            works = [partial(getattr(channelled, work), *words) for work, *words in PAIRS[pair]]
            with Race(channelled.steps, channelled.check, works[::-1] if turned else works) as race:
                one, other = race.actors
                length = race.step(one, first)
                race.step(other, MOST)
                length += race.step(one, MOST)
                assert one.ended
                assert other.ended
            channelled.check_end()
            if pair == "the image is revoked":
                assert channelled.leads_to("prod") is None
            if "promoted" in pair:
                assert len(channelled.promoted) == len(set(PAIRS[pair]))
            first += 1
