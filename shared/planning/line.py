"""Decide which queued builds may begin, and what the others wait for, from the line of all unfinished builds. Pure.

The line is in the order in which the store has taken the builds in (Store.line), so that a build sees all that are
before it in any line that it is in. That is what keeps two builds from both taking the last place, however old the
lines are that two processes look at, and from waiting for each other:

    line of A   A
    line of B   A, B      B counts A, queued or not; A, which may not have seen B, never waits for it

A build waits while as many others as may be at once have VMs or are before it, and while another one makes its image:
with `rebuild: changed` that of its content, else that of the name which a person has chosen. One that waits for such a
maker holds no place: it is passed over until the maker can publish no more, which may take for ever. Where it begins
just then, and another process gives a turn by a line that it has read just before, one more than `concurrency` is at
work for a while; so the line is read anew right before each turn is written down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..build.build import ANNOUNCED, Build, Outcome, State, Unfinished
from ..build.damage import Damaged, readable_builds
from ..build.plan import Plan
from ..names import BUILD_LABEL
from ..ports import Store

ENDED_WELL = (Outcome.SUCCEEDED, Outcome.UNCHANGED)

_Key: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Wait:
    """The reason why a queued build does not begin yet."""

    place: int  # 1: it is the next
    running: int  # builds that have VMs, or are about to
    maker: str = ""  # id of the build that makes its image; "": it waits for its turn alone
    of_family: int = 0  # builds of its family that are before it, where no more may be at work at once; else 0

    def __str__(self) -> str:
        if self.maker:
            return f"waits for build {self.maker}, which makes this image already"
        if self.of_family:
            builds = "build" if self.of_family == 1 else "builds"
            return f"waits for its family, of which {self.of_family} {builds} are before it, {self.running} running"
        return f"place {self.place} in the queue, {self.running} running"


def turns(line: Sequence[Unfinished], concurrency: int | None, of_family: int | None = None) -> list[Unfinished]:
    """Return the queued builds that may begin, when at most `concurrency` may have VMs at once.

    Of one family these are at most `of_family`. One that waits for its family holds no place.
    """
    waiting = {*makers(line), *_before_of_family(line, of_family)}
    free = [build for build in line if build.state is State.QUEUED and build.id not in waiting]
    return free if concurrency is None else free[: max(0, concurrency - sum(map(occupies, line)))]


def _before_of_family(line: Sequence[Unfinished], most: int | None) -> dict[str, int]:
    """Return how many of their family are before the queued builds that wait for these, by id.

    Whatever these wait for counts, so that two processes with different lines never begin one more than may be.
    """
    if most is None:
        return {}
    before = Counter((build.image_project, build.family) for build in line if build.family and occupies(build))
    found = {}
    for build in line:
        if build.state is State.QUEUED and build.family:
            if before[build.image_project, build.family] >= most:
                found[build.id] = before[build.image_project, build.family]
            before[build.image_project, build.family] += 1
    return found


def superseded(line: Sequence[Unfinished]) -> dict[str, str]:
    """Return by which build a queued one is superseded, by the id of that: the newest one of its spec.

    One that is built in any case is superseded by such a one alone.
    """
    newest: dict[tuple[str, bool], str] = {}
    for build in line:
        if build.spec:
            newest[build.spec, False] = build.id
            if build.rebuild == "always":
                newest[build.spec, True] = build.id
    queued = [build for build in line if build.state is State.QUEUED and build.spec]
    later = {build.id: newest[build.spec, build.rebuild == "always"] for build in queued}
    return {build_id: newer for build_id, newer in later.items() if newer != build_id}


def waits(line: Sequence[Unfinished], of_family: int | None = None) -> dict[str, Wait]:
    """Return what the queued builds of a line wait for, by id, when at most `of_family` of one may have VMs at once."""
    waiting, before = makers(line), _before_of_family(line, of_family)
    running = sum(map(occupies, line))
    place = 1
    found = {}
    for build in line:
        if build.state is State.QUEUED:
            found[build.id] = Wait(place, running, waiting.get(build.id, ""), before.get(build.id, 0))
            place += build.id not in waiting and build.id not in before
    return found


def waits_of(builds: Iterable[Build | Damaged], store: Store, of_family: int | None) -> Mapping[str, Wait]:
    """Return what the queued ones of some builds wait for, by id; the line is read only for those.

    One that has left the line meanwhile waits for nothing. `of_family` may be None where it is not known.
    """
    queued = any(isinstance(build, Build) and build.state is State.QUEUED for build in builds)
    return waits(readable_builds(store.line()), of_family) if queued else {}


def occupies(build: Unfinished) -> bool:
    """Return whether a build has VMs or is about to: until its outcome is known and they are deleted."""
    if build.state in (State.QUEUED, *ANNOUNCED):
        return False
    return build.outcome is None or build.machinery


def makers(line: Sequence[Unfinished]) -> dict[str, str]:
    """Return which build makes what a queued one is to make, by the id of that; only of those that have to wait.

    A queued one makes it for those that are behind it. It is one pass, however long the line is.
    """
    at_work: dict[_Key, str] = {}
    for build in line:
        if build.state is not State.QUEUED and _may_publish(build):
            _note(build, at_work)
    found = {}
    for build in line:
        if build.state is State.QUEUED:
            key = _wanted(build)
            if key in at_work:
                found[build.id] = at_work[key]
            _note(build, at_work)
    return found


def _may_publish(build: Unfinished) -> bool:
    """Return whether a build's image may still be published, or be taken up once the build is finished."""
    return build.state not in ANNOUNCED and (build.outcome not in ENDED_WELL or occupies(build))


def _note(build: Unfinished, at_work: dict[_Key, str]) -> None:
    if build.image:
        at_work.setdefault(_by_name(build), build.id)
        at_work.setdefault(_by_content(build), build.id)


def _wanted(build: Unfinished) -> _Key:
    """Return what no other build may be making when this one begins; () for one that waits for none."""
    if not build.numbered:
        return _by_name(build) if build.image else ()
    return _by_content(build) if build.rebuild == "changed" else ()


def _by_name(build: Unfinished) -> _Key:
    return build.image_project, build.image


def _by_content(build: Unfinished) -> _Key:
    return build.image_project, build.content, *(() if build.family is None else (build.family,)), "content"


def has_same_output(first: Plan, second: Plan) -> bool:
    """Return whether two plans of one image's name are of the same content, family, size and labels."""
    (one, its), (other, others) = (
        (plan.image, {k: v for k, v in plan.image.labels.items() if k != BUILD_LABEL}) for plan in (first, second)
    )
    return (first.content_digest, one.family, one.disk_size_gb, its) == (
        second.content_digest,
        other.family,
        other.disk_size_gb,
        others,
    )
