"""The files that a spec's steps see, packed the same way every time.

The packed context is an uncompressed tar: members sorted, root's, all of one time, and of the mode only whether a file
can be executed. So equal files give equal bytes and an equal digest, wherever and whenever they were checked out.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import IO

from ..build.plan import Context
from ..errors import InputError, NoSpace
from .members import SHOWN_PROBLEMS, Member, Reader, WithOutside, links_out, open_context

NOTICED_LIMIT = 1 << 30  # bytes of a context that are read for its digest alone
_BLOCK = 1 << 20
MEMBER_TIME = 315532800  # 1980-01-01: the oldest time that tar, zip and vfat all hold and none warns about


def pack_context(place: Path, target: Path, outside: Collection[str] = ()) -> Context:
    """Pack a folder or a tar archive (plain, gz, bz2, xz) into `target`, which is whole or not there.

    `outside` are folders that go with it: paths relative to it, which lead out. Memory is constant. Raises InputError
    for anything that cannot be a context, NoSpace when the disk is full.
    """
    try:
        with open_context(place, target.parent) as opened:
            reader = WithOutside(opened, place, outside) if outside else opened
            problems = reader.problems + links_out(reader.members)
            if problems:
                raise InputError("\n".join(f"{place}: {problem}" for problem in problems[:SHOWN_PROBLEMS]))
            return _write(reader, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{target}: no space left for the packed context {place}; free some and try again") from error
        raise InputError(f"{place}: the context cannot be packed: {error}; check the files") from error


def context_digest(place: Path, spool: Path, outside: Collection[str] = (), most: int = NOTICED_LIMIT) -> str | None:
    """Return the digest that a packed context would have; None where its files are larger than `most` bytes together.

    `spool` is a folder in which the files of an archive are unpacked. InputError.
    """
    try:
        with open_context(place, spool) as opened:
            reader = WithOutside(opened, place, outside) if outside else opened
            problems = reader.problems + links_out(reader.members)
            if problems:
                raise InputError("\n".join(f"{place}: {problem}" for problem in problems[:SHOWN_PROBLEMS]))
            if sum(member.size for member in reader.members.values()) > most:
                return None
            return _digest_of(reader)
    except OSError as error:
        raise InputError(f"{place}: the context cannot be read: {error}; check the files") from error


def _digest_of(reader: Reader) -> str:
    digest = hashlib.sha256()
    for name, member in sorted(reader.members.items()):
        _hash_member(name, member, digest)
        if member.kind == "file":
            with reader.open(name) as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
    return digest.hexdigest()


class _Hashed:
    """Reads a file on behalf of tarfile and hashes what goes by."""

    def __init__(self, file: IO[bytes], digest: hashlib._Hash) -> None:
        self.file = file
        self.digest = digest

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        block = self.file.read(size)
        self.digest.update(block)
        return block


def _write(reader: Reader, target: Path) -> Context:
    """Write the packed context beside `target`, then give it that name."""
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8") as archive:
                for name, member in sorted(reader.members.items()):
                    _add(archive, reader, name, member, digest)
            file.flush()
            size = file.tell()
            os.replace(file.name, target)  # noqa: PTH105 - both are names, one of a file that is open
        except BaseException:
            os.unlink(file.name)  # noqa: PTH108 - the same
            raise
    return Context(str(target), digest.hexdigest(), size)


def _add(archive: tarfile.TarFile, reader: Reader, name: str, member: Member, digest: hashlib._Hash) -> None:
    """Write one member and hash it."""
    _hash_member(name, member, digest)
    info = tarfile.TarInfo(name)
    info.mtime, info.uname, info.gname = MEMBER_TIME, "root", "root"
    if member.kind == "file":
        info.size, info.mode = member.size, 0o755 if member.executable else 0o644
        with reader.open(name) as file:
            archive.addfile(info, _Hashed(file, digest))
        return
    info.type, info.linkname = (tarfile.SYMTYPE, member.target) if member.kind == "link" else (tarfile.DIRTYPE, "")
    info.mode = 0o777 if member.kind == "link" else 0o755
    archive.addfile(info)


def _hash_member(name: str, member: Member, digest: hashlib._Hash) -> None:
    """Hash a line with kind, mode and lengths, then the name, then a link's target; the contents of a file follow."""
    encoded, target = name.encode(), member.target.encode()
    mode = "x" if member.executable else "-"
    digest.update(f"{member.kind} {mode} {len(encoded)} {member.size + len(target)}\n".encode() + encoded + target)
