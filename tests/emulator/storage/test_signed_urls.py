"""V4 signed URLs, as Google's client makes them: what they open, and what they do not."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from google.cloud import storage as gcs
from google.oauth2 import service_account

from emulator.storage.endpoint import StorageEndpoint
from emulator.web.identity import Identity

NAME = "cidata/a b~ü+%2F?#&=.tar"
CONTENT = b"0123456789"


def key_of(identity: Identity, folder: Path) -> Any:
    path = identity.service_account_file(
        folder, "fn@p.iam.gserviceaccount.com", token_uri="http://127.0.0.1:1/token", project="p"
    )
    return service_account.Credentials.from_service_account_file(str(path))


@pytest.fixture
def blob(storage: StorageEndpoint, identity: Identity, tmp_path: Path) -> Any:
    requests.post(
        f"{storage.url}/upload/storage/v1/b/first-bucket/o",
        params={"uploadType": "media", "name": NAME},
        data=CONTENT,
        headers={"Content-Type": "text/plain"},
        timeout=10,
    ).raise_for_status()
    client = gcs.Client(project="p", credentials=key_of(identity, tmp_path / "keys"))
    return client.bucket("first-bucket").blob(NAME)


def signed(blob: Any, endpoint: str, **options: Any) -> str:
    expiration = options.pop("expiration", datetime.timedelta(minutes=5))
    url = blob.generate_signed_url(version="v4", expiration=expiration, api_access_endpoint=endpoint, **options)
    assert isinstance(url, str)
    return url


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers=headers, timeout=10)


def test_opens_its_object(storage: StorageEndpoint, blob: Any) -> None:
    url = signed(blob, storage.url)
    answer = get(url)
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (200, CONTENT, "text/plain")
    assert answer.headers["x-goog-hash"].startswith("crc32c=")
    assert requests.head(url, timeout=10).status_code == 403  # another method is another request
    head = signed(blob, storage.url, method="HEAD")
    assert requests.head(head, timeout=10).headers["Content-Length"] == "10"


@pytest.mark.parametrize(
    ("wanted", "content", "of"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=7-100", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-30", CONTENT, "bytes 0-9/10"),
        ("bytes=0-9", CONTENT, "bytes 0-9/10"),
    ],
)
def test_gives_ranges(storage: StorageEndpoint, blob: Any, wanted: str, content: bytes, of: str) -> None:
    answer = get(signed(blob, storage.url), Range=wanted)
    assert (answer.status_code, answer.content, answer.headers["Content-Range"]) == (206, content, of)


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=100-200", "bytes=5-4", "bytes=-0"])
def test_a_range_outside_of_the_object(storage: StorageEndpoint, blob: Any, wanted: str) -> None:
    answer = get(signed(blob, storage.url), Range=wanted)
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */10")


@pytest.mark.parametrize("wanted", ["bytes=a-b", "bytes=--1", "bytes=0-1,3-4", f"bytes={'9' * 5000}-", "lines=1-2"])
def test_what_is_no_range_is_ignored(storage: StorageEndpoint, blob: Any, wanted: str) -> None:
    answer = get(signed(blob, storage.url), Range=wanted)
    assert (answer.status_code, answer.content) == (200, CONTENT)


def test_host_that_was_signed_may_be_another_name_of_the_endpoint(storage: StorageEndpoint, blob: Any) -> None:
    for name in ("http://169.254.169.253", "https://storage.googleapis.com"):
        url = signed(blob, name)
        assert get(url.replace(name, storage.url)).content == CONTENT  # by a proxy that changes the Host header
        assert get(url.replace(name, storage.url), Host=urlsplit(name).netloc).content == CONTENT
    url = signed(blob, "http://169.254.169.254")
    assert get(url.replace("http://169.254.169.254", storage.url)).status_code == 403


def test_signed_headers_and_parameters_must_be_sent(storage: StorageEndpoint, blob: Any) -> None:
    url = signed(blob, storage.url, headers={"x-goog-meta-who": "a  vm"}, query_parameters={"x": "a b"})
    assert get(url, **{"x-goog-meta-who": "a vm"}).content == CONTENT
    assert get(url).status_code == 403
    assert get(url, **{"x-goog-meta-who": "another"}).status_code == 403


def test_altered_urls_open_nothing(storage: StorageEndpoint, blob: Any) -> None:
    url = signed(blob, storage.url)
    signature = url.rpartition("=")[2]
    for altered in (
        url.replace(signature, "00" * 256),
        url.replace(signature, "zz"),
        url.replace(signature, ""),
        url.replace("Expires=300", "Expires=301"),
        url.replace("cidata", "CIDATA"),
        url.replace("first-bucket", "other-bucket"),
        url.replace("SignedHeaders=host", "SignedHeaders="),
        url.replace("RSA-SHA256", "HMAC-SHA256"),
        url + "&generation=1",
        url.partition("&X-Goog-Signature")[0],
        url.partition("?")[0],
        f"{storage.url}/first-bucket/x?X-Goog-Signature=00",
    ):
        answer = get(altered)
        assert answer.status_code == 403, altered
        assert b"<Error><Code>" in answer.content
        assert CONTENT not in answer.content


def test_time_is_up(storage: StorageEndpoint, blob: Any) -> None:
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    url = signed(blob, storage.url)
    stamp = url.partition("X-Goog-Date=")[2].partition("&")[0]
    for changed in (f"{past:%Y%m%dT%H%M%SZ}", "29990101T000000Z", "yesterday"):
        assert get(url.replace(stamp, changed)).status_code == 403
    for expires in ("0", "-1", "604801", "9" * 5000, "soon"):
        assert get(url.replace("Expires=300", f"Expires={expires}")).status_code == 403


def test_expired_and_truly_signed(storage: StorageEndpoint, identity: Identity, blob: Any) -> None:
    from google.cloud.storage import _signing

    for stamp, status in (("20200101T000000Z", 403), (f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}", 200)):
        url = _signing.generate_signed_url_v4(
            blob.client._credentials,
            resource=urlsplit(signed(blob, storage.url)).path,
            expiration=300,
            api_access_endpoint=storage.url,
            _request_timestamp=stamp,
        )
        answer = get(url)
        assert answer.status_code == status
        assert (b"ExpiredToken" in answer.content) == (status == 403)


def test_another_key_opens_nothing(storage: StorageEndpoint, tmp_path: Path, blob: Any) -> None:
    foreign = key_of(Identity(tmp_path / "foreign"), tmp_path / "foreign")
    assert get(signed(blob, storage.url, credentials=foreign)).status_code == 403


def test_an_absent_object(storage: StorageEndpoint, blob: Any) -> None:
    answer = get(signed(blob.bucket.blob("absent"), storage.url))
    assert answer.status_code == 404
    assert b"<Code>NoSuchKey</Code>" in answer.content


def test_a_token_opens_too(storage: StorageEndpoint, identity: Identity, blob: Any) -> None:
    url = signed(blob, storage.url).partition("?")[0]
    assert get(url, Authorization=f"Bearer {identity.access_token('vm@p')}").content == CONTENT
