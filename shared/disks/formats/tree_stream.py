"""One reading of a tree, made into tar streams that go to as many readers as there are, each in a thread of its own.

There are at most two streams: one in which sparse files keep their holes, and one without any, since the image
specification of OCI allows no sparse files in a layer. Where the tree has no sparse files, both are the same.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...archives import pax
from ...archives.crc32 import SparseCrc32, crc32
from ...archives.pax import TarEntry, padding, pax_header
from ...archives.sparse_tar import trailer
from ...errors import InputError
from ..disk import Disk
from ..ext4.reader import Ext4, Inode
from .halt import Fraction, Halt
from .listing import Expected
from .tree import Runs, data_runs, tree_members

PIECE = 512 << 10  # bytes; larger only where a file is read in larger ones
_WINDOW = 8  # pieces that wait for a reader
_LOOK = 0.1  # seconds between two looks at whether all is to end
_FEW_HOLES = 64 << 10  # bytes of a file that are not worth a sparse member
_SQUASHFS_ATTRIBUTES = (b"user.", b"trusted.", b"security.")


@dataclass(frozen=True)
class Survey:
    """What a tree has: members, bytes of its files with holes, and those of the holes that sparse members keep."""

    members: int
    contents: int
    holes: int
    root: TarEntry
    whiteout: bytes | None  # a name that says in an OCI layer that another file is gone


def survey_of(files: Ext4) -> Survey:
    """Walk over a tree once without its contents. InputError where its journal would have to be replayed first."""
    if files.needs_recovery:
        raise InputError(
            f"{files.disk}: its root file system was not unmounted, so that its files cannot be read as they are; "
            "boot it once, or export the disk in another format"
        )
    members = size = holes = 0
    whiteout = root = None
    for entry, inode in tree_members(files):
        root = root or entry
        members += 1
        if entry.kind == pax.FILE:
            size += entry.size
            holes += _holes(entry, data_runs(files, inode))
        if entry.name.rstrip(b"/").rpartition(b"/")[2].startswith(b".wh."):
            whiteout = entry.name
    assert root is not None, "the first member"
    return Survey(members, size, holes, root, whiteout)


class Pieces:
    """The pieces of a stream, for one reader that iterates over them in its own thread."""

    def __init__(self, halt: Halt) -> None:
        self._halt = halt
        self._waiting: queue.Queue[bytes] = queue.Queue(_WINDOW)

    def put(self, piece: bytes) -> None:
        """Hand a piece over, and wait while too many wait; an empty one is the end. Halted."""
        while True:
            self._halt.look()
            try:
                return self._waiting.put(piece, timeout=_LOOK)
            except queue.Full:
                continue

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self._halt.look()
            try:
                piece = self._waiting.get(timeout=_LOOK)
            except queue.Empty:
                continue
            if not piece:
                return
            yield piece


class TreeStream:
    """A tar stream of a tree in the making."""

    def __init__(self, halt: Halt, *, sparse: bool) -> None:
        self._halt = halt
        self._sparse = sparse
        self._readers: list[Pieces] = []
        self._collected: list[bytes] = []
        self._ready = 0
        self._length = 0
        self._zeros = bytes(PIECE)
        self._entry: TarEntry | None = None
        self._runs: Runs | None = None
        self._reached = 0  # in the file

    def reader(self) -> Pieces:
        """Return the stream for one more reader; all have to be there before the first member is."""
        pieces = Pieces(self._halt)
        self._readers.append(pieces)
        return pieces

    def begin(self, entry: TarEntry, runs: Runs) -> None:
        """Begin a member."""
        self._entry = entry
        self._runs = runs if self._sparse and _holes(entry, runs) else None
        self._reached = 0
        self._add(pax_header(entry, self._runs))

    def data(self, offset: int, chunk: bytes) -> None:
        """Add data at a place in the member's contents."""
        if self._runs is None:
            self._fill(offset)
        self._add(chunk)
        self._reached = offset + len(chunk)

    def end(self) -> None:
        """End a member."""
        assert self._entry is not None
        if self._runs is None:
            self._fill(self._entry.size)
        self._add(padding(self._length))

    def finish(self) -> None:
        """End the archive."""
        self._add(trailer(self._length))
        self._flush()
        for reader in self._readers:
            reader.put(b"")

    def _fill(self, offset: int) -> None:
        while self._reached < offset:
            hole = self._zeros[: min(offset - self._reached, PIECE)]
            self._add(hole)
            self._reached += len(hole)

    def _add(self, data: bytes) -> None:
        if not data:
            return
        self._collected.append(data)
        self._ready += len(data)
        self._length += len(data)
        if self._ready >= PIECE:
            self._flush()

    def _flush(self) -> None:
        piece = b"".join(self._collected)
        self._collected, self._ready = [], 0
        for reader in self._readers:
            reader.put(piece)


def read_tree(
    disk: Path, streams: Sequence[TreeStream], expected: Sequence[Expected], fraction: Fraction, total: int
) -> None:
    """Read all files of a disk's root file system once, into all streams; `expected` learns what there is."""
    done = 0
    with Disk(disk) as opened:
        files = opened.root.file_system
        for entry, inode in tree_members(files):
            runs = data_runs(files, inode) if entry.kind == pax.FILE else []
            for stream in streams:
                stream.begin(entry, runs)
            for one in expected:
                one.member(entry)
            if entry.kind == pax.FILE:
                crc = _read_file(files, inode, streams)
                for one in expected:
                    one.contents(crc, entry.size)
                done += entry.size
                fraction(done / total)
            for stream in streams:
                stream.end()
    for stream in streams:
        stream.finish()


def _read_file(files: Ext4, inode: Inode, streams: Sequence[TreeStream]) -> int:
    """Read one file into all streams; return the CRC-32 of its contents."""
    crc = SparseCrc32()
    for offset, chunk in files.chunks(inode):
        crc.add(offset, len(chunk), crc32(chunk))
        for stream in streams:
            stream.data(offset, chunk)
    return crc.up_to(inode.size)


def expected_in_squashfs() -> Expected:
    """Return what there is to see in a squashfs, which has no access control lists."""
    return Expected(_SQUASHFS_ATTRIBUTES)


def _holes(entry: TarEntry, runs: Runs) -> int:
    """Return the bytes of a file's holes; 0 where they are few."""
    holes = entry.size - sum(length for _, length in runs) if entry.kind == pax.FILE else 0
    return holes if holes >= _FEW_HOLES else 0
