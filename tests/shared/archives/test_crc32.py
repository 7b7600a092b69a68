import zlib

from hypothesis import given
from hypothesis import strategies as st

from shared.archives.crc32 import SparseCrc32, crc32, crc32_of_zeros, joined


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_joined_is_that_of_the_pieces_in_a_row(first: bytes, second: bytes) -> None:
    assert joined(crc32(first), crc32(second), len(second)) == zlib.crc32(first + second)


@given(st.integers(0, 200_000))
def test_zeros_need_not_be_looked_at(length: int) -> None:
    assert crc32_of_zeros(length) == zlib.crc32(bytes(length))


def test_lengths_beyond_32_bits_count_in_full() -> None:
    """`head -c 10G /dev/zero | gzip -1 | tail -c8 | od -An -tx4 -N4` says the same."""
    assert crc32_of_zeros(10 << 30) == 0xF41D912F


@given(st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=50)), max_size=8), st.integers(0, 5000))
def test_a_sparse_file_has_the_crc_of_its_bytes(pieces: list[tuple[int, bytes]], tail: int) -> None:
    crc, whole = SparseCrc32(), b""
    for hole, data in pieces:
        whole += bytes(hole)
        crc.add(len(whole), len(data), crc32(data))
        whole += data
    assert crc.up_to(len(whole) + tail) == zlib.crc32(whole + bytes(tail))
