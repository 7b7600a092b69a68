"""A disk file that is open for reading; what the readers of file systems have in common."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Self

from ..errors import ImageFileError


class DiskReader:
    """The file stays open until close(), or until nobody has the reader any more. ImageFileError where it cannot be."""

    def __init__(self, disk: Path) -> None:
        self.disk = disk
        try:
            self._descriptor = os.open(disk, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ImageFileError(f"{disk}: {error.strerror}") from error
        self._close = weakref.finalize(self, os.close, self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the disk file; nothing can be read then."""
        self._close()

    def _bytes(self, at: int, length: int) -> bytes:
        """Read `length` bytes at byte `at` of the disk. ImageFileError where it has not so many."""
        try:
            data = os.pread(self._descriptor, length, at)
        except OSError as error:
            raise ImageFileError(f"{self.disk}: byte {at}: {error.strerror}") from error
        if len(data) != length:
            raise ImageFileError(f"{self.disk}: ends before byte {at + length}; copy it again")
        return data
