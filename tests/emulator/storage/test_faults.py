"""Faults on purpose, and what Google's client makes of them."""

from __future__ import annotations

import io
import logging
import random
import re
from typing import Any

import pytest
import requests
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage as gcs
from google.cloud.storage.retry import DEFAULT_RETRY

from emulator.storage.endpoint import StorageEndpoint
from emulator.web.identity import Identity

CONTENT = random.Random(0).randbytes(3 << 20)
SOON = DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.05).with_timeout(30)


@pytest.fixture
def bucket(storage: StorageEndpoint) -> Any:
    options = {"api_endpoint": storage.url}
    return gcs.Client(project="p", credentials=AnonymousCredentials(), client_options=options).bucket("first-bucket")


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_answers_so_many_times(storage: StorageEndpoint, bucket: Any, status: int) -> None:
    storage.faults.answer(status, times=2, matching=r"^GET .*/o/x\b")
    url = f"{storage.url}/storage/v1/b/first-bucket/o/x"
    bucket.blob("x").upload_from_string(CONTENT, retry=SOON)
    assert [requests.get(url, timeout=10).status_code for _ in range(3)] == [status, status, 200]
    storage.faults.answer(status, times=2, matching=r"^GET .*/o/x\b")
    bucket.blob("x").reload(retry=SOON)
    assert bucket.blob("x").download_as_bytes(retry=SOON) == CONTENT


def test_upload_survives_answers_and_broken_connections(storage: StorageEndpoint, bucket: Any) -> None:
    storage.faults.answer(503, matching="^POST ")
    storage.faults.answer(503, times=2, matching="^PUT ")
    storage.faults.break_connection(matching="^PUT ")
    storage.faults.break_connection(matching="^PUT ", after_bytes=300_000)
    storage.faults.lose_answer(matching="^PUT ")
    blob = bucket.blob("x", chunk_size=1 << 20)
    blob.upload_from_file(io.BytesIO(CONTENT), size=len(CONTENT), retry=SOON)
    assert bucket.blob("x").download_as_bytes() == CONTENT
    assert bucket.blob("x").download_as_bytes(start=1 << 20) == CONTENT[1 << 20 :]


def test_cut_upload_stores_nothing(storage: StorageEndpoint, bucket: Any) -> None:
    for after_bytes in (0, 1000, 1 << 20):
        storage.faults.break_connection(matching="^POST ", after_bytes=after_bytes)
        with pytest.raises(requests.exceptions.ConnectionError):
            bucket.blob("x").upload_from_string(CONTENT, retry=None)
    assert list(bucket.list_blobs()) == []


def test_lost_answer_stores_once(storage: StorageEndpoint, bucket: Any, finalized: list[dict[str, Any]]) -> None:
    storage.faults.lose_answer(matching="^POST ")
    with pytest.raises(exceptions.PreconditionFailed):  # the retry finds what the first try has written
        bucket.blob("x").upload_from_string(CONTENT, if_generation_match=0, retry=SOON)
    assert bucket.blob("x").download_as_bytes() == CONTENT
    storage.close()
    assert [one["name"] for one in finalized] == ["x"]


def test_faults_over_tls(storage: StorageEndpoint) -> None:
    storage.faults.break_connection()
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(f"{storage.tls_url}/storage/v1/b", verify=str(storage.ca_file), timeout=10)
    assert requests.get(f"{storage.tls_url}/storage/v1/b", verify=str(storage.ca_file), timeout=10).status_code == 200


@pytest.mark.parametrize(
    ("permission", "call"),
    [
        ("storage.objects.get", lambda bucket: bucket.blob("x").reload()),
        ("storage.objects.get", lambda bucket: bucket.blob("x").download_as_bytes()),
        ("storage.objects.create", lambda bucket: bucket.blob("y").upload_from_string(b"")),
        ("storage.objects.create", lambda bucket: bucket.blob("y").rewrite(bucket.blob("x"))),
        ("storage.objects.create", lambda bucket: bucket.blob("y").compose([bucket.blob("x")])),
        ("storage.objects.delete", lambda bucket: bucket.blob("x").delete()),
        ("storage.objects.update", lambda bucket: bucket.blob("x").patch()),
        ("storage.objects.list", lambda bucket: list(bucket.list_blobs())),
        ("storage.buckets.get", lambda bucket: bucket.reload()),
    ],
)
def test_denied_until_it_is_lifted(storage: StorageEndpoint, bucket: Any, permission: str, call: Any) -> None:
    bucket.blob("x").upload_from_string(CONTENT)
    storage.faults.deny(permission)
    words = rf"Anonymous caller does not have {permission} access to the Google Cloud Storage (object|bucket)\."
    with pytest.raises(exceptions.Forbidden, match=re.compile(words)):
        call(bucket)
    storage.faults.clear()
    call(bucket)


def test_denied_for_some_objects(storage: StorageEndpoint, bucket: Any) -> None:
    storage.faults.deny("storage.objects.get", matching="/o/secret")
    for name in ("secret", "open"):
        bucket.blob(name).upload_from_string(b"x")
    assert bucket.blob("open").download_as_bytes() == b"x"
    with pytest.raises(exceptions.Forbidden):
        bucket.blob("secret").download_as_bytes()


def test_announcement_may_fail(tmp_path: Any, identity: Identity, caplog: pytest.LogCaptureFixture) -> None:
    def fail(resource: dict[str, Any]) -> None:
        raise OSError(f"no way to tell of {resource['name']}")

    with (
        caplog.at_level(logging.ERROR),
        StorageEndpoint(tmp_path / "storage", identity=identity, on_finalized=fail) as storage,
    ):
        requests.post(f"{storage.url}/storage/v1/b?project=p", json={"name": "abc"}, timeout=10)
        url = f"{storage.url}/upload/storage/v1/b/abc/o?uploadType=media&name=x"
        assert requests.post(url, data=b"x", timeout=10).status_code == 200
    assert "no way to tell of x" in caplog.text


def test_every_write_is_announced(storage: StorageEndpoint, bucket: Any, finalized: list[dict[str, Any]]) -> None:
    bucket.blob("multipart").upload_from_string(b"x")
    bucket.blob("resumable", chunk_size=256 << 10).upload_from_string(b"x")
    url = f"{storage.url}/upload/storage/v1/b/first-bucket/o?uploadType=media&name=media"
    requests.post(url, data=b"x", timeout=10).raise_for_status()
    bucket.blob("composed").compose([bucket.blob("media")])
    bucket.blob("rewritten").rewrite(bucket.blob("media"))
    bucket.copy_blob(bucket.blob("media"), bucket, "copied")
    bucket.blob("media").patch()
    bucket.blob("media").upload_from_string(b"again")
    bucket.blob("media").delete()
    storage.close()
    kinds = ["composed", "copied", "media", "media", "multipart", "resumable", "rewritten"]
    assert sorted(one["name"] for one in finalized) == kinds
    first, second = (one for one in finalized if one["name"] == "media")
    assert int(first["generation"]) < int(second["generation"])
    assert {one["kind"] for one in finalized} == {"storage#object"}
