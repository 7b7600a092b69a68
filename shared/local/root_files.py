"""The files of an image's root file system, by their paths, without mounting it: ext4.py reads the disk file.

Other file systems (XFS, Btrfs, LVM) cannot be read this way; RootUnreadable says so, and callers do without.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from ..budget import Budget
from ..errors import NotFound
from ..os_release import read_os_release
from .disk import Partition, find_root, read_table
from .ext4 import Ext4, FileSystemUnreadable
from .ext4_inode import Inode

_LINK_HOPS = 20
_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")  # the first one that is there counts
_LARGEST_OS_RELEASE = 64 << 10  # bytes


class RootUnreadable(FileSystemUnreadable):
    """The root file system is of a kind that cannot be read without mounting it."""


class RootFiles:
    """The files of a disk's root file system. Paths are absolute; symbolic links are followed inside the image.

    Raises RootUnreadable when there is no ext4 root, ImageFileError when the disk is damaged.
    """

    def __init__(self, disk: Path, budget: Budget | None = None) -> None:
        partition = find_root(read_table(disk))
        if partition is None:
            raise RootUnreadable(f"{disk}: has no partition with a Linux root file system")
        if partition.file_system != "ext4":
            kind = partition.file_system or "of an unknown kind"
            raise RootUnreadable(f"{disk}: its root, partition {partition.number}, is {kind}; only ext4 can be read")
        self.partition: Partition = partition
        self._disk = disk
        try:
            self.file_system = Ext4(disk, partition.start, partition.size, budget)
        except FileSystemUnreadable as error:
            raise RootUnreadable(str(error)) from error
        self._folders: dict[int, Mapping[str, int]] = {}

    def exists(self, path: str) -> bool:
        """Whether there is anything at a path."""
        return self.entry(path) is not None

    def entry(self, path: str) -> Inode | None:
        """Look a path up, links followed. None when there is nothing, or a link that leads nowhere."""
        return self._walk(path, _LINK_HOPS)

    def names(self, folder: str) -> list[str]:
        """List a folder's names in order. NotFound when it is none."""
        entry = self.entry(folder)
        if entry is None or not entry.is_folder:
            raise NotFound(f"there is no folder {folder} in {self._disk}")
        return sorted(self._listing(entry))

    def read(self, path: str) -> bytes:
        """Read a file. NotFound."""
        entry = self.entry(path)
        if entry is None or not entry.is_file:
            raise NotFound(f"there is no file {path} in {self._disk}")
        return self.file_system.read(entry)

    def read_all(self, paths: Iterable[str], limit: int | None = None) -> dict[str, bytes]:
        """Read many files, or the first `limit` bytes of each; those that do not exist are left out."""
        return {path: self.file_system.read(entry, limit) for path, entry in self._files(paths).items()}

    def os_release(self) -> Mapping[str, str]:
        """Give the fields of os-release, which say what system this is; none where there is no such file."""
        found = self.read_all(_OS_RELEASE, _LARGEST_OS_RELEASE)
        text = next((found[path] for path in _OS_RELEASE if path in found), b"")
        return read_os_release(text.decode("utf-8", "replace"))

    def dump(self, paths: Iterable[str], into: Path) -> dict[str, Path]:
        """Copy files to `into`, below the folders that they have in the image; those that do not exist are left out.

        Gives the copy of each path. Owners and modes are not kept; holes are.
        """
        with tempfile.TemporaryDirectory(prefix=".dump-", dir=into) as folder:
            copies = {}
            for path, entry in self._files(paths).items():
                target = into / str(_normal(path)).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                copies[path] = self._copy(entry, Path(folder) / "copy").replace(target)
            return copies

    def _copy(self, entry: Inode, target: Path) -> Path:
        with target.open("wb") as file:
            for at, chunk in self.file_system.chunks(entry):
                file.seek(at)
                file.write(chunk)
            file.truncate(entry.size)
        return target

    def _files(self, paths: Iterable[str]) -> dict[str, Inode]:
        return {path: entry for path in paths if (entry := self.entry(path)) is not None and entry.is_file}

    def _walk(self, path: str, hops: int) -> Inode | None:
        """Follow a path from the root, folder by folder; `hops` is how many links may still be followed."""
        entry = self.file_system.root
        parts = _normal(path).parts[1:]
        for index, part in enumerate(parts):
            if not entry.is_folder:
                return None
            number = self._listing(entry).get(part)
            if number is None:
                return None
            found = self.file_system.inode(number)
            if found.is_link:
                if hops == 0:
                    return None
                parent = PurePosixPath("/", *parts[:index])
                target = parent.joinpath(self.file_system.link(found), *parts[index + 1 :])
                return self._walk(str(target), hops - 1)
            entry = found
        return entry

    def _listing(self, folder: Inode) -> Mapping[str, int]:
        if folder.number not in self._folders:
            self._folders[folder.number] = self.file_system.entries(folder)
        return self._folders[folder.number]


def _normal(path: str) -> PurePosixPath:
    """Give an absolute path without `..`, which leads nowhere above the root."""
    parts: list[str] = []
    for part in PurePosixPath(path).parts:
        if part == "..":
            parts[-1:] = []
        elif part != "/":
            parts.append(part)
    return PurePosixPath("/", *parts)
