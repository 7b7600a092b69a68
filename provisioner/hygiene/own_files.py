"""The files of this machine for the hygiene check: all on its disks, each once.

File systems in memory, of the kernel and of containers are not in the image, and neither is the scratch disk.
"""

from __future__ import annotations

import os
import stat

from ..machine.scratch_disk import MOUNT_POINT
from ..machine.swap import is_blank
from ..system.mounts import mounts
from .hygiene import File, is_published

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from ..system.mounts import Mount

    IsOfSource = Callable[[os.stat_result], bool]

PIECE = 1 << 20  # bytes
ON_DISKS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs")
OF_FIRMWARE = ("vfat",)  # of the boot loader: it has no owners and modes that the check could look at


class OwnFile(File):
    """A file below a root."""

    def __init__(self, root: str, path: str, found: os.stat_result, is_of_source: IsOfSource) -> None:
        super().__init__(path, found.st_mode, found.st_size)
        self.found = found
        self._root = root
        self._is_of_source = is_of_source

    def is_of_build(self) -> bool:
        """Return whether the source image did not have this file."""
        return not self._is_of_source(self.found)

    def is_blank(self, start: int) -> bool:
        """Return whether all blocks are zero from a byte on. OSError."""
        return is_blank(self._root + self.path, start)

    def read(self, limit: int) -> bytes:
        """Return the first bytes. OSError."""
        handle = os.open(self._root + self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            return file.read(limit)

    def pieces(self) -> Iterator[bytes]:
        """Yield the contents. OSError."""
        handle = os.open(self._root + self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            piece = file.read(PIECE)
            while piece:
                yield piece
                piece = file.read(PIECE)


def own_files(
    root: str,
    but: str,
    is_of_source: IsOfSource = lambda found: False,
    *,
    whole: bool = False,
    mounted: Callable[[], list[Mount]] = mounts,
) -> Iterator[OwnFile]:
    """Yield all files below `root` that are on disks, but for the folder `but`; files removed meanwhile are left out.

    Folders for published files and the firmware's file system are left out, too, unless `whole` is set.
    Container-Optimized OS shows the folders of its state in three places; each is visited once.
    """
    root = os.path.realpath(root)
    prefix = root.rstrip("/")
    kinds = (*ON_DISKS, *OF_FIRMWARE) if whole else ON_DISKS
    devices = {os.stat(root).st_dev, *_disks(prefix, kinds, mounted())}
    seen = {_identity(os.stat(folder)) for folder in [but] if os.path.isdir(folder)}  # it is in three places, too
    waiting = [root]
    while waiting:
        for path, found in _entries(waiting.pop()):
            if found.st_dev not in devices:
                continue
            inside = path[len(prefix) :]
            if not stat.S_ISDIR(found.st_mode):
                yield OwnFile(prefix, inside, found, is_of_source)
            elif _identity(found) not in seen and (whole or not is_published(inside + "/")):
                seen.add(_identity(found))
                waiting.append(path)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _entries(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        try:
            yield path, os.lstat(path)
        except OSError:
            continue


def _disks(prefix: str, kinds: tuple[str, ...], mounted: list[Mount]) -> Iterator[int]:
    """Yield the device numbers of the file systems of some kinds on disks."""
    for mount in mounted:
        if (
            mount.kind in kinds
            and mount.source.startswith("/dev/")
            and mount.path.startswith(prefix)
            and mount.path != f"{prefix}/{MOUNT_POINT}"
        ):
            try:
                yield os.stat(mount.path).st_dev
            except OSError:
                continue
