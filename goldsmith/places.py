"""Where builds are: on this machine, or in a project on Google Cloud."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared import factory

from .home import open_factory

if TYPE_CHECKING:
    from shared.factory import CloudClient, LocalFactory


@dataclass(frozen=True)
class Place:
    """A project and its bucket; no project is this machine."""

    project: str | None = None
    bucket: str | None = None

    @property
    def options(self) -> str:
        """What a command line needs to name this place again."""
        named = (("--project", self.project), ("--bucket", self.bucket))
        return "".join(f" {option} {value}" for option, value in named if value)


def opened(place: Place) -> LocalFactory | CloudClient:
    """Open what knows of the builds of a place."""
    return open_factory() if place.project is None else client(place.project, place.bucket)


def client(project: str, bucket: str | None) -> CloudClient:
    """Open what a terminal knows of a project."""
    return factory.client(project, bucket or default_bucket(project))


def default_bucket(project: str) -> str:
    """The bucket that terraform/ makes unless it is told another name."""
    return f"{project}-goldsmith"
