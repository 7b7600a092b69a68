"""Look into the disk of a stopped machine, before it becomes an image: what provisioner/hygiene.py finds in there.

All ext4 file systems are looked into, each below the folder that it is mounted on: the root's fstab says where, and for
Container-Optimized OS the names of its partitions. A file is the build's unless the source's disk has the same inode,
with the same size, times and blocks. A disk whose root is of another kind cannot be looked into: its machine does it
itself, as in the cloud.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from provisioner.hygiene import STATEFUL, File, Finding, any_set, check, is_published

from ..errors import ImageFileError
from .disk import Partition, read_table
from .disk_reader import LETTERS_PER_STEP, disk_budget
from .ext4 import Ext4, FileSystemUnreadable
from .ext4_inode import Inode
from .extents import open_file
from .root_files import RootFiles, RootUnreadable

COS = "cos"  # ID in os-release of Container-Optimized OS
COS_MOUNT_POINTS = {"STATE": STATEFUL, "OEM": "/usr/share/oem"}
_CHUNK = 1 << 20
_LABEL_AT, _LABEL_BYTES = 1024 + 0x78, 16  # of ext4's superblock

IsOfSource = Callable[[Inode], bool]


def can_look_into(disk: Path) -> bool:
    """Tell whether the root file system can be read from here. Raises ImageFileError."""
    try:
        RootFiles(disk)
    except RootUnreadable:
        return False
    return True


def was_cut_off(disk: Path) -> bool:
    """Tell whether a file system was cut off in its work, so that a mount would replay its journal first.

    Raises ImageFileError when the disk is damaged.
    """
    budget = disk_budget(disk)
    for partition in _partitions(disk):
        try:
            with Ext4(disk, partition.start, partition.size, budget) as file_system:
                if file_system.needs_recovery:
                    return True
        except FileSystemUnreadable:
            continue
    return False


def look_into(disk: Path, source: Path | None) -> list[Finding]:
    """Return what must not be in an image, by path, of a build on a copy of `source`'s disk.

    Without the source's disk, all files count as the build's. Nothing where can_look_into() is false. Raises
    ImageFileError when the disk is damaged.
    """
    try:
        root = RootFiles(disk)
    except RootUnreadable:
        return []
    with ExitStack() as stack:
        of_source = _of_source(source, stack)
        swap = (_SwapPartition(disk, partition, source) for partition in _partitions(disk, "swap"))
        return check(chain(_files(disk, root, of_source), swap), root.os_release().get("ID", ""))


class _DiskFile(File):
    def __init__(self, file_system: Ext4, path: str, inode: Inode, is_of_source: IsOfSource) -> None:
        super().__init__(path, inode.mode, inode.size)
        self._file_system = file_system
        self._inode = inode
        self._is_of_source = is_of_source

    def is_of_build(self) -> bool:
        return not self._is_of_source(self._inode)

    def is_blank(self, start: int) -> bool:
        """Look at the disk itself: swapped memory is in blocks that were only reserved, and read as zeros."""
        disk = self._file_system.disk
        for at, place, length in self._file_system.extents(self._inode, reserved=True):
            before = max(0, start - at)
            if place is not None and before < length and not _is_blank(disk, place + before, length - before):
                return False
        return True

    def read(self, limit: int) -> bytes:
        return self._file_system.read(self._inode, limit)


class _SwapPartition(File):
    """A partition that is swap, called after its number."""

    def __init__(self, disk: Path, partition: Partition, source: Path | None) -> None:
        super().__init__(f"/partition-{partition.number}", stat.S_IFREG, partition.size)
        self._disk = disk
        self._start = partition.start
        self._source = source

    def is_of_build(self) -> bool:
        if self._source is None:
            return True
        pieces = (_chunks(disk, self._start, self.size) for disk in (self._disk, self._source))
        return any(ours != theirs for ours, theirs in zip(*pieces, strict=True))

    def is_blank(self, start: int) -> bool:
        return _is_blank(self._disk, self._start + start, self.size - start)

    def read(self, limit: int) -> bytes:
        return b"".join(_chunks(self._disk, self._start, min(limit, self.size)))


def _is_blank(disk: Path, start: int, length: int) -> bool:
    return not any(map(any_set, _chunks(disk, start, length)))


def _chunks(disk: Path, start: int, length: int) -> Iterator[bytes]:
    with disk.open("rb") as file:
        for at in range(0, length, _CHUNK):
            file.seek(start + at)
            yield file.read(min(_CHUNK, length - at))


def _of_source(source: Path | None, stack: ExitStack) -> dict[int, IsOfSource]:
    """Return, by the partition's number, what tells whether the source's file system has an inode just so."""
    found: dict[int, IsOfSource] = {}
    if source is None:
        return found
    for partition in _partitions(source):
        try:
            file_system = stack.enter_context(Ext4(source, partition.start, partition.size))
        except FileSystemUnreadable:
            continue
        found[partition.number] = _comparison(file_system)
    return found


def _comparison(file_system: Ext4) -> IsOfSource:
    def is_of_source(inode: Inode) -> bool:
        if inode.number > file_system.layout.inodes:
            return False
        try:
            before = file_system.inode(inode.number)
        except ImageFileError:  # not in use there
            return False
        return _identity(before) == _identity(inode)

    return is_of_source


def _identity(inode: Inode) -> tuple[object, ...]:
    """Return what changes with a file. Its blocks are there in case a step sets the clock to the very nanosecond."""
    return inode.mode, inode.size, inode.mtime_ns, inode.ctime_ns, inode.block_map


def _never(inode: Inode) -> bool:
    return False  # there is no such file system in the source


def _partitions(disk: Path, kind: str = "ext4") -> list[Partition]:
    return [partition for partition in read_table(disk).partitions if partition.file_system == kind]


def _files(disk: Path, root: RootFiles, of_source: Mapping[int, IsOfSource]) -> Iterator[File]:
    yield from _files_of(root.file_system, "", of_source.get(root.partition.number, _never))
    known = _mount_points(root)
    for partition in _partitions(disk):
        if partition == root.partition:
            continue
        try:
            with Ext4(disk, partition.start, partition.size, root.file_system.budget) as file_system:
                names = (*_names(disk, partition, file_system), f"PARTITION={partition.number}")
                places = [known[name] for name in names if name in known]
                place = places[0] if places else f"/partition-{partition.number}"
                yield from _files_of(file_system, place, of_source.get(partition.number, _never))
        except FileSystemUnreadable:
            continue


def _files_of(file_system: Ext4, mount_point: str, is_of_source: IsOfSource) -> Iterator[File]:
    seen: set[int] = set()  # on a damaged disk, a folder may be in itself
    # One iterator for each folder on the way down, and no list of paths: those may be long, and there may be many.
    below = [(mount_point, iter(file_system.entries(file_system.root).items()))]
    while below:
        folder, names = below[-1]
        for name, number in names:
            path, found = f"{folder}/{name}", file_system.inode(number)
            file_system.budget.step(len(path) // LETTERS_PER_STEP)
            if found.is_file:
                yield _DiskFile(file_system, path, found, is_of_source)
            elif found.is_folder and number not in seen and not is_published(path + "/"):
                seen.add(number)
                below.append((path, iter(file_system.entries(found).items())))
                break
        else:
            below.pop()


def _mount_points(root: RootFiles) -> Mapping[str, str]:
    """Return where file systems are mounted, by each name that fstab(5) may use, and by COS's names of partitions."""
    if root.os_release().get("ID") == COS:
        return {f"PARTLABEL={name}": path for name, path in COS_MOUNT_POINTS.items()}
    lines = root.read_all(["/etc/fstab"]).get("/etc/fstab", b"").decode("utf-8", "replace").splitlines()
    fields = [line.split() for line in lines if not line.lstrip().startswith("#")]
    return {words[0].replace('"', ""): words[1].rstrip("/") for words in fields if len(words) > 1}


def _names(disk: Path, partition: Partition, file_system: Ext4) -> Iterator[str]:
    yield f"UUID={file_system.uuid}"
    yield f"PARTUUID={partition.uuid}"
    yield f"PARTLABEL={partition.name}"
    with open_file(disk) as file:
        file.seek(partition.start + _LABEL_AT)
        yield f"LABEL={file.read(_LABEL_BYTES).rstrip(bytes(1)).decode('utf-8', 'replace')}"
