"""The builds of one uploaded workflow: their names, and when each may begin. Pure.

A build that waits for others begins when the last of them has succeeded, and is rejected as soon as one of them has
not. Each build holds what it takes to find and name the others. So no record of the whole workflow is kept, and none
has to be deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..build.build import Build, Outcome, WorkflowPart
from ..build.identity import build_id

GOOD = (Outcome.SUCCEEDED, Outcome.UNCHANGED)


@dataclass(frozen=True)
class Wanted:
    """A build that is asked for, before its spec is read."""

    name: str
    asked: str  # its digest is in the build id
    result: str  # URI of the object that says how it ended
    workflow: WorkflowPart | None = None
    traceparent: str = ""  # as of Build

    @property
    def id(self) -> str:
        """Return the build's id."""
        return build_id(self.name, self.asked)


def wanted_build(part: WorkflowPart, index: int) -> Wanted:
    """Return one build of a workflow; the first is asked for as the only build of a file is."""
    asked = f"{part.asked} build {index}" if index else part.asked
    result = f"{part.result.removesuffix('.json')}~{index + 1}.json" if index else part.result
    return Wanted(part.siblings[index].name, asked, result, replace(part, index=index), part.traceparent)


def followers(part: WorkflowPart) -> list[int]:
    """Return the builds that wait for this one, by index."""
    return [index for index, sibling in enumerate(part.siblings) if part.index in sibling.after]


def awaited(part: WorkflowPart, index: int) -> list[str]:
    """Return the ids of the builds that must have succeeded before one begins."""
    return [wanted_build(part, earlier).id for earlier in part.siblings[index].after]


def hindrance(builds: Iterable[Build | None]) -> str | None:
    """Return why a build that waits for these can never begin; None if it can."""
    for build in builds:
        if build is not None and build.ended and build.outcome not in GOOD:
            return f"waits for build {build.id}, which is {build.outcome}; mend that one, and upload the workflow again"
    return None


def may_begin(builds: Iterable[Build | None]) -> bool:
    """Return whether all builds that one waits for have ended well."""
    return all(build is not None and build.ended and build.outcome in GOOD for build in builds)
