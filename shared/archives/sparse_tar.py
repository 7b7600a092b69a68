"""The bytes of a GNU tar archive around the data of one sparse file: header and trailer, as `tar -S` writes them.

Compute Engine imports the old GNU format: a header of type S with the file's map of data, 4 entries in the header
itself and 21 in each block that extends it; then the runs of data alone, one after the other; then zeros. The stream
is byte for byte that of `tar -S --format=gnu --owner=root --group=root --mtime=@0 --mode=644` when tar finds the same
map. Nothing here reads or writes.
"""

from collections.abc import Iterable, Sequence

TAR_BLOCK = 512
TAR_RECORD = 20 * TAR_BLOCK  # tar's output comes in records, filled up with zeros
_IN_HEADER = 4
_IN_EXTENSION = 21
_ENTRY = 24  # two numbers of 12 bytes

Extents = Sequence[tuple[int, int]]


def whole_blocks(extents: Iterable[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Widen (offset, length) runs to whole blocks of tar, joining those that touch; the last may end with the file.

    Readers disagree on runs of other lengths (GNU tar pads each of them, Python's tarfile none).
    """
    widened: list[tuple[int, int]] = []
    for offset, length in extents:
        start = offset - offset % TAR_BLOCK
        end = min(size, offset + length + -(offset + length) % TAR_BLOCK)
        if widened and start <= sum(widened[-1]):
            start = widened.pop()[0]
        widened.append((start, end - start))
    return widened


def header(name: str, size: int, extents: Extents) -> bytes:
    """Return the header blocks of a file of `size` bytes whose data is at `extents`, sorted and of whole blocks.

    A file without holes becomes an ordinary member, as with tar. `name` is ASCII and at most 100 characters.
    """
    if sum(length for _, length in extents) == size:
        return _head(name, b"0", size, bytes(_ENTRY * _IN_HEADER + 1), bytes(12))
    # The end of the file is an entry without data: else a hole there would be lost.
    entries = [_number(offset, 12) + _number(length, 12) for offset, length in (*extents, (size, 0))]
    rest = entries[_IN_HEADER:]
    first = _map(entries[:_IN_HEADER], _IN_HEADER, extended=bool(rest))
    blocks = [_head(name, b"S", sum(length for _, length in extents), first, _number(size, 12))]
    for start in range(0, len(rest), _IN_EXTENSION):
        more = start + _IN_EXTENSION < len(rest)
        blocks.append(_map(rest[start : start + _IN_EXTENSION], _IN_EXTENSION, extended=more).ljust(TAR_BLOCK, b"\0"))
    return b"".join(blocks)


def trailer(written: int) -> bytes:
    """Return the archive's end after `written` bytes: at least two blocks of zeros, up to a whole record."""
    return bytes(2 * TAR_BLOCK + -(written + 2 * TAR_BLOCK) % TAR_RECORD)


def _head(name: str, kind: bytes, stored: int, data_map: bytes, size: bytes) -> bytes:
    before = b"".join(
        [
            name.encode("ascii").ljust(100, b"\0"),
            _number(0o644, 8),
            _number(0, 8),  # owner
            _number(0, 8),  # group
            _number(stored, 12),
            _number(0, 12),  # modified
        ]
    )
    after = b"".join(
        [
            kind,
            bytes(100),  # link target
            b"ustar  \0",
            b"root".ljust(32, b"\0"),
            b"root".ljust(32, b"\0"),
            bytes(16 + 41),  # device numbers; times, offset and long names that only incremental archives use
            data_map,
            size,
        ]
    )
    after = after.ljust(TAR_BLOCK - len(before) - 8, b"\0")
    checksum = sum(before) + sum(b" " * 8) + sum(after)  # its own field counts as spaces
    return before + b"%06o\0 " % checksum + after


def _map(entries: Sequence[bytes], room: int, *, extended: bool) -> bytes:
    return b"".join(entries).ljust(room * _ENTRY, b"\0") + bytes([extended])


def _number(value: int, width: int) -> bytes:
    """Return octal digits and a NUL; from 8 GiB on, where 11 digits end, GNU's base 256: a set top bit, big-endian."""
    if value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return b"\x80" + value.to_bytes(width - 1, "big")
