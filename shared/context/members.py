"""The members of a context, read from a folder, a tar archive or a single file, and held to the same rules.

Nothing may lead out of a context, since it is unpacked on another machine: links with an absolute target or one above
the context's folder are refused, unless they mean the image, as are devices, sockets and fifos. `.git` is left out.
Members are named by their path below the context's folder; an archive is never unpacked to read it, so nothing in it
can reach this machine.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import stat
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol

from provisioner.system import script_text

from ..archives.inflate import FAULTS, Inflated, is_packed
from ..archives.tar_members import TarMembers
from ..budget import CONTEXT_BOUNDS, Budget
from ..errors import InputError
from ..names import quoted
from .outside import OUTSIDE, packed_place

SIZE_LIMIT = 4 << 30  # bytes of all files: what a build VM's disk can be expected to take beside the work
MEMBER_LIMIT = 100_000
SHOWN_PROBLEMS = 10
HINTED_MEMBERS = 2000  # how many names are compared with a wrong one
LEFT_OUT = ".git"
STATIC = "static"  # the folder of an element whose files are copied to the image

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


def resolve_link(members: Members, path: str) -> str | None:
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
    """Return a problem for every link that leads out of the context, unless it is meant for the image."""
    links = [name for name, member in members.items() if member.kind == "link" and not _is_for_image(name, member)]
    return [
        f"{quoted(name)} is a link to {quoted(members[name].target)}, which leads out of the context or in a circle; "
        "copy the file instead"
        for name in links
        if resolve_link(members, name) is None
    ]


def _is_for_image(name: str, link: Member) -> bool:
    """Return whether a link means a place of the image: that of a masked unit, or of an element's `static` files."""
    return link.target == "/dev/null" or (link.target.startswith("/") and STATIC in name.split("/")[:-1])


@dataclass(frozen=True)
class Scan:
    """The members of a folder or an archive; none where nothing could be read.

    The problems read `what is wrong; what to do instead`, at most SHOWN_PROBLEMS of them.
    """

    members: Members | None
    problems: list[str]
    script_faults: Mapping[str, str]  # by the script's name, of those that were asked for


def scan(place: Path, scripts: Collection[str] = ()) -> Scan:
    """List a folder's or an archive's members, and look into the files of it that are scripts."""
    try:
        with open_context(place, None, scripts) as reader:
            members, problems = dict(reader.members), reader.problems + links_out(reader.members)
            faults = dict(reader.script_faults)
            real = {name: path for name in scripts if (path := _real_name(reader, name)) != name}
        if real:  # what links lead to is known once all members are
            with open_context(place, None, frozenset(real.values())) as reader:
                faults |= {name: reader.script_faults[it] for name, it in real.items() if it in reader.script_faults}
    except InputError as error:
        return Scan(None, [str(error)], {})
    except OSError as error:
        return Scan(None, [f"{place} cannot be read ({error}); check its mode"], {})
    if len(problems) > SHOWN_PROBLEMS:
        problems = [*problems[:SHOWN_PROBLEMS], f"holds {len(problems) - SHOWN_PROBLEMS} more such members; see above"]
    return Scan(members, problems, faults)


def _real_name(reader: Reader, name: str) -> str:
    """Return the member that has the contents of a file, which may be a link of either kind; itself for no file."""
    path = resolve_link(reader.members, name) or name
    return reader.twins.get(path, path)


def missing_file(members: Members, name: str, kinds: Collection[str], place: Path) -> str | None:
    """Return why `name` cannot be used as a file or dir (`kinds`) of the context at `place`; None when it can."""
    path = resolve_link(members, name)
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


class Reader(Protocol):
    """An open context: its members, what is wrong with them, and the contents of its files."""

    members: dict[str, Member]
    problems: list[str]
    script_faults: dict[str, str]
    twins: dict[str, str]  # of files that are hard links: the member that has their contents

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        ...


@contextlib.contextmanager
def open_context(place: Path, spool: Path | None, scripts: Collection[str] = ()) -> Iterator[Reader]:
    """Open a context, and look into the files of it that are `scripts`.

    With `spool`, a folder for temporary files, its members can be read in any order.
    """
    try:
        status = place.stat()
    except (OSError, ValueError) as error:
        what = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise InputError(f"{place} {what}; write the path of a folder or tar archive") from error
    if stat.S_ISDIR(status.st_mode):
        yield _Folder(place, scripts)
    elif not stat.S_ISREG(status.st_mode):
        raise InputError(f"{place} is neither a folder nor a file; write the path of a folder or tar archive")
    elif not _is_archive(place):
        yield _File(place, status, scripts)
    else:
        with contextlib.ExitStack() as stack:
            yield _Archive(place, spool, stack, scripts)


def _too_large(place: Path) -> InputError:
    return InputError(
        f"{place} holds more than {SIZE_LIMIT >> 30} GiB or {MEMBER_LIMIT} files; "
        "keep large data in a bucket and fetch it in a step"
    )


class _Collector:
    """Members and problems, counted against the limits."""

    def __init__(self, place: Path, scripts: Collection[str]) -> None:
        self.place = place
        self.scripts = scripts
        self.script_faults: dict[str, str] = {}
        self.twins: dict[str, str] = {}
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

    def look_into(self, name: str, file: IO[bytes]) -> None:
        """Note what is wrong with the text of a script."""
        if wrong := script_text.fault(file.read(script_text.LOOK)):
            self.script_faults[name] = wrong


class _Folder(_Collector):
    """A context that lies unpacked on disk."""

    def __init__(self, folder: Path, scripts: Collection[str]) -> None:
        super().__init__(folder, scripts)
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
            if name in self.scripts:
                with self.open(name) as file:
                    self.look_into(name, file)
        else:
            self.problems.append(f"{quoted(name)} is a device, socket or fifo; remove it")
        return False

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        return (self.place / name).open("rb")


class _File(_Collector):
    """A context that is one file, and no archive."""

    def __init__(self, path: Path, status: os.stat_result, scripts: Collection[str]) -> None:
        super().__init__(path, scripts)
        self.add(path.name, Member("file", status.st_size, bool(status.st_mode & stat.S_IXUSR)))
        if path.name in scripts:
            with self.open(path.name) as file:
                self.look_into(path.name, file)

    def open(self, name: str) -> IO[bytes]:
        """Open the file for reading."""
        return self.place.open("rb")


def _is_archive(path: Path) -> bool:
    """Return whether a file is an archive by its name or first bytes; it may be damaged, or of an unsupported kind."""
    if path.name.lower().endswith(_ARCHIVES):
        return True
    with path.open("rb") as file:
        start = file.read(tarfile.BLOCKSIZE)
    return start.startswith(_PACKED) or start[_TAR_MAGIC:].startswith(b"ustar")


class _Archive(_Collector):
    """A context that is a tar archive."""

    def __init__(self, path: Path, spool: Path | None, stack: contextlib.ExitStack, scripts: Collection[str]) -> None:
        super().__init__(path, scripts)
        self.infos: dict[str, tarfile.TarInfo] = {}
        self.budget = Budget(CONTEXT_BOUNDS, path, path.stat().st_size)
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
                if info.islnk():
                    target = _plain_name(info.linkname)
                    self.twins[name] = self.twins.get(target, target)
                self.add(name, Member("file", first.size, bool(first.mode & stat.S_IXUSR)))
            if info.isreg() and name in self.scripts:
                self.look_into(name, self.archive.open(info))
        else:
            self.problems.append(f"{quoted(name)} is a device, socket or fifo; remove it")

    def _linked(self, info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        """Find the file that a hard link stands for; it has to come first."""
        target = _plain_name(info.linkname)
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


def _plain_name(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


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


def beside(place: Path, path: str) -> Path:
    """Return a folder outside of the context at `place`, which may be a file."""
    return Path(os.path.normpath(place / path))


def files_of(folder: Path) -> dict[str, Path]:
    """Return the regular files of a folder, by name. OSError."""
    with os.scandir(folder) as entries:
        return {entry.name: Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False)}


class WithOutside:
    """An open context with the files of folders outside of it. InputError, OSError."""

    def __init__(self, reader: Reader, place: Path, folders: Collection[str]) -> None:
        self._reader = reader
        self._files: dict[str, Path] = {}
        self.members, self.problems = dict(reader.members), list(reader.problems)
        self.script_faults, self.twins = reader.script_faults, reader.twins
        for path in folders:
            add = self._add_all if path.endswith("/") else self._add
            add(beside(place, path), packed_place(path))
        if sum(member.size for member in self.members.values()) > SIZE_LIMIT:
            raise InputError(f"{place} and what goes with it hold more than {SIZE_LIMIT >> 30} GiB; fetch it in a step")

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        return self._files[name].open("rb") if name in self._files else self._reader.open(name)

    def _make(self, folder: Path, name: str) -> None:
        if OUTSIDE in self._reader.members:
            self.problems.append(f"holds {OUTSIDE}, where the files of {folder} go; rename it")
        parts = name.split("/")
        self.members |= {"/".join(parts[: count + 1]): Member("dir") for count in range(len(parts))}

    def _add_all(self, folder: Path, name: str) -> None:
        """Add all that is below a folder, with its links."""
        self._make(folder, name)
        found = _Folder(folder, ())
        self.problems += [f"has beside it {folder}, which {problem}" for problem in found.problems]
        self.members |= {f"{name}/{inner}": member for inner, member in found.members.items()}
        self._files |= {f"{name}/{inner}": folder / inner for inner, it in found.members.items() if it.kind == "file"}

    def _add(self, folder: Path, name: str) -> None:
        self._make(folder, name)
        for file, path in files_of(folder).items():
            self._files[f"{name}/{file}"] = path
            self.members[f"{name}/{file}"] = Member("file", path.stat().st_size)
