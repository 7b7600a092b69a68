"""The members of a tar archive by Python's tarfile, within a Budget.

tarfile reads long names, PAX records and maps of data whole, follows as many of them as an archive has, and keeps every
member. Here each part of a header has a limit, all that is kept is counted, and so is each member, wanted or not.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, Protocol, cast

from ..budget import Budget

LONGEST_PART = 1 << 20  # bytes of a long name, or of a member's PAX records
_MEMBER_STEPS = 4  # beside one for each part of its header
_MEMBER_BYTES = 700  # that a TarInfo takes, with what our readers note of it
_RECORD_BYTES = 200  # that a PAX record takes, beside its text
_ENTRY_BYTES = 160  # that an entry of a map takes: a pair of two numbers
_MAP_BLOCK_BYTES = 24 * tarfile.BLOCKSIZE  # that a block of a map takes: `0 0` is four bytes
_HEADER_BLOCKS = 8  # of one member that are no map: itself, and a long name, a long target and PAX records before it


class TarStream(Protocol):
    """A tar stream that is read forward."""

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes; fewer only at the end."""

    def seek(self, position: int, /) -> int:
        """Go to a place."""

    def tell(self) -> int:
        """Return the position."""


class _Counted:
    """A tar stream for tarfile, which counts what is read as part of a member's header."""

    def __init__(self, stream: TarStream, budget: Budget) -> None:
        self._stream = stream
        self._budget = budget
        self._blocks = 0
        self._in_header = False
        self.last_block = b""  # of a header

    def begin_header(self) -> None:
        self._in_header, self._blocks = True, 0

    def end_header(self) -> None:
        self._in_header = False

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        if self._in_header:
            if not 0 <= size <= LONGEST_PART:
                raise self._budget.spent(f"{LONGEST_PART} bytes for one name, or for the records of one member")
            self._budget.step()
            if size > tarfile.BLOCKSIZE:
                self._budget.keep(2 * size - 3 * tarfile.BLOCKSIZE)  # the text, as it is and tidied up
            self._blocks += 1
            if self._blocks > _HEADER_BLOCKS:
                self._budget.keep(_MAP_BLOCK_BYTES)
            self.last_block = self._stream.read(size)
            return self.last_block
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        """Go to a place."""
        return self._stream.seek(position)

    def tell(self) -> int:
        """Return the position in the tar stream."""
        return self._stream.tell()

    def seekable(self) -> bool:
        """Return True: seek() works."""
        return True


class TarMembers:
    """An open archive that is not compressed: iterate over its members, once. tarfile.TarError, ValueError."""

    def __init__(self, stream: TarStream, budget: Budget) -> None:
        self._stream = _Counted(stream, budget)
        self._budget = budget
        self._stream.begin_header()
        try:
            self._archive = tarfile.TarFile(fileobj=cast("IO[bytes]", self._stream))
        except RecursionError as error:
            raise _too_many_parts() from error

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        while (member := self.next()) is not None:
            yield member

    def next(self) -> tarfile.TarInfo | None:
        """Read the next member's header; None at the end."""
        self._stream.begin_header()
        try:
            member = self._archive.next()
        except RecursionError as error:
            raise _too_many_parts() from error
        self._stream.end_header()
        if member is not None:
            self._budget.step(_MEMBER_STEPS)
            entries = len(data_map(member)) if member.issparse() else 0
            self._budget.keep(_MEMBER_BYTES + _RECORD_BYTES * len(member.pax_headers) + _ENTRY_BYTES * entries)
        return member

    def open(self, member: tarfile.TarInfo) -> IO[bytes]:
        """Open a file among the members for reading."""
        contents = self._archive.extractfile(member)
        if contents is None:
            raise tarfile.ReadError(f"{member.name[:80]!r} has no contents")
        return contents

    def check_end(self) -> None:
        """Refuse, behind the last member, an archive that broke off: tarfile takes a damaged header for the end."""
        if self._stream.last_block.strip(b"\0"):
            raise tarfile.ReadError(f"damaged header at byte {self._archive.offset}")


def data_map(member: tarfile.TarInfo) -> list[tuple[int, int]]:
    """Return the (offset, length) pairs of a sparse member's data, with the entries that have no data."""
    return cast("list[tuple[int, int]]", member.sparse)  # typeshed has None or bytes here


def _too_many_parts() -> tarfile.ReadError:
    return tarfile.ReadError("one header follows another, and no member comes")
