"""An object's bytes before they are an object: a file, its size and its sums so far."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import google_crc32c
from werkzeug.datastructures import Headers

from ..rest.failures import invalid
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
        """Return the MD5 so far, in base64."""
        return self._known_sums[0] if self._known_sums else base64.b64encode(self._md5.digest()).decode("ascii")

    @property
    def crc32c(self) -> str:
        """Return the CRC-32C so far, in base64."""
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


@dataclass(frozen=True)
class Sums:
    """Sums in base64; empty where the client says nothing."""

    md5: str = ""
    crc32c: str = ""

    def check(self, staged: StagedData) -> None:
        """Raise ApiError 400 if the bytes came in changed."""
        for kind, said, found in (("MD5 hash", self.md5, staged.md5), ("CRC32C", self.crc32c, staged.crc32c)):
            if said and said != found:
                raise invalid(f'Provided {kind} "{said}" doesn\'t match calculated {kind} "{found}".')


def sums_of(document: Mapping[str, object], headers: Headers) -> Sums:
    """Take the sums from an upload's metadata, or from the headers of its last request."""
    said = {"md5": str(document.get("md5Hash") or ""), "crc32c": str(document.get("crc32c") or "")}
    for pair in headers.get("X-Goog-Hash", "").split(","):
        kind, _, value = pair.strip().partition("=")
        if kind in said:
            said[kind] = value
    return Sums(headers.get("Content-MD5") or said["md5"], said["crc32c"])
