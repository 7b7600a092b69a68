"""Where Goldsmith keeps its state on this machine, and what every command does before its own work."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shared import factory
from shared.errors import EnvironmentFault
from shared.ports import Progress

from .text import complain

if TYPE_CHECKING:
    from shared.factory import LocalFactory


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


def open_factory(progress: Progress | None = None, *, recover: bool = True) -> LocalFactory:
    """Give this machine's factory, after ending what a killed run has left, and saying so."""
    logging.basicConfig(format="%(message)s", handlers=[Notes()])
    opened = factory.local(home(), progress)
    if recover:
        for build in opened.recover():
            complain(f"build {build.id} was left by a killed process; it is {build.outcome} now")
    return opened
