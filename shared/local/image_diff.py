"""What differs between two disks: partitions, system, packages, settings and files.

Partitions are paired by their names where both disks have one of that name (systems move and double them), else
by their numbers. Files are compared in ext4 and vfat; of any other file system, and of what is none, the bytes are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from ..image_diff import (
    ImageDiff,
    KernelChange,
    PackageChange,
    PartitionChange,
    PartitionFiles,
    Values,
)
from ..ports import Package
from .disk import Partition, PartitionTable, read_table
from .disk_reader import disk_budget
from .ext4 import Ext4, FileSystemUnreadable
from .extents import data_extents, open_file
from .fat import Fat
from .image_diff_contents import Contents, Segment
from .image_diff_settings import changed_parameters, changed_values, kernel_parameters, sysctl
from .image_diff_tree import FileSystem, TreeDiff
from .package_lists import packages
from .root_files import RootFiles, RootUnreadable

Progress = Callable[[str], None]

_BOOT_CODE = 440  # bytes of the first sector that a BIOS runs
_GRAIN = 64 << 10  # what is no file is compared, and counted, in pieces of this size
_FIELDS = ("number", "name", "type", "start", "size", "uuid", "file_system", "file_system_uuid")


def diff(a: Path, b: Path, progress: Progress = lambda line: None) -> ImageDiff:
    """Compare two raw disks. Raises ImageFileError when one is none, or damaged."""
    with ExitStack() as stack:
        contents = stack.enter_context(Contents(a, b))
        return _Diff(a, b, contents, stack, progress).run()


class _Diff:
    def __init__(self, a: Path, b: Path, contents: Contents, stack: ExitStack, progress: Progress) -> None:
        self._disks = (a, b)
        self._tables = (read_table(a), read_table(b))
        self._budgets = (disk_budget(a), disk_budget(b))
        self._contents = contents
        self._stack = stack
        self._progress = progress
        self._notes: list[str] = []
        self._file_systems: tuple[dict[int, FileSystem], dict[int, FileSystem]] = (self._open(0), self._open(1))

    def run(self) -> ImageDiff:
        pairs = list(pair_partitions(*self._tables))
        shared = [(one, other) for one, other in pairs if one is not None and other is not None]
        system, settings, installed = self._root_files()
        return ImageDiff(
            table=(self._tables[0].kind, self._tables[1].kind),
            disk_bytes=(self._disks[0].stat().st_size, self._disks[1].stat().st_size),
            boot_code=_head(self._disks[0]) != _head(self._disks[1]),
            partitions=[self._partition(one, other) for one, other in pairs],
            os_release=system,
            kernels=[change for one, other in shared for change in self._kernels(one, other)],
            packages=installed,
            sysctl=settings,
            contents=[self._inside(one, other) for one, other in shared],
            notes=self._notes,
        )

    def _open(self, side: int) -> dict[int, FileSystem]:
        """Open the file systems that can be read, by the numbers of their partitions."""
        found: dict[int, FileSystem] = {}
        for partition in self._tables[side].partitions:
            file_system: Ext4 | Fat
            try:
                if partition.file_system == "ext4":
                    file_system = Ext4(self._disks[side], partition.start, partition.size, self._budgets[side])
                elif partition.file_system == "vfat":
                    file_system = Fat(self._disks[side], partition.start, partition.size, self._budgets[side])
                else:
                    continue
            except FileSystemUnreadable as error:
                self._notes.append(str(error))
                continue
            self._stack.callback(file_system.close)
            if file_system.needs_recovery:
                self._notes.append(
                    f"{self._disks[side]}: partition {partition.number} was cut off in its work; "
                    "it is compared without what waits in its journal"
                )
            found[partition.number] = file_system
        return found

    def _root_files(self) -> tuple[Values, Values, Sequence[PackageChange]]:
        """Compare what the root file systems say of the system, of its settings and of its packages."""
        try:
            before, after = map(RootFiles, self._disks, self._budgets)
        except RootUnreadable as error:
            self._notes.append(f"system, packages and sysctl settings are not compared: {error}")
            return {}, {}, ()
        installed = packages(before), packages(after)
        if installed[0] is None or installed[1] is None:
            self._notes.append("packages are not compared: there is no list of them that is known here")
        return (
            changed_values(before.os_release(), after.os_release()),
            changed_values(sysctl(before), sysctl(after)),
            list(_packages(installed[0] or (), installed[1] or ())),
        )

    def _partition(self, before: Partition | None, after: Partition | None) -> PartitionChange:
        one, other = self._fields(0, before), self._fields(1, after)
        shown = after or before
        assert shown is not None
        fields = [name for name in _FIELDS if one is not None and other is not None and one[name] != other[name]]
        change = "added" if one is None else "removed" if other is None else "changed" if fields else "same"
        return PartitionChange(shown.number, shown.name, change, one, other, fields)

    def _fields(self, side: int, partition: Partition | None) -> dict[str, object] | None:
        if partition is None:
            return None
        file_system = self._file_systems[side].get(partition.number)
        own = None if file_system is None else file_system.uuid
        return {name: own if name == "file_system_uuid" else getattr(partition, name) for name in _FIELDS}

    def _kernels(self, before: Partition, after: Partition) -> Iterator[KernelChange]:
        one, other = self._file_systems[0].get(before.number), self._file_systems[1].get(after.number)
        if one is None or other is None:
            return
        first, second = kernel_parameters(one), kernel_parameters(other)
        for kernel in sorted({*first, *second}):
            removed, added = changed_parameters(first.get(kernel, ()), second.get(kernel, ()))
            if removed or added:
                yield KernelChange(after.number, kernel, removed, added)

    def _inside(self, before: Partition, after: Partition) -> PartitionFiles:
        one, other = self._file_systems[0].get(before.number), self._file_systems[1].get(after.number)
        self._progress(f"comparing partition {after.number}" + (f", {after.name}" if after.name else ""))
        if one is not None and other is not None:
            files = TreeDiff(one, other, self._contents).changes()
            return PartitionFiles(after.number, after.name, after.file_system, files)
        return self._bytes(before, after)

    def _bytes(self, before: Partition, after: Partition) -> PartitionFiles:
        """Compare two partitions as far as both go; what one has more counts as different."""
        length = min(before.size, after.size)
        segments = [
            Segment(before.start + at, after.start + at, min(_GRAIN, length - at), at // _GRAIN)
            for at in sorted(self._written(before, length, 0) | self._written(after, length, 1))
        ]
        for budget in self._budgets:  # partitions may lie in the same place
            budget.read(len(segments) * _GRAIN)
        different = sum(self._contents.different(segments).values()) + abs(before.size - after.size)
        kinds = {partition.file_system or "of no known file system" for partition in (before, after)}
        note = f"it is {' and '.join(sorted(kinds))}: its bytes are compared, and no files"
        return PartitionFiles(after.number, after.name, after.file_system, (), length, different, note)

    def _written(self, partition: Partition, length: int, side: int) -> set[int]:
        """Give where in a partition the disk file may hold anything but zeros, in steps of a grain."""
        found: set[int] = set()
        with open_file(self._disks[side]) as disk:
            for start, count in data_extents(disk.fileno(), partition.start + length):
                first = max(0, start - partition.start) // _GRAIN
                end = min(length, start + count - partition.start)
                found.update(range(first * _GRAIN, end, _GRAIN))
        return found


def pair_partitions(a: PartitionTable, b: PartitionTable) -> Iterator[tuple[Partition | None, Partition | None]]:
    """Give the partitions that correspond, in the order of their numbers; None beside one that has no counterpart."""
    left = {partition.number: partition for partition in b.partitions}
    pairs: dict[int, Partition] = {}
    names = [_by_unique_name(table) for table in (a, b)]
    for name in names[0].keys() & names[1].keys():
        pairs[names[0][name].number] = left.pop(names[1][name].number)
    for one in a.partitions:
        if one.number not in pairs and one.number in left:
            pairs[one.number] = left.pop(one.number)
    found: list[tuple[Partition | None, Partition | None]] = [(one, pairs.get(one.number)) for one in a.partitions]
    found += [(None, other) for other in left.values()]
    yield from sorted(found, key=lambda pair: (pair[0] or pair[1] or a.partitions[0]).number)


def _by_unique_name(table: PartitionTable) -> dict[str, Partition]:
    names = [partition.name for partition in table.partitions]
    return {one.name: one for one in table.partitions if one.name and names.count(one.name) == 1}


def _packages(before: Sequence[Package], after: Sequence[Package]) -> Iterator[PackageChange]:
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


def _head(disk: Path) -> bytes:
    with open_file(disk) as file:
        return file.read(_BOOT_CODE)
