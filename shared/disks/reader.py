"""A disk file that is open for reading. Everything that reads a disk shares one reader, and with it one budget."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Self

from ..budget import DISK_BOUNDS, Budget
from ..errors import ImageFileError
from .extents import data_bytes, data_extents, open_descriptor

MOST_AT_ONCE = 128 << 20  # bytes of a file that are read into memory: a sparse file may claim any size
LETTERS_PER_STEP = 64  # of a path, which has to be made of its parts
TABLE_PIECE = 64 << 10  # bytes

_MOST_PIECES = 256  # 16 MiB, whatever number of file systems the disk has


class DiskReader:
    """Reads a disk file, which stays open until close() or until nothing refers to the reader any more.

    The budget is for all that the file holds beside holes, unless the caller sets another one. ImageFileError where the
    file cannot be opened or read.
    """

    def __init__(self, path: Path, budget: Budget | None = None) -> None:
        self.path = path
        self.descriptor = open_descriptor(path)
        self._close = weakref.finalize(self, os.close, self.descriptor)
        self.size = os.fstat(self.descriptor).st_size
        if budget is not None:
            self.budget = budget
        self.pieces: dict[int, bytes] = {}
        """The pieces that were read last, by their places."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the disk file; nothing can be read then."""
        self._close()

    @cached_property
    def budget(self) -> Budget:
        """The budget for reading the disk."""
        return Budget(DISK_BOUNDS, self.path, data_bytes(self.descriptor, self.size))

    def read(self, at: int, length: int) -> bytes:
        """Read `length` bytes at byte `at` of the disk, and count them."""
        self.budget.read(length)
        return self.read_uncounted(at, length)

    def read_uncounted(self, at: int, length: int) -> bytes:
        """Read bytes that the caller counts in another way."""
        data = self._read(at, length)
        if len(data) != length:
            raise self._ends_before(at + length)
        return data

    def read_into(self, memory: bytearray, at: int) -> None:
        """Fill `memory` from byte `at` of the disk; the bytes are not counted."""
        try:
            count = os.preadv(self.descriptor, [memory], at)
        except OSError as error:
            raise self._failed(at, error) from error
        if count != len(memory):
            raise self._ends_before(at + len(memory))

    def piece(self, at: int, needed: int) -> bytes:
        """Read TABLE_PIECE bytes and keep them in `pieces`; `needed` of them have to be there, others may be zeros.

        A piece counts as a step, and its bytes are not counted: a walk over a table in another order than the table's
        comes to a piece again and again.
        """
        self.budget.step()
        data = self._read(at, TABLE_PIECE)
        if len(data) < min(needed, TABLE_PIECE):
            raise self._ends_before(at + needed)
        if len(self.pieces) >= _MOST_PIECES:
            del self.pieces[next(iter(self.pieces))]
        self.pieces[at] = data = data.ljust(TABLE_PIECE, b"\0")
        return data

    def data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of each run of data between two bytes of the disk, as data_extents() does."""
        return data_extents(self.descriptor, end, start)

    def _read(self, at: int, length: int) -> bytes:
        try:
            return os.pread(self.descriptor, length, at)
        except OSError as error:
            raise self._failed(at, error) from error

    def _failed(self, at: int, error: OSError) -> ImageFileError:
        return ImageFileError(f"{self.path}: byte {at}: {error.strerror}")

    def _ends_before(self, end: int) -> ImageFileError:
        return ImageFileError(f"{self.path}: ends before byte {end}; copy it again")
