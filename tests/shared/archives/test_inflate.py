"""gzip by Python's own zlib, where isal is not installed: the same plain bytes, and the same faults."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.archives.inflate import FAULTS, PlainGzip


def unpacked(data: bytes, at_once: int, most: int) -> tuple[bytes, bytes]:
    """Unpack one member as Inflated does; return its plain bytes, and what follows it."""
    member, plain = PlainGzip(), []
    while not member.eof:
        piece = b""
        if member.needs_input:
            piece, data = data[:at_once], data[at_once:]
            if not piece:
                raise EOFError
        plain.append(member.decompress(piece, most))
        assert len(plain[-1]) <= most
    return b"".join(plain), member.unused_data + data


@given(st.binary(max_size=3000), st.binary(max_size=20), st.integers(1, 400), st.integers(1, 400))
def test_a_member_is_unpacked_in_pieces(plain: bytes, behind: bytes, at_once: int, most: int) -> None:
    assert unpacked(gzip.compress(plain * 20) + behind, at_once, most) == (plain * 20, behind)


@pytest.mark.parametrize("at", [3, 12, -6])
def test_damage_is_seen(at: int) -> None:
    data = bytearray(gzip.compress(bytes(range(256)) * 20))
    data[at] ^= 0xFF
    with pytest.raises(FAULTS):
        unpacked(bytes(data), 100, 1000)
    with pytest.raises(FAULTS):
        unpacked(gzip.compress(b"cut short")[:-4], 100, 1000)
    assert zlib.error in FAULTS
