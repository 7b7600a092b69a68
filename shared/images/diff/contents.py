"""Compare the bytes of files on two disks: each byte is read once, in the order of the first disk.

What is to be compared is collected, sorted by its place and joined into pieces of a quarter of a megabyte, since most
files of two images lie beside the same neighbours: one comparison of two pieces then stands for many files. Only where
pieces differ are the files in them looked at one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple, Self

from ...disks.ext4.reader import Extent
from ...disks.reader import DiskReader

PIECE = 256 << 10  # bytes of each disk that are compared at once: what a core's cache holds
_TASK = 4 << 20  # bytes that a thread is given at once
_GAP = 64 << 10  # bytes that belong to no file, and are read to keep a piece together
_RUN_COST = 32 << 10  # bytes that are read in the time that the start of another read takes
_THREADS = 2
_AHEAD = 2 * _THREADS  # batches that are read before they are needed


class Segment(NamedTuple):
    """Bytes that should be equal: where they are in the first disk and in the second, None for zeros; and whose."""

    a: int | None
    b: int | None
    length: int
    owner: int


def pair(a: Iterable[Extent], b: Iterable[Extent], owner: int) -> Iterator[Segment]:
    """Match the extents of two files of one size, which may be cut at different places. Holes in both are left out."""
    ones, others = iter(a), iter(b)
    _, at_a, left_a = next(ones, (0, None, 0))
    _, at_b, left_b = next(others, (0, None, 0))
    while left_a and left_b:
        length = min(left_a, left_b, PIECE)
        if at_a is not None or at_b is not None:
            yield Segment(at_a, at_b, length, owner)
        at_a, left_a = (None if at_a is None else at_a + length), left_a - length
        at_b, left_b = (None if at_b is None else at_b + length), left_b - length
        if not left_a:
            _, at_a, left_a = next(ones, (0, None, 0))
        if not left_b:
            _, at_b, left_b = next(others, (0, None, 0))


class ContentComparison:
    """Compares the bytes of two disks, in threads of its own."""

    def __init__(self, a: DiskReader, b: DiskReader) -> None:
        self._disks = (a, b)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="image-diff")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def different(self, segments: Sequence[Segment]) -> dict[int, int]:
        """Return the owners of segments that differ, with the number of bytes in such segments. ImageFileError."""
        return self.start(segments)()

    def start(self, segments: Sequence[Segment]) -> Callable[[], dict[int, int]]:
        """Begin to compare segments; the returned function waits, and returns what different() does.

        Memory for what is read is only taken where a thread is at work.
        """
        batches = _batches(_runs(sorted(segments, key=_place)))
        running = [self._threads.submit(self._compare, batch) for batch in batches]

        def different() -> dict[int, int]:
            found: dict[int, int] = {}
            for batch in running:
                for segment in batch.result():
                    found[segment.owner] = found.get(segment.owner, 0) + segment.length
            return found

        return different

    def different_blocks(self, a: int, b: int, length: int, block: int) -> Iterator[int]:
        """Yield the blocks that differ of two runs of bytes, by their distance in bytes from the runs' starts."""
        tasks = iter(sorted(self._written(0, a, length) | self._written(1, b, length)))

        def start(at: int) -> Future[list[int]]:
            return self._threads.submit(self._blocks, a, b, at, min(at + _TASK, length), block)

        waiting = deque(start(at) for at in islice(tasks, _AHEAD))
        while waiting:
            yield from waiting.popleft().result()
            waiting.extend(start(at) for at in islice(tasks, 1))

    def _blocks(self, a: int, b: int, start: int, end: int, block: int) -> list[int]:
        found: list[int] = []
        # Memory that is read into again and again: new memory for each piece would cost as much as the reading.
        ones, others = bytearray(PIECE), bytearray(PIECE)
        for piece in range(start, end, PIECE):
            if end - piece < PIECE:
                ones, others = bytearray(end - piece), bytearray(end - piece)
            self._disks[0].read_into(ones, a + piece)
            self._disks[1].read_into(others, b + piece)
            if ones != others:
                places = range(0, len(ones), block)
                found += [piece + at for at in places if ones[at : at + block] != others[at : at + block]]
        return found

    def _written(self, side: int, start: int, length: int) -> set[int]:
        """Return where in a run of bytes the disk file may hold anything but zeros, in steps of a task."""
        found: set[int] = set()
        for at, count in self._disks[side].data(0, start + length):
            first = max(0, at - start) // _TASK * _TASK
            found.update(range(first, min(length, at + count - start), _TASK))
        return found

    def _compare(self, runs: Sequence[Sequence[Segment]]) -> list[Segment]:
        """Return the segments of some runs that differ."""
        found: list[Segment] = []
        for run in runs:
            first, last = run[0], run[-1]
            a = self._read(0, first.a, (last.a or 0) - (first.a or 0) + last.length)
            b = self._read(1, first.b, len(a))
            if a != b:
                found += [
                    segment
                    for segment in run
                    if _part(a, segment.a, first.a, segment) != _part(b, segment.b, first.b, segment)
                ]
        return found

    def _read(self, side: int, at: int | None, length: int) -> bytes:
        return bytes(length) if at is None else self._disks[side].read_uncounted(at, length)


def _batches(runs: Iterator[Sequence[Segment]]) -> Iterator[list[Sequence[Segment]]]:
    """Put short runs together, so that handing them to a thread is worth its while."""
    batch: list[Sequence[Segment]] = []
    total = 0
    for run in runs:
        batch.append(run)
        total += sum(segment.length for segment in run) + _RUN_COST
        if total >= _TASK:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _runs(segments: Sequence[Segment]) -> Iterator[Sequence[Segment]]:
    """Join segments that follow one another in both disks, at the same distance, to runs of up to PIECE bytes."""
    start = 0
    for index in range(1, len(segments) + 1):
        if index < len(segments) and _belongs(segments[start], segments[index - 1], segments[index]):
            continue
        yield segments[start:index]
        start = index


def _belongs(first: Segment, last: Segment, segment: Segment) -> bool:
    if first.a is None or first.b is None or segment.a is None or segment.b is None or last.a is None:
        return False
    return (
        segment.b - segment.a == first.b - first.a
        and 0 <= segment.a - (last.a + last.length) <= _GAP
        and segment.a + segment.length - first.a <= PIECE
    )


def _place(segment: Segment) -> tuple[int, int]:
    return -1 if segment.a is None else segment.a, segment.b or 0


def _part(piece: bytes, at: int | None, start: int | None, segment: Segment) -> bytes:
    begin = (at or 0) - (start or 0)
    return piece[begin : begin + segment.length]
