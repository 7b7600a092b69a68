"""Look into the disk of a stopped machine, before it becomes an image, by the rules of provisioner/hygiene/.

All ext4 file systems are looked into, each below the folder that it is mounted on: the root's fstab says where, and for
Container-Optimized OS the names of its partitions. A file is the build's unless the source's disk has the same inode,
with the same size, times and blocks; or, since a file system that was written anew has other inodes, a file at the same
path with the same time and contents. A disk whose root is of another kind cannot be looked into: its machine does it
itself, as in the cloud.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest

from provisioner.hygiene.hygiene import STATEFUL, File, Finding, HostTraces, any_set, check, is_published
from provisioner.hygiene.known_values import holds_value, search_files
from provisioner.system.redaction import held_names, sought_forms

from ..budget import Budget
from ..disks.disk import Disk
from ..disks.ext4.reader import Ext4, Inode
from ..disks.partition_table import DiskPartition
from ..disks.reader import DiskReader
from ..disks.root_files import RootFiles, RootUnreadable
from ..errors import ImageFileError

COS = "cos"  # ID in os-release of Container-Optimized OS
COS_MOUNT_POINTS = {"STATE": STATEFUL, "OEM": "/usr/share/oem"}
_CHUNK = 1 << 20
_NANOSECONDS = 1_000_000_000

_COMPARED = 16 << 20  # bytes; a larger file that was written anew counts as the build's

IsOfSource = Callable[[str, Ext4, Inode], bool]  # path in the file system, that itself, and its inode


def can_look_into(disk: Disk) -> bool:
    """Return whether the root file system can be read from here. Raises ImageFileError."""
    try:
        _ = disk.root
    except RootUnreadable:
        return False
    return True


def was_cut_off(disk: Disk) -> bool:
    """Return whether a file system was cut off in its work, so that a mount would replay its journal first.

    Raises ImageFileError when the disk is damaged.
    """
    return any(file_system.needs_recovery for file_system in disk.ext4.values())


def look_into(
    disk: Disk, source: Disk | None, places: Sequence[str] = (), traces: HostTraces | None = None
) -> list[Finding]:
    """Return what must not be in an image, by path, of a build on a copy of `source` with proxies at some places.

    `traces` are of the host. Without the source's disk, all files count as the build's. Nothing where can_look_into()
    is false. Raises ImageFileError when the disk is damaged.
    """
    if not can_look_into(disk):
        return []
    swap = (
        _SwapPartition(disk.reader, partition, None if source is None else source.reader)
        for partition in disk.table.partitions
        if partition.file_system == "swap"
    )
    return check(chain(_files(disk, source), swap), disk.root.os_release().get("ID", ""), places, traces)


class _DiskFile(File):
    def __init__(
        self, disk: DiskReader, file_system: Ext4, path: str, inside: str, inode: Inode, is_of_source: IsOfSource
    ) -> None:
        super().__init__(path, inode.mode, inode.size)
        self._inside = inside  # the path in its file system
        self._disk = disk
        self._file_system = file_system
        self._inode = inode
        self._is_of_source = is_of_source

    def is_of_build(self) -> bool:
        return not self._is_of_source(self._inside, self._file_system, self._inode)

    def is_blank(self, start: int) -> bool:
        """Look at the disk itself: swapped memory is in blocks that were only reserved, and read as zeros."""
        for at, place, length in self._file_system.extents(self._inode, reserved=True):
            before = max(0, start - at)
            if place is not None and not _is_blank(self._disk, place + before, max(0, length - before)):
                return False
        return True

    def read(self, limit: int) -> bytes:
        return self._file_system.read(self._inode, limit)

    def pieces(self) -> Iterator[bytes]:
        """Yield the contents, a zero in the place of each hole."""
        end = 0
        for at, data in self._file_system.chunks(self._inode):
            if at > end:
                yield b"\0"
            yield data
            end = at + len(data)


class _SwapPartition(File):
    """A partition that is swap, called after its number."""

    def __init__(self, disk: DiskReader, partition: DiskPartition, source: DiskReader | None) -> None:
        super().__init__(f"/partition-{partition.number}", stat.S_IFREG, partition.size)
        self._disk = disk
        self._start = partition.start
        self._source = source

    def is_of_build(self) -> bool:
        ours, theirs = self._disk, self._source
        return theirs is None or any(
            os.pread(ours.descriptor, length, at) != os.pread(theirs.descriptor, length, at)
            for disk in (ours, theirs)  # what is a hole in both is the same
            for at, length in _pieces(disk, self._start, self.size, ours.budget)
        )

    def is_blank(self, start: int) -> bool:
        return _is_blank(self._disk, self._start + start, self.size - start)

    def read(self, limit: int) -> bytes:
        return os.pread(self._disk.descriptor, min(limit, self.size), self._start)


def find_values(disk: Disk, source: Disk | None, values: Mapping[str, bytes]) -> list[Finding]:
    """Return where a disk that was made on a copy of `source` holds one of some values, by what each is called.

    Files of the build are searched whole, and then all other blocks of the disk: deleted files, names, other file
    systems. There, a value that the source's disk holds as well counts for nothing. Raises ImageFileError.
    """
    found = search_files(_files(disk, source, whole=True) if can_look_into(disk) else (), values)
    sought = {name: sought_forms(value) for name, value in values.items() if name not in found}
    outside = held_names(_blocks(disk), sought) if sought else []
    known = held_names(_blocks(source), {name: sought[name] for name in outside}) if outside and source else []
    for name in set(outside) - set(known):
        found[name] = holds_value("the disk, outside of its files,", name)
    return [found[name] for name in sorted(found)]


def _blocks(disk: Disk) -> Iterator[bytes]:
    """Yield all data of a disk, zeros in the place of holes."""
    end = 0
    for at, size in _pieces(disk.reader, 0, disk.reader.size, disk.reader.budget):
        if at > end:
            yield b"\0"
        yield os.pread(disk.reader.descriptor, size, at)
        end = at + size


def _is_blank(disk: DiskReader, start: int, length: int) -> bool:
    pieces = _pieces(disk, start, length, disk.budget)
    return not any(any_set(os.pread(disk.descriptor, size, at)) for at, size in pieces)


def _pieces(disk: DiskReader, start: int, length: int, budget: Budget) -> Iterator[tuple[int, int]]:
    """Yield where the data of a part of a disk lies, holes left out, in pieces that are counted as read."""
    for begin, size in disk.data(start, start + length):
        budget.step()
        for at in range(begin, begin + size, _CHUNK):
            piece = min(_CHUNK, begin + size - at)
            budget.read(piece)
            yield at, piece


def _comparison(file_system: Ext4) -> IsOfSource:
    def has_inode(inode: Inode) -> bool:
        if inode.number > file_system.layout.inodes:
            return False
        try:
            before = file_system.inode(inode.number)
        except ImageFileError:  # not in use there
            return False
        return _identity(before) == _identity(inode)

    def has_copy(path: str, own: Ext4, inode: Inode) -> bool:
        try:
            before = file_system.find(path)
        except ImageFileError:
            return False
        if before is None or _description(before) != _description(inode) or inode.size > _COMPARED:
            return False
        if inode.size <= _CHUNK:
            return file_system.read(before) == own.read(inode)
        return all(ours == theirs for ours, theirs in zip_longest(file_system.chunks(before), own.chunks(inode)))

    def is_of_source(path: str, own: Ext4, inode: Inode) -> bool:
        written_anew = inode.ctime_ns == own.layout.written * _NANOSECONDS  # all at once: its number tells nothing
        return (not written_anew and has_inode(inode)) or has_copy(path, own, inode)

    return is_of_source


def _identity(inode: Inode) -> tuple[object, ...]:
    """Return what changes with a file. Its blocks are there in case a step sets the clock to the very nanosecond."""
    return inode.mode, inode.size, inode.mtime_ns, inode.ctime_ns, inode.block_map


def _description(inode: Inode) -> tuple[object, ...]:
    return inode.mode, inode.user, inode.group, inode.size, inode.mtime_ns


def _never(path: str, own: Ext4, inode: Inode) -> bool:
    return False  # there is no such file system in the source


def _files(disk: Disk, source: Disk | None, *, whole: bool = False) -> Iterator[_DiskFile]:
    """Yield the files of all ext4 file systems, those of the root first; with `whole`, also where none is a finding."""
    root = disk.root
    of_source = {one.number: _comparison(found) for one, found in source.ext4.items()} if source else {}
    places = {root.partition: "/"}
    known = _mount_points(root)
    for partition in disk.table.partitions:
        if partition in disk.ext4:
            names = _names(partition, disk.ext4[partition])
            found = [known[name] for name in names if name in known]
            places.setdefault(partition, found[0] if found else f"/partition-{partition.number}")
    for partition, place in places.items():
        is_of_source = of_source.get(partition.number, _never)
        yield from _files_of(disk.reader, disk.ext4[partition], place, is_of_source, whole=whole)


def _files_of(
    disk: DiskReader, file_system: Ext4, mount_point: str, is_of_source: IsOfSource, *, whole: bool
) -> Iterator[_DiskFile]:
    seen = {file_system.root.number}  # on a damaged disk, a folder may be in itself

    def may_hold_findings(path: str, folder: Inode) -> bool:
        if folder.number in seen or (not whole and is_published(path + "/")):
            return False
        seen.add(folder.number)
        return True

    for path, inode in file_system.walk(mount_point, enter=may_hold_findings):
        if inode.is_file and not (whole and inode.number in seen):
            seen.add(inode.number)
            yield _DiskFile(disk, file_system, path, path[len(mount_point.rstrip("/")) :], inode, is_of_source)


def _mount_points(root: RootFiles) -> Mapping[str, str]:
    """Return where file systems are mounted, by each name that fstab(5) may use, and by COS's names of partitions."""
    if root.os_release().get("ID") == COS:
        return {f"PARTLABEL={name}": path for name, path in COS_MOUNT_POINTS.items()}
    lines = root.read_all(["/etc/fstab"]).get("/etc/fstab", b"").decode("utf-8", "replace").splitlines()
    fields = [line.split() for line in lines if not line.lstrip().startswith("#")]
    return {words[0].replace('"', ""): words[1].rstrip("/") for words in fields if len(words) > 1}


def _names(partition: DiskPartition, file_system: Ext4) -> tuple[str, ...]:
    """Return the names that fstab(5) may use for a file system, and a name by the partition's number."""
    return (
        f"UUID={file_system.uuid}",
        f"PARTUUID={partition.uuid}",
        f"PARTLABEL={partition.name}",
        f"LABEL={file_system.layout.label}",
        f"PARTITION={partition.number}",
    )
