"""Google's Python client, with no credentials and with a service account's."""

from __future__ import annotations

import gzip
import io
import random
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage as gcs
from google.oauth2 import service_account

from emulator.storage.endpoint import StorageEndpoint
from emulator.web.http_server import HttpServer
from emulator.web.identity import TOKEN_PATH, Identity

BUCKET = "first-bucket"
EMAIL = "start-build@goldsmith-emulator.iam.gserviceaccount.com"
BIG = random.Random(0).randbytes(20 << 20)


def client(storage: StorageEndpoint, credentials: Any) -> Any:
    options = {"api_endpoint": storage.url}
    return gcs.Client(project="goldsmith-emulator", credentials=credentials, client_options=options)


@pytest.fixture
def bucket(storage: StorageEndpoint) -> Any:
    return client(storage, AnonymousCredentials()).bucket(BUCKET)


@pytest.fixture
def credentials(identity: Identity, tmp_path: Path) -> Iterator[Any]:
    application = Flask("identity")
    application.register_blueprint(identity.blueprint())
    with HttpServer(application) as server:
        path = identity.service_account_file(
            tmp_path, EMAIL, token_uri=server.url + TOKEN_PATH, project="goldsmith-emulator"
        )
        yield service_account.Credentials.from_service_account_file(str(path))


@pytest.mark.parametrize("chunk_size", [None, 1 << 20, 256 << 10])
def test_upload_and_download(bucket: Any, chunk_size: int | None) -> None:
    blob = bucket.blob("a folder/ü?#%2F..", chunk_size=chunk_size)
    blob.upload_from_file(io.BytesIO(BIG), size=len(BIG), content_type="text/x-big")
    assert (blob.size, blob.content_type, blob.metageneration) == (len(BIG), "text/x-big", 1)
    found = bucket.get_blob("a folder/ü?#%2F..")
    assert (found.generation, found.crc32c, found.md5_hash) == (blob.generation, blob.crc32c, blob.md5_hash)
    assert found.download_as_bytes() == BIG
    assert found.download_as_bytes(start=5_000_000, end=6_000_000) == BIG[5_000_000:6_000_001]
    assert found.download_as_bytes(start=len(BIG) - 3) == BIG[-3:]


def test_upload_of_unknown_size(bucket: Any) -> None:
    blob = bucket.blob("stream")
    with blob.open("wb", chunk_size=256 << 10) as writer:
        for start in range(0, 1 << 20, 100_000):
            writer.write(BIG[start : min(start + 100_000, 1 << 20)])
    assert bucket.blob("stream").download_as_bytes() == BIG[: 1 << 20]


@pytest.mark.parametrize("size", [0, 1, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, (1 << 20) + 1])
def test_sizes_around_the_units(bucket: Any, size: int) -> None:
    for name, chunk_size in (("in one", None), ("in chunks", 256 << 10)):
        blob = bucket.blob(name, chunk_size=chunk_size)
        blob.upload_from_file(io.BytesIO(BIG[:size]), checksum="crc32c")
        assert bucket.blob(name).download_as_bytes(checksum="crc32c") == BIG[:size]


def test_preconditions(bucket: Any) -> None:
    blob = bucket.blob("once")
    blob.upload_from_string(b"first", if_generation_match=0)
    generation = blob.generation
    for again in (bucket.blob("once"), bucket.blob("once", chunk_size=256 << 10)):
        with pytest.raises(exceptions.PreconditionFailed):
            again.upload_from_string(b"second", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed) as caught:
        bucket.blob("once").delete(if_generation_match=generation - 1)
    assert caught.value.errors[0]["reason"] == "conditionNotMet"
    assert caught.value.errors[0]["domain"] == "global"
    bucket.blob("once").upload_from_string(b"third", if_generation_match=generation)
    found = bucket.get_blob("once")
    assert found.generation > generation
    assert found.download_as_bytes(if_generation_match=found.generation) == b"third"
    with pytest.raises(exceptions.PreconditionFailed):
        found.download_as_bytes(if_generation_match=generation)
    with pytest.raises(exceptions.NotFound):
        bucket.blob("once", generation=generation).reload()
    with pytest.raises(exceptions.NotModified):
        found.reload(if_generation_not_match=found.generation)


def test_metadata(bucket: Any) -> None:
    blob = bucket.blob("object")
    blob.metadata = {"a": "1", "b": "2"}
    blob.cache_control = "no-store"
    blob.upload_from_string(b"x")
    blob.metadata = {"b": None, "c": "3"}
    blob.patch(if_metageneration_match=1)
    found = bucket.get_blob("object")
    assert (found.metadata, found.cache_control, found.metageneration) == ({"a": "1", "c": "3"}, "no-store", 2)
    assert found.generation == blob.generation
    with pytest.raises(exceptions.PreconditionFailed):
        found.patch(if_metageneration_match=1)
    found.update()
    assert bucket.get_blob("object").metageneration == 3


def test_copies(bucket: Any) -> None:
    source = bucket.blob("source")
    source.metadata = {"k": "v"}
    source.upload_from_string(BIG, content_type="text/plain")
    assert bucket.blob("rewritten").rewrite(source) == (None, len(BIG), len(BIG))
    bucket.copy_blob(source, bucket, "copied")
    source.delete()
    rewritten, copied = bucket.get_blob("rewritten"), bucket.get_blob("copied")
    for found in (rewritten, copied):
        assert found.download_as_bytes() == BIG
        assert (found.metadata, found.content_type, found.md5_hash) == ({"k": "v"}, "text/plain", source.md5_hash)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("copied").rewrite(rewritten, if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("new").rewrite(rewritten, if_source_generation_match=1)
    with pytest.raises(exceptions.NotFound):
        bucket.blob("new").rewrite(source)


def test_compose(bucket: Any) -> None:
    parts = [bucket.blob(f"part-{number}") for number in range(3)]
    for number, part in enumerate(parts):
        part.upload_from_string(BIG[number : number + 3_000_000])
    whole = bucket.blob("whole")
    whole.content_type = "text/plain"
    whole.compose(parts, if_generation_match=0)
    found = bucket.get_blob("whole")
    assert found.download_as_bytes(checksum="crc32c") == b"".join(
        BIG[number : number + 3_000_000] for number in range(3)
    )
    assert (found.component_count, found.md5_hash, found.content_type) == (3, None, "text/plain")
    with pytest.raises(exceptions.PreconditionFailed):
        whole.compose(parts, if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("other").compose(parts, if_source_generation_match=[parts[0].generation, 1, None])
    with pytest.raises(exceptions.NotFound):
        bucket.blob("other").compose([parts[0], bucket.blob("absent")])
    assert bucket.get_blob("other") is None


def test_listing(bucket: Any) -> None:
    names = ["a", "a/", "a/b", "a/b/c", "a/d", "b", "ü", "😀"]
    for name in reversed(names):
        bucket.blob(name).upload_from_string(b"")
    for page_size in (1, 2, 3, 1000):
        assert [one.name for one in bucket.list_blobs(page_size=page_size)] == names
        listing = bucket.list_blobs(prefix="a/", delimiter="/", page_size=page_size)
        assert [one.name for one in listing] == ["a/", "a/b", "a/d"]
        assert listing.prefixes == {"a/b/"}
        listing = bucket.list_blobs(delimiter="/", page_size=page_size)
        assert [one.name for one in listing] == ["a", "b", "ü", "😀"]
        assert listing.prefixes == {"a/"}
    assert [one.name for one in bucket.list_blobs(start_offset="a/b", end_offset="b")] == ["a/b", "a/b/c", "a/d"]
    listing = bucket.list_blobs(delimiter="/", include_trailing_delimiter=True)
    assert [one.name for one in listing] == ["a", "a/", "b", "ü", "😀"]
    assert [one.name for one in bucket.list_blobs(max_results=3)] == names[:3]
    with pytest.raises(exceptions.BadRequest, match="matchGlob"):
        list(bucket.list_blobs(match_glob="*"))


def test_batch(bucket: Any) -> None:
    for name in ("a", "ü/ö", "c"):
        bucket.blob(name).upload_from_string(b"x")
    changed = bucket.blob("c")
    changed.metadata = {"k": "v"}
    with bucket.client.batch():
        bucket.blob("a").delete()
        bucket.blob("ü/ö").delete()
        changed.patch()
    assert [(one.name, one.metadata) for one in bucket.list_blobs()] == [("c", {"k": "v"})]
    batch = bucket.client.batch()
    with batch:
        bucket.blob("c").reload()
    assert batch._responses[0].status_code == 200
    with pytest.raises(exceptions.NotFound), bucket.client.batch():
        bucket.blob("absent").delete()


def test_gzip(bucket: Any) -> None:
    content = BIG[: 3 << 20]  # several blocks
    packed = gzip.compress(content)
    blob = bucket.blob("packed")
    blob.content_encoding = "gzip"
    blob.upload_from_string(packed)
    assert bucket.blob("packed").download_as_bytes() == content
    assert bucket.blob("packed").download_as_bytes(raw_download=True) == packed
    media = f"{bucket.client._connection.API_BASE_URL}/storage/v1/b/{BUCKET}/o/packed?alt=media"
    with urllib.request.urlopen(media) as plain:  # takes no gzip
        assert plain.read() == content


def test_service_account(storage: StorageEndpoint, credentials: Any) -> None:
    bucket = client(storage, credentials).bucket(BUCKET)
    bucket.blob("mine").upload_from_string(b"x")
    assert bucket.blob("mine").download_as_bytes() == b"x"
    storage.faults.deny("storage.objects.get")
    with pytest.raises(exceptions.Forbidden) as caught:
        bucket.blob("mine").reload()
    assert f"{EMAIL} does not have storage.objects.get access to the Google Cloud Storage object." in str(caught.value)
    assert caught.value.errors[0]["reason"] == "forbidden"


def test_a_foreign_token_is_refused(storage: StorageEndpoint, tmp_path: Path) -> None:
    token = Identity(tmp_path / "other").access_token("person@example.org")
    answer = requests.get(f"{storage.url}/storage/v1/b", headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (401, "authError")


def test_buckets(storage: StorageEndpoint) -> None:
    everything = client(storage, AnonymousCredentials())
    made = everything.create_bucket("second-bucket", location="us-central1")
    assert [one.name for one in everything.list_buckets()] == ["first-bucket", "second-bucket"]
    with pytest.raises(exceptions.Conflict):
        everything.create_bucket("second-bucket")
    made.blob("x").upload_from_string(b"x")
    with pytest.raises(exceptions.Conflict, match="not empty"):
        made.delete()
    made.delete(force=True)
    with pytest.raises(exceptions.NotFound):
        everything.get_bucket("second-bucket")
    with pytest.raises(exceptions.NotFound):
        made.blob("x").upload_from_string(b"x")
    for name in ("No", "a", "-abc", "a..b", "a" * 64):
        with pytest.raises(exceptions.BadRequest):
            everything._post_resource("/b", {"name": name}, query_params={"project": "p"})
