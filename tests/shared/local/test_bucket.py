"""The bucket of files: the contract, and what only files can suffer."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.errors import Conflict, EnvironmentFault, NotFound, Permanent
from shared.local.bucket import LocalBucket
from tests.contracts.bucket_contract import BucketContract, Uri


@pytest.fixture
def bucket(tmp_path: Path) -> LocalBucket:
    return LocalBucket(tmp_path)


class TestRelative(BucketContract):
    @pytest.fixture
    def uri(self) -> Uri:
        return str


class TestAbsolute(BucketContract):
    @pytest.fixture
    def uri(self, tmp_path: Path) -> Uri:
        return lambda name: str(tmp_path / "elsewhere" / name)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_nothing_but_the_object_is_left(bucket: LocalBucket, tmp_path: Path) -> None:
    bucket.write("out/one", b"1")
    bucket.write("out/one", b"2")
    assert files(tmp_path) == ["out/one"]


def test_a_conditional_write_leaves_nothing_but_the_object(bucket: LocalBucket, tmp_path: Path) -> None:
    made = bucket.write_if_generation("out/one", b"1", "")
    bucket.write_if_generation("out/one", b"1", made)
    with pytest.raises(Conflict):
        bucket.write_if_generation("out/one", b"2", "")
    assert files(tmp_path) == ["out/one"]


def test_a_relative_root_is_as_good(tmp_path: Path) -> None:
    bucket = LocalBucket(Path(os.path.relpath(tmp_path)))
    made = bucket.write_if_generation("one", b"1", "")
    bucket.write_if_generation("one", b"2", made)
    assert (tmp_path / "one").read_bytes() == b"2"


@pytest.mark.parametrize("act", ["read", "write", "delete"])
def test_an_object_of_the_cloud_is_refused(bucket: LocalBucket, act: str) -> None:
    does: dict[str, Callable[[str], object]] = {
        "read": bucket.read,
        "write": lambda uri: bucket.write(uri, b""),
        "delete": bucket.delete,
    }
    with pytest.raises(Permanent, match="gs://b/o: gs:// needs Google Cloud, and this backend is this machine"):
        does[act]("gs://b/o")


@pytest.mark.parametrize("uri", ["s3://bucket/object", "https://example.com/", "", "a\0b"])
def test_what_is_not_a_path_is_refused(bucket: LocalBucket, uri: str) -> None:
    with pytest.raises(Permanent, match="is not a path on this machine"):
        bucket.read(uri)


def test_a_file_in_the_way_of_a_folder_is_named(bucket: LocalBucket, tmp_path: Path) -> None:
    bucket.write("one", b"1")
    with pytest.raises(EnvironmentFault, match=f"{tmp_path}/one/two"):
        bucket.write("one/two", b"2")
    bucket.delete("one/two")
    with pytest.raises(NotFound):
        bucket.read("one/two")
    assert files(tmp_path) == ["one"]


def test_a_folder_of_the_objects_name_is_left_alone(bucket: LocalBucket, tmp_path: Path) -> None:
    bucket.write("folder/one", b"1")
    with pytest.raises(EnvironmentFault, match=f"{tmp_path}/folder: Is a directory"):
        bucket.write("folder", b"2")
    with pytest.raises(EnvironmentFault, match=f"{tmp_path}/folder: Is a directory"):
        bucket.delete("folder")
    assert files(tmp_path) == ["folder/one"]


def test_a_folder_that_may_not_be_written_is_named(bucket: LocalBucket) -> None:
    with pytest.raises(EnvironmentFault, match="/proc/self"):  # closed to root too
        bucket.write("/proc/self/one", b"1")
    with pytest.raises(EnvironmentFault, match="/proc/nothing"):
        bucket.write("/proc/nothing/one", b"1")


def test_a_write_that_fails_leaves_the_old_object(bucket: LocalBucket, tmp_path: Path) -> None:
    bucket.write("one", b"old")
    with largest_file(1000), pytest.raises(EnvironmentFault, match=os.strerror(errno.EFBIG)):
        bucket.write("one", b"n" * 2000)
    assert bucket.read("one") == b"old"
    assert files(tmp_path) == ["one"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
