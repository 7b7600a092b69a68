"""Partition tables of raw disk files: read and checked here, changed by sfdisk; no root, no loop device.

A disk whose table is damaged, or speaks of more bytes than the file has, is an ImageFileError that names the file and
the byte. The layout of an MBR is in UEFI specification 2.10, figure 5.1.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from provisioner.system.partition_table import GPT_HEADER, SECTOR, GptHeader, parse_entries, read_entries, read_header

from ..errors import ImageFileError
from ..host.programs import run_tool
from ..quantities import GIB, MIB
from .reader import DiskReader

ROOT_TYPES = frozenset(
    [
        "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",  # Linux root, x86-64
        "b921b045-1df0-41c3-af44-4c6f280d3fae",  # Linux root, ARM64
        "3cb8e202-3b7e-47dd-8a3c-7ff2a13cfcec",  # ChromeOS root: Container-Optimized OS has two of them
    ]
)
LINUX_TYPES = frozenset(
    ["0fc63daf-8483-4772-8e79-3d69d8477de4", "0x83", "0x8e", "e6d6d379-f507-44c2-a23c-238f2a3df928"]
)
BIOS_BOOT_TYPE = "21686148-6449-6e6f-744e-656564454649"  # where GRUB has its second part
EFI_TYPES = frozenset(["c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0xef"])

NO_TABLE = "no partition table; give a whole disk, not a file system or an empty file"
_WHOLE_DISKS = ("ext4", "xfs", "btrfs")  # file systems that may be a disk of their own
_MBR_ENTRY = struct.Struct("<B3xB3xII")
_EXTENDED = (0x05, 0x0F, 0x85)
_MOST_LOGICAL = 1024
_SFDISK = ("--quiet", "--no-reread", "--no-tell-kernel")
_MAGIC = (  # file system, offset, bytes
    ("ext4", 0x438, b"\x53\xef"),
    ("xfs", 0, b"XFSB"),
    ("btrfs", 0x10040, b"_BHRfS_M"),
    ("squashfs", 0, b"hsqs"),
    ("erofs", 0x400, b"\xe2\xe1\xf5\xe0"),
    ("lvm", 0x218, b"LVM2 001"),
    ("luks", 0, b"LUKS\xba\xbe"),
    ("swap", 0xFF6, b"SWAPSPACE2"),
    ("vfat", 82, b"FAT32   "),
    ("vfat", 54, b"FAT16   "),
    ("vfat", 54, b"FAT12   "),
)


@dataclass(frozen=True)
class DiskPartition:
    """A partition of a disk. `start` and `size` in bytes; `type` a GUID in lower case, or 0xNN in an MBR."""

    number: int
    start: int
    size: int
    type: str
    uuid: str | None = None
    name: str = ""
    file_system: str | None = None  # as found by its magic: ext4 (all of ext2 to ext4), xfs, btrfs, lvm, vfat, ...


@dataclass(frozen=True)
class PartitionTable:
    """A partition table, in the order of the partitions' numbers. `needs` is the least size of the disk in bytes.

    Of kind `none` it is that of a disk without one, which is a file system: all of it is partition 0.
    """

    kind: Literal["gpt", "mbr", "none"]
    partitions: tuple[DiskPartition, ...]
    needs: int
    bios_code: bool  # whether the first sector holds code for a BIOS to run

    @property
    def boots_by_bios(self) -> bool:
        """Return whether a BIOS would boot this disk as UEFI would.

        Container-Optimized OS has another boot loader for each: changes of its grub.cfg only count by UEFI.
        """
        types = {partition.type for partition in self.partitions}
        return self.bios_code and (self.kind == "mbr" or BIOS_BOOT_TYPE in types or not types & EFI_TYPES)


def read_disk_table(path: Path) -> PartitionTable:
    """Read and check a disk's partition table. Raises ImageFileError."""
    with DiskReader(path) as reader:
        return table_of(reader)


def table_of(reader: DiskReader) -> PartitionTable:
    """Read and check the partition table of an open disk. Raises ImageFileError."""
    return _Reader(reader.path, reader.descriptor, reader.size).table()


def find_root(table: PartitionTable) -> DiskPartition | None:
    """Return the likeliest of possible_roots(); None where there is none."""
    return next(iter(possible_roots(table)), None)


def possible_roots(table: PartitionTable) -> list[DiskPartition]:
    """Return what may be the root, the likeliest first: by its type, else any Linux partition, the largest known one.

    Of two that are alike, it is the first. Container-Optimized OS that was built upon has 8 sectors left of one. Where
    a type tells the root, the others of that type are copies of it, and only the likeliest is returned.
    """
    if table.kind == "none":
        return list(table.partitions)
    for types in (ROOT_TYPES, LINUX_TYPES):
        candidates = [partition for partition in table.partitions if partition.type in types]
        candidates.sort(key=lambda partition: (partition.file_system is None, -partition.size))
        if candidates:
            return candidates[:1] if types is ROOT_TYPES else candidates
    return []


def grow_disk_file(path: Path, size: int, *, free: bool = False) -> None:
    """Make a disk file `size` bytes (rounded up to 1 MiB), and its last partition as large as then fits.

    Only the partition grows, and only if it is the root: its file system is grown by the machine. The rest of a disk
    whose last partition is another one stays free, and with `free` that of any. A disk without a table has just the
    room that it needs, and is not filled up to a whole GiB. ImageFileError when the disk is larger already.
    """
    size = -(-size // MIB) * MIB
    present = path.stat().st_size
    if size < present:
        raise ImageFileError(f"{path}: has {present} bytes and cannot be shrunk to {size}; ask for a larger disk")
    if size == -(-present // GIB) * GIB and read_disk_table(path).kind == "none":
        return
    table = extend_disk(path, size)
    last = max(table.partitions, key=lambda partition: partition.start, default=None)
    if not free and last is not None and table.kind != "none" and last == find_root(table):
        run_tool(["sfdisk", *_SFDISK, "--wipe=never", "-N", str(last.number), path], stdin=",+\n")


def extend_disk(path: Path, size: int) -> PartitionTable:
    """Make a disk file `size` bytes, the rest of it free, and return its table, which is whole: a GPT ends the disk."""
    table = read_disk_table(path)
    os.truncate(path, size)
    if table.kind == "gpt":
        run_tool(["sfdisk", *_SFDISK, "--relocate", "gpt-bak-std", path])
    return table


class _Reader:
    """Reads the table of one open disk."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._size = size

    def table(self) -> PartitionTable:
        """Read whichever table there is."""
        first = self._read(0, SECTOR)
        if first[510:] != b"\x55\xaa":
            kind = self._file_system(0)
            if kind not in _WHOLE_DISKS:
                raise self._wrong(510, NO_TABLE)
            whole = DiskPartition(0, 0, self._size // SECTOR * SECTOR, "", file_system=kind)
            return PartitionTable("none", (whole,), SECTOR, bios_code=False)
        code = any(first[:440])
        entries = [_MBR_ENTRY.unpack_from(first, 446 + 16 * index) for index in range(4)]
        if any(kind == 0xEE for _, kind, _, _ in entries):
            return self._gpt(code)
        partitions = tuple(self._mbr(entries))
        needs = max((partition.start + partition.size for partition in partitions), default=SECTOR)
        self._refuse_truncated(needs, 446)
        return PartitionTable("mbr", partitions, needs, code)

    def _gpt(self, code: bool) -> PartitionTable:
        header = self._header(1)
        needs = (header.other + 1) * SECTOR
        self._refuse_truncated(needs, SECTOR + 32)
        if not header.has_usual_entries:
            raise self._wrong(SECTOR + 80, f"a partition table of {header.entry_count} entries of {header.width} bytes")
        entries = read_entries(self._read, header)
        if entries is None:
            raise self._wrong(header.entries_at * SECTOR, "the checksum of the partition entries is wrong")
        self._header(header.other)
        partitions = tuple(self._gpt_partitions(entries, header.width, needs))
        return PartitionTable("gpt", partitions, needs, code)

    def _header(self, sector: int) -> GptHeader:
        """Read and check a GPT header."""
        at = sector * SECTOR
        header = read_header(self._read, sector)
        if header is None:
            raise self._wrong(at, "no GPT header where one should be")
        if not GPT_HEADER.size <= header.length <= SECTOR:
            raise self._wrong(at + 12, f"a GPT header of {header.length} bytes")
        if not header.is_whole:
            raise self._wrong(at + 16, "the checksum of the GPT header is wrong")
        if header.own != sector:
            raise self._wrong(at + 24, f"a GPT header that says that it is in sector {header.own}, and is in {sector}")
        return header

    def _gpt_partitions(self, entries: bytes, width: int, needs: int) -> Iterator[DiskPartition]:
        for found in parse_entries(entries, width):
            if not 0 < found.start < found.end or found.end * SECTOR > needs:
                at = 2 * SECTOR + (found.number - 1) * width
                raise self._wrong(at, f"partition {found.number} lies outside of the disk")
            kind, own = found.type.lower(), found.uuid.lower()
            yield self._partition(found.number, found.start, found.size, kind, own, found.name)

    def _mbr(self, entries: list[tuple[int, int, int, int]]) -> Iterator[DiskPartition]:
        for index, (_, kind, start, sectors) in enumerate(entries):
            if kind in _EXTENDED:
                yield from self._logical(start)
            elif kind and sectors:
                yield self._partition(index + 1, start, sectors, f"{kind:#04x}")

    def _logical(self, base: int) -> Iterator[DiskPartition]:
        """Follow the chain of an extended partition, whose links are relative to its first sector."""
        link, number = 0, 5
        while number < _MOST_LOGICAL:
            at = (base + link) * SECTOR
            sector = self._read(at, SECTOR)
            if sector[510:] != b"\x55\xaa":
                raise self._wrong(at + 510, "a logical partition without its signature")
            _, kind, start, sectors = _MBR_ENTRY.unpack_from(sector, 446)
            if kind and sectors:
                yield self._partition(number, base + link + start, sectors, f"{kind:#04x}")
            _, kind, following, _ = _MBR_ENTRY.unpack_from(sector, 462)
            if kind not in _EXTENDED or following <= link:
                return
            link, number = following, number + 1

    def _partition(
        self, number: int, first: int, sectors: int, kind: str, own: str | None = None, name: str = ""
    ) -> DiskPartition:
        start = first * SECTOR
        return DiskPartition(number, start, sectors * SECTOR, kind, own, name, self._file_system(start))

    def _file_system(self, start: int) -> str | None:
        for name, offset, magic in _MAGIC:
            if os.pread(self._descriptor, len(magic), start + offset) == magic:
                return name
        return None

    def _read(self, at: int, length: int) -> bytes:
        if at + length > self._size:
            raise self._wrong(self._size, f"the file ends here, and should go on to byte {at + length} at least")
        return os.pread(self._descriptor, length, at)

    def _refuse_truncated(self, needs: int, at: int) -> None:
        if self._size < needs:
            raise self._wrong(
                at,
                f"truncated: its partition table speaks of {needs} bytes and the file has {self._size}; copy it again",
            )

    def _wrong(self, at: int, what: str) -> ImageFileError:
        return ImageFileError(f"{self._path}: byte {at}: {what}")
