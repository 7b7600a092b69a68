"""The partition table of a disk (GPT), read and written without any program: a maintenance boot may have none.

The power may go at any moment of a write, so one of the two copies is always whole on the disk: the backup is written
first, then the primary, whose first 4 KiB hold the header and the first 24 partitions and are one write. Unknown types,
names, attributes and the boot code in the first sector are carried over unchanged.
Layout: UEFI specification 2.10, section 5. Sectors are of 512 bytes, as Compute Engine's disks have them; only
read_header() and read_entries() read others too. They refuse nothing: each caller has its own rules and errors.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from .disk_file import DiskFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SECTOR = 512
PAGE = 4096  # bytes of an aligned write that disks of today do as a whole or not at all

GPT_SIGNATURE = b"EFI PART"
GPT_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")

_ENTRY = struct.Struct("<16s16sQQQ72s")
_GUID = struct.Struct("<IHH")
_MOST_ENTRIES = 1024
_PRIMARY_ENTRIES = 2  # sector of the primary's first entries, on every disk seen
_PROTECTIVE = 0xEE  # type of the one partition that old programs see
_PROTECTIVE_AT = 446


class PartitionTableError(Exception):
    """The disk has no usable partition table; the text names the disk, the sector and the fault."""


class Partition(NamedTuple):
    """A partition. Sectors of 512 bytes; GUIDs in capitals, as sfdisk and grub.cfg write them."""

    number: int
    start: int
    size: int
    type: str
    uuid: str  # PARTUUID
    name: str
    attributes: int

    @property
    def end(self) -> int:
        """Return the first sector behind the partition."""
        return self.start + self.size


class GptHeader(NamedTuple):
    """The header of one copy of a table, as it is on the disk. Its sectors are of the table's size, and not checked."""

    signature: bytes
    revision: int
    length: int  # bytes
    checksum: int
    reserved: int
    own: int  # sector
    other: int  # sector of the other copy's header
    first_usable: int
    last_usable: int
    disk_guid: bytes
    entries_at: int  # sector
    entry_count: int
    width: int  # bytes of an entry
    entries_checksum: int
    is_whole: bool = False  # the only field that is not on the disk: the length and the checksum are right

    @property
    def has_usual_entries(self) -> bool:
        """Return whether number and width of the entries are within bounds."""
        return 1 <= self.entry_count <= _MOST_ENTRIES and 128 <= self.width <= PAGE and self.width % 8 == 0


class Table(NamedTuple):
    """The contents of a table. The header is as it was read; the disk may have grown since it was written."""

    header: GptHeader
    entries: bytes  # all of them, as on the disk
    partitions: Mapping[int, Partition]
    disk_sectors: int  # of the disk as it is now

    @property
    def from_backup(self) -> bool:
        """Return whether the primary is damaged."""
        return self.header.own != 1

    @property
    def backup(self) -> int:
        """Return the sector of the backup's header."""
        return self.header.own if self.from_backup else self.header.other

    @property
    def entry_sectors(self) -> int:
        """Return how many sectors the entries of one copy take."""
        return -(-len(self.entries) // SECTOR)


def read_header(read: Callable[[int, int], bytes], sector: int, sector_size: int = SECTOR) -> GptHeader | None:
    """Read the header in a sector; None where there is none. `read` is like DiskFile.read, and may raise its errors."""
    data = read(sector * sector_size, sector_size)
    if len(data) < GPT_HEADER.size or not data.startswith(GPT_SIGNATURE):
        return None
    header = GptHeader(*GPT_HEADER.unpack_from(data))
    if not GPT_HEADER.size <= header.length <= sector_size:
        return header
    return header._replace(is_whole=zlib.crc32(data[:16] + bytes(4) + data[20 : header.length]) == header.checksum)


def read_entries(read: Callable[[int, int], bytes], header: GptHeader, sector_size: int = SECTOR) -> bytes | None:
    """Read the entries of a header; None where their checksum is wrong."""
    length = header.entry_count * header.width
    entries = read(header.entries_at * sector_size, length)
    return entries if len(entries) == length and zlib.crc32(entries) == header.entries_checksum else None


def parse_entries(entries: bytes, width: int) -> Iterator[Partition]:
    """Yield the partitions, which may lie anywhere."""
    for index in range(len(entries) // width):
        kind, own, first, last, attributes, name = _ENTRY.unpack_from(entries, index * width)
        if any(kind):
            text = name.decode("utf-16-le", "replace").partition("\0")[0]
            yield Partition(index + 1, first, last + 1 - first, _guid(kind), _guid(own), text, attributes)


def read_table(path: str) -> Table:
    """Read a disk's or a disk file's table: the primary, or the backup where that is damaged. PartitionTableError."""
    try:
        with DiskFile(path) as disk:
            return read_open_table(disk)
    except OSError as error:
        raise PartitionTableError(f"{path}: {error.strerror}") from error


def read_open_table(disk: DiskFile) -> Table:
    """Read the table of an open disk. PartitionTableError, OSError."""
    try:
        return _read(disk, 1)
    except PartitionTableError as error:
        try:
            return _read(disk, disk.size // SECTOR - 1)
        except PartitionTableError as second:
            raise PartitionTableError(f"{error}; and the backup: {second}") from error


def last_usable(disk_sectors: int, table: Table) -> int:
    """Return the last sector that a partition may use on a disk of that size."""
    return disk_sectors - 2 - table.entry_sectors


def relaid(table: Table, places: Mapping[int, tuple[int, int]]) -> Table:
    """Return the table for the disk's present size, with some partitions at other places: (start, size) in sectors.

    PartitionTableError when a partition would overlap another or leave the disk.
    """
    moved = {
        number: partition._replace(start=places[number][0], size=places[number][1]) if number in places else partition
        for number, partition in table.partitions.items()
    }
    last = last_usable(table.disk_sectors, table)
    before = table.header.first_usable
    for partition in sorted(moved.values(), key=lambda partition: partition.start):
        if partition.start < before or partition.size < 1 or partition.end - 1 > last:
            raise PartitionTableError(
                f"partition {partition.number} ({partition.name}) cannot lie at sectors {partition.start} to "
                f"{partition.end - 1}: sectors {before} to {last} are free there"
            )
        before = partition.end
    entries = bytearray(table.entries)
    for number, (start, size) in places.items():
        struct.pack_into("<QQ", entries, (number - 1) * table.header.width + 32, start, start + size - 1)
    header = table.header._replace(own=1, other=table.disk_sectors - 1, last_usable=last)
    return Table(header, bytes(entries), moved, table.disk_sectors)


def write_table(disk: DiskFile, table: Table) -> None:
    """Write both copies of a table from relaid(), the backup at the end of the disk. OSError.

    Each copy is on the disk before the other is touched. Writing the same table again changes nothing.
    """
    padded = table.entries.ljust(table.entry_sectors * SECTOR, b"\0")
    last = table.disk_sectors - 1
    end = _packed_header(table, last, 1, last - table.entry_sectors)
    disk.write((last - table.entry_sectors) * SECTOR, padded + end.ljust(SECTOR, b"\0"))
    disk.sync()
    length = (_PRIMARY_ENTRIES + table.entry_sectors) * SECTOR
    first = bytearray(disk.read(0, length))
    _protect(first, table.disk_sectors)
    start = _packed_header(table, 1, last, _PRIMARY_ENTRIES)
    first[SECTOR : 2 * SECTOR] = start.ljust(SECTOR, b"\0")
    first[_PRIMARY_ENTRIES * SECTOR :] = padded
    for page in reversed(range(0, length, PAGE)):  # last the page with the header and the first entries
        disk.write(page, bytes(first[page : page + PAGE]))
    disk.sync()


def _protect(first: bytearray, disk_sectors: int) -> None:
    """Make the protective partition in the first sector cover the disk; a hybrid table is left as it is."""
    if first[_PROTECTIVE_AT + 4] == _PROTECTIVE:
        struct.pack_into("<I", first, _PROTECTIVE_AT + 12, min(disk_sectors - 1, 0xFFFFFFFF))


def _packed_header(table: Table, own: int, other: int, entries_at: int) -> bytes:
    header = table.header._replace(length=GPT_HEADER.size, checksum=0, reserved=0, own=own, other=other)
    header = header._replace(entries_at=entries_at, entries_checksum=zlib.crc32(table.entries))
    checksum = zlib.crc32(GPT_HEADER.pack(*header[:-1]))
    return GPT_HEADER.pack(*header._replace(checksum=checksum)[:-1])


def _read(disk: DiskFile, sector: int) -> Table:
    """Read and check one copy."""
    sectors = disk.size // SECTOR

    def wrong(what: str) -> PartitionTableError:
        return PartitionTableError(f"{disk.path}: sector {sector}: {what}")

    header = read_header(disk.read, max(sector, 0))
    if header is None:
        raise wrong("no partition table (GPT) begins here")
    if not header.is_whole:
        raise wrong("the checksum of the partition table's header is wrong")
    if header.own != sector:
        raise wrong(f"a header that says that it lies in sector {header.own}")
    if not header.has_usual_entries:
        raise wrong(f"a partition table of {header.entry_count} entries of {header.width} bytes")
    if sector == 1 and header.entries_at != _PRIMARY_ENTRIES:
        raise wrong(f"the partitions' entries begin in sector {header.entries_at} instead of {_PRIMARY_ENTRIES}")
    entries = read_entries(disk.read, header)
    if entries is None:
        raise wrong("the checksum of the partitions' entries is wrong")
    partitions = {partition.number: partition for partition in parse_entries(entries, header.width)}
    first, last = header.first_usable, header.last_usable
    for partition in partitions.values():
        if not first <= partition.start < partition.end <= last + 1 <= sectors:
            raise wrong(f"partition {partition.number} lies outside of the table's usable sectors, or of the disk")
    return Table(header, entries, partitions, sectors)


def _guid(data: bytes) -> str:
    """Return a GUID as text: its first three numbers are little-endian, the rest are bytes in order."""
    first, second, third = _GUID.unpack_from(data)
    rest = data[8:].hex().upper()
    return f"{first:08X}-{second:04X}-{third:04X}-{rest[:4]}-{rest[4:]}"
