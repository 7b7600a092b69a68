"""The bytes of a pax archive's headers (POSIX.1-2001), with GNU's records for sparse files and SCHILY's for attributes.

What the old header has room for is there alone; the rest comes in records before it: long names, times with fractions,
large numbers, extended attributes, and the map of a sparse file as GNU tar's format 1.0 has it. Names are any bytes.
The same entry always gives the same bytes. Nothing here reads or writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .sparse_tar import TAR_BLOCK

FILE, HARD_LINK, LINK, CHARACTERS, BLOCKS, FOLDER, PIPE = (b"%d" % kind for kind in range(7))

_NAME = 100  # bytes that the old header has for a name, and for a link's target
_ATTRIBUTE = b"SCHILY.xattr."
_SECOND = 1_000_000_000  # in nanoseconds


@dataclass(frozen=True)
class TarEntry:
    """One member. `size` is that of a file with its holes; a folder's name ends in a slash."""

    name: bytes
    kind: bytes
    mode: int  # without the type
    user: int
    group: int
    size: int
    mtime_ns: int
    target: bytes = b""  # of a link of either kind
    device: tuple[int, int] = (0, 0)
    attributes: Mapping[bytes, bytes] = field(default_factory=dict)


def padding(length: int) -> bytes:
    """Return the zeros after `length` bytes of contents, up to a whole block."""
    return bytes(-length % TAR_BLOCK)


def pax_header(entry: TarEntry, runs: Sequence[tuple[int, int]] | None = None) -> bytes:
    """Return all that comes before the contents of a member.

    With `runs`, sorted (offset, length) of whole blocks up to the file's end, the file is sparse: only they follow, one
    after the other, and padding after the last.
    """
    records: list[tuple[bytes, bytes]] = []
    name, size, data_map = entry.name, entry.size, b""
    if runs is not None:
        data_map = _data_map(runs, entry.size)
        records += [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", name)]
        records.append((b"GNU.sparse.realsize", b"%d" % entry.size))
        folder, _, last = name.rpartition(b"/")
        name, size = (folder or b".") + b"/GNUSparseFile.0/" + last, len(data_map) + sum(run[1] for run in runs)
    elif len(name) > _NAME:
        records.append((b"path", name))
    if len(entry.target) > _NAME:
        records.append((b"linkpath", entry.target))
    seconds, fraction = divmod(entry.mtime_ns, _SECOND)
    if fraction or not 0 <= seconds < 8**11:
        records.append((b"mtime", _time(entry.mtime_ns)))
    for key, value, most in ((b"uid", entry.user, 8**7), (b"gid", entry.group, 8**7), (b"size", size, 8**11)):
        if value >= most:
            records.append((key, b"%d" % value))
    records += [(_ATTRIBUTE + _escaped(key), entry.attributes[key]) for key in sorted(entry.attributes)]
    block = _block(entry, name[:_NAME], size)
    if not records:
        return block + data_map
    text = b"".join(_record(key, value) for key, value in records)
    told = TarEntry(b"./PaxHeaders/" + entry.name.rstrip(b"/").rpartition(b"/")[2], b"x", 0o644, 0, 0, len(text), 0)
    return _block(told, told.name[:_NAME], len(text)) + text + padding(len(text)) + block + data_map


def old_header(name: bytes, size: int) -> bytes:
    """Return the one block before a file of root's with a short name, whatever its size: it can be filled in later."""
    return _block(TarEntry(name, FILE, 0o644, 0, 0, size, 0), name, size)


def _data_map(runs: Sequence[tuple[int, int]], size: int) -> bytes:
    """Return the map of a sparse file: numbers in lines, filled up to a whole block. The last entry is its end."""
    entries = list(runs)
    if not entries or sum(entries[-1]) < size:
        entries.append((size, 0))
    text = b"".join([b"%d\n" % len(entries), *(b"%d\n%d\n" % run for run in entries)])
    return text + padding(len(text))


def _record(key: bytes, value: bytes) -> bytes:
    """Return `LENGTH KEY=VALUE`, whose length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(b"%d" % rest)
    if len(b"%d" % length) > len(b"%d" % rest):
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def _escaped(name: bytes) -> bytes:
    """Return an attribute's name without the sign that ends a key, as GNU tar writes it."""
    return name.replace(b"%", b"%25").replace(b"=", b"%3D")


def _time(nanoseconds: int) -> bytes:
    """Return seconds as a decimal fraction, exactly."""
    whole, fraction = divmod(abs(nanoseconds), _SECOND)
    text = b"%d.%09d" % (whole, fraction) if fraction else b"%d" % whole
    return (b"-" if nanoseconds < 0 else b"") + (text.rstrip(b"0") if fraction else text)


def _block(entry: TarEntry, name: bytes, size: int) -> bytes:
    seconds = entry.mtime_ns // _SECOND
    stored = 0 if entry.kind in (HARD_LINK, LINK, CHARACTERS, BLOCKS, FOLDER, PIPE) else size
    before = b"".join(
        [
            name.ljust(_NAME, b"\0"),
            _number(entry.mode, 8),
            _number(entry.user if entry.user < 8**7 else 0, 8),
            _number(entry.group if entry.group < 8**7 else 0, 8),
            _number(stored, 12),
            _number(seconds if 0 <= seconds < 8**11 else 0, 12),
        ]
    )
    after = b"".join(
        [
            entry.kind,
            entry.target[:_NAME].ljust(_NAME, b"\0"),
            b"ustar\x0000",
            bytes(64),  # names of owner and group: the numbers count
            _number(entry.device[0], 8),
            _number(entry.device[1], 8),
        ]
    ).ljust(TAR_BLOCK - len(before) - 8, b"\0")
    checksum = sum(before) + sum(b" " * 8) + sum(after)  # its own field counts as spaces
    return before + b"%06o\0 " % checksum + after


def _number(value: int, width: int) -> bytes:
    """Return octal digits and a NUL; GNU's base 256 where they end, which is in archives without records alone."""
    if value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return b"\x80" + value.to_bytes(width - 1, "big")
