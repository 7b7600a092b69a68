"""All that can happen to the images of one family with channels, at once.

Builds, retries, promotions, approvals, revocations, retirements, users, people, late messages and faults: each is
whole, is killed at a call of an adapter, or runs beside another one, of which either goes on, and is killed, at any
call. What is right is told by tests/world/family_law.py after every call, from what an observer sees.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import pytest
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from provisioner.protocol import VERIFY
from shared.build.build import Build, Outcome, State, StepRecord
from shared.build.damage import readable_builds
from shared.build.image.approval import AskedPromotion, PromotionAnswer
from shared.build.image.channels import Channel
from shared.build.image.people import PersonRule
from shared.build.image.retire_rules import RetireRule
from shared.build.plan import Deprecation, ImagePlan, SourceImage
from shared.errors import GoldsmithError, InputError, Permanent, Transient
from shared.image_users import ImageUse
from shared.names import BUILD_LABEL
from shared.planning.retries import RETRY_PHASES, ask_for_retry
from shared.ports import Image, Message
from shared.published.approval import PersonsWord, answer_promotion, ask_promotion, lapse_promotions
from shared.published.image_check import check_image
from shared.published.retirement import Retiring, retire_images
from shared.published.revocation import revoke_image
from shared.upkeep.sweep import sweep_kept
from tests.world import values
from tests.world.fakes import FakeDisk, FakeMachine
from tests.world.family_law import DAY, ApprovedChannel, FamilyLaw, age
from tests.world.fuse import Died, Fuse
from tests.world.published import FAMILY, add_build, build_of, image_of
from tests.world.race import Race, Steps
from tests.world.world import Guest, World

PERSONS = {"ann@example.com": "ann", "ann@lab.example.com": "ann", "bob@example.com": "bob", "cat@example.com": "cat"}
PEOPLE = {"ann": PersonRule(tuple(PERSONS)[:2]), "bob": PersonRule(("bob@example.com",))}  # cat is not named
WITHIN = 2 * DAY
CHANNELS = {"dev": Channel(), "prod": Channel(tuple(PERSONS), WITHIN)}
FOREIGN = (
    Image("local", "alien", "by-hand-1", 1.0, family=FAMILY),
    Image(
        *("local", "forged", "by-hand-2", 2.0),
        family=FAMILY,
        labels={BUILD_LABEL: "image-a-0123456789ab"},
        deprecated="OBSOLETE",
    ),
    Image(
        *("local", "shelved", "by-hand-3", values.NOON + 30),
        family=FAMILY,
        deprecated="DEPRECATED",
        replacement="image-a",
    ),
    Image("local", "strange", "by-hand-4", values.NOON + 90, family=f"{FAMILY}-dev", deprecated="DEPRECATED"),
)
FAULTS: tuple[tuple[str, type[GoldsmithError]], ...] = (
    ("set_family", Permanent),
    ("create_image", Permanent),
    ("deprecate_image", Permanent),
    ("label_image", Permanent),
    ("activate_image", Transient),
    ("obsolete_image", Transient),
    ("copy_image", Transient),
    ("delete", Transient),
)
RUNS = ((DAY,), (DAY, DAY), (0.0, DAY))  # of the retirement, each with the time after it
MOST = 100_000  # calls of one piece of work
MESSAGES = 60  # that are handled at once, at most

Ending: TypeAlias = Literal["both", "first", "second", "neither"]


@dataclass(frozen=True)
class Course:
    """How something happens: whole, killed at a call, or beside something else."""

    killed: int = 0
    beside: str = ""
    other: int = 0  # which one of that
    turns: tuple[int, ...] = ()  # calls of either, in turn
    ends: Ending = "both"  # what is not killed after these


class Nobody:
    """Tokens prove nothing here: people's words come by requests."""

    def mail_of(self, token: str, purpose: str) -> str:
        raise InputError("this token proves nothing")


@dataclass
class Guests(Guest):
    """VMs of builds of which some fail their verification; the law sees which images pass."""

    law: FamilyLaw = field(kw_only=True)
    failing: set[str] = field(default_factory=set)

    def run(self, machine: FakeMachine, disk: FakeDisk, publish: Callable[[Message], None]) -> bool:
        job = machine.request.job
        fails = job.phase == VERIFY and job.build_id in self.failing
        image = self.law.images.get(machine.request.source_image)
        if job.phase == VERIFY and image is not None:
            (self.law.verified.discard if fails else self.law.verified.add)(image.id)
        guest = Guest(fails_at=0, phase="verify", bucket=self.bucket) if fails else Guest(bucket=self.bucket)
        return guest.run(machine, disk, publish)


class Looks(Fuse):
    """Looks at the family at each call, and ends the process at one of them."""

    def __init__(self, look: Callable[[], None], last: int = 0) -> None:
        super().__init__(last or None)
        self._look = look

    def touch(self) -> None:
        self._look()
        super().touch()


class Family:
    """A family with two channels, what can happen to it, and the law of it."""

    def __init__(self) -> None:
        world = World()
        channels = {"dev": ApprovedChannel({}), "prod": ApprovedChannel(PERSONS, WITHIN)}
        named = {mail: person for mail, person in PERSONS.items() if person in PEOPLE}
        self.law = FamilyLaw(FAMILY, channels, named, world.clock)
        self.guests = Guests(law=self.law, bucket=world.bucket)
        self.world = world
        world.guest = self.guests
        world.compute.all_images = self.law.images
        world.backend = replace(
            world.backend,
            channels=lambda: CHANNELS,
            people=lambda: PEOPLE,
            identities=Nobody(),
            adopted_families=(),
        )
        for image in FOREIGN:
            self.law.images.place(image)
            self.law.foreign[image.name] = image
        self.count = 0
        self.first_turn = 0  # calls in the first turn, when two things happened at once last
        self._heard = 0
        self._last_word: tuple[str, PromotionAnswer, PersonsWord] | None = None
        for name in ("image-a", "image-b", "image-c"):
            self._publish(name)
        self.calls(Looks(self.look))

    def _publish(self, name: str) -> None:
        """Have an image that an earlier build has made, in the place of the one before it."""
        before = self.law.leads_to(FAMILY)
        assert before is not None
        self.world.clock.time += 60
        build = replace(build_of(name), verify_steps=(StepRecord("look", "run-script", "done"),))
        if before.id in self.law.made:
            build = replace(build, replaced=(before.name,))
            known = self.world.store.image("local", before.name)
            assert known is not None
            assert self.world.store.save_image(replace(known, replaced_by=name), known)
            self.law.images.place(replace(before, deprecated="DEPRECATED", replacement=name))
        add_build(self.world.store, build)
        image = replace(image_of(build), created=self.world.clock.now())
        self.law.makes(image)
        self.law.images.place(image)
        self.law.verified.add(image.id)
        self.law.announced.add(image.id)
        self.law.joined[image.id] = FAMILY

    def calls(self, fuse: Fuse) -> None:
        world = self.world
        world.store.fuse = world.bus.fuse = world.bucket.fuse = world.compute.fuse = fuse

    def look(self) -> None:
        published = self.world.bus.published
        while self._heard < len(published):
            self.law.hears(published[self._heard])
            self._heard += 1
        self.law.check()

    # How it happens.

    def happen(self, what: str, which: int) -> None:
        with suppress(GoldsmithError):
            getattr(self, what)(which)

    def take(self, what: str, which: int, course: Course) -> None:
        self.law.recorded = frozenset(
            each.id for each in self.law.images.values() if each.id in self.law.revoking and self._is_recorded(each)
        )
        if course.beside:
            self._take_both(what, which, course)
            return
        self.law.undisturbed = frozenset(self.law.used) if what == "retire" and not course.killed else None
        self.calls(Looks(self.look, course.killed))
        with suppress(Died):
            self.happen(what, which)
        self.law.undisturbed = None
        self.calls(Looks(self.look))

    def _is_recorded(self, image: Image) -> bool:
        document = json.loads(self.world.store.images["local", image.name])
        return document["id"] == image.id and document["revoked"] is not None

    def _take_both(self, what: str, which: int, course: Course) -> None:
        steps = Steps()
        self.calls(steps)
        works = (lambda: self.happen(what, which), lambda: self.happen(course.beside, course.other))
        with Race(steps, self.look, works) as race:
            first, second = race.actors
            for place, calls in enumerate(course.turns):
                done = race.step(race.actors[place % 2], calls)
                self.first_turn = self.first_turn if place else done
            if course.ends in ("both", "first"):
                race.step(first, MOST)
            if course.ends in ("both", "second"):
                race.step(second, MOST)
        self.calls(Looks(self.look))
        self.look()

    def end(self) -> None:
        """Let all that was begun come to its end."""
        self.calls(Looks(self.look))
        self.world.compute.faults.clear()
        for _ in range(3):
            self.world.settle()
            self.world.tick()
        self.world.clock.time += DAY  # nothing is held for longer
        self.world.finish()
        for image in list(self.law.images.values()):  # a revocation that was cut off is gone on with
            if image.id in self.law.revoking - self.law.revoked:
                with suppress(InputError):  # it was killed before it was recorded, and there is nothing to revoke
                    self._revoke(image, alone=True)
        self.law.revoking &= self.law.revoked
        self.look()
        assert all(build.state in (State.FINISHED, State.HELD) for build in self.builds())
        for image in self.law.images.values():
            if image.id in self.law.joined:
                revoked = {image.id, self.law.copied.get(image.id, "")} & self.law.revoked
                problems = check_image("local", image.name, self.world.backend).problems
                assert (not problems) == (not revoked and not image.is_obsolete), (image.name, problems)
                assert bool(revoked) == any("was revoked" in each for each in problems), (image.name, problems)

    # What can happen.

    def begin(self, which: int) -> None:
        """Ask for a build, of which each third one fails its verification; some start from the family's own image."""
        self.count += 1
        name, build_id = f"image-{self.count}", f"hello-{self.count:012x}"
        self.world.clock.time += 60
        image = ImagePlan("local", name, family=FAMILY, labels={BUILD_LABEL: build_id}, deprecate_old=Deprecation())
        leads = self.law.leads_to(FAMILY)
        source = values.plan().source
        if which % 4 == 3 and leads is not None and leads.id in self.law.made:
            source = SourceImage("local", leads.name, leads.id)
        author = ("", *PERSONS)[which % 5]
        at_least = (0, 0, 2, 3)[which // 2 % 4]
        plan = values.plan(
            build_id=build_id,
            request=f"{self.count:012x}".ljust(64, "0"),
            source=source,
            image=image,
            verify_steps=None if which == 7 else values.plan().steps,
            retry_for=DAY,
            retry_disk_for=DAY,
            requested=self.world.clock.now(),
            author=author,
            approvals={"prod": at_least} if at_least else {},
        )
        self.law.authors[build_id], self.law.at_least[build_id] = author, at_least
        if which == 7:
            self.law.untested.add(build_id)
        if source != values.plan().source:
            self.law.sources[build_id] = source.id
        if which % 3 == 2:
            self.guests.failing.add(build_id)
        self.world.engine.request(values.requested(build_id=build_id, plan=plan))

    def build(self, which: int) -> None:
        self.begin(which)
        self.work(MESSAGES)

    def work(self, which: int) -> None:
        """Handle some messages."""
        for _ in range(which + 1):
            if self.world.bus.waiting:
                self.world.handle()
            self.world.boot()

    def finish(self, _which: int) -> None:
        """Handle all messages but those that wait."""
        self.work(MESSAGES)

    def redeliver(self, which: int) -> None:
        """Deliver a message that was handled before."""
        handled = [each for each in self.world.bus.published if each not in self.world.bus.waiting]
        if handled:
            self.world.deliver(handled[-1 - which * which % len(handled)])

    def tick(self, which: int) -> None:
        self.world.tick()
        if which % 2:
            sweep_kept(self.world.backend)
            lapse_promotions(self.world.backend)

    def fault(self, which: int) -> None:
        """Have the next call of some kind refused, or answered by a fault that passes."""
        method, kind = FAULTS[which % len(FAULTS)]
        self.world.compute.faults[method] = kind(f"{method} is refused")

    def retry(self, which: int) -> None:
        kept = [build for build in self.builds() if build.kept_until or build.disk_until]
        if not kept:
            return
        first = kept[which // 2 % len(kept)]
        if which % 2:
            self.guests.failing.clear()
        start = (None, *RETRY_PHASES.values())[which % 4]
        asked = ask_for_retry(first, start, self.world.backend)
        self.law.authors[asked.build_id] = self.law.authors[first.id]
        self.law.at_least[asked.build_id] = self.law.at_least[first.id]
        if first.id in self.law.untested:
            self.law.untested.add(asked.build_id)
        if first.id in self.guests.failing:
            self.guests.failing.add(asked.build_id)
        self.world.engine.request(asked)
        self.work(MESSAGES if which % 3 else which)

    def promote(self, which: int) -> None:
        ours = sorted((each for each in self.law.images.values() if each.id in self.law.made), key=age)
        image, channel = ours[-1 - which // 2 % len(ours)], ("dev", "prod")[which % 2]
        ask_promotion("local", image.name, channel, self.world.backend, account="ann@example.com")

    def answer(self, which: int) -> None:
        """Say yes or no to a promotion that waits, which is shown before."""
        found = [each for each in self.world.store.promotions() if isinstance(each, AskedPromotion)]
        waiting = [each for each in found if each.state == "waiting"]
        if not waiting:
            self.promote(which | 1)
            return
        asked = waiting[which // 4 % len(waiting)]
        self.count += 1
        word = PersonsWord("looked at", "", tuple(PERSONS)[which % 4], f"request-{self.count}", asked.number)
        self._say(asked, "refuse" if which == 9 else "approve", word)

    def agree(self, which: int) -> None:
        """Have several people say yes, perhaps after one who says no."""
        if which > 7:
            self.answer(9)
        for each in range(which % 3 + 1):
            self.answer(which + each & 7)

    def _say(self, asked: AskedPromotion, answer: PromotionAnswer, word: PersonsWord) -> None:
        if answer == "approve":
            self.law.said(asked.image_id, asked.channel, asked.number, word.account)
        done = answer_promotion("local", asked.image, asked.channel, answer, word, self.world.backend)
        if isinstance(done, AskedPromotion) and done.state == "refused":
            self.law.refused.add((done.image_id, done.channel, done.number))

    def revoke(self, which: int) -> None:
        ours = sorted((each for each in self.law.images.values() if each.id in self.law.made), key=age)
        self._revoke(ours[-1 - which // 2 % len(ours)], alone=which % 4 == 3)

    def _revoke(self, image: Image, *, alone: bool) -> None:
        begun = image.id in self.law.revoking
        self.law.revoking.add(image.id)
        if alone:
            self.law.alone.add(image.id)
        try:
            revoke_image("local", image.name, "bad", self.world.backend, alone=alone)
        except InputError:  # nothing has changed
            if not begun:
                self.law.revoking.discard(image.id)
            raise
        self.law.revoked.add(image.id)

    def retire(self, which: int) -> None:
        """Make what nothing uses OBSOLETE, and delete it a day later; a run may follow another one at once."""
        rule = RetireRule(keep=1)
        rules = {FAMILY: rule, f"{FAMILY}-dev": rule, f"{FAMILY}-prod": rule}
        retiring = Retiring("local", rules, ("local",), self)
        self.law.blind = which == 9
        try:
            for time in RUNS[which % len(RUNS)]:
                list(retire_images(retiring, self.world.backend, self.world.clock.now() + 9 * DAY))
                self.world.clock.time += time
        finally:
            self.law.blind = False

    def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
        if self.law.blind:
            raise Permanent("403: this project cannot be read")
        yield from [ImageUse(name, image_id, f"disk of {name}") for image_id, name in self.law.used.items()]

    def use(self, which: int) -> None:
        """Have disks made of images; none can be made of one that is OBSOLETE."""
        found = [each for each in self.law.images.values() if each.id in self.law.joined and not each.is_obsolete]
        for image in sorted(found, key=age)[: which % 3 + 1]:
            self.law.used[image.id] = image.name

    def leave(self, _which: int) -> None:
        self.law.used.clear()

    def wait(self, which: int) -> None:
        self.world.clock.time += DAY / (1 + which % 2)

    def shelve(self, which: int) -> None:
        """A person deprecates an image that was deprecated for another one."""
        ours = [each for each in self.law.images.values() if each.id in self.law.joined]
        old = [each for each in ours if each.deprecated == "DEPRECATED"]
        if old:
            image = sorted(old, key=age)[which % len(old)]
            self.law.shelved.add(image.id)
            self.law.images.place(replace(image, replacement=None))

    def builds(self) -> list[Build]:
        return list(readable_builds(self.world.store.builds()))

    def retried(self) -> int:
        """Return how many retries have published an image."""
        return sum(build.retry_of != "" and build.outcome is Outcome.SUCCEEDED for build in self.builds())


CAN_HAPPEN = (
    *("begin", "build", "work", "finish", "redeliver", "tick", "fault", "retry", "promote", "answer", "agree"),
    *("revoke", "retire", "use", "leave", "wait", "shelve"),
)
AT_ONCE = ("build", "finish", "work", "redeliver", "retry", "promote", "answer", "agree", "revoke", "retire")
NUMBER = st.integers(0, 9)
PAIRS = (
    *(("promote", "revoke"), ("revoke", "revoke"), ("retire", "revoke"), ("build", "revoke"), ("finish", "revoke")),
    *(("agree", "revoke"), ("retire", "retire"), ("promote", "retire"), ("promote", "promote")),
)
"""What is most likely to meet."""
FEW = st.integers(0, 3)
CALL = st.integers(1, 60)
TURNS = st.lists(st.integers(0, 25) | st.just(MOST), min_size=1, max_size=6).map(tuple)
COURSE = st.one_of(
    st.just(Course()),
    st.builds(Course, killed=CALL),
    st.builds(
        Course,
        beside=st.sampled_from((*AT_ONCE, *CAN_HAPPEN)),
        other=NUMBER,
        turns=TURNS,
        ends=st.sampled_from(["both", "both", "first", "second", "neither"]),
    ),
)


class OneFamily(RuleBasedStateMachine):
    """What happens to a family, one thing or two at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.family = Family()

    @rule(what=st.sampled_from(CAN_HAPPEN), which=NUMBER)
    def happens(self, what: str, which: int) -> None:
        self.family.take(what, which, Course())

    @rule(which=NUMBER, course=COURSE)
    def builds(self, which: int, course: Course) -> None:
        self.family.take("build", which, course)

    @rule(which=NUMBER, course=COURSE)
    def goes_on(self, which: int, course: Course) -> None:
        self.family.take("finish", which, course)

    @rule(which=NUMBER, course=COURSE)
    def retries(self, which: int, course: Course) -> None:
        self.family.take("retry", which, course)

    @rule(which=NUMBER, course=COURSE)
    def promotes(self, which: int, course: Course) -> None:
        self.family.take("promote", which, course)

    @rule(which=NUMBER, course=COURSE)
    def agrees(self, which: int, course: Course) -> None:
        self.family.take("agree", which, course)

    @rule(which=NUMBER, course=COURSE)
    def revokes(self, which: int, course: Course) -> None:
        self.family.take("revoke", which, course)

    @rule(which=NUMBER, course=COURSE)
    def retires(self, which: int, course: Course) -> None:
        self.family.take("retire", which, course)

    @rule(pair=st.sampled_from(PAIRS), which=FEW, other=FEW, turns=TURNS)
    def collide(self, pair: tuple[str, str], which: int, other: int, turns: tuple[int, ...]) -> None:
        self.family.take(pair[0], which, Course(0, pair[1], other, turns))

    @rule(pair=st.sampled_from(PAIRS), which=FEW, other=FEW, killed=st.integers(1, 15) | st.integers(1, 40))
    def follow(self, pair: tuple[str, str], which: int, other: int, killed: int) -> None:
        """One is killed, and the other one finds what it has left."""
        self.family.take(pair[1], which, Course(killed))
        self.family.take(pair[0], other, Course())

    @rule(which=st.sampled_from((2, 5, 8)), start=NUMBER)
    def fail(self, which: int, start: int) -> None:
        """A verification fails, and is retried from some phase."""
        self.family.take("build", which, Course())
        self.family.take("retry", start, Course())

    @rule(which=NUMBER, words=NUMBER)
    def vote(self, which: int, words: int) -> None:
        """People say yes to a new image."""
        self.family.take("build", which, Course())
        self.family.take("promote", 1, Course())
        self.family.take("agree", words, Course())

    def teardown(self) -> None:
        self.family.end()
        law = self.family.law
        event(f"{min(law.deleted, 3)} deleted")
        event(f"{min(len(law.revoked), 3)} revoked")
        event(f"{min(self.family.retried(), 2)} retries have published")
        for family in (FAMILY, *(f"{FAMILY}-{channel}" for channel in CHANNELS)):
            event(f"{family} leads to {'ours' if law.good(family) else 'none of ours'}")


OneFamily.TestCase.settings = settings(max_examples=3 * settings().max_examples, stateful_step_count=20, deadline=None)
TestOneFamily = pytest.mark.slow(OneFamily.TestCase)


MEETINGS = {
    "an old image gets a copy": (("retire", 0), ("promote", 4)),
    "an old image is revoked": (("retire", 0), ("revoke", 2)),
    "an image that goes is revoked": (("retire", 0), ("revoke", 2)),
    "a copied image is revoked": (("promote", 0), ("revoke", 0)),
}


@pytest.mark.parametrize("meeting", MEETINGS)
@pytest.mark.parametrize("turned", [False, True])
def test_wherever_one_stops_what_the_other_one_writes_is_not_lost(meeting: str, turned: bool) -> None:
    """Either stops after each of its calls, and the other one is whole; then all that is old goes."""
    (what, which), (beside, other) = reversed(MEETINGS[meeting]) if turned else MEETINGS[meeting]
    stop = 0
    while True:
        family = Family()
        if "goes" in meeting:
            family.take("retire", 0, Course())
        family.take(what, which, Course(0, beside, other, (stop, MOST)))
        family.end()
        family.take("retire", 1, Course())
        if family.first_turn < stop:
            break
        stop += 1
    assert stop > 5


def test_what_an_image_was_made_from_stays_and_what_goes_is_looked_at_a_day_later() -> None:
    family = Family()
    family.take("build", 3, Course())
    for which in (2, 1, 0):
        family.take("retire", which, Course())
    family.end()
    assert [each in family.law.images for each in ("image-b", "image-c", "image-1")] == [False, True, True]
