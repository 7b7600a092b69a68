"""The body of a request, in pieces: an upload of any size passes through a few MiB of memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flask import Request
from werkzeug.exceptions import ClientDisconnected

from .failures import ApiError, invalid

BLOCK = 1 << 20  # bytes; a multiple of 256 KiB, the unit of resumable uploads
_MOST_JSON = 1 << 20


class Body:
    """What follows a request's headers. `length` is None when it comes in chunks."""

    def __init__(self, request: Request) -> None:
        self.length = None if request.environ.get("wsgi.input_terminated") else _content_length(request)
        self._stream = request.environ["wsgi.input"]
        self._read = 0

    def blocks(self, most: int | None = None) -> Iterator[bytes]:
        """Yield the next `most` bytes, or the whole rest, in blocks of BLOCK bytes; only the last one is shorter.

        Raises ClientDisconnected when the connection ends before the body does.
        """
        end = None if most is None else self._read + most
        if self.length is not None:
            end = self.length if end is None else min(end, self.length)
        while end is None or self._read < end:
            block = self._block(BLOCK if end is None else min(BLOCK, end - self._read))
            if not block:
                return
            yield block

    def read(self, most: int, what: str) -> bytes:
        """Return the whole body. ApiError 413 if it is longer than `most` bytes."""
        if self.length is not None and self.length > most:
            raise _too_long(most, what)
        whole = b"".join(self.blocks(most + 1))
        if len(whole) > most:
            raise _too_long(most, what)
        return whole

    def _block(self, wanted: int) -> bytes:
        parts: list[bytes] = []
        while wanted:
            try:
                part = self._stream.read(wanted)
            except OSError as error:  # also what the end of the connection within a chunk is
                raise ClientDisconnected from error
            if not part:
                if self.length is not None:
                    raise ClientDisconnected
                break
            parts.append(part)
            wanted -= len(part)
            self._read += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _content_length(request: Request) -> int:
    text = request.environ.get("CONTENT_LENGTH", "")
    if not text:
        if request.method in ("POST", "PUT", "PATCH"):
            raise ApiError(411, "required", "POST requests require a Content-length header.", location="Content-Length")
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ApiError(400, "invalid", f"Invalid Content-Length: {text!r}", location="Content-Length")
    return int(text)


def _too_long(most: int, what: str) -> ApiError:
    return ApiError(413, "uploadTooLarge", f"{what} may have at most {most} bytes.")


def json_object(text: bytes) -> dict[str, Any]:
    """Read a JSON object; nothing at all is an empty one. ApiError 400."""
    if not text.strip():
        return {}
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "parseError", "Parse Error") from error
    if not isinstance(document, dict):
        raise invalid("The body is no JSON object.")
    return document


def json_body(request: Request) -> dict[str, Any]:
    """Read the body of a request as a JSON object."""
    if "CONTENT_LENGTH" not in request.environ and "HTTP_TRANSFER_ENCODING" not in request.environ:
        return {}
    return json_object(Body(request).read(_MOST_JSON, "The metadata"))
