"""Read FAT12, FAT16 and FAT32 file systems in raw disk files, as ext4/ does: EFI partitions are such.

A file has no number of its own; it gets the place of its folder entry, in bytes of the disk file. What ext4 has and FAT
lacks is as Linux shows it: all belongs to root, and a file that may not be written to is one of mode 0444. Whatever
cannot be true is an ImageFileError that names the disk and the place. Source: Microsoft's FAT specification of 2000.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from itertools import islice
from typing import NoReturn

from ..errors import ImageFileError
from .ext4.reader import Inode
from .reader import MOST_AT_ONCE, DiskReader

_BOOT = struct.Struct("<HBHBHHxH")  # bytes of a sector, sectors of a cluster, ... in the boot sector
_BOOT_AT = 11
_ROOT = 0
_ENTRY_BYTES = 32
_READ_ONLY, _LABEL, _FOLDER, _LONG_NAME = 0x01, 0x08, 0x10, 0x0F
_DELETED, _LAST_PART = 0xE5, 0x40
_LOWER_NAME, _LOWER_SUFFIX = 0x08, 0x10
_TABLE_PIECE = 64 << 10
_MOST_PARTS = 20  # of a long name: 255 characters, 13 in each
_MOST_FOLDER_BYTES = 2 << 20  # 65536 entries, the specification's own limit


class Fat:
    """The file system at byte `offset` of a disk, in a partition of `size` bytes."""

    needs_recovery = False  # it has no journal

    def __init__(self, reader: DiskReader, offset: int, size: int) -> None:
        self.disk = reader.path
        self.budget = reader.budget
        self._read = reader.read
        self._offset = offset
        boot = self._read(offset, 512)
        sector, self._cluster, reserved, tables, root_entries, sectors, table = _BOOT.unpack_from(boot, _BOOT_AT)
        total, table_32 = sectors or _u32(boot, 32), table or _u32(boot, 36)
        if sector not in (512, 1024, 2048, 4096) or not self._cluster or not reserved or total * sector > size:
            self._damaged(offset, f"a boot sector that speaks of {total} sectors of {sector} bytes")
        self._cluster *= sector
        self._table = offset + reserved * sector
        self._table_bytes = table_32 * sector
        self._fixed_root = self._table + tables * table_32 * sector  # of FAT12 and FAT16: a place, and no cluster
        self._fixed_root_bytes = root_entries * _ENTRY_BYTES
        self._data = self._fixed_root + -(-self._fixed_root_bytes // sector) * sector
        self._clusters = (offset + total * sector - self._data) // self._cluster
        self._bits = 12 if self._clusters < 4085 else 16 if self._clusters < 65525 else 32
        if self._clusters < 1 or self._table_bytes * 8 < (self._clusters + 2) * self._bits:
            self._damaged(offset, f"a boot sector that speaks of {self._clusters} clusters in too small a table")
        self._root_cluster = _u32(boot, 44) if self._bits == 32 else 0
        serial = _u32(boot, 67 if self._bits == 32 else 39)
        self.uuid = f"{serial >> 16:04X}-{serial & 0xFFFF:04X}"  # as blkid writes it
        self._piece: tuple[int, bytes] = (-1, b"")  # of the table

    @property
    def root(self) -> Inode:
        """The folder that all others are in."""
        return self.inode(_ROOT)

    def inode(self, number: int) -> Inode:
        """Read a file or folder by the place of its entry."""
        mode, size, cluster = stat.S_IFDIR | 0o755, 0, self._root_cluster
        if number != _ROOT:
            entry = self._read(number, _ENTRY_BYTES)
            cluster = int.from_bytes(entry[26:28], "little")
            if self._bits == 32:
                cluster |= int.from_bytes(entry[20:22], "little") << 16
            if not entry[11] & _FOLDER:
                mode = stat.S_IFREG | (0o444 if entry[11] & _READ_ONLY else 0o644)
                size = _u32(entry, 28)
        return Inode(number, mode, 0, 0, size, 1, 0, 0, 0, cluster.to_bytes(4, "little"), 0, b"")

    def record(self, number: int) -> bytes:
        """Return the bytes that hold everything about a file but its name."""
        return b"" if number == _ROOT else self._read(number, _ENTRY_BYTES)

    def entries(self, folder: Inode) -> dict[str, int]:
        """Return the names in a folder, but `.` and `..`, with the numbers of what they name."""
        found: dict[str, int] = {}
        parts: list[str] = []  # of a long name, which begins with its end
        for place, entry in self._folder(folder):
            self.budget.step()
            attributes = entry[11]
            if entry[0] == 0:
                break
            if entry[0] == _DELETED:
                parts = []
            elif attributes & 0x3F == _LONG_NAME:
                part = (entry[1:11] + entry[14:26] + entry[28:32]).decode("utf-16-le", "surrogatepass")
                parts = [part] if entry[0] & _LAST_PART else [*parts, part]
                if len(parts) > _MOST_PARTS:
                    self._damaged(place, f"a name of more than {_MOST_PARTS} parts")
            else:
                name = "".join(reversed(parts)).partition("\0")[0] or _short_name(entry)
                parts = []
                if not attributes & _LABEL and name not in (".", ".."):
                    if not name or "/" in name or name in found:
                        self._damaged(place, f"a folder entry with the name {name!r}")
                    found[name] = place
        return found

    def extents(self, inode: Inode) -> Iterator[tuple[int, int | None, int]]:
        """Yield where a file's contents are: (byte of the file, byte of the disk file, length); there are no holes."""
        reached = 0
        for at, length in self._runs(inode, inode.size):
            yield reached, at, min(length, inode.size - reached)
            reached += length
        if reached < inode.size:
            self._damaged(inode.number, f"a file of {inode.size} bytes of which {reached} are there")

    def place(self, inode: Inode) -> int | None:
        """Return the byte of the disk file where the contents begin, when they are there in one piece; else None."""
        runs = list(islice(self._runs(inode, inode.size), 2))
        return runs[0][0] if len(runs) == 1 and runs[0][1] >= inode.size else None

    def read(self, inode: Inode, limit: int | None = None) -> bytes:
        """Read the contents, or their first `limit` bytes."""
        wanted = inode.size if limit is None else min(inode.size, limit)
        if wanted > MOST_AT_ONCE:
            self._damaged(inode.number, f"a file of {wanted} bytes, more than can be read at once")
        data = bytearray()
        for _, at, length in self.extents(inode):
            data += self._read(at or 0, min(length, wanted - len(data)))
            if len(data) >= wanted:
                break
        return bytes(data)

    def link(self, inode: Inode) -> NoReturn:
        """FAT has no links."""
        self._damaged(inode.number, "a link")

    def attributes(self, inode: Inode) -> dict[str, bytes]:
        """FAT has no extended attributes."""
        del inode
        return {}

    def _folder(self, folder: Inode) -> Iterator[tuple[int, bytes]]:
        """Yield each entry of a folder with its place."""
        runs = self._runs(folder, _MOST_FOLDER_BYTES)
        if folder.number == _ROOT and not self._root_cluster:
            runs = iter([(self._fixed_root, self._fixed_root_bytes)])
        for at, length in runs:
            data = self._read(at, length)
            for within in range(0, length, _ENTRY_BYTES):
                yield at + within, data[within : within + _ENTRY_BYTES]

    def _runs(self, inode: Inode, most: int) -> Iterator[tuple[int, int]]:
        """Follow a chain of clusters for at most `most` bytes; yield the place and length of each run of neighbours."""
        cluster = int.from_bytes(inode.block_map, "little")
        end = {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}[self._bits]
        at = length = taken = 0
        while taken < most and 0 < cluster < end:
            if not 2 <= cluster < self._clusters + 2:
                self._damaged(inode.number, f"a file in cluster {cluster} of {self._clusters}")
            place = self._data + (cluster - 2) * self._cluster
            if length and place != at + length:
                yield at, length
                length = 0
            at = at if length else place
            length += self._cluster
            taken += self._cluster
            self.budget.step()
            if taken > self._clusters * self._cluster:
                self._damaged(inode.number, "a file whose clusters lead back to themselves")
            cluster = self._next(cluster)
        if length:
            yield at, length

    def _next(self, cluster: int) -> int:
        if self._bits == 12:
            pair = int.from_bytes(self._table_entry(cluster * 3 // 2, 2), "little")
            return pair >> 4 if cluster & 1 else pair & 0xFFF
        width = self._bits // 8
        return int.from_bytes(self._table_entry(cluster * width, width), "little") & 0x0FFFFFFF

    def _table_entry(self, at: int, length: int) -> bytes:
        start = at - at % _TABLE_PIECE
        if self._piece[0] != start:
            # One byte more than a piece: an entry of FAT12 may lie in two of them.
            data = self._read(self._table + start, min(_TABLE_PIECE + 1, self._table_bytes - start))
            self._piece = (start, data)
        return self._piece[1][at - start : at - start + length]

    def _damaged(self, at: int, what: str) -> NoReturn:
        raise ImageFileError(
            f"{self.disk}: byte {at}: the file system at byte {self._offset} is damaged: {what}; check it with fsck.fat"
        )


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _short_name(entry: bytes) -> str:
    """Return a name of eight letters and a suffix of three, in the case that Windows NT has noted beside it."""
    raw = (b"\xe5" + entry[1:8] if entry[0] == 0x05 else entry[:8]).decode("cp437").rstrip(" ")
    suffix = entry[8:11].decode("cp437").rstrip(" ")
    name = raw.lower() if entry[12] & _LOWER_NAME else raw
    suffix = suffix.lower() if entry[12] & _LOWER_SUFFIX else suffix
    return f"{name}.{suffix}" if suffix else name
