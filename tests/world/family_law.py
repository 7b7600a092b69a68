"""What is right in one family with channels, as an observer sees it who knows none of Goldsmith's rules or records.

The observer sees what Compute Engine has, VMs that pass or fail, announcements, and what people do. From these alone it
knows which images are good, and says after each call whether family and channels lead where they should:

    family     to the newest image that has joined it, was verified, is neither revoked nor OBSOLETE, and that no person
               has deprecated; or to one that is just being revoked
    channel    to the newest copy that has joined it, whose original is as good, and which enough people have approved
    deletion   of images that Goldsmith has made; of a published one a day after it became OBSOLETE; never of one that
               is in use, leads, is the original of a copy or the source of an image or a build
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from shared.names import BUILD_LABEL
from shared.ports import Image, Message
from shared.topology import FINISHED_TOPIC
from tests.world.fakes import FakeClock

DAY = 86_400.0


@dataclass(frozen=True)
class SaidYes:
    """The yes of a person to a promotion that was shown."""

    image_id: str
    channel: str
    number: int
    mail: str
    time: float


@dataclass(frozen=True)
class ApprovedChannel:
    """What a channel asks for: whose addresses may approve, and for how long a yes counts; no addresses: nothing."""

    persons: Mapping[str, str]  # by the addresses of approvers
    within: float = 0.0


class FamilyLaw:
    """What the observer has seen; `broken` says what was not right."""

    def __init__(
        self, family: str, channels: Mapping[str, ApprovedChannel], known_persons: Mapping[str, str], clock: FakeClock
    ) -> None:
        self.family, self.channels, self.clock = family, channels, clock
        self.known_persons = known_persons  # who may be known as authors, by their addresses
        self.images = ObservedImages(self)  # what Compute Engine has
        self.foreign: dict[str, Image] = {}  # what nothing may touch
        self.made: set[str] = set()  # ids of images, as all below
        self.verified: set[str] = set()
        self.untested: set[str] = set()  # whose specs want no verification; by builds, then by images
        self.joined: dict[str, str] = {}  # the families that images are in
        self.copied: dict[str, str] = {}  # the originals of copies
        self.announced: set[str] = set()  # as published
        self.revoking: set[str] = set()
        self.revoked: set[str] = set()  # whose revocation has returned
        self.recorded: frozenset[str] = frozenset()  # whose revocation was recorded before what happens now
        self.alone: set[str] = set()  # of these, the ones after which the family may lead to no good image
        self.shelved: set[str] = set()  # that a person has deprecated
        self.obsolete: dict[str, float] = {}  # since when
        self.used: dict[str, str] = {}  # names of images
        self.sources: dict[str, str] = {}  # what images, and builds at work, were made from: by ids of either
        self.authors: dict[str, str] = {}  # by builds, then by images
        self.at_least: dict[str, int] = {}  # approvals, likewise
        self.yes: list[SaidYes] = []
        self.refused: set[tuple[str, str, int]] = set()
        self.blind = False  # whether what uses images cannot be read
        self.undisturbed: frozenset[str] | None = None  # in a retirement beside which nothing happens: what was used
        self.keep = 1  # good images of each family, whatever the rule
        self.deleted = 0
        self.broken: list[str] = []

    # What holds after each call.

    def check(self) -> None:
        for name, image in self.foreign.items():
            if self.images.get(name) != image:
                self.broken.append(f"what is not ours was touched: {name}")
        self._check_family()
        for channel in self.channels:
            self._check_lead(f"{self.family}-{channel}", self.leads_to(f"{self.family}-{channel}"))
        assert not self.broken, self.broken

    def _check_family(self) -> None:
        leads = self.leads_to(self.family)
        if leads is not None and leads.name in self.foreign:
            leads = None
        self._check_lead(self.family, leads)
        if leads is None and not self.alone:
            self.broken.append("the family leads to none of ours, and nobody wanted that")

    def _check_lead(self, family: str, leads: Image | None) -> None:
        good = self.good(family)
        newer = [each for each in good if leads is None or age(each) > age(leads)]
        if not all(self.is_revoking(each) for each in newer):
            self.broken.append(f"{family} leads to {leads and leads.name}, and not to {names(newer)}")
        if leads is not None and leads not in good:
            self.broken.append(f"{family} leads to {leads.name}, which is not good")

    def leads_to(self, family: str) -> Image | None:
        active = [each for each in self.images.values() if each.family == family and each.deprecated is None]
        return max(active, key=age, default=None)

    def good(self, family: str) -> list[Image]:
        return [each for each in self.images.values() if self.joined.get(each.id) == family and self.is_good(each)]

    def is_good(self, image: Image) -> bool:
        original = self.copied.get(image.id, image.id)
        wrong = {image.id, original} & self.revoked or image.id in self.shelved or image.deprecated == "OBSOLETE"
        return self._is_tested(image, original) and not wrong

    def _is_tested(self, image: Image, original: str) -> bool:
        """Return whether an image has passed. A channel takes no other; a family does where the spec wants no test."""
        return original in self.verified or (image.id == original and original in self.untested)

    def is_revoking(self, image: Image) -> bool:
        return bool({image.id, self.copied.get(image.id, "")} & self.revoking)

    # What is looked at in the call that does it.

    def sees(self, before: Image | None, image: Image) -> None:
        """Look at a change of an image."""
        if before is None or before.id != image.id:
            self.makes(image)
            return
        if before.family != image.family:
            self.joins(image, image.family)
        if (before.deprecated, before.replacement) == (image.deprecated, image.replacement):
            return
        if image.deprecated is None:
            self.activates(image)
        elif image.is_obsolete:
            self.obsoletes(image)
        else:
            self.deprecates(image, image.replacement or "")

    def makes(self, image: Image) -> None:
        self.made.add(image.id)
        if image.source_image is not None:
            self.copied[image.id] = image.source_image
        build_id = image.labels[BUILD_LABEL]
        self.authors[image.id] = self.authors.get(build_id, "")
        self.at_least[image.id] = self.at_least.get(build_id, 0)
        if build_id in self.untested:
            self.untested.add(image.id)
        if build_id in self.sources and image.source_image is None:
            self.sources[image.id] = self.sources[build_id]

    def hears(self, message: Message) -> None:
        """Note an announcement."""
        if message.topic != FINISHED_TOPIC:
            return
        self.sources.pop(message.attributes["build_id"], None)
        if message.attributes["outcome"] == "succeeded":
            self.announced.add(json.loads(message.data)["image"]["id"])

    def joins(self, image: Image, family: str | None) -> None:
        if family is None:
            self._expect(image.id not in self.announced, f"{image.name} was published, and leaves its family")
            self.joined.pop(image.id, None)
            return
        original = self.copied.get(image.id, image.id)
        self._expect(self._is_tested(image, original), f"{image.name} joins {family} unverified")
        self._expect(image.id in self.made, f"{image.name} joins {family}, and is not ours")
        self._expect(not {image.id, original} & self.recorded, f"{image.name} joins {family}, and was revoked")
        channel = family.removeprefix(self.family).removeprefix("-")
        self._expect((channel in self.channels) == (original != image.id), f"{image.name} joins {family}")
        if channel in self.channels:
            self._expect(self.is_approved(original, channel), f"{image.name} joins {family} unapproved")
        self.joined[image.id] = family

    def said(self, image_id: str, channel: str, number: int, mail: str) -> None:
        """Note a yes before it is given: it may be recorded even where the call is killed."""
        self.yes.append(SaidYes(image_id, channel, number, mail, self.clock.now()))

    def is_approved(self, image_id: str, channel: str) -> bool:
        wanted = self.channels[channel]
        author = self.known_persons.get(self.authors.get(image_id, ""), "")
        needed = max(self.at_least.get(image_id, 0), 1 if author else 2) if wanted.persons else 0
        said = [each for each in self.yes if (each.image_id, each.channel) == (image_id, channel)]
        for last in [each for each in said if (image_id, channel, each.number) not in self.refused]:
            same = [each for each in said if each.number == last.number and last.time - each.time <= wanted.within]
            persons = {wanted.persons.get(each.mail, "") for each in same if each.time <= last.time} - {""}
            if len(persons) >= needed and persons - {author}:
                return True
        return not needed

    def deprecates(self, image: Image, replacement: str) -> None:
        other = self.images.get(replacement)
        self._expect(other is not None and age(other) > age(image), f"{image.name} deprecated for {replacement}, older")
        self._expect(other is None or self.joined.get(other.id) == image.family, f"{image.name} deprecated for nothing")

    def activates(self, image: Image) -> None:
        what = f"{image.name} is active again"
        self._expect(image.id not in self.shelved, f"{what}, which a person has deprecated")
        self._expect(image.id in self.joined and self._is_tested(image, self.copied.get(image.id, image.id)), what)
        self._expect(image.id not in self.recorded, f"{what}, which was revoked")

    def obsoletes(self, image: Image) -> None:
        self.obsolete.setdefault(image.id, self.clock.now())
        if self.is_revoking(image):
            return
        what = f"{image.name} is retired"
        self._expect(image.id in {*self.announced, *self.copied, *self.joined}, f"{what}, and was never published")
        self._expect(not self.blind, f"{what}, and what uses it could not be read")
        leads = self.leads_to(image.family or "")
        self._expect(leads is None or leads.id != image.id, f"{what}, and leads {image.family}")
        if self.undisturbed is not None:
            newest = sorted(self.good(image.family or ""), key=age)[-self.keep :]
            self._expect(image.id not in [each.id for each in newest], f"{what}, and is among the newest good ones")
            self._expect(image.id not in self.undisturbed, f"{what} and in use")

    def deletes(self, image: Image) -> None:
        what = f"{image.name} is deleted"
        self.deleted += 1
        self._expect(image.id in self.made and image.name not in self.foreign, f"{what}, and is not ours")
        if image.id in self.joined or image.id in self.announced:
            self._expect(image.id not in self.used, f"{what} and in use")
            self._expect(self.leads_to(image.family or "") != image, f"{what}, and leads {image.family}")
            self._expect(not self.blind, f"{what}, and what uses it could not be read")
            now = self.clock.now()
            self._expect(now - self.obsolete.get(image.id, now) >= DAY, f"{what} within a day")
        there = {each.id: each for each in self.images.values()}
        copies = [each for each, original in self.copied.items() if original == image.id and each in there]
        self._expect(not copies, f"{what}, and {copies} are copies of it")
        children = [each for each, source in self.sources.items() if source == image.id]
        wanted = [each for each in children if each not in there or there[each].deprecated != "OBSOLETE"]
        self._expect(not wanted, f"{what}, and {wanted} are made from it")
        self.joined.pop(image.id, None)
        self.sources.pop(image.id, None)

    def _expect(self, holds: bool, text: str) -> None:
        if not holds:
            self.broken.append(text)


def age(image: Image) -> tuple[float, str]:
    """Return what makes an image newer than another one."""
    return image.created, image.name


def names(images: Collection[Image]) -> list[str]:
    """Return the names of images."""
    return sorted(each.name for each in images)


class ObservedImages(dict[str, Image]):
    """The images of Compute Engine, each change of which is seen at the moment when it happens."""

    def __init__(self, law: FamilyLaw) -> None:
        super().__init__()
        self._law = law

    def __setitem__(self, name: str, image: Image) -> None:
        self._law.sees(self.get(name), image)
        super().__setitem__(name, image)

    def __delitem__(self, name: str) -> None:
        self._law.deletes(self[name])
        super().__delitem__(name)

    def place(self, image: Image) -> None:
        """Put an image there, or change it, as a person does."""
        super().__setitem__(image.name, image)
