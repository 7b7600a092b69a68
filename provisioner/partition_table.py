"""The partition table of a disk (GPT), read and written without any program: in a maintenance boot there may be none.

Whoever writes it may lose power at any moment, so one of the two copies is always whole on the disk: the backup is
written first, then the primary, whose first 4 KiB hold the header and the first 24 partitions, and go out as one
write. What is not understood (types, names, attributes, boot code in the first sector) is carried over as it is.
Layout: UEFI specification 2.10, section 5. Sectors are of 512 bytes, as Compute Engine's disks have them.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from .disk_file import DiskFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SECTOR = 512
PAGE = 4096  # bytes written in one go, aligned: what disks of today write whole or not at all

_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_GUID = struct.Struct("<IHH")
_SIGNATURE = b"EFI PART"
_MOST_ENTRIES = 1024
_PRIMARY_ENTRIES = 2  # sector at which the primary's entries begin, on every disk seen
_PROTECTIVE = 0xEE  # type of the one partition that an old program sees
_PROTECTIVE_AT = 446


class PartitionTableError(Exception):
    """A disk without a partition table that can be used; the text names the disk, the sector and what is wrong."""


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
        """Give the first sector behind it."""
        return self.start + self.size


class Table(NamedTuple):
    """What a table says. `last_usable` and `backup` are the table's; the disk may have grown since."""

    partitions: Mapping[int, Partition]
    uuid: str
    first_usable: int  # sectors
    last_usable: int
    backup: int  # sector of the backup's header
    disk_sectors: int  # of the disk as it is now
    from_backup: bool  # the primary is damaged
    head: tuple[int, bytes, int, int]  # revision, disk's GUID, number of entries, bytes of each: for write_table()
    entries: bytes  # all of them, as on the disk

    @property
    def entry_sectors(self) -> int:
        """Give the sectors that the entries of one copy take."""
        return -(-len(self.entries) // SECTOR)


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
    """Give the last sector that a partition may have on a disk of that size."""
    return disk_sectors - 2 - table.entry_sectors


def relaid(table: Table, places: Mapping[int, tuple[int, int]]) -> Table:
    """Give the table for the whole disk as it is now, with (start, size) of some partitions changed.

    PartitionTableError when a partition would overlap another or leave the disk.
    """
    moved = {
        number: partition._replace(start=places[number][0], size=places[number][1]) if number in places else partition
        for number, partition in table.partitions.items()
    }
    last = last_usable(table.disk_sectors, table)
    before = table.first_usable
    for partition in sorted(moved.values(), key=lambda partition: partition.start):
        if partition.start < before or partition.size < 1 or partition.end - 1 > last:
            raise PartitionTableError(
                f"partition {partition.number} ({partition.name}) cannot lie at sectors {partition.start} to "
                f"{partition.end - 1}: sectors {before} to {last} are free there"
            )
        before = partition.end
    entries = bytearray(table.entries)
    width = table.head[3]
    for number, (start, size) in places.items():
        struct.pack_into("<QQ", entries, (number - 1) * width + 32, start, start + size - 1)
    return table._replace(partitions=moved, last_usable=last, backup=table.disk_sectors - 1, entries=bytes(entries))


def write_table(disk: DiskFile, table: Table) -> None:
    """Write both copies of a table that relaid() gave, the backup at the end of the disk. OSError.

    Each copy is on the disk before the other is touched. Writing the same table again changes nothing.
    """
    padded = table.entries.ljust(table.entry_sectors * SECTOR, b"\0")
    last = table.disk_sectors - 1
    end = _header(table, last, 1, last - table.entry_sectors)
    disk.write((last - table.entry_sectors) * SECTOR, padded + end.ljust(SECTOR, b"\0"))
    disk.sync()
    length = (_PRIMARY_ENTRIES + table.entry_sectors) * SECTOR
    first = bytearray(disk.read(0, length))
    _protect(first, table.disk_sectors)
    start = _header(table, 1, last, _PRIMARY_ENTRIES)
    first[SECTOR : 2 * SECTOR] = start.ljust(SECTOR, b"\0")
    first[_PRIMARY_ENTRIES * SECTOR :] = padded
    for page in reversed(range(0, length, PAGE)):  # the header goes last, with what it is most likely to be about
        disk.write(page, bytes(first[page : page + PAGE]))
    disk.sync()


def _protect(first: bytearray, disk_sectors: int) -> None:
    """Let the old partition table in the first sector cover the disk; a hybrid one is somebody's own affair."""
    if first[_PROTECTIVE_AT + 4] == _PROTECTIVE:
        struct.pack_into("<I", first, _PROTECTIVE_AT + 12, min(disk_sectors - 1, 0xFFFFFFFF))


def _header(table: Table, own: int, other: int, entries_at: int) -> bytes:
    revision, disk_guid, count, width = table.head
    fields = (own, other, table.first_usable, table.last_usable, disk_guid, entries_at, count, width)
    checksum = zlib.crc32(table.entries)
    blank = _HEADER.pack(_SIGNATURE, revision, _HEADER.size, 0, 0, *fields, checksum)
    return _HEADER.pack(_SIGNATURE, revision, _HEADER.size, zlib.crc32(blank), 0, *fields, checksum)


def _read(disk: DiskFile, sector: int) -> Table:
    """Read and check one copy."""
    sectors = disk.size // SECTOR

    def wrong(what: str) -> PartitionTableError:
        return PartitionTableError(f"{disk.path}: sector {sector}: {what}")

    data = disk.read(max(sector, 0) * SECTOR, SECTOR)
    if len(data) < SECTOR or not data.startswith(_SIGNATURE):
        raise wrong("no partition table (GPT) begins here")
    _, revision, length, crc, _, own, other, first, last, guid, at, count, width, sums = _HEADER.unpack_from(data)
    if not _HEADER.size <= length <= SECTOR or zlib.crc32(data[:16] + bytes(4) + data[20:length]) != crc:
        raise wrong("the checksum of the partition table's header is wrong")
    if own != sector:
        raise wrong(f"a header that says that it lies in sector {own}")
    if not 128 <= width <= PAGE or not 1 <= count <= _MOST_ENTRIES:
        raise wrong(f"a partition table of {count} entries of {width} bytes")
    if sector == 1 and at != _PRIMARY_ENTRIES:
        raise wrong(f"the partitions' entries begin in sector {at} instead of {_PRIMARY_ENTRIES}")
    entries = disk.read(at * SECTOR, count * width)
    if len(entries) < count * width or zlib.crc32(entries) != sums:
        raise wrong("the checksum of the partitions' entries is wrong")
    partitions = {partition.number: partition for partition in _partitions(entries, width)}
    for partition in partitions.values():
        if not first <= partition.start < partition.end <= last + 1 <= sectors:
            raise wrong(f"partition {partition.number} lies outside of what the table calls usable, or of the disk")
    backup = other if sector == 1 else sector
    head = (revision, guid, count, width)
    return Table(partitions, _guid(guid), first, last, backup, sectors, sector != 1, head, entries)


def _partitions(entries: bytes, width: int) -> list[Partition]:
    found: list[Partition] = []
    for index in range(len(entries) // width):
        kind, own, first, last, attributes, name = _ENTRY.unpack_from(entries, index * width)
        if any(kind):
            text = name.decode("utf-16-le", "replace").partition("\0")[0]
            found.append(Partition(index + 1, first, last + 1 - first, _guid(kind), _guid(own), text, attributes))
    return found


def _guid(data: bytes) -> str:
    """Write a GUID: its first three numbers are little-endian, the rest are bytes in order."""
    first, second, third = _GUID.unpack_from(data)
    rest = data[8:].hex().upper()
    return f"{first:08X}-{second:04X}-{third:04X}-{rest[:4]}-{rest[4:]}"
