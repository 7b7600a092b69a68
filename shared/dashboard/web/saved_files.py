"""Answers with files to be saved. Those of the bucket are read piece by piece while they are sent."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Response

from ...errors import Conflict
from ...ports import Bucket

SENT_AT_ONCE = 1 << 20  # bytes of a file that are in memory: an instance may answer dozens of people at a time


def saved_data(data: bytes, name: str, mimetype: str) -> Response:
    """Answer with a file that is in memory."""
    return _named(Response(data, mimetype=mimetype), name)


def saved_object(bucket: Bucket, uri: str, name: str, mimetype: str, *, last: int) -> Response:
    """Answer with the last bytes of an object, at most so many. NotFound.

    An answer is cut off where the object is another one meanwhile, so that nobody takes parts of two for a file.
    """
    generation = bucket.generation(uri)
    first, size = bucket.read_part(uri, -last, min(last, SENT_AT_ONCE))
    length = min(last, size)
    answer = _named(Response(_pieces(bucket, uri, generation, first, size, length), mimetype=mimetype), name)
    answer.content_length = length
    return answer


def _pieces(bucket: Bucket, uri: str, generation: str, first: bytes, size: int, length: int) -> Iterator[bytes]:
    at, piece = size - length + len(first), first
    while at < size and piece:
        yield piece
        piece, _ = bucket.read_part(uri, at, min(SENT_AT_ONCE, size - at))
        at += len(piece)
    if len(first) < length and (at != size or bucket.generation(uri) != generation):
        raise Conflict(f"{uri} was written while it was sent; ask for it again")
    yield piece


def _named(answer: Response, name: str) -> Response:
    answer.headers.set("Content-Disposition", "attachment", filename=name)
    return answer
