"""The blocks of a disk that a step has changed: a QCOW2 file without a backing file, written by QEMU.

Of QCOW2 version 3 (https://www.qemu.org/docs/master/interop/qcow2.html) it has what such a file needs: clusters as they
are, clusters of zeros, and clusters that did not change, which are in no table. Everything else is refused, and so is
every place outside of the file: it may come from another machine.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..disks.extents import copy_range, open_descriptor, punch_hole
from ..errors import ImageFileError

CLUSTER_BITS = 16
_CLUSTER = 1 << CLUSTER_BITS
_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_MAGIC, _VERSION, _REFCOUNT_ORDER = b"QFI\xfb", 3, 4
_OFFSET = 0x00FF_FFFF_FFFF_FE00  # of an entry of either table
_COMPRESSED, _ZERO, _OWN = 1 << 62, 1, 1 << 63
_ENTRY = 8  # bytes


@dataclass(frozen=True)
class DiskChange:
    """A range of the disk, and where its new contents are in the delta; None for zeros."""

    start: int
    length: int
    source: int | None


def create_delta(path: Path, size: int) -> None:
    """Write an empty delta for a disk of `size` bytes. OSError."""
    tables = -(-size // (_CLUSTER * (_CLUSTER // _ENTRY)))
    used = 3 + -(-tables * _ENTRY // _CLUSTER)  # the header, both tables of reference counts, and the first table
    header = _HEADER.pack(
        *(_MAGIC, _VERSION, 0, 0, CLUSTER_BITS, size, 0, tables, 3 * _CLUSTER, _CLUSTER, 1, 0, 0, 0, 0, 0),
        *(_REFCOUNT_ORDER, _HEADER.size),
    )
    with path.open("xb") as file:
        path.chmod(0o600)
        file.write(header)
        file.seek(_CLUSTER)
        file.write(struct.pack(">Q", 2 * _CLUSTER))
        file.seek(2 * _CLUSTER)
        file.write(struct.pack(">H", 1) * used)
        file.truncate(used * _CLUSTER)


def read_delta(path: Path, size: int) -> list[DiskChange]:
    """Return what a delta changes on a disk of `size` bytes, in order. ImageFileError for any other file."""
    descriptor = open_descriptor(path)
    try:
        return list(_joined(_clusters(_DeltaFile(path, descriptor, size))))
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def apply_delta(path: Path, changes: list[DiskChange], disk: int) -> None:
    """Write the changes of a delta to a disk, an open file. OSError, ImageFileError."""
    descriptor = open_descriptor(path)
    try:
        for change in changes:
            if change.source is None:
                punch_hole(disk, change.start, change.length)
            elif copy_range(descriptor, change.source, disk, change.start, change.length) < change.length:
                raise ImageFileError(f"{path}: ends before its last cluster")
    finally:
        os.close(descriptor)


class _DeltaFile:
    """An open delta: its header, checked, and its tables."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self.size = size
        self.bytes = os.fstat(descriptor).st_size
        data = os.pread(descriptor, _HEADER.size, 0)
        if len(data) < _HEADER.size:
            raise self.fault("is too short")
        magic, version, backing, _, bits, virtual, crypt, tables, first, *_ = fields = _HEADER.unpack(data)
        snapshots, incompatible = fields[11], fields[13]
        if (magic, version) != (_MAGIC, _VERSION):
            raise self.fault("is not QCOW2 of version 3")
        if backing or crypt or snapshots or incompatible:
            raise self.fault("has a backing file, snapshots, or features that no delta has")
        if not 9 <= bits <= 21:
            raise self.fault(f"has clusters of 2 to the power of {bits} bytes")
        if virtual != size:
            raise self.fault(f"is for a disk of {virtual} bytes, and this one has {size}")
        self.cluster = 1 << bits
        wanted = -(-size // (self.cluster * (self.cluster // _ENTRY)))
        if tables < wanted:
            raise self.fault("has a first table that is too short")
        self.first = self.table(first, wanted)

    def fault(self, what: str) -> ImageFileError:
        return ImageFileError(f"{self._path}: {what}")

    def table(self, offset: int, entries: int) -> array[int]:
        """Read a table of entries; ImageFileError for one that is not in the file."""
        self.check(offset, entries * _ENTRY)
        found = array("Q", os.pread(self._descriptor, entries * _ENTRY, offset))
        if len(found) != entries:
            raise self.fault("has become shorter")
        if sys.byteorder == "little":
            found.byteswap()
        return found

    def check(self, offset: int, length: int) -> None:
        """Raise ImageFileError for a range that is not in the file, or begins in the header or between clusters."""
        if not offset or offset % self.cluster or offset + length > self.bytes:
            raise self.fault(f"points to byte {offset}, where it has no cluster")


def _clusters(delta: _DeltaFile) -> Iterator[DiskChange]:
    """Yield the changed clusters of a delta, in order."""
    entries = delta.cluster // _ENTRY
    for number, place in enumerate(delta.first):
        if not place & _OFFSET:
            continue
        start = number * entries * delta.cluster
        for index, entry in enumerate(delta.table(place & _OFFSET, entries)):
            if not entry & ~_OWN:
                continue
            where = start + index * delta.cluster
            if entry & _COMPRESSED or where >= delta.size:
                raise delta.fault(f"has at byte {where} of the disk what no delta has")
            length = min(delta.cluster, delta.size - where)
            if entry & _ZERO:
                yield DiskChange(where, length, None)
            else:
                delta.check(entry & _OFFSET, length)
                yield DiskChange(where, length, entry & _OFFSET)


def _joined(changes: Iterator[DiskChange]) -> Iterator[DiskChange]:
    """Join changes that follow each other, on the disk and in the delta."""
    last: DiskChange | None = None
    for change in changes:
        if last is not None and last.start + last.length == change.start and _goes_on(last, change):
            last = DiskChange(last.start, last.length + change.length, last.source)
            continue
        if last is not None:
            yield last
        last = change
    if last is not None:
        yield last


def _goes_on(last: DiskChange, change: DiskChange) -> bool:
    if last.source is None or change.source is None:
        return last.source is change.source
    return last.source + last.length == change.source
