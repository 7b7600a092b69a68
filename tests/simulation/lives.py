"""The lives of a family's images: builds, retries, promotions, approvals, revocations, retirements and users at once.

    Lives(seed).run_all()    some rounds of a simulation, each a storm and a calm, between which days pass

never      a channel leads to an image that is unverified, unrecorded, gone or whose revocation has returned;
           a channel with approvers leads to an image that two of them have not approved, in one and the same promotion;
           an image is deleted that is used, not ours, not OBSOLETE, or that its family leads to or has as its newest
in calm    a family leads to the newest image that a build has published and that is not revoked
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from shared.build.build import ImageDocument, Outcome
from shared.build.events import read_image_document
from shared.build.image.approval import (
    NEEDED,
    PromotionAnswer,
    purpose_of,
    read_promotion_of,
)
from shared.build.image.channels import Channel
from shared.build.image.retire_rules import RetireRule
from shared.errors import InputError
from shared.image_users import ImageUse
from shared.ports import Image, Message
from shared.published.approval import PersonsWord, answer_promotion, ask_promotion, lapse_promotions
from shared.published.promotion import PromotedImage
from shared.published.retirement import Retiring, retire_images
from shared.published.revocation import revoke_image
from shared.spec.model import Verify
from tests.simulation.invariants import of_foreign, ours
from tests.simulation.processes import Process
from tests.simulation.simulation import FAMILY, STORM, Images, Request, Simulation, requests

DAY = 86_400.0
FAMILIES = (FAMILY, "other")
APPROVERS = ("ann@example.com", "ben@example.com", "cay@example.com")
OTHERS = ("eve@example.com",)  # who may not approve, and does
CHANNELS = {"dev": Channel(), "prod": Channel(APPROVERS, 2 * DAY)}
ROUNDS = 3
AGAIN = 20  # times that what a person has asked for is asked for again, in calm


class WatchedImages(Images):
    """Shows each deletion before it happens."""

    goes: Callable[[Image], None] | None = None

    def __delitem__(self, name: str) -> None:
        if self.goes is not None:
            self.goes(self[name])
        super().__delitem__(name)


class Letters:
    """Identities in memory: a token is a mail address and what it is for."""

    def mail_of(self, token: str, purpose: str) -> str:
        mail, _, told = token.partition(" ")
        if told != purpose:
            raise InputError("the token is for something else")
        return mail


class Lives(Simulation):
    """One run. What is wrong is in `wrong`, and what happened in `trace`."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.images: WatchedImages = WatchedImages()
        self.images.goes = self.see_deletion
        self.compute.all_images = self.images
        self.weather.refused = self.weather.stuck = ()  # calls that never work are about builds alone
        self.requests = verified(self.requests)
        self.backend = replace(self.backend, channels=lambda: CHANNELS, identities=Letters())
        self.keep = self.draw.choice([1, 2])
        self.used: dict[str, str] = {}  # names of images, by their ids
        self.revoked: set[str] = set()  # ids of images whose revocation has returned
        self.asked: dict[str, Callable[[], None]] = {}  # by a person, and not ended yet
        self.promoted = self.retired = self.approved = self.lapsed = 0
        self.letters: list[tuple[str, str, PromotionAnswer, str]] = []  # image, channel, answer, token: all there are
        self.willing: dict[tuple[str, str, int], set[str]] = {}  # who wants it, by image's id, channel and number
        self.published: set[str] = set()  # ids of images that have been in a family or a channel for good

    def run_all(self) -> Lives:
        """Run some rounds: each has builds of its own, and begins a few days after the one before."""
        for number in range(ROUNDS):
            if number:
                more = verified(requests(self.draw))
                self.requests += [replace(each, number=len(self.requests) + n) for n, each in enumerate(more)]
            self.fuse.calm, self.clock.draw = False, self.draw
            for _ in range(STORM):
                self.happen()
            self.settle_down()
            self.clock.time += self.draw.choice([0.0, 1.5, 3.0]) * DAY
        return self

    def settle_down(self) -> None:
        """Let calm come: all builds end, and all that a person has asked for is done or refused."""
        self.fuse.calm, self.clock.draw = True, None
        while self.processes.suspended:
            self.resume()
        for _ in range(2000):
            self.calm()
            if self.is_over():
                break
        else:
            self.wrong.append("does not come to its end")
        for _ in range(AGAIN):
            for what, work in list(self.asked.items()):
                self.process(what, work)
        if self.asked:
            self.wrong.append(f"never ends: {sorted(self.asked)}")
        self.wrong += [*self.of_channels(), *self.of_families(), *of_foreign(self)]

    def more_moves(self) -> list[tuple[float, Callable[[], None]]]:
        if not self.published:
            return []
        rare = [(0.5, self.use), (0.5, self.leave), (0.05, self.day)]
        rare += [(0.2, self.lapse), (0.3, self.repeat), (0.2, self.forge)]
        often = [(2.5, self.promote), (4.0, self.approve)]
        return [*often, (0.7, self.revoke), (0.7, self.retire), (0.5, self.ask_again), *rare]

    # what may happen

    def promote(self) -> None:
        """Let a person promote an image, published or not."""
        name, channel = self.one_of_ours(), self.draw.choice(list(CHANNELS))
        if name:
            self.ask(f"promote {name} to {channel}", lambda: self._promote(name, channel))

    def approve(self) -> None:
        """Let a person say yes, or now and then no, to a promotion."""
        known = [read_promotion_of(*each) for each in sorted(self.store.promotion_texts.items())]
        waiting = [each for each in known if each.is_open]
        if waiting:
            asked, mail = self.draw.choice(waiting), self.draw.choice([*APPROVERS, *APPROVERS, *OTHERS])
            answer: PromotionAnswer = "refuse" if self.draw.random() < 0.05 else "approve"
            if answer == "approve" and mail in APPROVERS:
                self.willing.setdefault((asked.image_id, asked.channel, asked.number), set()).add(mail)
            self.letters.append((asked.image, asked.channel, answer, f"{mail} {purpose_of(asked, answer)}"))
            self.send(*self.letters[-1])

    def repeat(self) -> None:
        """Let a message come that has come before, however long ago."""
        if self.letters:
            self.send(*self.draw.choice(self.letters))

    def forge(self) -> None:
        """Let a token be used for another image, channel or answer than it is for."""
        if self.letters:
            image, channel, answer, _ = self.draw.choice(self.letters)
            self.send(image, channel, answer, self.draw.choice(self.letters)[3])

    def lapse(self) -> None:
        """Let promotions lapse whose time is over."""
        self.process("lapse", self._lapse)

    def revoke(self) -> None:
        """Let a person revoke an image, or a copy."""
        names = sorted(set(self.images) - set(self.foreign))
        if names:
            name = self.draw.choice(names)
            self.ask(f"revoke {name}", lambda: self._revoke(name))

    def retire(self) -> None:
        """Let the hour of the rules come."""
        self.process("retire", self._retire)

    def use(self) -> None:
        """Let a disk be made of an image, as Compute Engine allows it."""
        images = [image for image in self.images.values() if image.family and not image.is_obsolete]
        if images:
            image = self.draw.choice(images)
            self.used[image.id] = image.name

    def leave(self) -> None:
        """Let the disks of an image go."""
        if self.used:
            del self.used[self.draw.choice(sorted(self.used))]

    def ask_again(self) -> None:
        """Let a person ask again for what has not ended, perhaps while it is at work."""
        if self.asked:
            what = self.draw.choice(sorted(self.asked))
            self.process(what, self.asked[what])

    def day(self) -> None:
        """Let a day pass, and so all deadlines."""
        self.clock.time += DAY
        self.jumped = True

    # how it is done

    def ask(self, what: str, work: Callable[[], None]) -> None:
        def asked() -> None:
            with suppress(InputError):  # that is its end as well
                work()
            self.asked.pop(what, None)

        self.asked[what] = asked
        self.process(what, asked)

    def send(self, image: str, channel: str, answer: PromotionAnswer, token: str) -> None:
        self.ask(f"{answer} {image} to {channel} by {token}", lambda: self._answer(image, channel, answer, token))

    def one_of_ours(self) -> str:
        names = sorted({image.name for build in self.built() if (image := ours(build, self)) is not None})
        return self.draw.choice(names) if names else ""

    def uses(self, project: str, images_of: str) -> Iterator[ImageUse]:
        yield from [ImageUse(name, image_id, f"disk of {name}") for image_id, name in self.used.items()]

    def _promote(self, name: str, channel: str) -> None:
        done = ask_promotion("local", name, channel, self.backend)
        self.promoted += isinstance(done, PromotedImage)

    def _answer(self, image: str, channel: str, answer: PromotionAnswer, token: str) -> None:
        done = answer_promotion("local", image, channel, answer, PersonsWord("so", token), self.backend)
        self.approved += isinstance(done, PromotedImage)

    def _lapse(self) -> None:
        self.lapsed += len(lapse_promotions(self.backend))

    def _revoke(self, name: str) -> None:
        image = self.images.get(name)
        revoke_image("local", name, "bad", self.backend, alone=True)
        if image is not None:
            self.revoked.add(image.id)

    def _retire(self) -> None:
        channels = [f"{family}-{channel}" for family in FAMILIES for channel in CHANNELS]
        rules = dict.fromkeys([*FAMILIES, *channels], RetireRule(keep=self.keep))
        done = retire_images(Retiring("local", rules, ("local",), self), self.backend, self.clock.now() + DAY)
        for each in done:
            self.retired += each.verdict.action == "delete" and not each.fault

    def _after(self, process: Process, message: Message | None) -> None:
        super()._after(process, message)
        self.published |= {
            ours_.id
            for build in self.built()
            if build.outcome is Outcome.SUCCEEDED and (ours_ := ours(build, self)) is not None
        }
        self.wrong += self.of_channels()
        self.wrong += [f"{i.name} is revoked and in use" for i in self.images.values() if self.is_alive(i)]

    def is_alive(self, image: Image) -> bool:
        return image.id in self.revoked and not image.is_obsolete

    # what must hold

    def see_deletion(self, image: Image) -> None:
        if image.name in self.foreign:
            self.wrong.append(f"{image.name} of others is deleted")
        known = self.known(image)
        if image.id not in self.published and (known is None or known.copy is None or image.family is None):
            return  # a draft
        family = [each for each in self.images.values() if each.family == image.family]
        active = [each for each in family if each.deprecated is None]
        kept = {"in use": image.id in self.used, "not OBSOLETE": not image.is_obsolete}
        kept["its family's newest"] = image.family is not None and image == max(family, key=age)
        kept["what its family leads to"] = image == max(active, key=age, default=None)
        self.wrong += [f"{image.name} is deleted and {why}" for why, holds in kept.items() if holds]

    def known(self, image: Image) -> ImageDocument | None:
        text = self.store.images.get(("local", image.name))
        known = None if text is None else read_image_document(text)
        return known if known is not None and known.id == image.id else None

    def leads_to(self, family: str) -> Image | None:
        found = [image for image in self.images.values() if image.family == family and image.deprecated is None]
        return max(found, key=age, default=None)

    def of_channels(self) -> Iterator[str]:
        """A channel leads to a recorded copy of an image that was verified and not revoked."""
        for family, channel in ((family, channel) for family in FAMILIES for channel in CHANNELS):
            image = self.leads_to(f"{family}-{channel}")
            if image is None:
                continue
            known = self.known(image)
            if known is None or known.copy is None or not known.verified or known.copy.channel != channel:
                yield f"{family}-{channel} leads to {image.name}, of which is known: {known}"
            elif {image.id, known.copy.id} & self.revoked:
                yield f"{family}-{channel} leads to {image.name}, which is revoked"
            elif CHANNELS[channel].approvers and not self.is_wanted(known.copy.id, channel):
                yield f"{family}-{channel} leads to {image.name}, which two people have not approved"

    def is_wanted(self, image_id: str, channel: str) -> bool:
        """Return whether enough approvers have wanted one promotion of an image."""
        each = [who for (wanted, where, _), who in self.willing.items() if (wanted, where) == (image_id, channel)]
        return any(len(who) >= NEEDED for who in each)

    def of_families(self) -> Iterator[str]:
        """A family leads to the newest image that a build of ours has published and that is not revoked."""
        for family in FAMILIES:
            members = [image for image in self.images.values() if image.family == family]
            good = [image for image in members if image.id in self.published and self.is_good(image)]
            active = [image for image in members if image.deprecated is None and image.name not in self.foreign]
            newest, leads_to = max(good, key=age, default=None), max(active, key=age, default=None)
            if newest != leads_to:
                yield f"family {family} leads to {leads_to and leads_to.name}, and its newest good image is {newest}"

    def is_good(self, image: Image) -> bool:
        """Return whether a family may go back to an image: one that goes by rule is given up."""
        known = self.known(image)
        return known is not None and known.revoked is None and (known.retired is None or not image.is_obsolete)


def age(image: Image) -> tuple[float, str]:
    """Return what a family compares to find its newest image."""
    return image.created, image.name


def verified(asked: list[Request]) -> list[Request]:
    """Return requests most of which have their image verified: others can never be promoted."""
    for request in asked:
        if request.number % 3 and request.spec.verify is None:
            request.spec = request.spec.model_copy(update={"verify": Verify()})
    return asked
