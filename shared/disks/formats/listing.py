"""Prove a tree's archive: GNU tar lists it and takes its contents out, and both are compared with what was read.

The listing has the kind, mode, owner, size or device, time, name and target of each member, and name and size of each
extended attribute. It is compared as a SHA-256 over its lines, and the contents of all files, one after the other, by
their CRC-32, so that neither is kept. GNU tar writes holes as zeros: of trees with more than MOST_HOLES bytes of them
the contents are not taken out, and the digest of the whole archive stands for them.
"""

from __future__ import annotations

import hashlib
import io
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from subprocess import PIPE
from typing import IO, cast

from ...archives import pax
from ...archives.crc32 import crc32, joined
from ...archives.pax import TarEntry
from ...errors import ImageFileError
from ...quantities import GIB
from .halt import Halt, pieces_of, pour

MOST_HOLES = 4 * GIB

_LIST = ("--list", "-vv", "--xattrs", "--xattrs-include=*", "--full-time", "--numeric-owner")
_QUOTED = ("--quoting-style=escape", "--quote-chars= ")
_SPACES = re.compile(rb" +")
_OTHER = re.compile(rb"[^!-\[\]-~]")  # what GNU tar escapes: all but printable ASCII, and the backslash
_NAMED = {7: b"\\a", 8: b"\\b", 9: b"\\t", 10: b"\\n", 11: b"\\v", 12: b"\\f", 13: b"\\r", 32: b"\\ ", 92: b"\\\\"}
_LETTERS = {
    pax.FILE: b"-",
    pax.HARD_LINK: b"h",
    pax.LINK: b"l",
    pax.CHARACTERS: b"c",
    pax.BLOCKS: b"b",
    pax.FOLDER: b"d",
    pax.PIPE: b"p",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000_000
_SQUASHFS_END = (1 << 32) - 1  # seconds since 1970, the last that a squashfs can hold; the first is 0
_PIECE = 1 << 20


@dataclass(frozen=True)
class Seen:
    """An archive's digest over the lines of its listing, and the length and CRC-32 of the contents of all its files."""

    members: int
    listing: str
    length: int
    crc: int


class Expected:
    """What GNU tar must see in the archive of a tree.

    With `kept`, the prefixes of the attributes that a file system keeps, it is what there is in one that has times of
    whole seconds and does not list its root.
    """

    def __init__(self, kept: tuple[bytes, ...] | None = None) -> None:
        self._kept = kept
        self._digest = hashlib.sha256()
        self._members = 0
        self._length = 0
        self._crc = 0

    def member(self, entry: TarEntry) -> None:
        """Take the next member."""
        if self._kept is not None and entry.name == b"./":
            return
        self._members += 1
        for line in _lines(entry, self._kept):
            self._digest.update(line + b"\n")

    def contents(self, crc: int, length: int) -> None:
        """Take the contents of the next file, holes being zeros."""
        self._crc = joined(self._crc, crc, length)
        self._length += length

    @property
    def seen(self) -> Seen:
        """All that was taken."""
        return Seen(self._members, self._digest.hexdigest(), self._length, self._crc)


def look_into_archive(pieces: Iterable[bytes], halt: Halt, *, contents: bool) -> Seen:
    """Let GNU tar look into an archive that comes in pieces. ProgramFailed where it cannot be read."""
    with halt.program(["tar", *_LIST, *_QUOTED, "--file=-"], stdin=PIPE, stdout=PIPE) as lister:
        listing = lister.use_output(_listing)
        if not contents:
            pour(pieces, lister)
            return Seen(*listing.result(), 0, 0)
        with halt.program(["tar", "--extract", "--to-stdout", "--file=-"], stdin=PIPE, stdout=PIPE) as taker:
            taken = taker.use_output(lambda output: sum_of(pieces_of(output, _PIECE)))
            pour(pieces, lister, taker)
            return Seen(*listing.result(), *taken.result())


def compare(what: object, seen: Seen, expected: Seen, *, contents: bool) -> None:
    """Refuse an archive in which GNU tar has seen something else than was read. ImageFileError."""
    if seen.members != expected.members:
        raise ImageFileError(f"{what}: holds {seen.members} files in place of {expected.members}; export it again")
    if seen.listing != expected.listing:
        raise ImageFileError(f"{what}: lists other names, modes, owners or times than the image; export it again")
    if contents and (seen.length, seen.crc) != (expected.length, expected.crc):
        raise ImageFileError(f"{what}: the contents of its files are not those of the image; export it again")


def _lines(entry: TarEntry, kept: tuple[bytes, ...] | None) -> Iterator[bytes]:
    """Yield the lines that GNU tar lists a member with, each run of spaces being one."""
    attributes = {name: value for name, value in entry.attributes.items() if kept is None or name.startswith(kept)}
    mode = _LETTERS[entry.kind] + stat.filemode(entry.mode)[1:].encode()
    size = b"%d,%d" % entry.device if entry.kind in (pax.CHARACTERS, pax.BLOCKS) else b"%d" % entry.size
    moment = entry.mtime_ns if kept is None else min(max(0, entry.mtime_ns // _SECOND), _SQUASHFS_END) * _SECOND
    line = b"%s%s %d/%d %s %s %s" % (
        mode,
        b"*" if attributes else b"",
        entry.user,
        entry.group,
        size,
        _moment(moment),
        _escaped(entry.name),
    )
    if entry.kind == pax.LINK:
        line += b" -> " + _escaped(entry.target)
    elif entry.kind == pax.HARD_LINK:
        line += b" link to " + _escaped(entry.target)
    yield line
    for name in sorted(attributes):
        yield _SPACES.sub(b" ", b" x: %d %s" % (len(attributes[name]), name))


def _moment(nanoseconds: int) -> bytes:
    seconds, fraction = divmod(nanoseconds, _SECOND)
    if seconds < 0 and fraction:  # GNU tar shows the fraction before 1970 as one that counts backwards
        seconds, fraction = seconds + 1, _SECOND - fraction
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S").encode()
    return (text + b".%09d" % fraction).rstrip(b"0") if fraction else text


def _escaped(name: bytes) -> bytes:
    return _OTHER.sub(lambda found: _NAMED.get(found[0][0]) or b"\\%03o" % found[0][0], name)


def _listing(stream: IO[bytes]) -> tuple[int, str]:
    """Return the number of members in a listing and the SHA-256 of its lines, the attributes of each by their names."""
    digest, members = hashlib.sha256(), 0
    attributes: list[bytes] = []
    with io.BufferedReader(cast("io.RawIOBase", stream)) as lines:
        for raw in lines:
            line = _SPACES.sub(b" ", raw.rstrip(b"\n"))
            if line.startswith(b" x: "):
                attributes.append(line)
                continue
            _add(digest, attributes)
            attributes.clear()
            members += 1
            digest.update(line + b"\n")
    _add(digest, attributes)
    return members, digest.hexdigest()


def _add(digest: hashlib._Hash, attributes: list[bytes]) -> None:
    for line in sorted(attributes, key=lambda text: text.split(b" ", 3)[-1]):
        digest.update(line + b"\n")


def sum_of(pieces: Iterable[bytes]) -> tuple[int, int]:
    """Return the length and the CRC-32 of some pieces."""
    length = crc = 0
    for piece in pieces:
        crc = joined(crc, crc32(piece), len(piece))
        length += len(piece)
    return length, crc
