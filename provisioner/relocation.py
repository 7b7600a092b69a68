"""Move partitions on a disk that nothing is mounted from, so that a power cut at any point costs time and no data.

    up      [ ................ source ][ window ]            from the end backwards; down: from the beginning
                  [ ................ target ][ window ]      the window's source is whole until the journal has it
    journal how much has been moved: written when all of that, and nothing that it forbids, is safely on the disk

No window is longer than the way that it goes, so that after a cut the last one can be moved again. Only when all data
have moved is the table written. On a disk that has grown, the backup of the table goes to the new end before anything
else: firmware that finds the primary without its backup writes one where the primary says that it was, and that may
be the middle of STATE by then.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import struct
import zlib

from .disk_layout import DiskLayoutError, Placement
from .partition_table import SECTOR, read_open_table, relaid, write_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Callable

    from .disk_layout import Targets
    from .partition_table import Table

WINDOW = 128 << 20  # bytes between two entries in the journal, where the way is that long
CHUNK = 1 << 20  # bytes read and written at once: what a processor's cache holds
ZEROS = bytes(CHUNK)
BLKZEROOUT = 0x127F  # linux/fs.h


def relocate(path: str, targets: Targets, journal_path: str, say: Callable[[str], None]) -> None:
    """Bring the partitions of a disk, or of a disk file, to their places. Called again, it goes on where it was.

    The journal is made here and left behind, in a folder that must outlive a power cut. `say` gets progress for people.
    DiskLayoutError when the disk is neither as it was nor on its way, PartitionTableError, OSError.
    """
    disk = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        journal = Journal(journal_path)
        try:
            if _is_under_way(disk, path, targets.placements, journal):
                _relocate(disk, path, journal, say)
        finally:
            journal.close()
    finally:
        os.close(disk)


def _is_under_way(disk: int, path: str, placements: tuple[Placement, ...], journal: Journal) -> bool:
    """Tell whether anything is left to do, after the journal of it was begun."""
    if journal.placements:
        if placements and placements != journal.placements:
            raise DiskLayoutError(f"{journal.path} is about another layout of the disk, which must be finished first")
        return True
    table = read_open_table(disk, path)
    if _lies(table, [(place.number, place.new_start, place.new_size) for place in placements]):
        return False
    if not _lies(table, [(place.number, place.start, place.size) for place in placements]):
        raise DiskLayoutError(f"{path}: the partitions lie neither where they did nor where they shall")
    journal.begin(placements)
    return True


def _lies(table: Table, places: Iterable[tuple[int, int, int]]) -> bool:
    found = {(partition.number, partition.start, partition.size) for partition in table.partitions.values()}
    return found.issuperset(places)


def _relocate(disk: int, path: str, journal: Journal, say: Callable[[str], None]) -> None:
    """Repair the table where it needs that, move the data, write the new table: the primary last of all."""
    table = read_open_table(disk, path)
    if table.from_backup or table.backup != table.disk_sectors - 1:
        table = relaid(table, {})
        write_table(disk, table)
    for index in range(journal.index, len(journal.placements)):
        _move(disk, index, journal, say)
    places = {place.number: (place.new_start, place.new_size) for place in journal.placements}
    if not _lies(table, [(number, *place) for number, place in places.items()]):
        write_table(disk, relaid(table, places))


class Journal:
    """What has been moved, in a file of two slots that are written in turn: a torn write never hurts the last entry.

    A new file in the place of the old one would not do: renaming is not atomic in a vfat. `placements` is empty where
    no entry was ever finished, which comes before the first byte is moved; `index` is the placement that is under way,
    and `moved` the sectors of it that are done.
    """

    SLOT = 4096  # bytes
    MAGIC = b"goldmove"
    HEAD = struct.Struct("<8sII")  # magic, length and checksum of the JSON behind it

    def __init__(self, path: str) -> None:
        self.path = path
        self.placements: tuple[Placement, ...] = ()
        self.index = self.moved = 0
        self._sequence = 0
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            for slot in (0, 1):
                self._read(os.pread(self._handle, self.SLOT, slot * self.SLOT))
        except BaseException:
            os.close(self._handle)
            raise

    def begin(self, placements: tuple[Placement, ...]) -> None:
        """Write the first entry. OSError."""
        os.pwrite(self._handle, bytes(2 * self.SLOT), 0)
        self.placements = placements
        self.record(0, 0)
        os.fsync(self._handle)
        folder = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def record(self, index: int, moved: int) -> None:
        """Write that the placements before `index`, and `moved` sectors of that one, are on the disk. OSError."""
        self.index, self.moved = index, moved
        self._sequence += 1
        entry = {"sequence": self._sequence, "index": index, "moved": moved, "placements": self.placements}
        text = json.dumps(entry, separators=(",", ":")).encode()
        slot = (self.HEAD.pack(self.MAGIC, len(text), zlib.crc32(text)) + text).ljust(self.SLOT, b"\0")
        os.pwrite(self._handle, slot, self._sequence % 2 * self.SLOT)
        os.fdatasync(self._handle)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

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


def _move(disk: int, index: int, journal: Journal, say: Callable[[str], None]) -> None:
    """Move what is left of one partition's data, and write down how far it came."""
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
        os.fdatasync(disk)
        journal.record(index, moved)
    journal.record(index + 1, 0)


def _copy(disk: int, source: int, way: int, length: int) -> None:
    """Copy bytes by `way` bytes; what is zero is made zero at the target, which is cheaper than writing it."""
    buffer = memoryview(bytearray(CHUNK))
    is_device = stat.S_ISBLK(os.fstat(disk).st_mode)
    zero_from = source  # where the zeros that are not made yet begin
    for begin, end in [(source, source + length)] if is_device else _data(disk, source, source + length):
        for offset in range(begin, end, CHUNK):
            piece = buffer[: min(CHUNK, end - offset)]
            _read_whole(disk, piece, offset)
            if piece == ZEROS[: len(piece)]:
                continue
            _clear(disk, zero_from + way, offset + way, is_device)
            _write_whole(disk, piece, offset + way)
            zero_from = offset + len(piece)
    _clear(disk, zero_from + way, source + length + way, is_device)


def _read_whole(disk: int, piece: memoryview, offset: int) -> None:
    while piece:
        count = os.preadv(disk, [piece], offset)
        if not count:
            raise DiskLayoutError(f"the disk ends at byte {offset}, within a partition")
        offset += count
        piece = piece[count:]


def _write_whole(disk: int, piece: memoryview | bytes, offset: int) -> None:
    while piece:
        count = os.pwrite(disk, piece, offset)
        offset += count
        piece = piece[count:]


def _clear(disk: int, begin: int, end: int, is_device: bool) -> None:
    """Make bytes zero: by the device itself where it can, and not at all where a file has a hole."""
    if is_device and begin < end and _cleared_by_device(disk, begin, end):
        return
    for start, stop in [(begin, end)] if is_device else _data(disk, begin, end):
        for offset in range(start, stop, CHUNK):
            _write_whole(disk, ZEROS[: min(CHUNK, stop - offset)], offset)


def _cleared_by_device(disk: int, begin: int, end: int) -> bool:
    try:
        fcntl.ioctl(disk, BLKZEROOUT, struct.pack("=QQ", begin, end - begin))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
            raise
        return False
    return True


def _data(disk: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Give (begin, end) of each run of a file that is no hole; all of it where the file system cannot tell."""
    while begin < end:
        try:
            start = os.lseek(disk, begin, os.SEEK_DATA)
            stop = os.lseek(disk, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here on
                return
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            start, stop = begin, end
        if start >= end:
            return
        yield start, min(stop, end)
        begin = stop
