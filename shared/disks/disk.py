"""An open disk: its partition table, its file systems and its root, each read once, when it is first asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Self

from ..budget import Budget
from .ext4.reader import Ext4, FileSystemUnreadable
from .fat import Fat
from .partition_table import DiskPartition, PartitionTable, possible_roots, table_of
from .reader import DiskReader
from .root_files import RootFiles, RootUnreadable

_FOLDER_OF_ROOTS = "/etc"
_READERS: dict[str, type[Ext4 | Fat]] = {"ext4": Ext4, "vfat": Fat}


class Disk:
    """A raw disk file. It stays open until close(), or until nothing refers to the disk or to a part of it any more.

    ImageFileError where the file cannot be opened, and from each part where the disk is damaged.
    """

    def __init__(self, path: Path, budget: Budget | None = None) -> None:
        self.path = path
        self.reader = DiskReader(path, budget)
        self._file_systems: dict[tuple[int, int], Ext4 | Fat | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()

    @cached_property
    def table(self) -> PartitionTable:
        """The partition table."""
        return table_of(self.reader)

    def file_system(self, partition: DiskPartition) -> Ext4 | Fat | None:
        """Return the file system of a partition; None where it is none that can be read. FileSystemUnreadable."""
        place = partition.start, partition.size  # two partitions may have one number: an MBR can be made so
        if place not in self._file_systems:
            kind = _READERS.get(partition.file_system or "")
            self._file_systems[place] = None if kind is None else kind(self.reader, *place)
        return self._file_systems[place]

    @cached_property
    def ext4(self) -> dict[DiskPartition, Ext4]:
        """The ext4 file systems that can be read, by their partitions."""
        found: dict[DiskPartition, Ext4] = {}
        for partition in self.table.partitions:
            try:
                file_system = self.file_system(partition) if partition.file_system == "ext4" else None
            except FileSystemUnreadable:
                continue
            if isinstance(file_system, Ext4):
                found[partition] = file_system
        return found

    @cached_property
    def root_partition(self) -> DiskPartition | None:
        """The partition with the root file system: of several that may be it, one with a folder /etc."""
        candidates = possible_roots(self.table)
        if len(candidates) > 1:
            for partition in candidates:
                file_system = self.ext4.get(partition)
                found = file_system.find(_FOLDER_OF_ROOTS) if file_system is not None else None
                if found is not None and found.is_folder:
                    return partition
        return candidates[0] if candidates else None

    @cached_property
    def root(self) -> RootFiles:
        """The files of the root file system. RootUnreadable where there is no ext4 root."""
        partition = self.root_partition
        if partition is None:
            raise RootUnreadable(f"{self.path}: has no partition with a Linux root file system")
        try:
            file_system = self.file_system(partition) if partition.file_system == "ext4" else None
        except FileSystemUnreadable as error:
            raise RootUnreadable(str(error)) from error
        if not isinstance(file_system, Ext4):
            kind = partition.file_system or "of an unknown kind"
            where = f"its root, partition {partition.number}," if partition.number else "it"
            raise RootUnreadable(f"{self.path}: {where} is {kind}; only ext4 can be read")
        return RootFiles(file_system, partition)
