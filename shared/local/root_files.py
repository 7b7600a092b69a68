"""Read files out of an image's ext4 root without mounting it: debugfs reads the disk file at the partition's offset.

A process of debugfs takes some milliseconds to open a file system, so requests are batched: one process answers many.
Other file systems (XFS, Btrfs, LVM) cannot be read this way; RootUnreadable says so, and callers do without.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import EnvironmentFault, ImageFileError, NotFound
from ..ports import Package
from .disk import Partition, find_root, read_table
from .programs import complete

_LINK_HOPS = 20
_INCOMPATIBLE_AT, _NEEDS_RECOVERY = 1024 + 0x60, 0x4  # ext4's superblock: features that a reader must know
_LISTED = re.compile(r"^/(\d+)/(\d+)/(\d+)/(\d+)/([^/]+)/(\d*)/$")  # inode, mode (octal), user, group, name, size
_DPKG_STATUS = "/var/lib/dpkg/status"
_FAST_LINK = re.compile(r'^Fast link dest: "(.*)"$', re.MULTILINE)


class RootUnreadable(EnvironmentFault):
    """The root file system is of a kind that cannot be read without mounting it."""


@dataclass(frozen=True)
class Entry:
    """A name in a folder of the image. `mode` as in stat(2), with the file's type; `size` in bytes."""

    inode: int
    mode: int
    user: int
    group: int
    size: int

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.mode & 0o170000 == 0o040000

    @property
    def is_file(self) -> bool:
        """Whether it is an ordinary file."""
        return self.mode & 0o170000 == 0o100000

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return self.mode & 0o170000 == 0o120000


_ROOT = Entry(inode=2, mode=0o040755, user=0, group=0, size=0)  # ext4's root is always inode 2


class RootFiles:
    """The files of a disk's root file system. Paths are absolute; symbolic links are followed inside the image.

    Raises RootUnreadable when there is no ext4 root, ImageFileError when the disk is damaged.
    """

    def __init__(self, disk: Path) -> None:
        partition = find_root(read_table(disk))
        if partition is None:
            raise RootUnreadable(f"{disk}: has no partition with a Linux root file system")
        if partition.file_system != "ext4":
            kind = partition.file_system or "of an unknown kind"
            raise RootUnreadable(f"{disk}: its root, partition {partition.number}, is {kind}; only ext4 can be read")
        self.partition: Partition = partition
        self._disk = disk
        self._source = f"{disk}?offset={partition.start}"
        self._folders: dict[int, Mapping[str, Entry]] = {}

    def needs_recovery(self) -> bool:
        """Whether the file system was cut off in its work: a mount would replay its journal first."""
        with self._disk.open("rb") as file:
            file.seek(self.partition.start + _INCOMPATIBLE_AT)
            return bool(int.from_bytes(file.read(4), "little") & _NEEDS_RECOVERY)

    def exists(self, path: str) -> bool:
        """Whether there is anything at a path."""
        return self.entry(path) is not None

    def entry(self, path: str) -> Entry | None:
        """Look a path up, links followed. None when there is nothing, or a link that leads nowhere."""
        return self._walk(path, _LINK_HOPS)

    def names(self, folder: str) -> list[str]:
        """List a folder's names in order. NotFound when it is none."""
        entry = self.entry(folder)
        if entry is None or not entry.is_folder:
            raise NotFound(f"there is no folder {folder} in {self._disk}")
        return sorted(self._listing(entry.inode))

    def read(self, path: str) -> bytes:
        """Read a file. NotFound."""
        contents = self.read_all([path])
        if path not in contents:
            raise NotFound(f"there is no file {path} in {self._disk}")
        return contents[path]

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Read many files at once; those that do not exist are left out."""
        with tempfile.TemporaryDirectory(prefix="root-files-") as folder:
            return {path: file.read_bytes() for path, file in self._dump(paths, Path(folder)).items()}

    def dump(self, paths: Iterable[str], into: Path) -> dict[str, Path]:
        """Copy files to `into`, below the folders that they have in the image; those that do not exist are left out.

        Gives the copy of each path. Owners and modes are not kept.
        """
        with tempfile.TemporaryDirectory(prefix=".dump-", dir=into) as folder:
            copies = {}
            for path, file in self._dump(paths, Path(folder)).items():
                target = into / str(_normal(path)).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                copies[path] = file.replace(target)
            return copies

    def _dump(self, paths: Iterable[str], into: Path) -> dict[str, Path]:
        found = {path: entry for path in paths if (entry := self.entry(path)) is not None and entry.is_file}
        targets = {path: into / str(index) for index, path in enumerate(found)}
        self._ask([f'dump <{found[path].inode}> "{target}"' for path, target in targets.items()])
        for path, target in targets.items():
            if not target.exists() or target.stat().st_size != found[path].size:
                raise ImageFileError(f"{self._disk}: {path} is damaged; check the file system with e2fsck")
        return targets

    def _walk(self, path: str, hops: int) -> Entry | None:
        """Follow a path from the root, folder by folder; `hops` is how many links may still be followed."""
        entry = _ROOT
        parts = _normal(path).parts[1:]
        for index, part in enumerate(parts):
            if not entry.is_folder:
                return None
            found = self._listing(entry.inode).get(part)
            if found is None:
                return None
            if found.is_link:
                if hops == 0:
                    return None
                parent = PurePosixPath("/", *parts[:index])
                return self._walk(str(parent.joinpath(self._link(found), *parts[index + 1 :])), hops - 1)
            entry = found
        return entry

    def _listing(self, inode: int) -> Mapping[str, Entry]:
        if inode not in self._folders:
            lines = self._ask([f"ls -p <{inode}>"]).splitlines()
            matches = [match for line in lines if (match := _LISTED.match(line))]
            self._folders[inode] = {
                match[5]: Entry(int(match[1]), int(match[2], 8), int(match[3]), int(match[4]), int(match[6] or 0))
                for match in matches
                if match[5] not in (".", "..")
            }
        return self._folders[inode]

    def _link(self, entry: Entry) -> str:
        """Give where a link leads. Short ones are in the inode, which only `stat` shows."""
        inside = _FAST_LINK.search(self._ask([f"stat <{entry.inode}>"]))
        return inside[1] if inside else self._ask([f"cat <{entry.inode}>"]).partition("\n")[2]

    def _ask(self, requests: Sequence[str]) -> str:
        """Let one debugfs answer all requests. Each answer follows a line that repeats its request."""
        answer = complete(["debugfs", "-f", "-", self._source], stdin="\n".join(requests) + "\n")
        complaints = [line for line in answer.stderr.splitlines() if not line.startswith("debugfs ")]
        if complaints:
            raise ImageFileError(f"{self._disk}: the root file system is damaged: {complaints[0].strip()}; run e2fsck")
        return answer.stdout


def packages(root: RootFiles) -> list[Package] | None:
    """List the installed packages from dpkg's database, by name; None where there is no such database."""
    try:
        text = root.read(_DPKG_STATUS).decode("utf-8", "replace")
    except NotFound:
        return None
    found = []
    for paragraph in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            found.append(Package(fields["Package"], fields["Version"], fields["Architecture"]))
    return sorted(found, key=lambda package: (package.name, package.architecture))


def _normal(path: str) -> PurePosixPath:
    """Give an absolute path without `..`, which leads nowhere above the root."""
    parts: list[str] = []
    for part in PurePosixPath(path).parts:
        if part == "..":
            parts[-1:] = []
        elif part != "/":
            parts.append(part)
    return PurePosixPath("/", *parts)
