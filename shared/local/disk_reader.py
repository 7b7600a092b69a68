"""A disk file that is open for reading; what the readers of file systems have in common."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Self

from ..budget import DISK, Budget
from ..errors import ImageFileError
from .extents import data_extents, open_descriptor

MOST_AT_ONCE = 128 << 20  # bytes of a file that are read into memory: a sparse file may claim any size
LETTERS_PER_STEP = 64  # of a path, which has to be made of its parts


def disk_budget(disk: Path) -> Budget:
    """Make the budget of all that reads a disk's file systems, of what the disk file holds beside holes."""
    descriptor = open_descriptor(disk)
    try:
        held = sum(length for _, length in data_extents(descriptor, os.fstat(descriptor).st_size))
    finally:
        os.close(descriptor)
    return Budget(DISK, disk, held)


class DiskReader:
    """The file stays open until close(), or until nobody has the reader any more. ImageFileError where it cannot be."""

    def __init__(self, disk: Path, budget: Budget | None = None) -> None:
        self.disk = disk
        self.budget = budget or disk_budget(disk)
        self._descriptor = open_descriptor(disk)
        self._close = weakref.finalize(self, os.close, self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the disk file; nothing can be read then."""
        self._close()

    def _bytes(self, at: int, length: int) -> bytes:
        """Read `length` bytes at byte `at` of the disk, counted. ImageFileError where it has not so many."""
        self.budget.read(length)
        return self._uncounted(at, length)

    def _uncounted(self, at: int, length: int) -> bytes:
        """Read bytes that are counted otherwise."""
        try:
            data = os.pread(self._descriptor, length, at)
        except OSError as error:
            raise ImageFileError(f"{self.disk}: byte {at}: {error.strerror}") from error
        if len(data) != length:
            raise ImageFileError(f"{self.disk}: ends before byte {at + length}; copy it again")
        return data
