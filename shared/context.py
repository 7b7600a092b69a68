"""The files that a spec's steps see, packed the same way every time.

The packed context is an uncompressed tar: members sorted, root's, all of one time, and of the mode only whether a file
can be executed. So equal files give equal bytes and an equal digest, wherever and whenever they were checked out.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import IO

from .context_members import Member, Members, Reader, links_out, open_context, resolve
from .errors import InputError, NoSpace
from .names import quoted
from .plan import Context

SHOWN_PROBLEMS = 10
HINTED_MEMBERS = 2000  # how many names are compared with a wrong one
MEMBER_TIME = 315532800  # 1980-01-01: the oldest time that tar, zip and vfat all hold and none warns about


def scan(place: Path) -> tuple[Members | None, list[str]]:
    """List a folder's or an archive's members, and what is wrong with them; None when nothing could be read.

    The problems read `what is wrong; what to do instead`, at most SHOWN_PROBLEMS of them.
    """
    try:
        with open_context(place, None) as reader:
            members, problems = dict(reader.members), reader.problems + links_out(reader.members)
    except InputError as error:
        return None, [str(error)]
    except OSError as error:
        return None, [f"{place} cannot be read ({error}); check its mode"]
    if len(problems) > SHOWN_PROBLEMS:
        problems = [*problems[:SHOWN_PROBLEMS], f"holds {len(problems) - SHOWN_PROBLEMS} more such members; see above"]
    return members, problems


def pack_context(place: Path, target: Path) -> Context:
    """Pack a folder or a tar archive (plain, gz, bz2, xz) into `target`, which is whole or not there.

    Memory is constant. Raises InputError for anything that cannot be a context, NoSpace when the disk is full.
    """
    try:
        with open_context(place, target.parent) as reader:
            problems = reader.problems + links_out(reader.members)
            if problems:
                raise InputError("\n".join(f"{place}: {problem}" for problem in problems[:SHOWN_PROBLEMS]))
            return _write(reader, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{target}: no space left for the packed context {place}; free some and try again") from error
        raise InputError(f"{place}: the context cannot be packed: {error}; check the files") from error


def missing_file(members: Members, name: str, kinds: Collection[str], place: Path) -> str | None:
    """Say why `name` cannot be used as a file or dir (`kinds`) of the context at `place`; None when it can."""
    path = resolve(members, name)
    if path is None:
        return f"{quoted(name)} leads out of the context {place}; write the path of a file in it"
    member = members.get(path)
    if path and not member:
        close = difflib.get_close_matches(name, list(members)[:HINTED_MEMBERS], n=1)
        hint = f"did you mean {close[0]}?" if close else "put it there, or name a file in it"
        return f"{quoted(name)} is not in the context {place}; {hint}"
    kind = member.kind if member else "dir"
    if kind in kinds:
        return None
    there, wanted = ("folder", "file") if kind == "dir" else ("file", "folder")
    return f"{quoted(name)} is a {there}; write the path of a {wanted}"


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
    """Write one member and hash it: a line with kind, mode and lengths, then name, then contents or target."""
    encoded, target = name.encode(), member.target.encode()
    mode = "x" if member.executable else "-"
    digest.update(f"{member.kind} {mode} {len(encoded)} {member.size + len(target)}\n".encode() + encoded + target)
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
