"""Read what is compressed with gzip, bzip2 or xz as one stream of plain bytes, in pieces, within a Budget.

Python's gzip reads a header byte by byte, and its lzma takes as much memory as an archive asks for. Here each member of
a compressed file is a step, each plain byte is counted, and a dictionary of xz has a limit.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from ..budget import Budget

_ISAL: Any = None
try:
    import isal.igzip_lib
    import isal.isal_zlib

    _ISAL = isal
except ImportError:  # on a build VM, which has Python's own library alone
    pass

FAULTS: tuple[Any, ...] = (
    *(() if _ISAL is None else (_ISAL.isal_zlib.error,)),
    *(zlib.error, lzma.LZMAError, EOFError, OSError, ValueError),
)
"""What reading raises where the compressed file is damaged or cut short."""

_PACKED = 64 << 10  # bytes of the compressed file that are read at a time
_PLAIN = 256 << 10
_XZ_MEMORY = 128 << 20  # xz -9 needs 65 MiB


class Decompressor(Protocol):
    """The common interface of bz2, lzma and isal: one object for each member of a compressed file."""

    @property
    def eof(self) -> bool:
        """Return whether the member has ended."""

    @property
    def needs_input(self) -> bool:
        """Return whether it needs more input before it can give output."""

    @property
    def unused_data(self) -> bytes:
        """Return the bytes that follow the member."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return at most `size` plain bytes."""


class PlainGzip:
    """A member of a gzip file by Python's own zlib, which is slower than isal. decompress() raises zlib.error."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:  # noqa: D102 - as in Decompressor
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:  # noqa: D102 - as in Decompressor
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:  # noqa: D102 - as in Decompressor
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:  # noqa: D102 - as in Decompressor
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)


def gzip_member() -> Decompressor:
    """Return what unpacks a member of a gzip file: isal's, or Python's own where there is none."""
    if _ISAL is None:
        return PlainGzip()
    fast: Decompressor = _ISAL.igzip_lib.IgzipDecompressor(flag=_ISAL.igzip_lib.DECOMP_GZIP)
    return fast


_KINDS: dict[bytes, Callable[[], Decompressor]] = {
    b"\x1f\x8b": gzip_member,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
}


def is_packed(head: bytes) -> bool:
    """Return whether a file's first bytes are those of a compression that Inflated reads."""
    return head.startswith(tuple(_KINDS))


class ForwardReader(io.RawIOBase):
    """Bytes that are read once, forward only. read() of a class that is made of this moves `_position` on."""

    _position = 0

    def tell(self) -> int:
        """Return the position in the plain bytes."""
        return self._position

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Go forward; there is no way back."""
        if whence != io.SEEK_SET or position < self._position:
            raise ValueError("an archive is read forward only")
        while self._position < position and self.read(min(_PLAIN, position - self._position)):
            pass
        return self._position

    def seekable(self) -> bool:
        """Return True: seek() works."""
        return True

    def readable(self) -> bool:
        """Return True: read() works."""
        return True


class Inflated(ForwardReader):
    """The plain bytes of a compressed file, from its start; forward only. `read` gives the file's bytes in turn."""

    def __init__(self, read: Callable[[int], bytes], budget: Budget) -> None:
        self._source = read
        self._budget = budget
        self._packed = read(_PACKED)
        self._kind = next((make for magic, make in _KINDS.items() if self._packed.startswith(magic)), None)
        if self._kind is None:
            raise ValueError("is not compressed with gzip, bzip2 or xz")
        self._member = self._kind()
        self._plain = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, at most a piece for -1; fewer only at the end."""
        wanted = _PLAIN if size < 0 else size
        pieces = []
        while wanted and (len(self._plain) or self._fill()):
            piece = self._plain[:wanted]
            self._plain = self._plain[len(piece) :]
            wanted -= len(piece)
            pieces.append(piece)
        data = bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
        self._position += len(data)
        return data

    def _fill(self) -> bool:
        """Unpack the next plain bytes; False at the end."""
        while True:
            if self._member.eof and not self._next_member():
                return False
            if self._member.needs_input and not self._packed:
                self._packed = self._source(_PACKED)
                if not self._packed:
                    raise EOFError("it ends in the middle of the compressed data")
            plain = self._member.decompress(self._packed, _PLAIN)
            self._packed = b""
            if plain:
                self._budget.read(len(plain))
                self._plain = memoryview(plain)
                return True

    def _next_member(self) -> bool:
        """Begin with the member that follows, behind the zeros that tapes are filled up with; False for none."""
        rest = (self._member.unused_data or self._source(_PACKED)).lstrip(b"\0")
        while not rest:
            more = self._source(_PACKED)
            if not more:
                return False
            rest = more.lstrip(b"\0")
        self._budget.step()
        assert self._kind is not None
        self._packed = rest
        self._member = self._kind()
        return True
