"""The differences between two images. Sizes in bytes; pairs are (before, after), with None for an absent side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Values = Mapping[str, tuple[str | None, str | None]]
Differences = dict[str, tuple[object, object]]


@dataclass(frozen=True)
class FileChange:
    """A file, folder, link or device that is not the same in both. `size` in bytes: in the second, or where it was."""

    path: str
    change: Literal["added", "removed", "changed"]
    type: str  # file, folder, link, pipe, socket, device
    size: int  # of a file; 0 for all else
    contents: bool = False  # of a changed file: whether its bytes are other ones
    differences: Differences = field(default_factory=dict)  # of what is changed: what else, before and after
    target: str | None = None  # where a link leads that was added or removed


@dataclass(frozen=True)
class PartitionChange:
    """A partition of either disk, or of both; `fields` are what is not the same in both."""

    number: int
    name: str
    change: str  # added, removed, changed, or same
    before: Mapping[str, object] | None
    after: Mapping[str, object] | None
    fields: Sequence[str] = ()


@dataclass(frozen=True)
class PartitionFiles:
    """The differences inside a partition that both disks have."""

    number: int
    name: str
    file_system: str | None
    files: Sequence[FileChange] = ()
    compared_bytes: int | None = None  # where no files can be compared
    different_bytes: int | None = None  # of them, in pieces of 64 KiB
    note: str = ""  # why no files were compared


@dataclass(frozen=True)
class KernelChange:
    """Parameters that a kernel gets no more, and gets now."""

    partition: int
    kernel: str  # the boot loader's file, and which of its kernels
    removed: Sequence[str]
    added: Sequence[str]


@dataclass(frozen=True)
class PackageChange:
    """A package that was added (no version before), removed (none after) or changed."""

    name: str
    architecture: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class ImageDiff:
    """All that differs; nothing does when all of it is empty. Sizes in bytes."""

    table: tuple[str, str]  # gpt or mbr
    disk_bytes: tuple[int, int]
    boot_code: bool  # whether a BIOS runs other code
    partitions: Sequence[PartitionChange]  # those that are the same, too
    os_release: Values = field(default_factory=dict)
    kernels: Sequence[KernelChange] = ()
    packages: Sequence[PackageChange] = ()
    sysctl: Values = field(default_factory=dict)
    contents: Sequence[PartitionFiles] = ()
    notes: Sequence[str] = ()

    @property
    def same(self) -> bool:
        """Return whether nothing differs."""
        return not (
            self.table[0] != self.table[1]
            or self.disk_bytes[0] != self.disk_bytes[1]
            or self.boot_code
            or any(partition.change != "same" for partition in self.partitions)
            or self.os_release
            or self.kernels
            or self.packages
            or self.sysctl
            or any(inside.files or inside.different_bytes for inside in self.contents)
        )
