"""Families: what each leads to, its channels, what waits for approval, and its last build."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...build.build import Build, Distributed, ImageDocument
from ...build.image.approval import AskedPromotion
from ...build.image.channels import Channels, channel_family, family_of_channel
from ...build.trigger import Trigger
from ...errors import GoldsmithError, NotFound
from ...json_values import to_document
from ...ports import Image
from ..web.pages import DashboardArea, Page, PageDocument, Parameter
from ..web.schemas import TEXT
from ..web.served import Served
from ..web.shapes import schema_of
from .listed import (
    MOST_FAMILIES,
    BuildRow,
    ImageRow,
    build_family,
    build_row,
    damaged_lines,
    documents_of,
    image_rows,
    newest_images,
    recent_builds,
)

MOST_OF_FAMILY = 100  # images that its page lists
MOST_BUILDS = 10


@dataclass(frozen=True)
class WaitingPromotion:
    """A promotion that people have still to approve."""

    image: str
    channel: str
    asked: float  # Unix seconds
    deadline: float
    approved_by: tuple[str, ...]


@dataclass(frozen=True)
class ChannelRow:
    """A channel of a family, and the image that it leads to."""

    channel: str
    family: str
    leads_to: str | None  # the copy; None: nothing was promoted to it
    copy_of: str  # the image that it is a copy of; "" where that is not known
    created: float | None  # when the copy was made: Unix seconds
    is_newest: bool  # whether that is the image which the family itself leads to


@dataclass(frozen=True)
class FamilyRow:
    """A family in the list."""

    family: str
    leads_to: ImageRow | None  # the newest image that is not deprecated; None: there is none
    images: int
    channels: tuple[ChannelRow, ...]
    waiting: tuple[WaitingPromotion, ...]
    last_build: BuildRow | None  # None: not among the newest builds


@dataclass(frozen=True)
class FamiliesPage:
    """All families of the project."""

    families: tuple[FamilyRow, ...]
    more: int  # families that are not shown
    without: int  # images that are in no family
    channels: tuple[str, ...]  # of the deployment
    faults: tuple[str, ...]  # what could not be read


@dataclass(frozen=True)
class TriggerRow:
    """A spec that is built again by itself."""

    name: str
    spec: str
    every: float  # seconds; 0: not by time
    source_changed: bool
    spec_changed: bool
    paused: float  # since when, in Unix seconds; 0: it is not
    failures: int  # builds that have failed since one did not


@dataclass(frozen=True)
class DistributionRow:
    """A target that an image of the family was distributed to, or refused for."""

    image: str
    target: str
    time: float
    refused: str  # why; "": it is there


@dataclass(frozen=True)
class FamilyPage:
    """One family."""

    row: FamilyRow
    images: tuple[ImageRow, ...]  # newest first
    more: int  # images that are not listed
    builds: tuple[BuildRow, ...]  # newest first, of the newest builds
    triggers: tuple[TriggerRow, ...]
    distributed: tuple[DistributionRow, ...]
    faults: tuple[str, ...]


class _Family:
    """A family as its images are read one after the other."""

    def __init__(self) -> None:
        self.images = 0
        self.newest: Image | None = None

    def add(self, image: Image) -> None:
        self.images += 1
        is_newer = self.newest is None or (image.created, image.name) > (self.newest.created, self.newest.name)
        if image.deprecated is None and is_newer:
            self.newest = image


class _Families:
    """What the pages of families need, read once."""

    def __init__(self, served: Served) -> None:
        backend = served.backend
        self.faults: list[str] = []
        self.channels = self._channels(served)
        promotions = backend.store.promotions()
        self.faults += damaged_lines(promotions)
        asked = [each for each in promotions if isinstance(each, AskedPromotion) and each.is_open]
        self._asked = [each for each in asked if each.project == served.project]
        names = {each.image for each in self._asked}
        self._family_of_name: dict[str, str] = {}
        self.families: dict[str, _Family] = {}
        self.without = 0
        for image in backend.compute.every_image(served.project):
            if image.family is None:
                self.without += 1
                continue
            if image.name in names:
                self._family_of_name[image.name] = image.family
            self.families.setdefault(image.family, _Family()).add(image)
        self.builds = recent_builds(served)
        self._store = backend.store

    def _channels(self, served: Served) -> Channels:
        try:
            return served.backend.channels()
        except GoldsmithError as error:
            self.faults.append(str(error))
            return {}

    def own_names(self) -> list[str]:
        """Return the families that are no channel of another one, by name."""
        return sorted(name for name in self.families if not self._is_channel(name))

    def _is_channel(self, name: str) -> bool:
        found = family_of_channel(name, self.channels)
        return found is not None and found[0] in self.families

    def rows(self, names: Sequence[str]) -> tuple[FamilyRow, ...]:
        """Return families in the list."""
        led_to: dict[str, Image] = {}
        for name in names:
            for family in (name, *(channel_family(name, channel) for channel in self.channels)):
                known = self.families.get(family)
                if known is not None and known.newest is not None:
                    led_to[family] = known.newest
        shown = {row.name: row for row in image_rows(tuple(led_to.values()), self._store)}
        return tuple(self._row(name, {family: shown[image.name] for family, image in led_to.items()}) for name in names)

    def _row(self, name: str, leads_to: Mapping[str, ImageRow]) -> FamilyRow:
        newest = leads_to.get(name)
        builds = (build for build in self.builds if build_family(build) == name)
        last = next(builds, None)
        return FamilyRow(
            family=name,
            leads_to=newest,
            images=self.families[name].images,
            channels=tuple(self._channel(name, channel, leads_to) for channel in self.channels),
            waiting=tuple(
                WaitingPromotion(
                    each.image, each.channel, each.asked, each.deadline, tuple(yes.by for yes in each.approvals)
                )
                for each in self._asked
                if self._family_of_name.get(each.image) == name
            ),
            last_build=None if last is None else build_row(last),
        )

    def _channel(self, name: str, channel: str, leads_to: Mapping[str, ImageRow]) -> ChannelRow:
        family = channel_family(name, channel)
        copy, newest = leads_to.get(family), leads_to.get(name)
        if copy is None:
            return ChannelRow(channel, family, None, "", None, is_newest=False)
        is_newest = newest is not None and copy.copy_of == newest.name
        return ChannelRow(channel, family, copy.name, copy.copy_of, copy.created, is_newest)


def families_page(served: Served, _arguments: Mapping[str, str]) -> PageDocument:
    """Return all families of the project."""
    found = _Families(served)
    names = found.own_names()
    page = FamiliesPage(
        families=found.rows(names[:MOST_FAMILIES]),
        more=max(0, len(names) - MOST_FAMILIES),
        without=found.without,
        channels=tuple(found.channels),
        faults=tuple(found.faults),
    )
    document: PageDocument = to_document(page)
    return document


def family_page(served: Served, _arguments: Mapping[str, str], family: str) -> PageDocument:
    """Return one family. NotFound."""
    found = _Families(served)
    if family not in found.families:
        raise NotFound(f"there is no family {family[:100]}; see /families")
    images, count = newest_images(served.backend.compute.every_image(served.project), MOST_OF_FAMILY, family)
    builds = [build for build in found.builds if build_family(build) == family]
    triggers = served.backend.store.triggers()
    page = FamilyPage(
        row=found.rows([family])[0],
        images=image_rows(images, served.backend.store),
        more=count - len(images),
        builds=tuple(build_row(build) for build in builds[:MOST_BUILDS]),
        triggers=tuple(_triggers(family, builds, triggers)),
        distributed=tuple(_distributed(documents_of(images, served.backend.store).values())),
        faults=(*found.faults, *damaged_lines(triggers)),
    )
    document: PageDocument = to_document(page)
    return document


def _triggers(family: str, builds: Iterable[Build], triggers: Iterable[object]) -> Iterable[TriggerRow]:
    """Yield the specs with triggers whose builds were of the family, or that have its name."""
    names = {family, *(build.name for build in builds)}
    for each in triggers:
        if isinstance(each, Trigger) and each.is_active and each.name in names:
            yield TriggerRow(
                each.name, each.spec, each.every, each.source_changed, each.spec_changed, each.paused, each.failures
            )


def _distributed(known: Iterable[ImageDocument]) -> Iterable[DistributionRow]:
    rows: list[tuple[ImageDocument, Distributed]] = [(image, each) for image in known for each in image.distributed]
    for image, each in sorted(rows, key=lambda row: -row[1].time)[:MOST_OF_FAMILY]:
        yield DistributionRow(image.name, each.target, each.time, each.refused)


FAMILIES = DashboardArea(
    name="families",
    title="Families",
    pages=(
        Page(
            path="/families",
            summary="Image families, with their channels",
            query=families_page,
            template="families.html",
            schema=schema_of(FamiliesPage),
        ),
        Page(
            path="/families/<family>",
            summary="One image family",
            query=family_page,
            template="family.html",
            schema=schema_of(FamilyPage),
            parameters=(Parameter("family", "the family's name", TEXT, "path"),),
        ),
    ),
)
