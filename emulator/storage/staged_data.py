"""An object's bytes before they are an object: a file, its size and its sums so far."""

from __future__ import annotations

import base64
import hashlib
import uuid
from pathlib import Path
from typing import Self

import google_crc32c

from .stored_object import StoredObject


class StagedData:
    """Bytes on their way in; as a context, they are gone at its end unless they were committed.

    Between writes no file is open: an abandoned upload costs its bytes on disk, and nothing else.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / uuid.uuid4().hex
        self.path.touch()
        self.size = 0
        self.is_committed = False
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc32c = 0
        self._known_sums: tuple[str, str] | None = None

    @classmethod
    def linked(cls, folder: Path, source: StoredObject) -> Self:
        """Stage the bytes of an object that is there, without copying them."""
        staged = cls(folder)
        staged.discard()
        staged.path.hardlink_to(folder / source.data)
        staged.size = source.size
        staged._known_sums = (source.md5, source.crc32c)
        return staged

    def append(self, block: bytes) -> None:
        """Add bytes to the end."""
        with self.path.open("ab") as file:
            file.write(block)
        self._md5.update(block)
        self._crc32c = google_crc32c.extend(self._crc32c, block)
        self.size += len(block)

    @property
    def md5(self) -> str:
        """Give the MD5 so far, in base64."""
        return self._known_sums[0] if self._known_sums else base64.b64encode(self._md5.digest()).decode("ascii")

    @property
    def crc32c(self) -> str:
        """Give the CRC-32C so far, in base64."""
        if self._known_sums:
            return self._known_sums[1]
        return base64.b64encode(self._crc32c.to_bytes(4, "big")).decode("ascii")

    def discard(self) -> None:
        """Forget the bytes, unless they are an object's by now."""
        if not self.is_committed:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()
