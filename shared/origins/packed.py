"""Part of a file as a plain tar stream, whatever compressed it: gzip, bzip2, xz, zstd or nothing.

All bytes are digested where they are read, packed and plain: what is written is what was digested.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ..archives.inflate import ForwardReader, Inflated, is_packed
from ..budget import Budget
from ..host.programs import find_tool

_HEAD = 512
_PIECE = 256 << 10
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPED = b"\x2a\x4d\x18"  # behind a byte 0x50 to 0x5F: a frame of zstd without data


class FilePart:
    """Bytes of an open file, read once, from `start` on."""

    def __init__(self, descriptor: int, start: int, length: int) -> None:
        self._descriptor = descriptor
        self._at = start
        self._end = start + length
        self._digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; none at the end."""
        data = os.pread(self._descriptor, min(size, self._end - self._at), self._at)
        self._at += len(data)
        self._digest.update(data)
        return data

    def head(self) -> bytes:
        """Return the first bytes, before any is read."""
        return os.pread(self._descriptor, min(_HEAD, self._end - self._at), self._at)

    @property
    def is_packed(self) -> bool:
        """Whether it is compressed."""
        head = self.head()
        return is_packed(head) or _is_zstd(head)

    def finish(self) -> str:
        """Read the rest; return the SHA-256 of all."""
        while self.read(_PIECE):
            pass
        return self._digest.hexdigest()


class PlainStream(ForwardReader):
    """Plain bytes, forward only. `read` gives some of them in turn, none at the end."""

    def __init__(self, read: Callable[[int], bytes], budget: Budget | None = None) -> None:
        self._source = read
        self._budget = budget  # None where what reads has counted them
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, at most a piece for -1; fewer only at the end."""
        left = _PIECE if size < 0 else size
        pieces = []
        while left and (piece := self._source(min(left, _PIECE))):
            if self._budget is not None:
                self._budget.read(len(piece))
            self._digest.update(piece)
            left -= len(piece)
            pieces.append(piece)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._position += len(data)
        return data

    def finish(self) -> str:
        """Read the rest; return the SHA-256 of all."""
        while self.read(_PIECE):
            pass
        return self._digest.hexdigest()


@contextmanager
def plain_stream(part: FilePart, budget: Budget) -> Iterator[PlainStream]:
    """Yield the plain bytes of a part; its first ones tell how to unpack it. MissingTool.

    Reading raises one of inflate's FAULTS where it is damaged or cut short.
    """
    head = part.head()
    if is_packed(head):
        yield PlainStream(Inflated(part.read, budget).read)
    elif _is_zstd(head):
        with _zstd(part) as read:
            yield PlainStream(read, budget)
    else:
        yield PlainStream(part.read, budget)


def _is_zstd(head: bytes) -> bool:
    return head.startswith(_ZSTD) or (head[1:4] == _SKIPPED and 0x50 <= head[0] <= 0x5F)


@contextmanager
def _zstd(part: FilePart) -> Iterator[Callable[[int], bytes]]:
    """Unpack with the program zstd, which a thread feeds."""
    process = subprocess.Popen(
        [find_tool("zstd"), "-dcq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    feeder = threading.Thread(target=_feed, args=(process, part))
    feeder.start()
    try:
        yield lambda size: _from_program(process, size)
    finally:
        process.kill()
        feeder.join()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def _feed(process: subprocess.Popen[bytes], part: FilePart) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as sink:
        while data := part.read(_PIECE):
            sink.write(data)


def _from_program(process: subprocess.Popen[bytes], size: int) -> bytes:
    assert process.stdout is not None
    assert process.stderr is not None
    data = process.stdout.read(size)
    if not data and process.wait():
        raise EOFError(process.stderr.read(1000).decode("utf-8", "replace").strip() or "zstd cannot read it")
    return data
