"""What needs a person, as the work of each minute sees it: one object of the bucket, which the dashboard reads.

The dashboard may neither list VMs nor pull messages; expire_builds sweeps, and may read how many messages wait. The
report is written where it says something new, and every five minutes, so that its age tells whether time still passes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..backend import Backend
from ..backlog import Backlog, Backlogs
from ..errors import GoldsmithError, NotFound, StoreError
from ..json_values import reader, to_document
from ..topology import DEAD_LETTERS_SUBSCRIPTION
from .expiry import Expiry
from .sweep import LeftResource

LOG = logging.getLogger(__name__)

EVERY = 300.0  # seconds after which a report is written that says nothing new
OLD = 900.0  # seconds after which time does not seem to pass any more
MOST_LEFT = 200  # resources that are told, and faults
TEXT_LENGTH = 300  # characters of a text
NOT_MEASURED = "Cloud Monitoring has no measurement of the last minutes"


@dataclass(frozen=True)
class UpkeepReport:
    """What the work of one minute has found."""

    time: float  # Unix seconds, when it was written
    left: tuple[LeftResource, ...] = ()  # the first ones
    left_count: int = 0
    unswept: tuple[str, ...] = ()  # projects that could not be swept, and why
    faults: tuple[str, ...] = ()  # builds that time could not pass for, and more of the kind
    dead_letters: Backlog | None = None
    unmeasured: str = ""  # why their number is not known


def read_upkeep(uri: str, backend: Backend) -> UpkeepReport:
    """Return the newest report. NotFound without one; StoreError for one that cannot be read."""
    try:
        data = backend.bucket.read(uri)
    except NotFound as error:
        raise NotFound("expire_builds has written no report yet; it does so each minute") from error
    try:
        found: UpkeepReport = reader(UpkeepReport)(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{uri} cannot be read: {error!s:.200}; expire_builds writes it anew") from error
    return found


def tell_upkeep(passed: Expiry, backlogs: Backlogs, uri: str, backend: Backend) -> None:
    """Write what a minute's work has found. A fault is logged alone: the next minute tells it."""
    try:
        report = _report(passed, backlogs, backend.clock.now())
        if _is_worth_writing(report, uri, backend):
            backend.bucket.write(uri, json.dumps(to_document(report), indent=1).encode())
    except GoldsmithError as error:
        LOG.warning("what needs a person is not written down: %s", error)


def _report(passed: Expiry, backlogs: Backlogs, now: float) -> UpkeepReport:
    dead_letters, unmeasured = None, NOT_MEASURED
    try:
        dead_letters = backlogs.backlog(DEAD_LETTERS_SUBSCRIPTION)
    except GoldsmithError as error:
        unmeasured = str(error)
        LOG.warning("dead letters are not counted: %s", error)
    return UpkeepReport(
        time=now,
        left=tuple(replace(each, why=each.why[:TEXT_LENGTH]) for each in passed.left[:MOST_LEFT]),
        left_count=len(passed.left),
        unswept=_told(passed.unswept),
        faults=_told({*passed.faults} - {*passed.unswept}),
        dead_letters=dead_letters,
        unmeasured="" if dead_letters is not None else unmeasured[:TEXT_LENGTH],
    )


def _told(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(text[:TEXT_LENGTH] for text in sorted(texts)[:MOST_LEFT])


def _is_worth_writing(report: UpkeepReport, uri: str, backend: Backend) -> bool:
    try:
        before = read_upkeep(uri, backend)
    except GoldsmithError:
        return True
    return _news(before) != _news(report) or not 0 <= report.time - before.time < EVERY


def _news(report: UpkeepReport) -> UpkeepReport:
    """Return a report without what differs each minute."""
    counted = report.dead_letters
    still = None if counted is None else Backlog(counted.messages, 0.0, 0.0)
    return replace(report, time=0.0, dead_letters=still)
