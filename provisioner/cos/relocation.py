"""Move partitions on a disk that nothing is mounted from, so that a power cut at any point costs time and no data.

    up      [ ................ source ][ window ]            from the end backwards; down: from the beginning
                  [ ................ target ][ window ]      the window's source is whole until the journal has it
    journal how much has been moved: written when that, and nothing beyond it, is safely on the disk

No window is longer than the distance that it moves, so that after a cut the last one can be moved again. The table is
written once all data have moved. On a disk that has grown, the backup of the table is first of all written to the new
end: firmware that finds the primary without its backup writes one where the primary expects it, and that may be the
middle of STATE by then.
"""

from __future__ import annotations

import json
import os
import struct
import zlib

from ..system.disk_file import CHUNK, ZEROS, DiskFile
from ..system.partition_table import SECTOR, read_open_table, relaid, write_table
from .disk_layout import DiskLayoutError, Placement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Callable

    from ..system.partition_table import Table
    from .disk_layout import Targets

WINDOW = 128 << 20  # bytes between two entries in the journal, where the distance is that long


def relocate(path: str, targets: Targets, journal_path: str, say: Callable[[str], None]) -> None:
    """Move the partitions of a disk, or of a disk file, to their places. Called again, it goes on where it stopped.

    The journal is made here and stays, in a folder that must survive a power cut. `say` gets progress for people.
    DiskLayoutError when the partitions are at neither their old nor their new places; PartitionTableError; OSError.
    """
    if not targets.placements and not os.path.exists(journal_path):
        return
    open(journal_path, "ab").close()
    with DiskFile(path, writable=True) as disk, DiskFile(journal_path, writable=True) as file:
        relocate_open(disk, targets.placements, file, say)


def relocate_open(
    disk: DiskFile, placements: tuple[Placement, ...], file: DiskFile, say: Callable[[str], None]
) -> None:
    """Do the same on an open disk, with the journal in an open file."""
    journal = RelocationJournal(file)
    if _is_under_way(disk, placements, journal):
        _relocate(disk, journal, say)


def _is_under_way(disk: DiskFile, placements: tuple[Placement, ...], journal: RelocationJournal) -> bool:
    """Return whether anything is left to do; begin the journal where it has none."""
    if journal.placements:
        if placements and placements != journal.placements:
            raise DiskLayoutError(f"{journal.path} is about another layout of the disk, which must be finished first")
        return True
    table = read_open_table(disk)
    if _lies(table, [(place.number, place.new_start, place.new_size) for place in placements]):
        return False
    if not _lies(table, [(place.number, place.start, place.size) for place in placements]):
        raise DiskLayoutError(f"{disk.path}: the partitions are at neither their old nor their new places")
    journal.begin(placements)
    return True


def _lies(table: Table, places: Iterable[tuple[int, int, int]]) -> bool:
    found = {(partition.number, partition.start, partition.size) for partition in table.partitions.values()}
    return found.issuperset(places)


def _relocate(disk: DiskFile, journal: RelocationJournal, say: Callable[[str], None]) -> None:
    """Repair the table if needed, move the data, and write the new table, the primary last of all."""
    table = read_open_table(disk)
    if table.from_backup or table.backup != table.disk_sectors - 1:
        table = relaid(table, {})
        write_table(disk, table)
    for index in range(journal.index, len(journal.placements)):
        _move(disk, index, journal, say)
    places = {place.number: (place.new_start, place.new_size) for place in journal.placements}
    if not _lies(table, [(number, *place) for number, place in places.items()]):
        write_table(disk, relaid(table, places))


class RelocationJournal:
    """The progress of a move, in a file of two slots that are written in turn: a torn write never hurts the last entry.

    Replacing the file would not do: renaming is not atomic on vfat. `placements` is empty where no entry was ever
    finished; the first one is written before the first byte is moved. `index` is the placement that is under way, and
    `moved` the number of its sectors that are done.
    """

    SLOT = 4096  # bytes
    MAGIC = b"goldmove"
    HEAD = struct.Struct("<8sII")  # magic, length and checksum of the JSON behind it

    def __init__(self, file: DiskFile) -> None:
        self.path = file.path
        self.placements: tuple[Placement, ...] = ()
        self.index = self.moved = 0
        self._sequence = 0
        self._file = file
        for slot in (0, 1):
            self._read(file.read(slot * self.SLOT, self.SLOT))

    def begin(self, placements: tuple[Placement, ...]) -> None:
        """Write the first entry. OSError."""
        self.placements = placements
        self._file.write(0, bytes(2 * self.SLOT))
        self.record(0, 0)
        folder = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # for the name of the file
        finally:
            os.close(folder)

    def record(self, index: int, moved: int) -> None:
        """Record that the placements before `index`, and `moved` sectors of that one, are on the disk. OSError."""
        self.index, self.moved = index, moved
        self._sequence += 1
        entry = {"sequence": self._sequence, "index": index, "moved": moved, "placements": self.placements}
        text = json.dumps(entry, separators=(",", ":")).encode()
        slot = (self.HEAD.pack(self.MAGIC, len(text), zlib.crc32(text)) + text).ljust(self.SLOT, b"\0")
        self._file.write(self._sequence % 2 * self.SLOT, slot)
        self._file.sync()

    def _read(self, slot: bytes) -> None:
        if len(slot) < self.SLOT:
            return
        magic, length, checksum = self.HEAD.unpack_from(slot)
        text = slot[self.HEAD.size : self.HEAD.size + length]
        if magic != self.MAGIC or zlib.crc32(text) != checksum:
            return
        entry = json.loads(text)
        if entry["sequence"] > self._sequence:
            self._sequence, self.index, self.moved = entry["sequence"], entry["index"], entry["moved"]
            self.placements = tuple(Placement(*values) for values in entry["placements"])


def _move(disk: DiskFile, index: int, journal: RelocationJournal, say: Callable[[str], None]) -> None:
    """Move the rest of one partition's data, and record the progress."""
    place = journal.placements[index]
    way = place.new_start - place.start
    size = min(place.size, place.new_size) if way else 0
    window = WINDOW // SECTOR if abs(way) >= size else min(WINDOW // SECTOR, abs(way))
    moved, told = journal.moved, -1
    while moved < size:
        if moved * 10 // size > told:
            told = moved * 10 // size
            say(f"moving {place.name} (partition {place.number}): {moved >> 11} of {size >> 11} MiB")
        length = min(window, size - moved)
        source = place.start + (size - moved - length if way > 0 else moved)
        _copy(disk, source * SECTOR, way * SECTOR, length * SECTOR)
        moved += length
        disk.sync()
        journal.record(index, moved)
    journal.record(index + 1, 0)


def _copy(disk: DiskFile, source: int, way: int, length: int) -> None:
    """Copy bytes by `way` bytes. Zeros are cleared at the target, which is cheaper than writing them."""
    written = source  # the target is complete up to here; until the next write there are only zeros
    for begin, end in disk.runs(source, source + length):
        for offset in range(begin, end, CHUNK):
            data = disk.read(offset, min(CHUNK, end - offset))
            if data != ZEROS[: len(data)]:
                disk.clear(written + way, offset + way)
                disk.write(offset + way, data)
                written = offset + len(data)
    disk.clear(written + way, source + length + way)
