"""A part of the port Store: builds that people look for. Each store searches in its way; `matches` is what all mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .build.build import Build


@dataclass(frozen=True)
class BuildFilter:
    """The builds that are looked for; what is empty, or 0, asks for nothing."""

    states: tuple[str, ...] = ()  # any of these
    outcome: str = ""
    name: str = ""  # of the spec
    family: str = ""  # of the image
    since: float = 0.0  # requested then or later: Unix seconds
    until: float = 0.0  # requested before
    text: str = ""  # in its id, its spec's name, its image, family or reason; large letters and small ones are the same

    @property
    def wanted_words(self) -> str:
        """Return the text as searched_words() has it."""
        return _small(self.text)

    def matches(self, build: Build) -> bool:
        """Return whether a build is looked for."""
        family = build.plan.image.family if build.plan is not None else None
        pairs = ((self.outcome, build.outcome), (self.name, build.name), (self.family, family))
        return (
            all(not wanted or wanted == found for wanted, found in pairs)
            and (not self.states or build.state in self.states)
            and self.since <= build.created
            and (not self.until or build.created < self.until)
            and self.wanted_words in searched_words(build)
        )


@dataclass(frozen=True)
class FoundBuilds:
    """Builds that match, newest first, and where a search goes on: it looks at so many builds at once."""

    builds: tuple[Build, ...]
    after: str  # the id of the last build that was looked at; "" once there are no more


class BuildSearch(Protocol):
    """A search among all builds."""

    def find_builds(self, wanted: BuildFilter, *, limit: int, before: str = "") -> FoundBuilds:
        """List at most `limit` of the builds that match, newest first, of those that follow the build `before`.

        One call looks at a bounded number of builds, so that it may find fewer, or none, and say where to go on. Those
        that cannot be read are left out. NotFound for `before`.
        """
        ...


def searched_words(build: Build) -> str:
    """Return the text of a build that is searched."""
    image = build.plan.image if build.plan is not None else None
    of_image = (image.name, image.family or "") if image is not None else ("", "")
    return _small("\n".join((build.id, build.name, *of_image, build.reason)))


def _small(text: str) -> str:
    """Return a text with the small letters of ASCII, as SQLite does it."""
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")
