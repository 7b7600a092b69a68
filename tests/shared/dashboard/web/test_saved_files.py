"""Files to be saved: a piece of them at a time is in memory, and nobody gets parts of two."""

from __future__ import annotations

import pytest
from flask import Flask

from shared.dashboard.web.saved_files import SENT_AT_ONCE, saved_object
from shared.errors import Conflict, NotFound
from tests.world.memory_bucket import MemoryBucket

URI = "gs://bucket/results/web.spdx.json"


class WatchedBucket(MemoryBucket):
    """Knows how much was read at once, and has another object after so many reads: longer, shorter, or as long."""

    def __init__(self, data: bytes, changes_after: int = 1000, other: bytes = b"") -> None:
        super().__init__()
        self.other = other
        self.objects[URI] = data
        self.largest = self.reads = 0
        self.changes_after = changes_after

    def read_part(self, uri: str, start: int, most: int) -> tuple[bytes, int]:
        if self.reads == self.changes_after:
            self.objects[URI] = self.other
        self.reads += 1
        data, size = super().read_part(uri, start, most)
        self.largest = max(self.largest, len(data))
        return data, size


def sent(bucket: WatchedBucket, last: int) -> bytes:
    with Flask("saved").test_request_context():
        answer = saved_object(bucket, URI, "web.json", "application/json", last=last)
        data = b"".join(answer.iter_encoded())
    assert answer.headers["Content-Disposition"] == "attachment; filename=web.json"
    assert answer.content_length == len(data)
    return data


@pytest.mark.parametrize("size", [0, 1, SENT_AT_ONCE - 1, SENT_AT_ONCE, SENT_AT_ONCE + 1, 5 * SENT_AT_ONCE + 7])
def test_a_file_is_sent_piece_by_piece(size: int) -> None:
    bucket = WatchedBucket(data := bytes(number % 251 for number in range(1000)) * (size // 1000 + 1))
    bucket.objects[URI] = data = data[:size]
    assert sent(bucket, last=32 * SENT_AT_ONCE) == data
    assert bucket.largest <= SENT_AT_ONCE


@pytest.mark.parametrize("last", [1, SENT_AT_ONCE, 2 * SENT_AT_ONCE + 3])
def test_of_a_longer_one_the_end_is_sent(last: int) -> None:
    data = b"".join(number.to_bytes(4, "big") for number in range(SENT_AT_ONCE))
    assert sent(WatchedBucket(data), last=last) == data[-last:]


@pytest.mark.parametrize("size", [0, 1, 3 * SENT_AT_ONCE - 1, 3 * SENT_AT_ONCE, 3 * SENT_AT_ONCE + 1])
@pytest.mark.parametrize("reads", [1, 2])
def test_one_that_is_written_meanwhile_is_cut_off(size: int, reads: int) -> None:
    bucket = WatchedBucket(b"x" * (3 * SENT_AT_ONCE), changes_after=reads, other=b"y" * size)
    with pytest.raises(Conflict, match="was written while it was sent; ask for it again"):
        sent(bucket, last=32 * SENT_AT_ONCE)


def test_one_that_is_not_there_is_told_before_anything_is_sent() -> None:
    bucket = WatchedBucket(b"")
    del bucket.objects[URI]
    with pytest.raises(NotFound):
        sent(bucket, last=SENT_AT_ONCE)
