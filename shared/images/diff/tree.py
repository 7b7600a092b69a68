"""Compare the files of two file systems: which were added, removed or changed, and how.

Times alone are no change. Whether contents are the same is decided by the bytes alone, and only for files of one size.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ...budget import Budget
from ...disks.ext4.reader import APPEND_ONLY, ENCRYPTED, IMMUTABLE, INLINE_DATA, Ext4, Extent, Inode
from ...disks.reader import LETTERS_PER_STEP
from ...errors import ImageFileError
from .contents import PIECE, ContentComparison, Segment, pair
from .result import Differences, FileChange
from .shortcuts import SAME, SAME_FOLDER, UNKNOWN, alike, surely_same

_SHOWN_FLAGS = IMMUTABLE | APPEND_ONLY | ENCRYPTED
_CHANGE_BYTES = 300  # that a change takes, beside its texts
_MOST_WAITING = 20_000  # files, or segments of them, that wait to be compared
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


class FileSystem(Protocol):
    """The common interface of ext4/ and fat.py."""

    disk: Path
    budget: Budget

    @property
    def uuid(self) -> str:
        """Its own identity."""

    @property
    def root(self) -> Inode:
        """The folder that all others are in."""

    @property
    def needs_recovery(self) -> bool:
        """Return whether it was not unmounted."""

    def inode(self, number: int) -> Inode:
        """Read an inode by its number."""

    def record(self, number: int) -> bytes:
        """Return the bytes of an inode on the disk."""

    def entries(self, folder: Inode) -> dict[str, int]:
        """Return the names in a folder."""

    def extents(self, inode: Inode) -> Iterator[Extent]:
        """Yield where the contents are."""

    def place(self, inode: Inode) -> int | None:
        """Return where the contents are, when they are there in one piece."""

    def attributes(self, inode: Inode) -> dict[str, bytes]:
        """Return the extended attributes."""

    def link(self, inode: Inode) -> str:
        """Return the target of a link."""

    def read(self, inode: Inode, limit: int | None = None) -> bytes:
        """Read the contents."""


@dataclass(slots=True)
class _Waiting:
    """Two files of one size, whose contents are still to be compared."""

    path: str
    size: int
    differences: Differences
    contents: bool = False


class TreeDiff:
    """Compares two file systems."""

    def __init__(self, a: FileSystem, b: FileSystem, contents: ContentComparison) -> None:
        self._a, self._b = a, b
        self._contents = contents
        known = surely_same(a, b, contents) if isinstance(a, Ext4) and isinstance(b, Ext4) else None
        self._known = known or bytearray()
        self._ext4 = (a, b) if isinstance(a, Ext4) and isinstance(b, Ext4) else None
        self._changes: list[FileChange] = []
        self._waiting: list[_Waiting] = []
        self._segments: list[Segment] = []
        self._running: tuple[list[_Waiting], Callable[[], dict[int, int]]] = ([], dict)  # that are being compared
        self._linked: dict[tuple[int, int], list[_Waiting]] = {}  # files of several names, which are read once
        self._seen: tuple[set[int], set[int]] = (set(), set())

    def changes(self) -> list[FileChange]:
        """Compare all; return what differs in the order of its paths. ImageFileError."""
        a, b = self._a.root, self._b.root
        self._report("/", b, self._differences(a, b))
        below = [self._folder("", a, b)]  # one iterator for each folder on the way down, and no list of all
        while below:
            found = next(below[-1], None)
            if found is None:
                below.pop()
            else:
                below.append(self._folder(*found))
        self._compare()
        self._finish()
        for first, *others in self._linked.values():
            for other in others:
                other.contents = first.contents
                self._report_contents(other)
        return sorted(self._changes, key=lambda change: change.path)

    def _folder(self, path: str, folder_a: Inode, folder_b: Inode) -> Iterator[tuple[str, Inode, Inode]]:
        """Compare what is in two folders; yield the folders in them that are in both."""
        self._enter(0, folder_a)
        self._enter(1, folder_b)
        names = self._a.entries(folder_a)
        self._a.budget.step(len(path) * len(names) // LETTERS_PER_STEP)
        is_same = self._know(folder_a.number, folder_b.number) == SAME_FOLDER
        others = names.copy() if is_same else self._b.entries(folder_b)
        for name, number_a in names.items():
            number_b = others.pop(name, None)
            if number_b is None:
                self._whole("removed", 0, f"{path}/{name}", number_a)
                continue
            known = self._know(number_a, number_b)
            if known == SAME_FOLDER:
                inode = self._a.inode(number_a)
                yield f"{path}/{name}", inode, inode
            elif known != SAME and not self._are_alike(path, name, number_a, number_b):
                yield from self._both(f"{path}/{name}", self._a.inode(number_a), self._b.inode(number_b))
        for name, number_b in others.items():
            self._whole("added", 1, f"{path}/{name}", number_b)

    def _know(self, number_a: int, number_b: int) -> int:
        """Return what is known of two inodes: SAME, SAME_FOLDER or UNKNOWN."""
        return self._known[number_a] if number_a == number_b and number_a < len(self._known) else UNKNOWN

    def _are_alike(self, path: str, name: str, number_a: int, number_b: int) -> bool:
        """Return whether two inodes differ in the bytes of a file at most, which then wait to be compared."""
        if self._ext4 is None:
            return False
        a, b = self._ext4
        found = alike(a.record(number_a), b.record(number_b), (a.layout, b.layout))
        if found is None or found[0] > PIECE:
            return False
        size, first_a, first_b = found
        if size:
            at_a, at_b = a.offset + first_a * a.layout.block, b.offset + first_b * b.layout.block
            self._queue(_Waiting(f"{path}/{name}", size, {}), [Segment(at_a, at_b, size, len(self._waiting))], size)
        return True

    def _both(self, path: str, a: Inode, b: Inode) -> Iterator[tuple[str, Inode, Inode]]:
        if stat.S_IFMT(a.mode) != stat.S_IFMT(b.mode):
            self._whole("removed", 0, path, a.number)
            self._whole("added", 1, path, b.number)
            return
        found = self._differences(a, b)
        if a.is_file and a.size == b.size and a.size:
            self._wait(_Waiting(path, a.size, found), a, b)
            return
        self._report(path, b, found)
        if a.is_folder:
            yield path, a, b

    def _differences(self, a: Inode, b: Inode) -> Differences:
        """Compare all but contents."""
        found: Differences = {}
        if a.mode != b.mode:
            found["mode"] = f"{stat.S_IMODE(a.mode):04o}", f"{stat.S_IMODE(b.mode):04o}"
        if (a.user, a.group) != (b.user, b.group):
            found["owner"] = f"{a.user}:{a.group}", f"{b.user}:{b.group}"
        if a.size != b.size and a.is_file:
            found["size"] = a.size, b.size
        if a.flags != b.flags and (a.flags ^ b.flags) & _SHOWN_FLAGS:
            found["flags"] = f"{a.flags & _SHOWN_FLAGS:#x}", f"{b.flags & _SHOWN_FLAGS:#x}"
        if a.extra != b.extra or a.attribute_block or b.attribute_block:
            found |= _of_attributes(self._a.attributes(a), self._b.attributes(b))
        if a.is_link and self._a.link(a) != self._b.link(b):
            found["target"] = self._a.link(a), self._b.link(b)
        if a.is_device and a.device != b.device:
            found["device"] = a.device, b.device
        return found

    def _report(self, path: str, b: Inode, differences: Differences) -> None:
        if differences:
            size = b.size if b.is_file else 0
            self._add(1, FileChange(path, "changed", _kind(b), size, "size" in differences, differences))

    def _report_contents(self, files: _Waiting) -> None:
        if files.contents or files.differences:
            found = FileChange(files.path, "changed", "file", files.size, files.contents, files.differences)
            self._add(1, found)

    def _add(self, side: int, change: FileChange) -> None:
        """Report one change, and count what it takes."""
        texts = sum(len(str(value)) for pair in change.differences.values() for value in pair)
        size = _CHANGE_BYTES + 2 * len(change.path) + len(change.target or "") + texts
        (self._a, self._b)[side].budget.keep(size)
        self._changes.append(change)

    def _whole(self, change: Literal["added", "removed"], side: int, path: str, number: int) -> None:
        """Report a file, or a folder with all that is in it."""
        file_system = (self._a, self._b)[side]
        waiting = [(path, number)]
        while waiting:
            path, number = waiting.pop()
            inode = file_system.inode(number)
            size = inode.size if inode.is_file else 0
            target = file_system.link(inode) if inode.is_link else None
            self._add(side, FileChange(path, change, _kind(inode), size, target=target))
            if inode.is_folder:
                self._enter(side, inode)
                entries = file_system.entries(inode)
                file_system.budget.step(len(path) * len(entries) // LETTERS_PER_STEP)
                waiting += [(f"{path}/{name}", below) for name, below in entries.items()]

    def _enter(self, side: int, folder: Inode) -> None:
        if folder.number in self._seen[side]:
            disk = (self._a, self._b)[side].disk
            raise ImageFileError(f"{disk}: is damaged: folder {folder.number} is in two places; check it with fsck")
        self._seen[side].add(folder.number)

    def _wait(self, files: _Waiting, a: Inode, b: Inode) -> None:
        """Put contents off until there are enough of them to be compared in the order of the disk."""
        if (a.flags | b.flags) & INLINE_DATA:
            files.contents = self._a.read(a) != self._b.read(b)
            self._report_contents(files)
            return
        if a.links > 1:
            same = self._linked.setdefault((a.number, b.number), [])
            same.append(files)
            self._a.budget.keep(_CHANGE_BYTES)
            if len(same) > 1:
                return
        owner = len(self._waiting)
        place_a, place_b = self._a.place(a), self._b.place(b)
        if place_a is not None and place_b is not None and a.size <= PIECE:
            self._queue(files, [Segment(place_a, place_b, a.size, owner)], a.size)
        else:
            segments = []
            for segment in pair(self._a.extents(a), self._b.extents(b), owner):
                self._count(segment.length)
                segments.append(segment)
            self._queue(files, segments, 0)

    def _queue(self, files: _Waiting, segments: list[Segment], length: int) -> None:
        """Queue the segments of two files, `length` bytes of which are not counted yet."""
        self._segments += segments
        self._count(length)
        self._waiting.append(files)
        if max(len(self._segments), len(self._waiting)) >= _MOST_WAITING:
            self._compare()

    def _count(self, length: int) -> None:
        self._a.budget.read(length)
        self._b.budget.read(length)

    def _compare(self) -> None:
        """Begin to compare the contents that wait, and report those that were begun before."""
        waiting, started = self._waiting, self._contents.start(self._segments)
        self._waiting, self._segments = [], []
        self._finish()
        self._running = waiting, started

    def _finish(self) -> None:
        waiting, different = self._running
        for owner in different():
            waiting[owner].contents = True
        for files in waiting:
            self._report_contents(files)
        self._running = [], dict


def _kind(inode: Inode) -> str:
    return _KINDS[stat.S_IFMT(inode.mode)]


def _of_attributes(a: dict[str, bytes], b: dict[str, bytes]) -> Differences:
    """Return the extended attributes that differ, their values in hexadecimal digits; None where there is none."""
    return {
        f"attribute {name}": (_hex(a.get(name)), _hex(b.get(name)))
        for name in sorted({*a, *b})
        if a.get(name) != b.get(name)
    }


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()
