"""Add up what is below each folder of an image's root file system: its largest folders, three deep.

Sizes are those of files as `ls` shows them; a file with several names counts once. Other partitions are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..disks.disk import Disk

DEPTH = 3
MOST_BELOW = 24  # folders that are told of each folder
_FOLDER_BYTES = 200  # of memory that the size of a folder takes, beside its path
_NUMBER_BYTES = 80  # the same of an inode's number


@dataclass(frozen=True)
class FolderSize:
    """A folder with all that is below it."""

    path: str
    bytes: int
    files: int
    folders: tuple[FolderSize, ...] = ()  # the largest ones in it, by size


def folder_sizes(path: Path) -> FolderSize:
    """Return the root folder of a raw disk. RootUnreadable where that is not ext4, ImageFileError."""
    with Disk(path) as disk:
        files = disk.root.file_system
        sizes: dict[str, int] = {"/": 0}
        counts: dict[str, int] = {"/": 0}
        seen: set[int] = set()
        for name, inode in files.walk():
            if inode.is_folder and name not in sizes and name.count("/") <= DEPTH:
                files.budget.keep(_FOLDER_BYTES + 2 * len(name))
                sizes[name] = counts[name] = 0
            if not inode.is_file:
                continue
            if inode.links > 1:
                if inode.number in seen:
                    continue
                files.budget.keep(_NUMBER_BYTES)
                seen.add(inode.number)
            for folder in _around(name):
                sizes[folder] += inode.size
                counts[folder] += 1
    return _tree(sizes, counts)


def _around(path: str) -> list[str]:
    """Return the folders that a file is in, DEPTH of them at most below the root."""
    parts = path.split("/", DEPTH + 1)[1:-1]
    return ["/", *("/" + "/".join(parts[: end + 1]) for end in range(min(len(parts), DEPTH)))]


def _tree(sizes: dict[str, int], counts: dict[str, int]) -> FolderSize:
    below: dict[str, list[str]] = {}
    for path in sizes:
        if path != "/":
            below.setdefault(path.rpartition("/")[0] or "/", []).append(path)

    def folder(path: str) -> FolderSize:
        largest = sorted(below.get(path, ()), key=lambda each: (-sizes[each], each))[:MOST_BELOW]
        return FolderSize(path, sizes[path], counts[path], tuple(folder(each) for each in largest))

    return folder("/")
