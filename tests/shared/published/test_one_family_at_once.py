"""All that can happen to the images of one family with channels, at once.

Builds, retries, promotions, approvals, revocations and retirements, users and failures: each is whole, is killed at a
call of an adapter, or is interrupted there by another one. What holds is looked at after every call:

    the family leads to the newest of its images that are verified, published and not revoked, unless one that is newer
    is just being revoked or taken back; a channel leads to no image that is unverified, revoked, gone, or not approved
    where it has approvers; nothing is deleted that is in use, leads a family or a channel, or that Goldsmith has not
    made; and what it has not made stays as it is
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from shared.build.build import Build, ImageDocument, Outcome, State, StepRecord
from shared.build.damage import readable_builds
from shared.build.image.approval import AskedPromotion, promotion_id
from shared.build.image.channels import Channel
from shared.build.image.retire_rules import RetireRule
from shared.build.plan import Deprecation, ImagePlan
from shared.errors import EnvironmentFault, InputError, NameTaken, Permanent, Transient
from shared.image_users import ImageUse
from shared.names import BUILD_LABEL
from shared.planning.retries import ask_for_retry
from shared.ports import Image, Message, ResourceKind
from shared.published.approval import PersonsWord, answer_promotion, ask_promotion
from shared.published.retirement import Retiring, retire_images
from shared.published.revocation import revoke_image
from tests.world import values
from tests.world.fakes import FakeCompute, FakeDisk, FakeMachine
from tests.world.fuse import Died, Fuse
from tests.world.published import FAMILY, add_build, build_of, image_of
from tests.world.world import Guest, World

DAY = 86_400.0
CHANNELS = {"dev": Channel(), "prod": Channel(approvers=("ann@example.com",))}
ALIEN = Image("local", "alien", "by-hand", 1.0, family=FAMILY)
REFUSED = (InputError, Permanent, Transient, EnvironmentFault, NameTaken)


class Watched(FakeCompute):
    """Shows each deletion to the test before it happens."""

    watch: Callable[[Image], None]

    def delete(self, kind: ResourceKind, name: str, project: str, zone: str, *, image_id: str = "") -> None:
        if kind == "image" and name in self.all_images and image_id in ("", self.all_images[name].id):
            self.watch(self.all_images[name])
        super().delete(kind, name, project, zone, image_id=image_id)


@dataclass
class Guests(Guest):
    """VMs of builds of which some fail their verification."""

    failing: set[str] = field(default_factory=set)

    def run(self, machine: FakeMachine, disk: FakeDisk, publish: Callable[[Message], None]) -> bool:
        failing = machine.request.job.build_id in self.failing
        guest = Guest(fails_at=0, phase="verify", bucket=self.bucket) if failing else Guest(bucket=self.bucket)
        return guest.run(machine, disk, publish)


class Calls(Fuse):
    """Looks at the family after each call; at one of them another piece of work is done, or the process dies."""

    def __init__(self, fleet: Fleet, at: int | None = None, work: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._fleet, self._at, self._work = fleet, at, work
        self._busy = False

    def touch(self) -> None:
        if self._busy:
            return
        self.count += 1
        self._busy = True
        try:
            self._fleet.check()
        finally:
            self._busy = False
        if self.count == self._at:
            self._at = None
            if self._work is None:
                raise Died
            self._work()


class Fleet:
    """A family with two channels, and what is known to be done."""

    def __init__(self) -> None:
        self.guests = Guests()
        self.world = World(self.guests)
        self.compute = Watched(self.world.clock, self.world.bucket)
        self.compute.watch = self.check_deletion
        self.compute.all_images[ALIEN.name] = ALIEN
        self.world.compute = self.compute
        self.world.backend = replace(
            self.world.backend, compute=self.compute, channels=lambda: CHANNELS, adopted_families=()
        )
        self.used: dict[str, str] = {}  # names of images, by their ids
        self.revoked: set[str] = set()  # ids of images whose revocation has returned
        self.revoking: set[str] = set()  # ids of those that were begun
        self.count = 0
        self.deleted = 0
        for name in ("image-a", "image-b", "image-c"):
            self.publish(name)
        self.calls(Calls(self))

    def publish(self, name: str) -> None:
        """Have an image that an earlier build has made, in the place of the one before it."""
        before = self.leads_to(FAMILY)
        self.world.clock.time += 60
        build = replace(build_of(name), verify_steps=(StepRecord("look", "run-script", "done"),))
        if before not in (None, ALIEN):
            build = replace(build, replaced=(before.name,))
            self.compute.all_images[before.name] = replace(before, deprecated="DEPRECATED", replacement=name)
        add_build(self.world.store, build)
        self.compute.all_images[name] = replace(image_of(build), created=self.world.clock.now())

    def calls(self, fuse: Fuse) -> None:
        self.world.store.fuse = self.world.bus.fuse = self.world.bucket.fuse = self.compute.fuse = fuse

    # What may happen.

    def begin(self, which: int) -> None:
        """Ask for a build; each third one fails its verification."""
        self.count += 1
        name = f"image-{self.count}"
        build_id = f"hello-{self.count:012x}"
        self.world.clock.time += 60
        image = ImagePlan("local", name, family=FAMILY, labels={BUILD_LABEL: build_id}, deprecate_old=Deprecation())
        plan = values.plan(
            build_id=build_id,
            request=f"{self.count:012x}".ljust(64, "0"),
            image=image,
            verify_steps=values.plan().steps,
            retry_for=DAY,
            requested=self.world.clock.now(),
        )
        if which % 3 == 2:
            self.guests.failing.add(build_id)
        self.world.engine.request(values.requested(build_id=build_id, plan=plan))

    def work(self, which: int) -> None:
        """Handle some messages."""
        for _ in range(which + 1):
            if self.world.bus.waiting:
                self.world.handle()
            self.world.boot()

    def tick(self, _which: int) -> None:
        self.world.tick()

    def finish(self, _which: int) -> None:
        """Handle all messages but those that wait, or that another one is at."""
        self.work(60)

    def refuse(self, _which: int) -> None:
        """Have the next image that is to join a family refused."""
        self.compute.faults["set_family"] = Permanent("403: compute.images.update is missing")

    def retry(self, which: int) -> None:
        kept = [build for build in self.builds() if build.kept_until]
        if kept:
            self.guests.failing.clear()
            self.world.engine.request(ask_for_retry(kept[which % len(kept)], None, self.world.backend))

    def promote(self, which: int) -> None:
        ours = [image.name for image in self.compute.all_images.values() if image.family == FAMILY]
        ask_promotion(
            "local", ours[which // 2 % len(ours)], ("dev", "prod")[which % 2], self.world.backend, account="b"
        )

    def approve(self, which: int) -> None:
        found = self.world.store.promotions()
        waiting = [asked.image for asked in found if isinstance(asked, AskedPromotion) and asked.is_open]
        if waiting:
            word = PersonsWord("good", account="ann")
            answer_promotion("local", waiting[which % len(waiting)], "prod", "approve", word, self.world.backend)
        else:
            self.promote(which | 1)

    def revoke(self, which: int) -> None:
        image = self.compute.all_images[self.name(which)]
        self.revoking.add(image.id)
        revoke_image("local", image.name, "bad", self.world.backend, alone=which % 2 == 0)
        self.revoked.add(image.id)

    def retire(self, _which: int) -> None:
        rules = {FAMILY: RetireRule(keep=1), f"{FAMILY}-dev": RetireRule(keep=1)}
        retiring = Retiring("local", rules, ("local",), self)
        for _phase in range(2):
            list(retire_images(retiring, self.world.backend, self.world.clock.now() + 9 * DAY))
            self.world.clock.time += DAY

    def use(self, which: int) -> None:
        usable = [
            image for image in self.compute.all_images.values() if image.family == FAMILY and not image.is_obsolete
        ]
        if usable:
            self.used |= {image.id: image.name for image in usable[: which + 1]}

    def leave(self, _which: int) -> None:
        self.used.clear()

    def wait(self, _which: int) -> None:
        self.world.clock.time += DAY

    def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
        yield from [ImageUse(name, image_id, f"disk of {name}") for image_id, name in self.used.items()]

    # What is the case, looked up without a call.

    def name(self, which: int) -> str:
        names = sorted(each.name for each in self.compute.all_images.values())
        return names[which % len(names)]

    def builds(self) -> list[Build]:
        return list(readable_builds(self.world.store.builds()))

    def known(self, image: Image) -> ImageDocument | None:
        found = self.world.store.image(image.project, image.name)
        return found if found is not None and found.id == image.id else None

    def build_of(self, image: Image) -> Build | None:
        known = self.known(image)
        return next((build for build in self.builds() if known is not None and build.id == known.build_id), None)

    def has_verified(self, build: Build) -> bool:
        """Return whether its image has passed, perhaps for the build that it is a retry of."""
        if build.taken_up:
            build = next(each for each in self.builds() if each.id == build.retry_of)
            return self.has_verified(build)
        return bool(build.verify_steps) and all(step.status == "done" for step in build.verify_steps)

    def leads_to(self, family: str) -> Image | None:
        active = [i for i in self.compute.all_images.values() if i.family == family and i.deprecated is None]
        return max(active, key=lambda image: (image.created, image.name), default=None)

    def good(self) -> list[Image]:
        """The images that the family may lead to: of one that was replaced, what has replaced it is known."""
        found = []
        for image in self.compute.all_images.values():
            known, build = self.known(image), self.build_of(image)
            in_family = image.family == FAMILY and not image.is_obsolete
            in_family = in_family and (image.deprecated is None or image.replacement in self.compute.all_images)
            if in_family and known is not None and known.revoked is None and build is not None and succeeds(build):
                found.append(image)
        return found

    # What holds at every moment.

    def check(self) -> None:
        assert self.compute.all_images[ALIEN.name] == ALIEN, "what is not ours stays as it is"
        self.check_family()
        for channel in CHANNELS:
            self.check_channel(channel)

    def check_family(self) -> None:
        leads, good = self.leads_to(FAMILY), self.good()
        assert leads is not None
        newest = max(good, key=lambda image: (image.created, image.name), default=ALIEN)
        if leads != ALIEN:
            build = self.build_of(leads)
            assert build is not None, leads
            assert build.committed, (leads, build.state)
            assert self.has_verified(build), build
            assert leads.id not in self.revoked, leads
        assert leads.created >= newest.created, (leads, newest)
        passing = leads.id in self.revoking or leads not in (ALIEN, *good)  # what is being taken back
        assert leads.name == newest.name or passing, (leads, newest)

    def check_channel(self, channel: str) -> None:
        found = self.leads_to(f"{FAMILY}-{channel}")
        if found is None:
            return
        known = self.known(found)
        assert known is not None, found
        assert known.copy is not None
        assert (known.state, known.verified, known.copy.channel) == ("published", True, channel)
        assert not {known.id, known.copy.id} & self.revoked, found
        if CHANNELS[channel].approvers:
            asked = self.world.store.promotion(promotion_id("local", known.copy.of, channel))
            assert asked is not None
            assert asked.approvals, asked

    def check_deletion(self, image: Image) -> None:
        build = self.build_of(image)
        assert image.id not in self.used or build is None or not succeeds(build), ("nothing in use", image)
        assert image != ALIEN, "nothing that Goldsmith has not made"
        for family in (FAMILY, *(f"{FAMILY}-{channel}" for channel in CHANNELS)):
            assert image != self.leads_to(family), ("nothing that leads", image)
        self.deleted += 1


def succeeds(build: Build) -> bool:
    """Return whether its image is published, or is being published for good."""
    return build.outcome is Outcome.SUCCEEDED or (build.committed > 0 and build.outcome is None)


HAPPENINGS = (
    *("begin", "work", "finish", "tick", "refuse", "retry", "promote", "approve", "revoke"),
    *("retire", "use", "leave", "wait"),
)
OFTEN = ("promote", "approve", "revoke", "retire", "use", "begin", "retry", "finish")
WHAT = st.sampled_from((*HAPPENINGS, *OFTEN * 3, *["finish"] * 3))
STEPS = st.lists(
    st.tuples(WHAT, st.integers(0, 9), st.sampled_from(["whole", "killed", "interrupted"]), st.integers(1, 60), WHAT),
    min_size=4,
    max_size=25,
)


def happen(fleet: Fleet, what: str, which: int) -> None:
    with suppress(*REFUSED):
        getattr(fleet, what)(which)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_the_family_and_its_channels_lead_to_good_images_whatever_happens(
    steps: list[tuple[str, int, str, int, str]],
) -> None:
    fleet = Fleet()
    for what, which, how, at, meanwhile in steps:
        work = (lambda m=meanwhile, w=which: happen(fleet, m, w)) if how == "interrupted" else None
        fleet.calls(Calls(fleet, None if how == "whole" else at, work))
        with suppress(Died):
            happen(fleet, what, which)
    fleet.calls(Calls(fleet))
    fleet.compute.faults.clear()
    fleet.world.finish()
    for image in list(fleet.compute.all_images.values()):  # a revocation that was cut off is gone on with
        if image.id in fleet.revoking - fleet.revoked:
            happen(fleet, "revoke", 2 * sorted(fleet.compute.all_images).index(image.name))
    fleet.check()
    event(f"{min(fleet.deleted, 2)} deleted, {min(len(fleet.revoked), 2)} revoked")
    event(f"{sum(build.retry_of != '' and build.outcome is Outcome.SUCCEEDED for build in fleet.builds())} retries")
    event("leads to ours" if fleet.leads_to(FAMILY) != ALIEN else "leads to none of ours")
    for channel in CHANNELS:
        event(f"{channel} leads" if fleet.leads_to(f"{FAMILY}-{channel}") else f"{channel} leads nowhere")
    assert all(build.state in (State.FINISHED, State.HELD) for build in fleet.builds())
