"""Where Goldsmith keeps its state on this machine, and how what a killed run has left there is finished."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shared import factory
from shared.build import Build, State
from shared.errors import EnvironmentFault, GoldsmithError
from shared.ports import Progress

from .progress import shown
from .text import complain

if TYPE_CHECKING:
    from shared.factory import LocalFactory


LOG = logging.getLogger(__name__)

VARIABLE = "GOLDSMITH_HOME"


class Notes(logging.Handler):
    """Shows what library code warns of as any other note: it may quote a guest."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one warning."""
        with suppress(BrokenPipeError, EnvironmentFault):  # nobody reads it any more
            complain(self.format(record))


def home() -> Path:
    """Give $GOLDSMITH_HOME, else ~/.local/share/goldsmith."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).absolute()
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "goldsmith"


def open_factory(progress: Progress | None = None) -> LocalFactory:
    """Open this machine's factory."""
    logging.basicConfig(format="%(message)s", handlers=[Notes()])
    return factory.local(home(), progress)


def resume_all(opened: LocalFactory) -> tuple[list[Build], list[str]]:
    """Finish what killed processes have left; return the builds that are finished now, and the ids of the others.

    Each is named before it is begun, and its progress shown. One that cannot be finished stops neither the others nor
    the command.
    """
    opened.tidy()
    finished, left = [], []
    for build in opened.interrupted():
        try:
            ended = resume(opened, build)
        except Exception as error:
            foreseen = isinstance(error, GoldsmithError)
            LOG.warning("build %s cannot be finished: %s", build.id, error, exc_info=None if foreseen else error)
            left.append(build.id)
            continue
        if ended is not None:
            (finished.append(ended) if ended.finished else left.append(ended.id))
    return finished, left


def resume(opened: LocalFactory, build: Build) -> Build | None:
    """Say that a killed process has left a build, finish it and say how it ended; None while another process has it."""
    work = "cleaning up after it" if build.state in (State.PREPARING, State.PROVISIONING) else "finishing it"
    complain(f"build {build.id} was left by a killed process while it was {build.state}; {work} first")
    with shown() as progress:
        ended = replace(opened, progress=progress).resume(build.id)
    if ended is None:
        complain(f"build {build.id} is held by another process now")
    elif ended.finished:
        complain(f"build {build.id} is {ended.outcome} now")
    else:
        left = ", ".join(entry.name for entry in ended.ledger if not entry.keep)
        complain(f"build {build.id} cannot be cleaned up yet; left: {left}")
    return ended
