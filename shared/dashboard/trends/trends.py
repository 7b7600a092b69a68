"""What the newest builds tell: the seconds of each phase, the size of the image, the outcome and the cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from provisioner.protocol import COMPLETED, FAILED

from ...build.build import Build, Outcome, State
from ...build.cost.usage import build_usage
from ...build.damage import readable_builds
from ...engine.history import each_event
from ...json_values import to_document
from ...ports import Store
from ..builds.timeline import times_of
from ..images.listed import build_family
from ..web.pages import PageDocument
from ..web.served import Served

MOST_BUILDS = 300  # that are looked at
MOST_SHOWN = 60  # of which so many are told one by one
AT_ONCE = 8  # builds whose events are read
MOST_FAMILIES = 100
MOST_DAYS = 30  # with builds
LONGEST_NAME = 63  # characters of a family's name

TIMED_STATES = (
    State.QUEUED,
    State.PREPARING,
    State.PROVISIONING,
    State.EXPORTING,
    State.VERIFYING,
    State.PUBLISHING,
    State.CLEANING,
)
"""The states whose time a build takes. One that is held waits for a person."""

_FACTS = (
    "BuildRequested",
    "BuildRejected",
    "TurnCame",
    "MachineStarted",
    "MachineStopped",
    COMPLETED,
    FAILED,
    "DiskGrown",
    "ImageMade",
    "ImageExported",
    "PublicationStaged",
    "ImagePublished",
    "PublicationWithdrawn",
    "ImagesDeprecated",
    "CleanedUp",
    "OrderFailed",
    "CancelRequested",
    "Ticked",
)
"""The kinds of events that move a build on; a build has no more of them than a page."""

OUTCOMES = (Outcome.SUCCEEDED, Outcome.UNCHANGED, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CANCELLED)
_WELL, _BADLY = (Outcome.SUCCEEDED, Outcome.UNCHANGED), (Outcome.FAILED, Outcome.TIMED_OUT)


@dataclass(frozen=True)
class BuildTrend:
    """One build that has ended."""

    id: str
    family: str | None
    outcome: str
    ended: float  # Unix seconds
    phases: dict[str, float] | None  # seconds by state; None: not known
    seconds: float  # from its request to its end
    image_bytes: int | None  # of its image, in storage; None: it has none any more
    dollars: float | None  # at list prices; None: not known, or nothing is paid for


@dataclass(frozen=True)
class DayTrend:
    """The builds that have ended on one day, in UTC."""

    day: str
    outcomes: dict[str, int]


@dataclass(frozen=True)
class FamilyTrend:
    """The builds of one family, or those that have none."""

    family: str | None
    builds: int
    success_rate: float | None  # of those that succeeded or failed; cancelled ones do not count. None: there are none
    median_seconds: float | None  # of those that succeeded
    median_bytes: float | None
    median_dollars: float | None
    dollars: float | None  # of all that are known


@dataclass(frozen=True)
class TrendsPage:
    """The newest builds, the oldest of them first."""

    family: str  # that alone is shown; ""
    choices: tuple[str, ...]  # families with builds among the newest ones
    builds: tuple[BuildTrend, ...]
    days: tuple[DayTrend, ...]
    families: tuple[FamilyTrend, ...]
    looked_at: int  # builds


def trends_page(served: Served, arguments: Mapping[str, str]) -> PageDocument:
    """Return what the newest builds tell, those of a family where that is asked for."""
    family = arguments.get("family", "").strip()[:LONGEST_NAME]
    found = readable_builds(served.backend.store.builds(limit=MOST_BUILDS))
    ended = [build for build in found if build.ended and build.outcome is not None]
    wanted = [build for build in ended if family in ("", build_family(build))]
    sizes = _sizes(served, wanted)
    store = served.backend.store
    shown = wanted[:MOST_SHOWN]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="trends") as pool:
        known = list(pool.map(lambda build: phase_seconds(build, store), shown))
    phases = {build.id: seconds for build, seconds in zip(shown, known, strict=True)}
    told = [_trend(build, sizes, phases.get(build.id)) for build in reversed(wanted)]
    names = sorted({name for build in ended if (name := build_family(build)) is not None})
    page = TrendsPage(
        family=family,
        choices=tuple(names[:MOST_FAMILIES]),
        builds=tuple(told[-MOST_SHOWN:]),
        days=_days(told),
        families=_families(told),
        looked_at=len(found),
    )
    document: PageDocument = to_document(page)
    return document


def phase_seconds(build: Build, store: Store) -> dict[str, float] | None:
    """Return the seconds of each phase of a build that has ended, over all attempts; None where they are not known.

    What its steps report changes no state, and is not read. A release before has recorded no kinds of reports, and the
    events of old builds are gone.
    """
    states = times_of(each_event(store, build.id, kinds=_FACTS)).states
    if not states or (states[-1].end is None and states[-1].what != build.state):
        return None
    found: defaultdict[str, float] = defaultdict(float)
    for span in states:
        found[span.what] += max(0.0, (span.end or span.start) - span.start)
    return {phase.value: found[phase.value] for phase in TIMED_STATES if phase.value in found}


def _sizes(served: Served, builds: Sequence[Build]) -> Mapping[str, int]:
    """Return the bytes in storage of the images of builds that are there still, by their ids."""
    ids = {build.image.id for build in builds if build.image is not None}
    if not ids:
        return {}
    return {
        image.id: image.archive_bytes for image in served.backend.compute.every_image(served.project) if image.id in ids
    }


def _trend(build: Build, sizes: Mapping[str, int], phases: dict[str, float] | None) -> BuildTrend:
    assert build.outcome is not None
    usage = build_usage(build)
    return BuildTrend(
        id=build.id,
        family=build_family(build),
        outcome=build.outcome.value,
        ended=build.updated,
        phases=phases,
        seconds=max(0.0, build.updated - build.created),
        image_bytes=None if build.image is None else sizes.get(build.image.id) or _archive_bytes(build),
        dollars=None if usage is None else usage.dollars,
    )


def _archive_bytes(build: Build) -> int | None:
    return None if build.image is None or build.image.archive is None else build.image.archive.bytes


def _days(told: Sequence[BuildTrend]) -> tuple[DayTrend, ...]:
    days: dict[str, Counter[str]] = {}
    for build in sorted(told, key=lambda each: each.ended):
        day = datetime.fromtimestamp(build.ended, UTC).strftime("%Y-%m-%d")
        days.setdefault(day, Counter())[build.outcome] += 1
    return tuple(DayTrend(day, dict(outcomes)) for day, outcomes in list(days.items())[-MOST_DAYS:])


def _families(told: Sequence[BuildTrend]) -> tuple[FamilyTrend, ...]:
    by_family: dict[str | None, list[BuildTrend]] = {}
    for build in told:
        by_family.setdefault(build.family, []).append(build)
    most_first = sorted(by_family.items(), key=lambda item: (-len(item[1]), item[0] or ""))
    return tuple(_family(family, builds) for family, builds in most_first[:MOST_FAMILIES])


def _family(family: str | None, builds: Sequence[BuildTrend]) -> FamilyTrend:
    well = [build for build in builds if build.outcome in _WELL]
    badly = sum(build.outcome in _BADLY for build in builds)
    made = [build for build in builds if build.outcome == Outcome.SUCCEEDED]
    known = [build.dollars for build in builds if build.dollars is not None]
    sizes = [build.image_bytes for build in made if build.image_bytes is not None]
    return FamilyTrend(
        family=family,
        builds=len(builds),
        success_rate=len(well) / (len(well) + badly) if well or badly else None,
        median_seconds=median(build.seconds for build in made) if made else None,
        median_bytes=median(sizes) if sizes else None,
        median_dollars=median(known) if known else None,
        dollars=sum(known) if known else None,
    )
