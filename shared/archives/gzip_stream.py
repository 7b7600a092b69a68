"""One gzip member: compressed by many threads, and inflated on a thread of its own while the caller uses the output.

A deflate stream may be cut anywhere if each part ends with a flush to a byte boundary (SYNC_FLUSH), so parts are
compressed independently and joined; CRC-32s of parts combine by arithmetic. Any gunzip reads the result. Both libraries
release the interpreter's lock while they work.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Literal, TypeVar

from isal import isal_zlib
from zlib_ng import zlib_ng

from .crc32 import joined

Level = Literal["fast", "best"]
T = TypeVar("T")

HEADER = b"\x1f\x8b\x08\0" + bytes(4) + b"\0\xff"  # deflate; no name, no time, no system: the same bytes everywhere
_LAST_BLOCK = b"\x03\0"  # an empty block that is marked as the last
_RAW = -15  # deflate without a header of its own, 32 KiB window
_GZIP = 31
_INFLATED = 256 << 10  # at most this much at a time: a bomb of zeros inflates a thousandfold
_MAX_THREADS = 32  # 19 GB/s of data; more would only take memory


@dataclass(frozen=True)
class Part:
    """A part of the stream: its deflate blocks, up to a byte boundary, and length and CRC-32 of the plain bytes."""

    deflated: bytes
    length: int
    crc: int


def threads() -> int:
    """Return the number of threads that this process may keep busy."""
    return min(len(os.sched_getaffinity(0)), _MAX_THREADS)


def deflate(plain: bytes | bytearray | memoryview, level: Level) -> bytes:
    """Compress one part: `fast` about 500 MB/s a core, `best` about 80 MB/s and a tenth smaller."""
    if level == "fast":
        packer = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _RAW)
        return packer.compress(plain) + packer.flush(isal_zlib.Z_SYNC_FLUSH)
    smaller = zlib_ng.compressobj(6, zlib_ng.DEFLATED, _RAW)
    return smaller.compress(plain) + smaller.flush(zlib_ng.Z_SYNC_FLUSH)


class GzipMember:
    """A gzip member in the making: hands its bytes, in order, to `write`."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self.length = 0  # plain bytes so far
        self.crc = 0
        write(HEADER)

    def add(self, part: Part) -> None:
        """Append a part."""
        self._write(part.deflated)
        self.crc = joined(self.crc, part.crc, part.length)
        self.length += part.length

    def finish(self) -> None:
        """Write the end: a last block, the CRC-32 and the length modulo 4 GiB."""
        self._write(_LAST_BLOCK + self.crc.to_bytes(4, "little") + (self.length % 2**32).to_bytes(4, "little"))


def ahead(calls: Iterable[Callable[[], T]], workers: int, window: int) -> Generator[T, None, None]:
    """Make calls in `workers` threads and give the results in order, never more than `window` of them ahead.

    Close the iterator to end the threads: calls that have begun end, the others never begin.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="export")
    waiting: deque[Future[T]] = deque()
    try:
        for call in calls:
            waiting.append(pool.submit(call))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def inflated(read: Callable[[], bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Read one gzip member; give (compressed, plain) pieces, the first empty while the piece before is not used up.

    Ends when the member's own CRC-32 and length have been found right and nothing follows it; ValueError, with the
    place, when not. The default archive is compressed by one library and read back by the other.
    """
    unpacker = zlib_ng.decompressobj(_GZIP)
    offset = 0
    while not unpacker.eof:
        left = fresh = read()
        offset += len(fresh)
        if not fresh:
            raise ValueError(f"ends at byte {offset}, in the middle of the compressed stream")
        while left and not unpacker.eof:
            try:
                plain = unpacker.decompress(left, _INFLATED)
            except zlib_ng.error as error:  # type: ignore[misc]  # declared as an instance in the library's stub
                raise ValueError(f"damaged at or before byte {offset}: {error}") from error
            yield fresh, plain
            left, fresh = unpacker.unconsumed_tail, b""
    if unpacker.unused_data or read():
        raise ValueError(f"something follows the end of the compressed stream, at or before byte {offset}")


def in_background(items: Iterator[T], window: int) -> Generator[T, None, None]:
    """Run an iterator (of anything but None) in a thread, at most `window` items ahead."""
    with closing(ahead(repeat(partial(next, items, None)), 1, window)) as results:
        for item in results:
            if item is None:
                return
            yield item
