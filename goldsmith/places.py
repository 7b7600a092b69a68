"""The place of builds: this machine, or a project on Google Cloud."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.runtime import opening

from .home import open_home

if TYPE_CHECKING:
    from shared.runtime.opening import CloudClient, LocalBuilds


@dataclass(frozen=True)
class Place:
    """A project and its bucket; no project is this machine."""

    project: str | None = None
    bucket: str | None = None

    @property
    def options(self) -> str:
        """Return the options that name this place on a command line."""
        named = (("--project", self.project), ("--bucket", self.bucket))
        return "".join(f" {option} {value}" for option, value in named if value)


@contextmanager
def builds_at(place: Place) -> Iterator[LocalBuilds | CloudClient]:
    """Open the builds of a place for the length of a block."""
    if place.project is not None:
        yield open_client_of(place.project, place.bucket)
        return
    with open_home() as backend:
        yield opening.builds_here(backend)


def open_client_of(project: str, bucket: str | None) -> CloudClient:
    """Open what a terminal knows of a project."""
    return opening.client(project, bucket or default_bucket(project))


def default_bucket(project: str) -> str:
    """The bucket that terraform/ makes unless it is told another name; example.com:project is an old project's id."""
    return f"{project.replace(':', '-').replace('.', '-')}-goldsmith"
