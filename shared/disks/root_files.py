"""The files of an image's root file system, by their paths, without mounting it: ext4/ reads the disk file.

Other file systems (XFS, Btrfs, LVM) cannot be read this way; RootUnreadable says so, and callers do without.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from provisioner.system.os_release import read_os_release

from ..errors import NotFound
from .ext4.reader import Ext4, FileSystemUnreadable, Inode, absolute
from .partition_table import DiskPartition

_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")  # the first one that is there counts
_LARGEST_OS_RELEASE = 64 << 10  # bytes
_FSTAB, _LARGEST_FSTAB = "/etc/fstab", 64 << 10
_OF_A_DISK = ("UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "/dev/")
_NOT_NEEDED = frozenset(["noauto", "nofail"])  # options of what a machine boots without


class RootUnreadable(FileSystemUnreadable):
    """The root file system is of a kind that cannot be read without mounting it."""


class RootFiles:
    """The files of a disk's root file system. Paths are absolute; symbolic links are followed inside the image.

    Raises ImageFileError when the disk is damaged.
    """

    def __init__(self, file_system: Ext4, partition: DiskPartition) -> None:
        self.file_system = file_system
        self.partition = partition

    def exists(self, path: str) -> bool:
        """Return whether there is anything at a path."""
        return self.entry(path) is not None

    def entry(self, path: str) -> Inode | None:
        """Look a path up, links followed. None when there is nothing, or a link that leads nowhere."""
        return self.file_system.find(path)

    def names(self, folder: str) -> list[str]:
        """List a folder's names in order. NotFound when it is none."""
        entry = self.entry(folder)
        if entry is None or not entry.is_folder:
            raise NotFound(f"there is no folder {folder} in {self.file_system.disk}")
        return sorted(self.file_system.entries(entry))

    def read(self, path: str) -> bytes:
        """Read a file. NotFound."""
        entry = self.entry(path)
        if entry is None or not entry.is_file:
            raise NotFound(f"there is no file {path} in {self.file_system.disk}")
        return self.file_system.read(entry)

    def read_all(self, paths: Iterable[str], limit: int | None = None) -> dict[str, bytes]:
        """Read many files, or the first `limit` bytes of each; those that do not exist are left out."""
        return {path: self.file_system.read(entry, limit) for path, entry in self._files(paths).items()}

    def os_release(self) -> Mapping[str, str]:
        """Read the fields of os-release, which name the system; none where there is no such file."""
        found = self.read_all(_OS_RELEASE, _LARGEST_OS_RELEASE)
        text = next((found[path] for path in _OS_RELEASE if path in found), b"")
        return read_os_release(text.decode("utf-8", "replace"))

    def mounted_apart(self) -> list[str]:
        """Read from /etc/fstab which folders of the system, beside that of EFI, are file systems of their own."""
        text = self.read_all([_FSTAB], _LARGEST_FSTAB).get(_FSTAB, b"").decode("utf-8", "replace")
        entries = [line.split() for line in text.splitlines()]
        return [
            entry[1]
            for entry in entries
            if len(entry) > 3 and entry[0].startswith(_OF_A_DISK) and entry[1].startswith("/")
            if entry[1] not in ("/", "/boot/efi", "/efi") and not _NOT_NEEDED.intersection(entry[3].split(","))
        ]

    def dump(self, paths: Iterable[str], into: Path) -> dict[str, Path]:
        """Copy files to `into`, below the folders that they have in the image; those that do not exist are left out.

        Returns the copy of each path. Owners and modes are not kept; holes are.
        """
        with tempfile.TemporaryDirectory(prefix=".dump-", dir=into) as folder:
            copies = {}
            for path, entry in self._files(paths).items():
                target = into / str(absolute(path)).lstrip("/")
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
