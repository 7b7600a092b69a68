"""What a dashboard serves: a backend, and what only its place knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...backend import Backend
from ...build.build import Build


def _by_no_process(_build: Build) -> bool:
    """Return False: in a project no build hangs on one process."""
    return False


@dataclass(frozen=True)
class Served:
    """A backend and its place. The pages read it through the ports, and change nothing."""

    backend: Backend
    place: str  # for people: the project, or this machine
    options: str = ""  # that name the place on a command line, with a space before them
    retirement: str = ""  # URI of the report of retire_images; "" where none is written
    is_interrupted: Callable[[Build], bool] = _by_no_process  # whether a killed process has left it
    streams: int = 8  # live answers at once; a further one is told to come again
    stream_seconds: float = 50.0  # after which a live answer ends, and its reader connects again
