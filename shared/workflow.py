"""Several builds of one uploaded workflow: what each is called, and when it may begin. Pure.

A build that waits for others begins when the last of them has succeeded, or is rejected as soon as one of them has
not. All that it takes to find and name it is in each of the others, so that no record of the workflow as a whole is
kept, and none has to be deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .build import Build, Outcome, WorkflowPart
from .identity import build_id

GOOD = (Outcome.SUCCEEDED, Outcome.UNCHANGED)


@dataclass(frozen=True)
class Wanted:
    """A build that is asked for, before anybody has looked at what it makes."""

    name: str
    asked: str  # its digest is in the build id
    result: str  # URI of the object that says how it ended
    workflow: WorkflowPart | None = None

    @property
    def id(self) -> str:
        """The build's."""
        return build_id(self.name, self.asked)


def wanted(part: WorkflowPart, index: int) -> Wanted:
    """Give one build of a workflow; the first is asked for as the only one of a file is."""
    asked = f"{part.asked} build {index}" if index else part.asked
    result = f"{part.result.removesuffix('.json')}~{index + 1}.json" if index else part.result
    return Wanted(part.siblings[index].name, asked, result, replace(part, index=index))


def followers(part: WorkflowPart) -> list[int]:
    """Give the builds that wait for this one, by index."""
    return [index for index, sibling in enumerate(part.siblings) if part.index in sibling.after]


def awaited(part: WorkflowPart, index: int) -> list[str]:
    """Give the ids of the builds that must have succeeded before one begins."""
    return [wanted(part, earlier).id for earlier in part.siblings[index].after]


def hindrance(builds: Iterable[Build | None]) -> str | None:
    """Say which of the builds that one waits for keeps it from ever beginning; None where none does."""
    for build in builds:
        if build is not None and build.finished and build.outcome not in GOOD:
            return f"waits for build {build.id}, which is {build.outcome}; mend that one, and upload the workflow again"
    return None


def may_begin(builds: Iterable[Build | None]) -> bool:
    """Whether all that a build waits for have ended well."""
    return all(build is not None and build.finished and build.outcome in GOOD for build in builds)
