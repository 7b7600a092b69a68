import io
import tarfile
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.archives.sparse_tar import TAR_BLOCK, TAR_RECORD, header, trailer, whole_blocks

GIB = 1 << 30


def member_of(head: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(head), mode="r:") as tar:
        member = tar.next()
    assert member is not None
    return member


def map_of(member: tarfile.TarInfo) -> list[tuple[int, int]]:
    # typeshed does not know what tarfile keeps here.
    return [run for run in cast("list[tuple[int, int]]", member.sparse) if run[1]]


def test_a_file_without_holes_is_an_ordinary_member() -> None:
    member = member_of(header("disk.raw", 5000, [(0, 5000)]))
    assert (member.name, member.size, member.type, member.mode) == ("disk.raw", 5000, b"0", 0o644)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 24, 25, 45, 46, 3000])
def test_maps_of_any_length_are_read_back(count: int) -> None:
    runs = [(8192 * i, 4096) for i in range(1, count + 1)]
    head = header("disk.raw", 20 * GIB, runs)
    assert len(head) == TAR_BLOCK * (1 + max(0, -(-(count + 1 - 4) // 21)))
    member = member_of(head)
    assert member.size == 20 * GIB
    assert member.issparse()
    assert map_of(member) == runs


@pytest.mark.parametrize("offset", [8 * GIB - 512, 8 * GIB, 8 * GIB + 512, 1 << 45])
def test_numbers_beyond_8_gib_are_read_back(offset: int) -> None:
    member = member_of(header("disk.raw", offset + 512, [(offset, 512)]))
    assert member.size == offset + 512
    assert map_of(member) == [(offset, 512)]


def test_the_header_has_the_fields_of_gnu_tar() -> None:
    member = member_of(header("disk.raw", GIB, [(512, 512)]))
    assert (member.name, member.type, member.mode, member.mtime) == ("disk.raw", b"S", 0o644, 0)
    assert (member.uname, member.gname, member.uid, member.gid) == ("root", "root", 0, 0)


@given(st.integers(0, 10 * TAR_RECORD))
def test_the_trailer_fills_the_record_after_two_blocks_of_zeros(written: int) -> None:
    tail = trailer(written)
    assert not any(tail)
    assert (written + len(tail)) % TAR_RECORD == 0
    assert 2 * TAR_BLOCK <= len(tail) < 3 * TAR_BLOCK + TAR_RECORD


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 2000)), max_size=12), st.integers(0, 2000))
def test_runs_are_widened_to_blocks_and_cover_the_same_data(steps: list[tuple[int, int]], tail: int) -> None:
    runs, end = [], 0
    for gap, length in steps:
        runs.append((end + gap, length))
        end += gap + length
    size = end + tail
    widened = whole_blocks(runs, size)
    for offset, length in widened:
        assert offset % TAR_BLOCK == 0
        assert length % TAR_BLOCK == 0 or offset + length == size
    assert all(a + b < c for (a, b), (c, _) in pairwise(widened)), "runs touch"
    covered = {
        block for offset, length in widened for block in range(offset // TAR_BLOCK, -(-(offset + length) // TAR_BLOCK))
    }
    assert covered == {
        block for offset, length in runs for block in range(offset // TAR_BLOCK, -(-(offset + length) // TAR_BLOCK))
    }
