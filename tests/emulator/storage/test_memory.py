"""Objects of any size pass through a few MiB of memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import requests

from emulator.storage.endpoint import StorageEndpoint

MIB = 1 << 20
SIZE = 96 * MIB
MOST = 24 * MIB  # of Python's memory, the client's part in it too

UPLOAD = "/upload/storage/v1/b/first-bucket/o"
PART = b'--b\nContent-Type: application/json\n\n{"name": "x"}\n--b\nContent-Type: text/plain\n\n'


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


def blocks() -> Iterator[bytes]:
    for number in range(SIZE // MIB):
        yield bytes([number]) * MIB


def media(url: str) -> None:
    requests.post(f"{url}{UPLOAD}?uploadType=media&name=x", data=blocks(), timeout=60).raise_for_status()


def multipart(url: str) -> None:
    def body() -> Iterator[bytes]:
        yield PART
        yield from blocks()
        yield b"\n--b--\n"

    headers = {"Content-Type": "multipart/related; boundary='b'"}
    requests.post(f"{url}{UPLOAD}?uploadType=multipart", data=body(), headers=headers, timeout=60).raise_for_status()


def resumable(url: str) -> None:
    started = requests.post(f"{url}{UPLOAD}?uploadType=resumable&name=x", timeout=60)
    requests.put(started.headers["Location"], data=blocks(), timeout=60).raise_for_status()


@pytest.mark.parametrize("upload", [media, multipart, resumable])
def test_up_and_down(storage: StorageEndpoint, upload: Callable[[str], None]) -> None:
    with little_memory():
        upload(storage.url)
        with requests.get(f"{storage.url}/storage/v1/b/first-bucket/o/x?alt=media", stream=True, timeout=60) as answer:
            for expected in blocks():
                assert answer.raw.read(MIB) == expected
            assert answer.raw.read() == b""


def test_compose(storage: StorageEndpoint) -> None:
    media(storage.url)
    with little_memory():
        compose = f"{storage.url}/storage/v1/b/first-bucket/o/two/compose"
        answer = requests.post(compose, json={"sourceObjects": [{"name": "x"}] * 2}, timeout=60)
    assert answer.json()["size"] == str(2 * SIZE)
