"""The two parts of an upload of uploadType=multipart: metadata as JSON, then the object's bytes, as they come.

Clients differ: gsutil and gcloud end lines with a bare LF, and write the boundary in single quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .failures import invalid

_BOUNDARY = re.compile(r"""boundary=(?:"([^"]+)"|'([^']+)'|([^\s;]+))""", re.IGNORECASE)
_CONTENT_TYPE = re.compile(rb"^content-type:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_MOST_BOUNDARY = 200  # RFC 2046 has 70
_MOST_MARK = _MOST_BOUNDARY + 64  # bytes that end a part: line ends, dashes, boundary, some spaces
_MOST_HEADERS = 1 << 20  # bytes before the data: the metadata is in them


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a Content-Type names. ApiError 400."""
    found = _BOUNDARY.search(content_type)
    if not found:
        raise invalid("Multipart upload: the Content-Type names no boundary.")
    boundary = (found[1] or found[2] or found[3]).encode("latin-1", "replace")
    if len(boundary) > _MOST_BOUNDARY:
        raise invalid(f"Multipart upload: the boundary has more than {_MOST_BOUNDARY} characters.")
    return boundary


class MultipartUpload:
    """Reads a body once, from its start to its end. ApiError 400 where it is not as it should be."""

    def __init__(self, blocks: Iterator[bytes], boundary: bytes) -> None:
        self._blocks = blocks
        self._dashes = b"--" + boundary
        self._held = bytearray()  # which grows in place
        self.metadata = self._metadata()
        headers = self._part_headers()
        found = _CONTENT_TYPE.search(headers)
        self.content_type = found[1].strip().decode("latin-1") if found else ""

    def data(self) -> Iterator[bytes]:
        """Yield the second part's bytes, in blocks."""
        end = self._line_end + self._dashes
        for block in self._rest():
            self._held += block
            at = self._held.find(end)
            if at >= 0:
                yield bytes(self._held[:at])
                del self._held[: at + len(end)]
                self._finish()
                return
            sure = max(0, len(self._held) - len(end) + 1)  # the rest may be the beginning of the end
            yield bytes(self._held[:sure])
            del self._held[:sure]
        raise invalid("Multipart upload: the last part has no end.")

    def _metadata(self) -> bytes:
        opening = self._until(re.compile(re.escape(self._dashes) + rb"[ \t]{0,32}(\r?\n)"))
        self._line_end = b"\r\n" if opening.endswith(b"\r\n") else b"\n"
        self._part_headers()
        end = re.compile(rb"\r?\n" + re.escape(self._dashes) + rb"[ \t]{0,32}\r?\n")
        whole = self._until(end)
        return end.sub(b"", whole)

    def _part_headers(self) -> bytes:
        """Read up to the blank line; a part without headers begins with it."""
        while len(self._held) < len(b"\r\n") and (block := next(self._blocks, b"")):
            self._held += block
        for line_end in (b"\r\n", b"\n"):
            if self._held.startswith(line_end):
                del self._held[: len(line_end)]
                return b""
        return self._until(_BLANK_LINE)

    def _until(self, mark: re.Pattern[bytes]) -> bytes:
        """Take everything up to the end of the mark's first place."""
        looked_at = 0  # up to here no mark begins: a body may come byte by byte
        while not (found := mark.search(self._held, looked_at)):
            looked_at = max(0, len(self._held) - _MOST_MARK)
            block = next(self._blocks, b"")
            if not block or len(self._held) > _MOST_HEADERS:
                raise invalid("Multipart upload: exactly two parts are needed, metadata and data.")
            self._held += block
        end = found.end()
        del found  # which keeps what it was found in from changing
        taken = bytes(self._held[:end])
        del self._held[:end]
        return taken

    def _rest(self) -> Iterator[bytes]:
        yield b""  # what is held already may be all there is
        yield from self._blocks

    def _finish(self) -> None:
        for block in self._blocks:
            self._held = (self._held + block)[:2]
        if not self._held.startswith(b"--"):
            raise invalid("Multipart upload: exactly two parts are needed, metadata and data.")
