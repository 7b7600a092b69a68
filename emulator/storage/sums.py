"""What a client says its bytes add up to; the store keeps nothing that adds up to something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from werkzeug.datastructures import Headers

from .failures import invalid
from .staged_data import StagedData


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
