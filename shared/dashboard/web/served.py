"""What a dashboard serves: a backend, and what only its place knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ...backend import Backend
from ...build.build import Build, ImageUsage
from ...names import LOCAL
from ...ports import Resource
from .desk import Desk
from .histories import RecentHistories
from .kept_answers import KeptAnswer

if TYPE_CHECKING:
    from ...images.diff.result import ImageDiff
    from ...images.folder_sizes import FolderSize


class LackingPart(Protocol):
    """Something that builds need and this machine lacks."""

    @property
    def what(self) -> str:
        """Return its name."""
        ...

    @property
    def text(self) -> str:
        """Return what is wrong, in words."""
        ...

    @property
    def remedy(self) -> str:
        """Return the command that mends it, or ""."""
        ...


class MachineLook(Protocol):
    """Sees what only one machine can: disks of images, what has them open, and what builds have left there."""

    def folders(self, name: str) -> FolderSize:
        """Return the sizes of the folders in an image. InputError, RootUnreadable, ImageFileError."""
        ...

    def difference(self, before: str, after: str) -> ImageDiff:
        """Compare the disks of two images. InputError, ImageFileError."""
        ...

    def usage(self, name: str) -> ImageUsage:
        """List what has the disk of an image open now."""
        ...

    def orphans(self) -> Sequence[Resource]:
        """List the machines and disks that belong to no build at work."""
        ...

    def lacking(self) -> Sequence[LackingPart]:
        """List what builds need and this machine lacks."""
        ...


def _by_no_process(_build: Build) -> bool:
    """Return False: in a project no build hangs on one process."""
    return False


@dataclass(frozen=True)
class Served:
    """A backend and its place. The pages read it through the ports, and change nothing."""

    backend: Backend
    place: str  # for people: the project, or this machine
    prefix: str = "goldsmith"  # of the names of functions and schedules
    options: str = ""  # that name the place on a command line, with a space before them
    retirement: str = ""  # URI of the report of retire_images; "" where none is written
    upkeep: str = ""  # URI of what expire_builds has found; "" where it does not run
    is_interrupted: Callable[[Build], bool] = _by_no_process  # whether a killed process has left it
    project: str = LOCAL  # whose images are shown
    machine: MachineLook | None = None  # None: it is no single machine
    poll: float = 1.0  # seconds between two looks at a build that is shown live
    list_poll: float = 2.0  # and at the list
    streams: int = 8  # live answers at once; a further one is told to come again
    streams_each: int = 8  # of one viewer, so that none keeps all others from theirs
    desk: Desk | None = None  # None: nothing can be asked for
    stream_seconds: float = 50.0  # after which a live answer ends, and its reader connects again
    health: KeptAnswer[dict[str, Any]] = field(default_factory=KeptAnswer)
    histories: RecentHistories = field(default_factory=RecentHistories)
