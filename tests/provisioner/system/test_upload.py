"""Objects that are written by a session, against Cloud Storage's emulator: whatever breaks, they arrive whole."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from emulator.storage.endpoint import StorageEndpoint
from provisioner.system.upload import UPLOAD_PART, Upload, UploadError

BIG = random.Random(0).randbytes(2 * UPLOAD_PART + 12345)
PUT = "PUT /upload"


def session(bucket: Any) -> str:
    url: str = bucket.blob("disk.tar.gz").create_resumable_upload_session(if_generation_match=0)
    return url


def write(url: str, data: bytes = BIG) -> Upload:
    upload = Upload(url, sleep=lambda _seconds: None)
    for start in range(0, len(data), 1 << 20):
        upload.write(data[start : start + (1 << 20)])
    upload.close()
    return upload


def nothing(_storage: StorageEndpoint) -> None:
    """All goes well."""


def cut(storage: StorageEndpoint) -> None:
    storage.faults.break_connection(times=2, matching=PUT, after_bytes=3 << 20)


def lost(storage: StorageEndpoint) -> None:
    storage.faults.lose_answer(times=5, matching=PUT)


def busy(storage: StorageEndpoint) -> None:
    storage.faults.answer(503, times=3, matching=PUT)


@pytest.mark.parametrize("fault", [nothing, cut, lost, busy])
def test_an_object_arrives_whole(storage: StorageEndpoint, bucket: Any, fault: Callable[..., None]) -> None:
    url = session(bucket)
    fault(storage)
    upload = write(url)
    assert (upload.bytes, upload.sha256) == (len(BIG), hashlib.sha256(BIG).hexdigest())
    assert bucket.get_blob("disk.tar.gz").download_as_bytes() == BIG


def test_an_upload_of_which_nothing_is_kept_is_given_up_though_all_questions_are_answered(
    storage: StorageEndpoint, bucket: Any
) -> None:
    url, pauses = session(bucket), count()

    def pause(_seconds: float) -> None:
        assert next(pauses) < 2000, "it never ends"

    upload = Upload(url, sleep=pause, patience=0.2)
    storage.faults.answer(308, times=1000, matching=PUT)
    with pytest.raises(UploadError, match="nothing could be uploaded"):
        upload.write(BIG)
    storage.faults.clear()


def test_a_machine_that_was_restarted_goes_on_and_one_that_was_done_sends_nothing(bucket: Any) -> None:
    url = session(bucket)
    first = Upload(url)
    first.write(BIG[: UPLOAD_PART + 5])  # a part is sent, and the power is cut
    write(url)
    generation = bucket.get_blob("disk.tar.gz").generation
    assert write(url).sha256 == hashlib.sha256(BIG).hexdigest()
    assert bucket.get_blob("disk.tar.gz").generation == generation


def test_other_bytes_than_before_are_noticed(bucket: Any) -> None:
    url = session(bucket)
    Upload(url).write(BIG[: UPLOAD_PART + 5])
    with pytest.raises(UploadError, match="is not what was sent"):
        write(url, b"x" + BIG[1:])


def test_what_will_not_pass_is_told_without_the_session(storage: StorageEndpoint, bucket: Any) -> None:
    url = session(bucket)
    with pytest.raises(UploadError, match="no longer known") as told:
        write(url + "0")
    assert "upload_id" not in str(told.value)
    bucket.blob("disk.tar.gz").upload_from_string(b"of another")
    with pytest.raises(UploadError, match="another object has its name by now"):
        write(url)
