"""Requests that no client should send: each is answered by an error document, and nothing is stored."""

from __future__ import annotations

import http.client
import random
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from emulator.storage.endpoint import StorageEndpoint

UPLOAD = "/upload/storage/v1/b/first-bucket/o"
OBJECTS = "/storage/v1/b/first-bucket/o"


def raw(storage: StorageEndpoint, request: bytes) -> tuple[int, bytes]:
    """Send bytes, and read the answer to its end."""
    place = urlsplit(storage.url)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=10) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as answer:
            whole = answer.read()
    return int(whole.split(b" ", 2)[1]), whole.partition(b"\r\n\r\n")[2]


def names(storage: StorageEndpoint) -> list[str]:
    listing = requests.get(storage.url + OBJECTS, timeout=10).json()
    return [one["name"] for one in listing.get("items", [])]


def session(storage: StorageEndpoint, name: str = "x", **query: str) -> str:
    answer = requests.post(
        storage.url + UPLOAD, params={"uploadType": "resumable", "name": name, **query}, json={}, timeout=10
    )
    answer.raise_for_status()
    return answer.headers["Location"]


def put(url: str, content: bytes, content_range: str) -> requests.Response:
    return requests.put(url, data=content, headers={"Content-Range": content_range}, timeout=10)


def multipart(storage: StorageEndpoint, body: bytes, boundary: str = "b") -> requests.Response:
    return requests.post(
        f"{storage.url}{UPLOAD}?uploadType=multipart",
        data=body,
        headers={"Content-Type": f"multipart/related; boundary={boundary}"},
        timeout=10,
    )


PART = b'--b\r\nContent-Type: application/json\r\n\r\n{"name": "x"}\r\n--b\r\nContent-Type: text/plain\r\n\r\n'


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'"name"',
        b'{"metadata": 1}',
        b'{"contentType": 1}',
        b'{"metadata": {"a": 1}}',
    ],
)
def test_bad_metadata(storage: StorageEndpoint, body: bytes) -> None:
    upload = requests.post(f"{storage.url}{UPLOAD}?uploadType=resumable&name=x", data=body, timeout=10)
    parts = multipart(storage, PART.replace(b'{"name": "x"}', body) + b"\r\n--b--")
    for answer in (upload, parts, requests.post(f"{storage.url}{OBJECTS}/x/compose", data=body, timeout=10)):
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == 400
    assert names(storage) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x" * 3_000_000,
        PART,
        PART + b"data",
        PART + b"data\r\n--b",
        PART + b"data\r\n--b\r\n\r\nthird\r\n--b--",
        PART[:60],
        PART.replace(b"\r\n\r\n{", b"{"),
        PART.replace(b'"x"', b'"' + b"x" * 2_000_000 + b'"') + b"\r\n--b--",
    ],
)
def test_bad_multipart(storage: StorageEndpoint, body: bytes) -> None:
    assert multipart(storage, body).status_code == 400
    assert names(storage) == []


def test_multipart_needs_a_boundary(storage: StorageEndpoint) -> None:
    headers = {"Content-Type": "multipart/related"}
    answer = requests.post(f"{storage.url}{UPLOAD}?uploadType=multipart", data=b"x", headers=headers, timeout=10)
    assert answer.status_code == 400


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("boundary", ["b", '"b"', "'b'"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"\r\n",
        b"\n",
        b"\r",
        b"--b",
        b"--b--",
        b"x--b\r\n--",
        b"\r\n--",
        b"\n\n--a",
        b"-" * 1_048_576,
        b"\r\n-" * 700_000,
    ],
)
def test_multipart_data_comes_through(storage: StorageEndpoint, line_end: bytes, boundary: str, data: bytes) -> None:
    body = PART.replace(b"\r\n", line_end) + data + line_end + b"--b--" + line_end
    answer = multipart(storage, body, boundary)
    assert answer.status_code == 200, answer.text
    found = requests.get(f"{storage.url}{OBJECTS}/x?alt=media", timeout=10)
    assert (found.content, found.headers["Content-Type"]) == (data, "text/plain")


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes -1-4/10",
        "bytes 4-0/10",
        "bytes 0-9/5",
        "bytes 0-4",
        "bytes a-b/c",
        "bytes 0-99999999999999999999/99999999999999999999",
        f"bytes 0-{'9' * 5000}/{'9' * 5000}",
        "bytes 5-9/10",
        "bytes 0-4/*",
        "bytes 0-3/10",
        "items 0-4/5",
        "bytes */-1",
        "",
    ],
)
def test_bad_content_range(storage: StorageEndpoint, content_range: str) -> None:
    url = session(storage)
    assert put(url, b"01234", content_range).status_code == 400
    assert put(url, b"", "bytes */*").status_code == 308  # the session lives, and has nothing
    assert "Range" not in put(url, b"", "bytes */*").headers
    assert put(url, b"01234", "bytes 0-4/5").status_code == 200
    assert names(storage) == ["x"]


def test_chunks_may_come_again_and_may_not_leave_gaps(storage: StorageEndpoint) -> None:
    unit = 256 << 10
    content = random.Random(0).randbytes(3 * unit)
    url = session(storage)
    first = put(url, content[: unit + 10], f"bytes 0-{unit + 9}/*")
    assert (first.status_code, first.headers["Range"]) == (308, f"bytes=0-{unit - 1}")  # whole units are kept
    assert put(url, content[2 * unit :], f"bytes {2 * unit}-{3 * unit - 1}/{3 * unit}").status_code == 400
    again = put(url, content[: 2 * unit], f"bytes 0-{2 * unit - 1}/{3 * unit}")
    assert (again.status_code, again.headers["Range"]) == (308, f"bytes=0-{2 * unit - 1}")
    assert put(url, b"", f"bytes */{4 * unit}").status_code == 400  # another total than before
    last = put(url, content[unit:], f"bytes {unit}-{3 * unit - 1}/{3 * unit}")
    assert (last.status_code, last.json()["size"]) == (200, str(3 * unit))
    assert put(url, b"", "bytes */*").json()["generation"] == last.json()["generation"]  # the answer was lost
    assert requests.get(f"{storage.url}{OBJECTS}/x?alt=media", timeout=10).content == content


def test_sessions_end(storage: StorageEndpoint) -> None:
    url = session(storage)
    assert requests.delete(url, timeout=10).status_code == 499
    assert put(url, b"x", "bytes 0-0/1").status_code == 404
    assert put(f"{storage.url}{UPLOAD}?uploadType=resumable&upload_id=none", b"x", "bytes 0-0/1").status_code == 404
    assert put(session(storage).replace("first-bucket", "other-bucket"), b"x", "bytes 0-0/1").status_code == 404
    assert names(storage) == []


def test_wrong_sums_store_nothing(storage: StorageEndpoint) -> None:
    wrong = {"X-Goog-Hash": "crc32c=AAAAAA==,md5=AAAAAAAAAAAAAAAAAAAAAA=="}
    media = requests.post(f"{storage.url}{UPLOAD}?uploadType=media&name=x", data=b"data", headers=wrong, timeout=10)
    ended = requests.put(session(storage), data=b"data", headers=wrong, timeout=10)
    body = PART.replace(b'"x"', b'"x", "md5Hash": "AAAAAAAAAAAAAAAAAAAAAA=="') + b"data\r\n--b--"
    for answer in (media, ended, multipart(storage, body)):
        assert (answer.status_code, "doesn't match calculated" in answer.text) == (400, True)
    assert names(storage) == []


def test_no_length(storage: StorageEndpoint) -> None:
    head = f"POST {UPLOAD}?uploadType=media&name=x HTTP/1.1\r\nHost: {urlsplit(storage.url).netloc}\r\n".encode()
    assert raw(storage, head + b"\r\n")[0] == 411
    for length in (b"-5", b"five", b"9" * 30):
        assert raw(storage, head + b"Content-Length: " + length + b"\r\n\r\n")[0] == 400
    assert names(storage) == []
    status, _ = raw(storage, head + b"Transfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\n\r\n")
    assert (status, names(storage)) == (200, ["x"])


def test_a_connection_that_ends_too_early_stores_nothing(storage: StorageEndpoint) -> None:
    place = urlsplit(storage.url)
    for headers, body in ((b"Content-Length: 100", b"data"), (b"Transfer-Encoding: chunked", b"4\r\nda")):
        with socket.create_connection((place.hostname or "", place.port or 0), timeout=10) as connection:
            request = (
                f"POST {UPLOAD}?uploadType=media&name=x HTTP/1.1\r\nHost: {urlsplit(storage.url).netloc}\r\n".encode()
            )
            connection.sendall(request + headers + b"\r\n\r\n" + body)
            connection.shutdown(socket.SHUT_WR)
            connection.makefile("rb").read()
    assert names(storage) == []


GOOD_NAMES = [
    "../../../../etc/passwd",
    "/absolute",
    "a//b",
    "a/",
    "/",
    "./x",
    "x/..",
    " ",
    "%2e%2e%2f",
    "a\tb",
    "\u202e\u0000".replace("\u0000", ""),
    "ü" * 512,
    "x" * 1024,
    "gs://b/o",
    "*?[]#",
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_names_never_become_paths(storage: StorageEndpoint, tmp_path: Any, name: str) -> None:
    before = {path for path in tmp_path.rglob("*") if "storage" not in path.parts}
    upload = requests.post(
        f"{storage.url}{UPLOAD}", params={"uploadType": "media", "name": name}, data=b"data", timeout=10
    )
    assert upload.status_code == 200, upload.text
    assert names(storage) == [name]
    assert requests.get(upload.json()["mediaLink"], timeout=10).content == b"data"
    assert requests.get(upload.json()["selfLink"], timeout=10).json()["name"] == name
    assert requests.delete(upload.json()["selfLink"], timeout=10).status_code == 204
    assert {path for path in tmp_path.rglob("*") if "storage" not in path.parts} == before


@pytest.mark.parametrize("name", ["", ".", "..", "a\nb", "a\rb", "x" * 1025, "ü" * 513, ".well-known/acme-challenge/x"])
def test_names_that_nothing_may_have(storage: StorageEndpoint, name: str) -> None:
    for kind in ("media", "resumable"):
        answer = requests.post(
            f"{storage.url}{UPLOAD}", params={"uploadType": kind, "name": name}, data=b"", timeout=10
        )
        assert answer.status_code == 400
    assert names(storage) == []


def test_odd_requests(storage: StorageEndpoint) -> None:
    for line, status in (
        ("GET /storage/v1/b/first-bucket/o/%FF", 400),
        ("GET /storage/v1/b/first-bucket/o/a/b", 404),
        ("GET //", 404),
        ("GET /storage/v1/b//o", 404),
        ("PUT /storage/v1/b", 405),
        ("GET /storage/v1/b/first-bucket/o?maxResults=-1", 400),
        ("GET /storage/v1/b/first-bucket/o?maxResults=" + "9" * 5000, 400),
        ("GET /storage/v1/b/first-bucket/o?pageToken=%FF", 400),
        ("GET /storage/v1/b/first-bucket/o?pageToken=a", 400),
        ("GET /storage/v1/b/first-bucket/o/x?ifGenerationMatch=x", 400),
        ("POST /upload/storage/v1/b/first-bucket/o?name=x&uploadType=other", 400),
        ("POST /upload/storage/v1/b/absent/o?name=x&uploadType=media", 404),
        ("POST /batch/storage/v1", 400),
        ("DELETE /storage/v1/b/first-bucket/o/absent", 404),
        ("GET /storage/v1/b/first-bucket/o/\xff", 400),
    ):
        request = f"{line} HTTP/1.1\r\nHost: {urlsplit(storage.url).netloc}\r\nContent-Length: 0\r\n\r\n".encode(
            "latin-1"
        )
        assert raw(storage, request)[0] == status, line


def test_raw_utf_8_in_a_path(storage: StorageEndpoint) -> None:
    requests.post(f"{storage.url}{UPLOAD}?uploadType=media&name=%C3%BC", data=b"data", timeout=10)
    request = f"GET {OBJECTS}/ü?alt=media HTTP/1.1\r\nHost: {urlsplit(storage.url).netloc}\r\n\r\n".encode()
    assert raw(storage, request) == (200, b"data")


def test_batches_that_are_none(storage: StorageEndpoint) -> None:
    call = b"--b\r\nContent-Type: application/http\r\n\r\nGET /storage/v1/b/first-bucket HTTP/1.1\r\n\r\n\r\n"
    media = call.replace(b"first-bucket ", b"first-bucket/o/x?alt=media ")
    within = call.replace(b"GET /storage/v1/b/first-bucket", b"POST /batch/storage/v1")
    for body in (b"x", b"--b\r\n\r\n\r\n--b--", call * 101 + b"--b--", media + b"--b--", within + b"--b--"):
        headers = {"Content-Type": "multipart/mixed; boundary=b"}
        answer = requests.post(f"{storage.url}/batch/storage/v1", data=body, headers=headers, timeout=10)
        assert answer.status_code == 400, body[:100]


def test_of_two_writers_that_want_to_be_first_one_is(storage: StorageEndpoint) -> None:
    statuses: list[int] = []
    start = threading.Barrier(8)

    def write(number: int) -> None:
        place = urlsplit(storage.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        start.wait()
        connection.request("POST", f"{UPLOAD}?uploadType=media&name=x&ifGenerationMatch=0", body=b"%d" % number)
        statuses.append(connection.getresponse().status)
        connection.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [412] * 7


def test_of_two_sessions_that_want_to_be_first_one_is(storage: StorageEndpoint) -> None:
    first, second = (session(storage, ifGenerationMatch="0") for _ in range(2))
    assert put(first, b"first", "bytes 0-4/5").status_code == 200
    late = put(second, b"late!", "bytes 0-4/5")
    assert (late.status_code, late.json()["error"]["errors"][0]["reason"]) == (412, "conditionNotMet")
    assert requests.get(f"{storage.url}{OBJECTS}/x?alt=media", timeout=10).content == b"first"


def test_clients_that_send_nothing_hold_up_no_other(storage: StorageEndpoint) -> None:
    for url in (storage.url, storage.tls_url):
        place = urlsplit(url)
        with socket.create_connection((place.hostname or "", place.port or 0), timeout=10):
            answer = requests.get(f"{url}/storage/v1/b", verify=str(storage.ca_file), timeout=10)
            assert answer.status_code == 200


def test_settings_never_become_other_headers(storage: StorageEndpoint) -> None:
    evil = "ü😀\r\nX-Evil: 1\r\n\r\n\ud800"
    texts = ("contentType", "contentDisposition", "contentLanguage", "cacheControl", "contentEncoding", "storageClass")
    settings = {**dict.fromkeys(texts, evil), "metadata": {"k": evil, evil: "v", "": "v"}}
    started = requests.post(f"{storage.url}{UPLOAD}?uploadType=resumable&name=x", json=settings, timeout=10)
    stored = requests.put(started.headers["Location"], data=b"data", timeout=10).json()
    assert stored["metadata"] == settings["metadata"]
    found = requests.get(f"{storage.url}{OBJECTS}/x?alt=media", timeout=10, stream=True)
    assert found.raw.read() == b"data"
    assert "X-Evil" not in found.headers
    assert found.headers["x-goog-meta-k"].encode("latin-1").decode().startswith("ü😀  X-Evil: 1")
