"""Objects that are never held as a whole."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.web.identity import Identity
from shared.errors import NotFound, Permanent
from shared.gcp.storage import PART, GoogleBucket
from tests.shared.gcp.compute.compute_cloud import BUCKET, open_cloud

URI = f"gs://{BUCKET}/large"


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[GoogleBucket]:
    with open_cloud(tmp_path, Identity(tmp_path / "identity")) as cloud:
        yield cloud.bucket


@pytest.mark.parametrize("size", [0, 1, PART, 2 * PART + 7])
def test_what_was_written_in_parts_is_read_in_parts(bucket: GoogleBucket, size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    bucket.write_parts(URI, (data[at : min(at + 100_003, size)] for at in range(0, size, 100_003)))
    found = bucket.stat(URI)
    assert found is not None
    assert found.size == size
    parts = list(bucket.parts(found))
    assert b"".join(parts) == data[:size]
    assert all(len(part) <= PART for part in parts)


def test_memory_is_bounded(bucket: GoogleBucket) -> None:
    size = 12 * PART
    tracemalloc.start()
    bucket.write_parts(URI, (bytes(PART) for _ in range(size // PART)))
    found = bucket.stat(URI)
    assert found is not None
    assert sum(len(part) for part in bucket.parts(found)) == size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * PART  # the endpoint, in this very process, has its share


def test_what_fails_in_the_middle_leaves_nothing(bucket: GoogleBucket) -> None:
    def parts() -> Iterator[bytes]:
        yield bytes(PART + 1)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        bucket.write_parts(URI, parts())
    assert bucket.stat(URI) is None


def test_a_generation_that_is_gone_is_not_read_as_another(bucket: GoogleBucket) -> None:
    bucket.write(URI, b"first")
    found = bucket.stat(URI)
    assert found is not None
    bucket.write(URI, b"second")
    with pytest.raises(NotFound):
        list(bucket.parts(found))


def test_a_bucket_that_is_not_there_is_said(bucket: GoogleBucket) -> None:
    with pytest.raises(Permanent, match="make the bucket"):
        bucket.write_parts("gs://no-such-bucket/x", [b"x"])
