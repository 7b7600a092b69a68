"""Disks whose partition table counts sectors of 4096 bytes: the same disk, its table in sectors of 512.

Compute Engine's disks have sectors of 512 bytes, and so have the machines here: they find no partition on such a disk.
The partitions stay where they are; only the table is written anew.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from provisioner.system import partition_table as gpt
from provisioner.system.disk_file import DiskFile
from provisioner.system.partition_table import SECTOR, Table

from ..errors import ImageFileError
from .extents import open_descriptor

_LARGE = 4096
_TIMES = _LARGE // SECTOR
_ENTRIES, _WIDTH = 128, 128  # what every tool writes
_TABLE = _ENTRIES * _WIDTH  # bytes


def has_large_sectors(disk: Path) -> bool:
    """Return whether the disk's GPT counts sectors of 4096 bytes. Raises ImageFileError."""
    descriptor = open_descriptor(disk)
    try:
        small, large = (os.pread(descriptor, len(gpt.GPT_SIGNATURE), at) for at in (SECTOR, _LARGE))
        return small != gpt.GPT_SIGNATURE and large == gpt.GPT_SIGNATURE
    finally:
        os.close(descriptor)


def count_small_sectors(disk: Path) -> None:
    """Rewrite the GPT of a disk, which nothing else has open, in sectors of 512 bytes. Raises ImageFileError.

    The new entries cover the old header, and the new backup the old one.
    """
    with DiskFile(str(disk), writable=True) as file:
        table = _read(disk, file)
        file.write(446, _protective(table.disk_sectors - 1))
        gpt.write_table(file, table)


def _read(disk: Path, file: DiskFile) -> Table:
    """Read and check the table; return it in sectors of 512 bytes."""
    size = file.size
    header = gpt.read_header(file.read, 1, _LARGE)
    if header is None:
        raise _wrong(disk, size, "the file ends here, within the GPT header")
    if not header.is_whole:
        raise _wrong(disk, _LARGE + 16, "the checksum of the GPT header is wrong")
    count, width, needs, at = header.entry_count, header.width, (header.other + 1) * _LARGE, header.entries_at * _LARGE
    if (count, width) != (_ENTRIES, _WIDTH):
        raise _wrong(disk, _LARGE + 80, f"a partition table of {count} entries of {width} bytes; {_ENTRIES} are usual")
    if needs > size:
        raise _wrong(disk, _LARGE + 32, f"truncated: its partition table speaks of {needs} bytes; copy it again")
    entries = gpt.read_entries(file.read, header, _LARGE) if at < size else None
    if entries is None:
        raise _wrong(disk, at, "the checksum of the partition entries is wrong")
    places = {}
    for found in gpt.parse_entries(entries, _WIDTH):
        if not 2 + _TABLE // _LARGE <= found.start < found.end or found.end * _LARGE > size - _TABLE - SECTOR:
            place = at + (found.number - 1) * _WIDTH
            raise _wrong(disk, place, f"partition {found.number} lies outside of the disk")
        places[found.number] = (found.start * _TIMES, found.size * _TIMES)
    header = header._replace(first_usable=2 + _TABLE // SECTOR)
    return gpt.relaid(Table(header, entries, {}, size // SECTOR), places)


def _protective(last: int) -> bytes:
    """Return the four entries of an MBR that keeps the whole disk from programs that know no GPT."""
    entry = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, min(last, 0xFFFFFFFF))
    return entry.ljust(64, b"\0") + b"\x55\xaa"


def _wrong(disk: Path, at: int, what: str) -> ImageFileError:
    return ImageFileError(f"{disk}: byte {at}: {what}")
