"""Compare two disks: partitions, system, packages, settings and files.

Partitions are paired by their names where both disks have one of that name (systems move and double them), else
by their numbers. Files are compared in ext4 and vfat; of any other file system, and of what is none, the bytes are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...disks.disk import Disk
from ...disks.ext4.reader import FileSystemUnreadable
from ...disks.partition_table import DiskPartition, PartitionTable
from ...disks.root_files import RootUnreadable
from ...ports import Notify, Package
from ..packages import packages
from .contents import ContentComparison, Segment
from .result import (
    ImageDiff,
    KernelChange,
    PackageChange,
    PartitionChange,
    PartitionFiles,
    Values,
)
from .settings import boot_parameters, changed_parameters, changed_values, sysctl
from .tree import FileSystem, TreeDiff

_BOOT_CODE = 440  # bytes of the first sector that a BIOS runs
_GRAIN = 64 << 10  # what is no file is compared, and counted, in pieces of this size
_FIELDS = ("number", "name", "type", "start", "size", "uuid", "file_system", "file_system_uuid")


def compare_disks(a: Path, b: Path, progress: Notify = lambda line: None) -> ImageDiff:
    """Compare two raw disks. Raises ImageFileError when one is none, or damaged."""
    with Disk(a) as one, Disk(b) as other, ContentComparison(one.reader, other.reader) as contents:
        return _Diff(one, other, contents, progress).run_tool()


class _Diff:
    def __init__(self, a: Disk, b: Disk, contents: ContentComparison, progress: Notify) -> None:
        self._disks = (a, b)
        self._contents = contents
        self._progress = progress
        self._notes: list[str] = []
        self._file_systems: tuple[dict[int, FileSystem], dict[int, FileSystem]] = (self._open(a), self._open(b))

    def run_tool(self) -> ImageDiff:
        a, b = self._disks
        pairs = list(pair_partitions(a.table, b.table))
        shared = [(one, other) for one, other in pairs if one is not None and other is not None]
        system, settings, installed = self._root_files()
        return ImageDiff(
            table=(a.table.kind, b.table.kind),
            disk_bytes=(a.reader.size, b.reader.size),
            boot_code=a.reader.read(0, _BOOT_CODE) != b.reader.read(0, _BOOT_CODE),
            partitions=[self._partition(one, other) for one, other in pairs],
            os_release=system,
            kernels=[change for one, other in shared for change in self._kernels(one, other)],
            packages=installed,
            sysctl=settings,
            contents=[self._inside(one, other) for one, other in shared],
            notes=self._notes,
        )

    def _open(self, disk: Disk) -> dict[int, FileSystem]:
        """Open the file systems that can be read, by the numbers of their partitions."""
        found: dict[int, FileSystem] = {}
        for partition in disk.table.partitions:
            try:
                file_system = disk.file_system(partition)
            except FileSystemUnreadable as error:
                self._notes.append(str(error))
                continue
            if file_system is None:
                continue
            if file_system.needs_recovery:
                self._notes.append(
                    f"{disk.path}: partition {partition.number} was cut off in its work; "
                    "it is compared without what waits in its journal"
                )
            found[partition.number] = file_system
        return found

    def _root_files(self) -> tuple[Values, Values, Sequence[PackageChange]]:
        """Compare what the root file systems say of the system, of its settings and of its packages."""
        try:
            before, after = (disk.root for disk in self._disks)
        except RootUnreadable as error:
            self._notes.append(f"system, packages and sysctl settings are not compared: {error}")
            return {}, {}, ()
        installed = packages(before), packages(after)
        if installed[0] is None or installed[1] is None:
            self._notes.append("packages are not compared: there is no list of them that is known here")
        return (
            changed_values(before.os_release(), after.os_release()),
            changed_values(sysctl(before), sysctl(after)),
            list(package_changes(installed[0] or (), installed[1] or ())),
        )

    def _partition(self, before: DiskPartition | None, after: DiskPartition | None) -> PartitionChange:
        one, other = self._fields(0, before), self._fields(1, after)
        shown = after or before
        assert shown is not None
        fields = [name for name in _FIELDS if one is not None and other is not None and one[name] != other[name]]
        change = "added" if one is None else "removed" if other is None else "changed" if fields else "same"
        return PartitionChange(shown.number, shown.name, change, one, other, fields)

    def _fields(self, side: int, partition: DiskPartition | None) -> dict[str, object] | None:
        if partition is None:
            return None
        file_system = self._file_systems[side].get(partition.number)
        own = None if file_system is None else file_system.uuid
        return {name: own if name == "file_system_uuid" else getattr(partition, name) for name in _FIELDS}

    def _kernels(self, before: DiskPartition, after: DiskPartition) -> Iterator[KernelChange]:
        one, other = self._file_systems[0].get(before.number), self._file_systems[1].get(after.number)
        if one is None or other is None:
            return
        first, second = boot_parameters(one), boot_parameters(other)
        for kernel in sorted({*first, *second}):
            removed, added = changed_parameters(first.get(kernel, ()), second.get(kernel, ()))
            if removed or added:
                yield KernelChange(after.number, kernel, removed, added)

    def _inside(self, before: DiskPartition, after: DiskPartition) -> PartitionFiles:
        one, other = self._file_systems[0].get(before.number), self._file_systems[1].get(after.number)
        self._progress(f"comparing partition {after.number}" + (f", {after.name}" if after.name else ""))
        if one is not None and other is not None:
            files = TreeDiff(one, other, self._contents).changes()
            return PartitionFiles(after.number, after.name, after.file_system, files)
        return self._bytes(before, after)

    def _bytes(self, before: DiskPartition, after: DiskPartition) -> PartitionFiles:
        """Compare two partitions as far as both go; what one has more counts as different."""
        length = min(before.size, after.size)
        segments = [
            Segment(before.start + at, after.start + at, min(_GRAIN, length - at), at // _GRAIN)
            for at in sorted(self._written(before, length, 0) | self._written(after, length, 1))
        ]
        for disk in self._disks:  # partitions may lie in the same place
            disk.reader.budget.read(len(segments) * _GRAIN)
        different = sum(self._contents.different(segments).values()) + abs(before.size - after.size)
        kinds = {partition.file_system or "of no known file system" for partition in (before, after)}
        note = f"it is {' and '.join(sorted(kinds))}: its bytes are compared, and no files"
        return PartitionFiles(after.number, after.name, after.file_system, (), length, different, note)

    def _written(self, partition: DiskPartition, length: int, side: int) -> set[int]:
        """Return where in a partition the disk file may hold anything but zeros, in steps of a grain."""
        found: set[int] = set()
        for start, count in self._disks[side].reader.data(0, partition.start + length):
            first = max(0, start - partition.start) // _GRAIN
            end = min(length, start + count - partition.start)
            found.update(range(first * _GRAIN, end, _GRAIN))
        return found


def pair_partitions(
    a: PartitionTable, b: PartitionTable
) -> Iterator[tuple[DiskPartition | None, DiskPartition | None]]:
    """Yield the partitions that correspond, in the order of their numbers; None beside one that has no counterpart."""
    left = {partition.number: partition for partition in b.partitions}
    pairs: dict[int, DiskPartition] = {}
    names = [_by_unique_name(table) for table in (a, b)]
    for name in names[0].keys() & names[1].keys():
        pairs[names[0][name].number] = left.pop(names[1][name].number)
    for one in a.partitions:
        if one.number not in pairs and one.number in left:
            pairs[one.number] = left.pop(one.number)
    found: list[tuple[DiskPartition | None, DiskPartition | None]] = [
        (one, pairs.get(one.number)) for one in a.partitions
    ]
    found += [(None, other) for other in left.values()]
    yield from sorted(found, key=lambda pair: (pair[0] or pair[1] or a.partitions[0]).number)


def _by_unique_name(table: PartitionTable) -> dict[str, DiskPartition]:
    names = [partition.name for partition in table.partitions]
    return {one.name: one for one in table.partitions if one.name and names.count(one.name) == 1}


def package_changes(before: Sequence[Package], after: Sequence[Package]) -> Iterator[PackageChange]:
    """Compare by name and architecture; of what is installed in several versions, as kernels are, the versions."""
    one, other = _versions(before), _versions(after)
    for name, architecture in sorted({*one, *other}):
        versions = one.get((name, architecture)), other.get((name, architecture))
        if versions[0] != versions[1]:
            yield PackageChange(name, architecture, *versions)


def _versions(found: Sequence[Package]) -> dict[tuple[str, str], str]:
    versions: dict[tuple[str, str], list[str]] = {}
    for package in found:
        versions.setdefault((package.name, package.architecture), []).append(package.version)
    return {key: ", ".join(sorted(of_one)) for key, of_one in versions.items()}
