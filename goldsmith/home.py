"""Where Goldsmith keeps its state on this machine, and what every command does before its own work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from shared import factory
from shared.ports import Progress

from .text import complain

if TYPE_CHECKING:
    from shared.factory import LocalFactory


VARIABLE = "GOLDSMITH_HOME"


def home() -> Path:
    """Give $GOLDSMITH_HOME, else ~/.local/share/goldsmith."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).absolute()
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "goldsmith"


def open_factory(progress: Progress | None = None, *, recover: bool = True) -> LocalFactory:
    """Give this machine's factory, after ending what a killed run has left, and saying so."""
    opened = factory.local(home(), progress)
    if recover:
        for build in opened.recover():
            complain(f"build {build.id} was left by a killed process; it is {build.outcome} now")
    return opened
