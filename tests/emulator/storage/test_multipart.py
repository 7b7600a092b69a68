"""The reader of multipart bodies gives back any data, however the body is cut into blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.storage.rest.failures import ApiError
from emulator.storage.rest.multipart import MultipartUpload, boundary_of

# Data that looks like the end of a part is what such a reader gets wrong.
PIECES = st.sampled_from([b"\r", b"\n", b"-", b"--", b"b", b"--b", b"\r\n--b", b"\n--b", b"\r\n--", b"x", b"\0"])
DATA = st.lists(PIECES, max_size=12).map(b"".join)


def body_of(data: bytes, line_end: bytes, headers: bytes) -> bytes:
    lines = [b"--boundary", b"Content-Type: application/json", b"", b'{"name": "x"}', b"--boundary"]
    return line_end.join([*lines, *([headers] if headers else []), b"", data, b"--boundary--"])


def blocks(body: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    for start, stop in itertools.pairwise(places):
        yield body[start:stop]


@given(
    data=DATA,
    line_end=st.sampled_from([b"\r\n", b"\n"]),
    headers=st.sampled_from([b"", b"content-type: text/plain", b"Content-Transfer-Encoding: binary"]),
    cuts=st.lists(st.integers(0, 200), max_size=20),
)
def test_any_data_in_any_blocks(data: bytes, line_end: bytes, headers: bytes, cuts: list[int]) -> None:
    upload = MultipartUpload(blocks(body_of(data, line_end, headers), cuts), b"boundary")
    assert upload.metadata == b'{"name": "x"}'
    assert upload.content_type == ("text/plain" if b"text/plain" in headers else "")
    assert b"".join(upload.data()) == data


@given(body=st.binary(max_size=60) | DATA, cuts=st.lists(st.integers(0, 60), max_size=5))
def test_anything_else_is_refused(body: bytes, cuts: list[int]) -> None:
    with pytest.raises(ApiError):
        b"".join(MultipartUpload(blocks(body, cuts), b"boundary").data())


def test_every_cut_of_a_body_that_ends_too_early_is_refused() -> None:
    whole = body_of(b"data", b"\r\n", b"")
    for length in range(len(whole)):
        with pytest.raises(ApiError):
            b"".join(MultipartUpload(blocks(whole[:length], []), b"boundary").data())


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/related; boundary=abc", b"abc"),
        ('multipart/related; boundary="a b=c"', b"a b=c"),
        ("multipart/related; boundary='===============7330845974216740156=='", b"===============7330845974216740156=="),
        ("multipart/related; BOUNDARY=abc; type=x", b"abc"),
    ],
)
def test_boundaries(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


def test_a_boundary_has_an_end() -> None:
    with pytest.raises(ApiError, match="the boundary has more than 200 characters"):
        boundary_of("multipart/related; boundary=" + "a" * 201)


@pytest.mark.parametrize("spaces", [0, 1, 32])
def test_a_body_that_comes_byte_by_byte(spaces: int) -> None:
    boundary = b"b" * 200
    whole = b"--" + boundary + b" " * spaces + b"\r\n\r\n" + b"{}" + b" " * 5000
    whole += b"\r\n--" + boundary + b" " * spaces + b"\r\nContent-Type: text/plain\r\n\r\ndata\r\n--" + boundary + b"--"
    upload = MultipartUpload((whole[at : at + 1] for at in range(len(whole))), boundary)
    assert (upload.metadata.strip(), upload.content_type) == (b"{}", "text/plain")
    assert b"".join(upload.data()) == b"data"
