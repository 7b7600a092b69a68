"""The files of the machine that we run on, as the hygiene check takes them: what is on its disks, each once.

File systems in memory, of the kernel and of containers are not in the image. Neither is the scratch disk.
"""

from __future__ import annotations

import os
import stat

from .hygiene import File, is_published
from .scratch_disk import MOUNT_POINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    IsOfSource = Callable[[os.stat_result], bool]

ON_DISKS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs")


class OwnFile(File):
    """A file below a root."""

    def __init__(self, root: str, path: str, found: os.stat_result, is_of_source: IsOfSource) -> None:
        super().__init__(path, found.st_mode, found.st_size)
        self.found = found
        self._root = root
        self._is_of_source = is_of_source

    def is_of_build(self) -> bool:
        """Tell whether the source image had no such file, or another one."""
        return not self._is_of_source(self.found)

    def is_blank(self, start: int) -> bool:
        """Tell whether there are zeros alone from a byte on. OSError."""
        from .swap import is_blank  # few machines have any

        return is_blank(self._root + self.path, start)

    def read(self, limit: int) -> bytes:
        """Return the first bytes. OSError."""
        handle = os.open(self._root + self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            return file.read(limit)


def own_files(root: str, but: str, is_of_source: IsOfSource = lambda found: False) -> Iterator[OwnFile]:
    """Yield everything below `root` that is on disks, but for the folder `but`. What is removed meanwhile is left out.

    Container-Optimized OS shows the folders of its state in three places: each is given once.
    """
    root = os.path.realpath(root)
    prefix = root.rstrip("/")
    devices = {os.stat(root).st_dev, *_disks(prefix)}
    seen = {_identity(os.stat(folder)) for folder in [but] if os.path.isdir(folder)}  # it, too, is in three places
    waiting = [root]
    while waiting:
        for path, found in _entries(waiting.pop()):
            if found.st_dev not in devices:
                continue
            inside = path[len(prefix) :]
            if not stat.S_ISDIR(found.st_mode):
                yield OwnFile(prefix, inside, found, is_of_source)
            elif _identity(found) not in seen and not is_published(inside + "/"):
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


def _disks(prefix: str) -> Iterator[int]:
    """Yield the device numbers of what is mounted from disks."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split() for line in file]
    for fields in lines:
        kind, source = fields[fields.index("-") + 1 : fields.index("-") + 3]
        path = fields[4]
        if (
            kind in ON_DISKS
            and source.startswith("/dev/")
            and path.startswith(prefix)
            and path != f"{prefix}/{MOUNT_POINT}"
        ):
            try:
                yield os.stat(path).st_dev
            except OSError:
                continue
