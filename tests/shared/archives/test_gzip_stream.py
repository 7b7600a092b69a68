import gzip
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.archives.crc32 import crc32
from shared.archives.gzip_stream import GzipMember, Level, Part, ahead, deflate, in_background, inflated


def packed(pieces: list[bytes], level: Level = "fast") -> bytes:
    out: list[bytes] = []
    member = GzipMember(out.append)
    for piece in pieces:
        member.add(Part(deflate(piece, level), len(piece), crc32(piece)))
    member.finish()
    return b"".join(out)


def unpacked(data: bytes, at_a_time: int = 1000) -> tuple[bytes, bytes]:
    pieces = iter([data[i : i + at_a_time] for i in range(0, len(data), at_a_time)])
    got = list(inflated(lambda: next(pieces, b"")))
    return b"".join(compressed for compressed, _ in got), b"".join(plain for _, plain in got)


@given(st.lists(st.binary(max_size=3000), max_size=6), st.sampled_from(["fast", "best"]), st.integers(1, 5000))
def test_parts_make_one_member_that_gunzip_reads(pieces: list[bytes], level: Level, at_a_time: int) -> None:
    data = packed(pieces, level)
    assert gzip.decompress(data) == b"".join(pieces)
    assert unpacked(data, at_a_time) == (data, b"".join(pieces))


def test_the_same_data_gives_the_same_bytes() -> None:
    assert packed([b"a" * 9999]) == packed([b"a" * 9999])


def test_a_bomb_is_inflated_in_pieces() -> None:
    data = packed([bytes(50 << 20)])
    assert len(data) < 1 << 20
    whole = iter([data])
    assert max(len(plain) for _, plain in inflated(lambda: next(whole, b""))) <= 256 << 10


@pytest.mark.parametrize("kept", [0, 5, 9, 500, -9, -8, -1])
def test_a_truncated_member_is_refused(kept: int) -> None:
    data = packed([os.urandom(1000)])[: kept if kept else 0]
    with pytest.raises(ValueError, match=f"ends at byte {len(data)},"):
        unpacked(data)


@pytest.mark.parametrize("place", [0, 1, 10, -8, -5, -4, -1])
def test_a_flipped_bit_is_found(place: int) -> None:
    data = bytearray(packed([os.urandom(1000)]))
    data[place] ^= 1
    with pytest.raises(ValueError, match="byte"):
        unpacked(bytes(data))


@pytest.mark.parametrize("more", [b"x", b"\0" * 5000])
@pytest.mark.parametrize("read_apart", [False, True])
def test_anything_after_the_member_is_refused(more: bytes, read_apart: bool) -> None:
    data = packed([b"plain"])
    with pytest.raises(ValueError, match="follows"):
        unpacked(data + more, at_a_time=len(data) if read_apart else 10_000)


def test_the_length_is_kept_modulo_4_gib() -> None:
    out: list[bytes] = []
    member = GzipMember(out.append)
    member.add(Part(b"", 7 << 30, 0))
    member.add(Part(b"", 5, 0))
    member.finish()
    assert int.from_bytes(out[-1][-4:], "little") == ((7 << 30) + 5) % (4 << 30)


def test_results_come_in_order_and_never_too_far_ahead() -> None:
    begun: list[int] = []

    def call(number: int) -> int:
        begun.append(number)
        return number

    results = ahead((partial(call, number) for number in range(50)), workers=3, window=5)
    for expected, number in enumerate(results):
        assert number == expected
        assert len(begun) <= expected + 5


def test_closing_ends_the_threads_and_calls_that_wait_never_begin() -> None:
    begun: list[int] = []
    never = threading.Event()

    def call(number: int) -> bool:
        begun.append(number)
        return never.wait(0 if number == 0 else 0.2)

    results = ahead((partial(call, number) for number in range(100)), workers=1, window=50)
    assert next(results) is False
    results.close()
    assert len(begun) < 50
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("export")]


@pytest.mark.parametrize(
    "run", [lambda items: in_background(items, 3), lambda items: ahead((partial(next, items),), 1, 1)]
)
def test_an_error_in_a_thread_reaches_the_consumer(run: Callable[[Iterator[int]], Iterator[int]]) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(run(map(int, ["not a number"])))


def test_an_iterator_in_the_background_gives_all_its_items() -> None:
    assert list(in_background(iter(range(100)), 3)) == list(range(100))
