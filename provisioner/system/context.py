"""Unpack the context: context.tar of the cidata into a folder that the steps may change.

tarfile takes 0.15 s to import on an emulated CPU, and older versions follow a name wherever it leads. The archives here
were packed by shared/context/packing.py: files, folders and links, with GNU or PAX names. Anything else is refused.

The context's digest is computed meanwhile, over each member's kind, name, mode and contents, as
shared/context/packing.py does. The job has the digest of the context that was asked for, so that an archive that was
replaced in its bucket, or on its way, is not used. Functions read uploaded archives with the same code.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO, Optional, Tuple

BLOCK = 512
NAME_LIMIT = 64 << 10  # bytes of a long name or a PAX header; Linux opens no path of more than 4095
DIGITS = 20  # of a number
CHUNK = 1 << 20
ENTRY_BYTES = 4096  # that a file, folder or link counts beside its contents, where files are held in memory
NAME_SHOWN = 100  # characters of a long name in a message
DEPTH = 100  # folders below each other, where what may be unpacked is bounded

_FILES = (b"0", b"\0", b"7")
_LINK, _FOLDER, _PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_TARGET = b"2", b"5", b"x", b"g", b"L", b"K"


TOO_MUCH = "holds more than may be unpacked"


class ContextError(ValueError):
    """The archive is damaged, or has a member that does not belong in a context."""


class PackedMember:
    """One entry of the archive."""

    def __init__(self, header: bytes) -> None:
        self.kind = header[156:157]
        self.size = _number(header[124:136])
        self.mode = _number(header[100:108]) & 0o777
        prefix = _text(header[345:500]) + "/" if header[257:263] == b"ustar\0" and header[345] else ""
        self.name = prefix + _text(header[0:100])
        self.target = _text(header[157:257])


def unpack_context(archive: str, folder: str, digest: str = "", only: Optional[Sequence[str]] = None) -> None:
    """Unpack an archive, or what patterns select of it, into a folder, which is made where it is absent.

    ContextError; OSError.

    Names cannot lead out: each part is checked, and no member is written through a link. ContextError also where the
    archive has another digest ("" allows any): the unpacked files must not be used then.
    """
    os.makedirs(folder, exist_ok=True)
    with open(archive, "rb") as file:
        found = read_context(file, folder, only)
    if digest and found != digest:
        raise ContextError(f"context.tar is not the one that was asked for: its digest is {found}, not {digest}")


def read_context(
    file: BinaryIO, folder: str = "", only: Optional[Sequence[str]] = None, most: Optional[int] = None
) -> str:
    """Read an archive to its end, and return its digest. ContextError.

    What the patterns `only` select of it, or all if there are none, is unpacked into a folder, if one is given. That is
    an error before more than `most` bytes are taken, also by members without contents and by the folders above them.
    """
    import hashlib  # loads OpenSSL, as the signing of reports does

    digest = hashlib.sha256()
    before: list[str] = []
    for member in _members(file):
        wanted = only is None or is_selected(member.name, only)
        if wanted and most is not None:
            parts = [part for part in member.name.split("/") if part not in ("", ".")]
            most -= _taken(member, parts, before)
            before = parts if member.kind == _FOLDER else parts[:-1]
            if most < 0:
                raise ContextError(TOO_MUCH)
        _place(file, member, folder if wanted else "", digest)
    return digest.hexdigest()


def _taken(member: PackedMember, parts: list[str], before: list[str]) -> int:
    """Return the bytes that a member takes with the folders above it, but for those that the one before had.

    ContextError for too many of these: Python's removal of a tree is recursive.
    """
    if len(parts) > DEPTH:
        raise ContextError(f"context.tar: {member.name[:NAME_SHOWN]!r} lies more than {DEPTH} folders deep")
    same = 0
    while same < min(len(parts) - 1, len(before)) and parts[same] == before[same]:
        same += 1
    return member.size + (len(parts) - same) * ENTRY_BYTES


def selected_digest(file: BinaryIO, patterns: Sequence[str]) -> Tuple[str, int]:
    """Return the digest of what patterns select of an archive, and the number of its members. ContextError."""
    import hashlib

    digest, count = hashlib.sha256(), 0
    for member in _members(file):
        wanted = is_selected(member.name, patterns)
        count += wanted
        _place(file, member, "", digest if wanted else hashlib.sha256())
    return digest.hexdigest(), count


def is_selected(name: str, patterns: Sequence[str]) -> bool:
    """Return whether one of some patterns selects a name of the context.

    `*`, `?` and `[...]` stand for letters of one part of a name, `**` for any parts. A folder is selected with all that
    is in it.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return any(_matches(parts, [part for part in pattern.split("/") if part]) for pattern in patterns)


def _matches(parts: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_matches(parts[index:], pattern[1:]) for index in range(len(parts) + 1))
    if not parts:
        return False
    from fnmatch import fnmatchcase  # loads the module re, which few jobs need

    return fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _members(file: BinaryIO) -> Iterator[PackedMember]:
    """Yield the members of an archive. The caller has to read the contents of each from the file."""
    longer: dict[str, str] = {}
    for member in iter(lambda: _next(file), None):
        if member.kind in (_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_TARGET):
            data = _read(file, _padded(member.size, NAME_LIMIT))[: member.size]
            longer.update(_longer(member.kind, data))
            continue
        member.name = longer.pop("path", member.name)
        member.target = longer.pop("linkpath", member.target)
        if "size" in longer:
            member.size = _decimal(longer.pop("size"))
        yield member


def _next(file: BinaryIO) -> PackedMember | None:
    header = file.read(BLOCK)
    if not header.strip(b"\0"):
        return None
    if len(header) < BLOCK:
        raise ContextError("context.tar ends in the middle of a header")
    if sum(header[:148]) + sum(header[156:]) + 8 * ord(" ") != _number(header[148:156]):
        raise ContextError("context.tar is damaged: the checksum of a header is wrong")
    return PackedMember(header)


def _place(file: BinaryIO, member: PackedMember, folder: str, digest: hashlib._Hash) -> None:
    """Check a member's name and kind, hash it, and write it below the folder, where there is one."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if "\0" in member.name + member.target or not (parts or member.kind == _FOLDER):
        raise ContextError(f"context.tar: {member.name!r} is not a valid name")
    if member.name.startswith("/") or ".." in parts:
        raise ContextError(f"context.tar: {member.name!r} leads out of the context")
    if member.kind not in (_FOLDER, _LINK, *_FILES):
        raise ContextError(f"context.tar: {member.name!r} is neither a file, a folder nor a link")
    digest.update(_head(member))
    if not folder:
        if member.kind in _FILES:
            _copy(file, member, None, digest)
        return
    path = _parent(member, parts, folder)
    if member.kind == _FOLDER:
        os.makedirs(path, exist_ok=True)
        return
    _clear(path)
    if member.kind == _LINK:
        os.symlink(member.target, path)
    else:
        _write(file, member, path, digest)


def _head(member: PackedMember) -> bytes:
    """Return the bytes that are hashed before a member's contents, as shared/context/packing.py makes them."""
    name, target = os.fsencode(member.name.rstrip("/")), b""
    size, kind, executable = 0, "dir", False
    if member.kind == _LINK:
        kind, target = "link", os.fsencode(member.target)
    elif member.kind in _FILES:
        kind, size, executable = "file", member.size, bool(member.mode & 0o100)
    return f"{kind} {'x' if executable else '-'} {len(name)} {size + len(target)}\n".encode() + name + target


def _parent(member: PackedMember, parts: list[str], folder: str) -> str:
    """Make the folders above a member; return its path."""
    path = folder
    for part in parts[:-1]:
        path = os.path.join(path, part)
        if os.path.islink(path):
            raise ContextError(f"context.tar: {member.name!r} lies behind a link")
        os.makedirs(path, exist_ok=True)
    return os.path.join(path, *parts[-1:])


def _clear(path: str) -> None:
    """Remove an earlier member of the same name: nothing may be written through a link."""
    try:  # noqa: SIM105 - nothing else here imports contextlib
        os.unlink(path)
    except FileNotFoundError:
        pass


def _write(file: BinaryIO, member: PackedMember, path: str, digest: hashlib._Hash) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as copy:
        _copy(file, member, copy, digest)
        os.fchmod(handle, member.mode)


def _copy(file: BinaryIO, member: PackedMember, copy: BinaryIO | None, digest: hashlib._Hash) -> None:
    left = member.size
    while left:
        data = _read(file, min(left, CHUNK))
        digest.update(data)
        if copy is not None:
            copy.write(data)
        left -= len(data)
    _read(file, -member.size % BLOCK)


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ContextError("context.tar ends in the middle of a member")
    return data


def _padded(size: int, limit: int) -> int:
    if size > limit:
        raise ContextError(f"context.tar: a name of {size} bytes")
    return size + -size % BLOCK


def _longer(kind: bytes, data: bytes) -> dict[str, str]:
    """Return the fields that a header of kind `kind` sets for the next member: path, linkpath, size."""
    if kind == _GNU_NAME:
        return {"path": _text(data)}
    if kind == _GNU_TARGET:
        return {"linkpath": _text(data)}
    records = {}
    while data and kind == _PAX:
        length = _decimal(data.partition(b" ")[0].decode("ascii", "replace"))
        key, _, value = data[:length].partition(b" ")[2].partition(b"=")
        if length < 5 or data[length - 1 : length] != b"\n":
            raise ContextError("context.tar: a damaged PAX header")
        records[key.decode("utf-8", "replace")] = os.fsdecode(value[:-1])
        data = data[length:]
    return {key: value for key, value in records.items() if key in ("path", "linkpath", "size")}


def _text(field: bytes) -> str:
    return os.fsdecode(field.partition(b"\0")[0])


def _decimal(text: str) -> int:
    if len(text) > DIGITS or not text.isdecimal():
        raise ContextError(f"context.tar: {text[:20]!r} is not a number")
    return int(text)


def _number(field: bytes) -> int:
    """Read an octal number, or GNU's base-256 for sizes from 8 GiB."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
    text = field.partition(b"\0")[0].strip() or b"0"
    if text.strip(b"01234567"):  # int() takes -7 and 1_0 too
        raise ContextError(f"context.tar is damaged: {text!r} is not an octal number")
    return int(text, 8)
