"""The members of a context, read from a folder, a tar archive or a single file, and held to the same rules.

Nothing may lead out of a context, since it is unpacked on another machine: links with an absolute target or one above
the context's folder are refused, as are devices, sockets and fifos. `.git` is left out. Members are named by their
path below the context's folder; an archive is never unpacked to read it, so nothing in it can reach this machine.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol

from .budget import CONTEXT, Budget
from .errors import InputError
from .inflate import FAULTS, Inflated, is_packed
from .names import quoted
from .tar_members import TarMembers

SIZE_LIMIT = 4 << 30  # bytes of all files: what a build VM's disk can be expected to take beside the work
MEMBER_LIMIT = 100_000
LEFT_OUT = ".git"

_HOPS = 40  # links followed before it counts as a loop, as in Linux
_PARTS = 1024  # names on the way to a file, those of links on it included
_FOLDER_BYTES = 300  # of memory, beside its name
_PATH_BYTES = 4095  # of a name, and of where a link leads; Linux's
_ARCHIVES = (".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".zip", ".7z", ".rar")
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"7z\xbc\xaf", b"Rar!")
_TAR_MAGIC = 257  # where a tar header says `ustar`
_DAMAGE = (tarfile.TarError, *FAULTS)


@dataclass(frozen=True)
class Member:
    """A file, folder or link of a context."""

    kind: Literal["file", "dir", "link"]
    size: int = 0  # bytes, of a file
    executable: bool = False
    target: str = ""  # of a link


Members = Mapping[str, Member]
"""Path below the context's folder, with slashes, to member."""


def resolve(members: Members, path: str) -> str | None:
    """Follow links without touching the disk; None for a path that leaves the context at any point, or loops."""
    pending, done, hops, parts = path.split("/")[::-1], list[str](), 0, 0
    if path.startswith("/"):
        return None
    while pending:
        part = pending.pop()
        parts += 1
        if parts > _PARTS:
            return None
        if part in ("", "."):
            continue
        if part == "..":
            if not done:
                return None
            done.pop()
            continue
        here = f"{done[-1]}/{part}" if done else part
        member = members.get(here)
        if member and member.kind == "link":
            hops += 1
            if hops > _HOPS or member.target.startswith("/"):
                return None
            pending.extend(member.target.split("/")[::-1])
        else:
            done.append(here)  # each with the path before it: joining them anew for each part takes longer
    return done[-1] if done else ""


def links_out(members: Members) -> list[str]:
    """Give a problem for every link that leads out of the context."""
    links = [name for name, member in members.items() if member.kind == "link"]
    return [
        f"{quoted(name)} is a link to {quoted(members[name].target)}, which leads out of the context or in a circle; "
        "copy the file instead"
        for name in links
        if resolve(members, name) is None
    ]


class Reader(Protocol):
    """An open context: its members, what is wrong with them, and the contents of its files."""

    members: dict[str, Member]
    problems: list[str]

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        ...


@contextlib.contextmanager
def open_context(place: Path, spool: Path | None) -> Iterator[Reader]:
    """Open a context. With `spool`, a folder for temporary files, its members can be read in any order."""
    try:
        status = place.stat()
    except (OSError, ValueError) as error:
        what = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise InputError(f"{place} {what}; write the path of a folder or tar archive") from error
    if stat.S_ISDIR(status.st_mode):
        yield _Folder(place)
    elif not stat.S_ISREG(status.st_mode):
        raise InputError(f"{place} is neither a folder nor a file; write the path of a folder or tar archive")
    elif not _is_archive(place):
        yield _File(place, status)
    else:
        with contextlib.ExitStack() as stack:
            yield _Archive(place, spool, stack)


def _too_large(place: Path) -> InputError:
    return InputError(
        f"{place} holds more than {SIZE_LIMIT >> 30} GiB or {MEMBER_LIMIT} files; "
        "keep large data in a bucket and fetch it in a step"
    )


class _Collector:
    """Members and problems, counted against the limits."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.members: dict[str, Member] = {}
        self.problems: list[str] = []
        self.size = 0

    def add(self, name: str, member: Member) -> None:
        try:
            name.encode()
            member.target.encode()
        except UnicodeEncodeError:
            self.problems.append(f"holds {name!a}, whose name is not UTF-8; rename it")
            return
        if len(name.encode()) > _PATH_BYTES or len(member.target.encode()) > _PATH_BYTES:
            self.problems.append(f"holds {quoted(name)}, or a link to, of more than {_PATH_BYTES} bytes; shorten it")
            return
        self.size += member.size
        if self.size > SIZE_LIMIT or len(self.members) >= MEMBER_LIMIT:
            raise _too_large(self.place)
        self.members[name] = member


class _Folder(_Collector):
    """A context that lies unpacked on disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        pending = [""]
        while pending:
            below = pending.pop()
            try:
                entries = list(os.scandir(folder / below))
            except OSError as error:
                self.problems.append(f"{quoted(below or '.')} cannot be listed: {error.strerror}; check its mode")
                continue
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                if entry.name != LEFT_OUT and self._take(name, entry):
                    pending.append(name)

    def _take(self, name: str, entry: os.DirEntry[str]) -> bool:
        """Note one entry; True for a folder, to be listed in its turn."""
        if entry.is_symlink():
            self.add(name, Member("link", target=os.readlink(entry.path)))  # noqa: PTH115 - Path() would lose "./"
        elif entry.is_dir():
            self.add(name, Member("dir"))
            return True
        elif entry.is_file():
            status = entry.stat()
            self.add(name, Member("file", status.st_size, bool(status.st_mode & stat.S_IXUSR)))
        else:
            self.problems.append(f"{quoted(name)} is a device, socket or fifo; remove it")
        return False

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        return (self.place / name).open("rb")


class _File(_Collector):
    """A context that is one file, and no archive."""

    def __init__(self, path: Path, status: os.stat_result) -> None:
        super().__init__(path)
        self.add(path.name, Member("file", status.st_size, bool(status.st_mode & stat.S_IXUSR)))

    def open(self, name: str) -> IO[bytes]:
        """Open the file for reading."""
        return self.place.open("rb")


def _is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name or by how it begins, whole or not, and of a kind that we read or not."""
    if path.name.lower().endswith(_ARCHIVES):
        return True
    with path.open("rb") as file:
        start = file.read(tarfile.BLOCKSIZE)
    return start.startswith(_PACKED) or start[_TAR_MAGIC:].startswith(b"ustar")


class _Archive(_Collector):
    """A context that is a tar archive."""

    def __init__(self, path: Path, spool: Path | None, stack: contextlib.ExitStack) -> None:
        super().__init__(path)
        self.infos: dict[str, tarfile.TarInfo] = {}
        self.budget = Budget(CONTEXT, path, path.stat().st_size)
        try:
            self.archive = self._open(path, spool, stack)
            for info in self.archive:
                self._take(info)
            self.archive.check_end()
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno:
                raise  # the machine's fault, not the archive's
            raise InputError(f"{path} is no whole tar archive ({error}); pack it again with tar -czf") from error
        self._make_parents()

    def _open(self, path: Path, spool: Path | None, stack: contextlib.ExitStack) -> TarMembers:
        """Open an archive; with `spool`, a compressed one by way of an unnamed file there, to be read in any order."""
        file = stack.enter_context(path.open("rb"))
        packed = is_packed(file.read(tarfile.BLOCKSIZE))
        file.seek(0)
        if not packed:
            return TarMembers(file, self.budget)
        plain = Inflated(file.read, self.budget)
        if spool is None:
            return TarMembers(plain, self.budget)
        return TarMembers(stack.enter_context(_unpacked(plain, path, spool)), self.budget)

    def _take(self, info: tarfile.TarInfo) -> None:
        if len(info.name) > _PATH_BYTES or len(info.linkname) > _PATH_BYTES:  # before it is taken to pieces
            self.problems.append(f"holds a name, or a link to one, of more than {_PATH_BYTES} bytes; shorten it")
            return
        parts = [part for part in info.name.split("/") if part not in ("", ".")]
        name = "/".join(parts)
        if info.name.startswith("/") or ".." in parts:
            self.problems.append(f"{quoted(info.name)} lies outside the context; pack it with relative paths")
        elif not parts or LEFT_OUT in parts:
            return
        elif info.isdir():
            self.add(name, Member("dir"))
        elif info.issym():
            self.add(name, Member("link", target=info.linkname))
        elif info.isreg() or info.islnk():
            first = self._linked(info) if info.islnk() else info
            if first:
                self.infos[name] = first
                self.add(name, Member("file", first.size, bool(first.mode & stat.S_IXUSR)))
        else:
            self.problems.append(f"{quoted(name)} is a device, socket or fifo; remove it")

    def _linked(self, info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        """Find the file that a hard link stands for; it has to come first."""
        target = "/".join(part for part in info.linkname.split("/") if part not in ("", "."))
        if target not in self.infos:
            self.problems.append(f"{quoted(info.name)} is a hard link to a file that is not in the archive; pack both")
        return self.infos.get(target)

    def _make_parents(self) -> None:
        """Make the folders that the archive leaves out; refuse members below a file or a link."""
        for name in list(self.members):
            folder = name.rpartition("/")[0]
            while folder and (found := self.members.get(folder)) is None:
                self.budget.step()
                self.budget.keep(_FOLDER_BYTES + len(folder))
                self.add(folder, Member("dir"))
                folder = folder.rpartition("/")[0]
            if folder and found and found.kind != "dir":
                self.problems.append(f"{quoted(name)} lies below {quoted(folder)}, which is no folder; rename one")

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        return self.archive.open(self.infos[name])


@contextlib.contextmanager
def _unpacked(plain: Inflated, path: Path, spool: Path) -> Iterator[IO[bytes]]:
    """Uncompress a whole archive into an unnamed file."""
    with tempfile.TemporaryFile(dir=spool) as unpacked:
        while block := plain.read(1 << 20):
            unpacked.write(block)
            if unpacked.tell() > SIZE_LIMIT + MEMBER_LIMIT * tarfile.BLOCKSIZE * 2:
                raise _too_large(path)
        unpacked.seek(0)
        yield unpacked
