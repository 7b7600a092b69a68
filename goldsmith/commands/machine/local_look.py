"""What the dashboard of one machine sees beside the ports: disks of images, what uses them, what was left behind.

Reading a disk takes seconds, and an image never changes: answers are kept by the ids of images, and disks are read one
at a time.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from shared.build.build import ImageUsage
from shared.errors import InputError
from shared.ports import Resource
from shared.runtime import opening

if TYPE_CHECKING:
    from shared.images.diff.result import ImageDiff
    from shared.images.folder_sizes import FolderSize
    from shared.runtime.opening import HostCheck, LocalBackend

MOST_ANSWERS = 16  # answers of a kind
LOOK_EVERY = 300.0  # seconds: to look at this machine takes one

_Answer = TypeVar("_Answer")


class LocalLook:
    """This machine, for the pages of the dashboard."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self._images = opening.images_here(backend)
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._lacking: list[HostCheck] | None = None
        self._looked = 0.0
        self._folders: OrderedDict[str, FolderSize] = OrderedDict()
        self._differences: OrderedDict[str, ImageDiff] = OrderedDict()

    def folders(self, name: str) -> FolderSize:
        """Return the sizes of the folders in an image. InputError, RootUnreadable, ImageFileError."""
        from shared.images.folder_sizes import folder_sizes

        def read() -> FolderSize:
            return folder_sizes(self._backend.catalogue.disk(name))

        return self._kept(self._folders, self._id(name), read)

    def difference(self, before: str, after: str) -> ImageDiff:
        """Compare the disks of two images. InputError, ImageFileError."""
        key = f"{self._id(before)} {self._id(after)}"
        return self._kept(self._differences, key, lambda: self._images.diff(before, after))

    def usage(self, name: str) -> ImageUsage:
        """List what has the disk of an image open now."""
        return self._images.usage(name)

    def orphans(self) -> Sequence[Resource]:
        """List what `goldsmith sweep` would delete: machines and disks that belong to no build at work."""
        return opening.builds_here(self._backend).orphans()

    def lacking(self) -> Sequence[HostCheck]:
        """List what `goldsmith doctor` would find lacking, as it was at most five minutes ago."""
        with self._looking:
            if self._lacking is None or time.monotonic() - self._looked > LOOK_EVERY:
                self._lacking = [check for check in opening.examine(self._backend.home) if not check.good]
                self._looked = time.monotonic()
            return self._lacking

    def _id(self, name: str) -> str:
        image = self._backend.catalogue.get(name)
        if image is None:
            raise InputError(f"there is no image {name}; see: goldsmith images list")
        return image.id

    def _kept(self, answers: OrderedDict[str, _Answer], key: str, read: Callable[[], _Answer]) -> _Answer:
        with self._lock:
            if key not in answers:
                answers[key] = read()
                while len(answers) > MOST_ANSWERS:
                    answers.popitem(last=False)
            answers.move_to_end(key)
            return answers[key]
