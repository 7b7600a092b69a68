"""The folder of Goldsmith's state on this machine, and the recovery of builds that killed processes left there."""

from __future__ import annotations

import logging
import os
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.build.build import Build
from shared.errors import EnvironmentFault, GoldsmithError, InputError
from shared.ports import Progress
from shared.quantities import parse_source_date
from shared.runtime import opening
from shared.topology import CACHE_SIZE, CACHE_SIZE_DEFAULT, COLLECTOR, STORAGE_EMULATOR

from .home_folder import DATA_HOME, HOME, CommandVariable
from .home_folder import home as home
from .screen.progress import shown
from .screen.text import complain

if TYPE_CHECKING:
    from shared.runtime.opening import LocalBackend


LOG = logging.getLogger(__name__)

ALIKE = 20  # warnings from one line of code that are shown


SOURCE_DATE = CommandVariable(
    "SOURCE_DATE_EPOCH", "the date that steps and files get, in Unix seconds", "the source's, or the archive's"
)
CONCURRENCY = CommandVariable("GOLDSMITH_CONCURRENCY", "how many builds may have VMs at once", "any number")
FAMILY_CONCURRENCY = CommandVariable(
    "GOLDSMITH_FAMILY_CONCURRENCY", "how many builds of images of one family may have VMs at once", "any number"
)
COMMAND_VARIABLES = (
    HOME,
    DATA_HOME,
    CONCURRENCY,
    FAMILY_CONCURRENCY,
    CommandVariable(CACHE_SIZE, "how much the results of steps may take on the disk, such as 5G", CACHE_SIZE_DEFAULT),
    CommandVariable(STORAGE_EMULATOR, "the emulator's Cloud Storage, which has the NVIDIA drivers", "Google's"),
    CommandVariable(COLLECTOR, "the collector of OpenTelemetry that traces of builds are sent to", "none"),
    CommandVariable("PAGER", "what shows long output in a terminal; cat is none", "less"),
    SOURCE_DATE,
    CommandVariable(
        "TRACEPARENT", "the place in a trace that builds belong to, in the form of W3C's Trace Context", "none"
    ),
)
"""Every variable that is read. Commands with --project read those of the emulator too: shared/gcp/settings.py."""


class Notes(logging.Handler):
    """Shows what library code warns of as any other note: it may quote a guest, which may never stop.

    Of warnings from one line of code so many are shown, and that there are more.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: Counter[tuple[str, int]] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one warning."""
        where = (record.pathname, record.lineno)
        self._shown[where] += 1
        if self._shown[where] > ALIKE:
            return
        more = "; more of the kind are not shown" if self._shown[where] == ALIKE else ""
        with suppress(BrokenPipeError, EnvironmentFault):  # the reader has gone
            complain(self.format(record) + more)


def concurrency(text: str, name: str = CONCURRENCY.name) -> int | None:
    """Return what a variable says: how many builds may have VMs at once, or None for any number.

    EnvironmentFault for anything else.
    """
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and int(text)):
        raise EnvironmentFault(f"{name} is not a number of builds; set it to 1 or more, or to nothing")
    return int(text)


def source_date(text: str) -> int | None:
    """Return what $SOURCE_DATE_EPOCH says, or None where it says nothing. InputError for anything else."""
    try:
        return parse_source_date(text)
    except ValueError as error:
        raise InputError(f"{SOURCE_DATE.name} {error}") from error


def open_home(progress: Progress | None = None) -> LocalBackend:
    """Open this machine's backend."""
    logging.basicConfig(format="%(message)s", handlers=[Notes()])
    of_family = concurrency(os.environ.get(FAMILY_CONCURRENCY.name, ""), FAMILY_CONCURRENCY.name)
    opened = opening.local(home(), progress, concurrency(os.environ.get(CONCURRENCY.name, "")))
    return replace(opened, family_concurrency=of_family)


def resume_all(backend: LocalBackend) -> tuple[list[Build], list[str]]:
    """Finish what killed processes have left; return the builds that are finished now, and the ids of the others.

    Each is named before it is begun, and its progress shown. One that cannot be finished stops neither the others nor
    the command.
    """
    builds = opening.builds_here(backend)
    builds.tidy()
    finished, left = [], []
    for build in builds.interrupted():
        try:
            ended = resume_build(backend, build)
        except Exception as error:
            foreseen = isinstance(error, GoldsmithError)
            LOG.warning("build %s cannot be finished: %s", build.id, error, exc_info=None if foreseen else error)
            left.append(build.id)
            continue
        if ended is not None:
            (finished.append(ended) if ended.finished else left.append(ended.id))
    return finished, left


def resume_build(backend: LocalBackend, build: Build) -> Build | None:
    """Finish a build that a killed process has left, and print how it ended. None while another process holds it."""
    work = "finishing it" if opening.builds_here(backend).can_go_on(build) else "cleaning up after it"
    complain(f"build {build.id} was left by a killed process while it was {build.state}; {work} first")
    with shown() as progress:
        ended = opening.builds_here(replace(backend, progress=progress)).resume(build.id)
    if ended is None:
        complain(f"build {build.id} is held by another process now")
    elif ended.finished:
        complain(f"build {build.id} is {ended.outcome} now")
    else:
        left = ", ".join(entry.name for entry in ended.ledger if not entry.keep)
        complain(f"build {build.id} cannot be cleaned up yet; left: {left}")
    return ended
