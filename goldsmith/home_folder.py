"""The folder of Goldsmith's state on this machine: where it is, for what opens it and for what only looks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CommandVariable:
    """One environment variable of the command line."""

    name: str
    meaning: str
    default: str  # in words


HOME = CommandVariable("GOLDSMITH_HOME", "the folder with this machine's state", "goldsmith below XDG_DATA_HOME")
DATA_HOME = CommandVariable("XDG_DATA_HOME", "the folder for the data of a person's programs", "~/.local/share")


def home() -> Path:
    """Return $GOLDSMITH_HOME, else ~/.local/share/goldsmith."""
    named = os.environ.get(HOME.name)
    if named:
        return Path(named).absolute()
    data = os.environ.get(DATA_HOME.name)
    return (Path(data) if data else Path(DATA_HOME.default).expanduser()) / "goldsmith"
