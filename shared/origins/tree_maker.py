"""Write the members of tar archives into a folder, as the files of a root file system.

The archives are hostile: every path is looked up as one of the folder's (openat2), where links and `..` lead nowhere
else, and every name is made anew (O_EXCL, mkdir). Devices are noted and never made, as by unpack_root.py. Archives are
added in turn, later ones over earlier ones; those of a container's layers may hide names of the layers below:

    FOLDER/.wh.NAME        hides NAME
    FOLDER/.wh..wh..opq    hides all that the folder has in the layers below

Names are any bytes. A path that goes through a link to a folder ends where the link leads, as it does where a
container's tools unpack a layer.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path

from ..archives.inflate import FAULTS
from ..archives.tar_members import TarMembers, data_map
from ..budget import Budget
from ..errors import EnvironmentFault, GoldsmithError, ImageFileError, InputError, NoSpace
from ..host.programs import run_tool
from ..sandbox.roots.unpack_root import DeviceNode, UnpackedRoot, may_be_dropped
from ..sandbox.system_calls import open_in_root
from ..sandbox.user_namespace import IDS, is_in_user_namespace
from .packed import PlainStream

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 256 << 10
_NO_ID = 0xFFFFFFFF
_HIDES, _OPAQUE, _OF_A_TOOL = b".wh.", b".wh..wh..opq", b".wh..wh."
_ATTRIBUTE = "SCHILY.xattr."
_REMEMBERED = 100  # bytes of memory for a path, beside its letters
_DEFAULT_ACL = "system.posix_acl_default"  # what new files in a folder get
_SECOND = 1_000_000_000
_TIMES = range(-(1 << 31) * _SECOND, ((1 << 34) - (1 << 31)) * _SECOND)  # that ext4 can hold
_REFUSED = (errno.EPERM, errno.EOPNOTSUPP)
_OF_THE_ARCHIVE = (
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.E2BIG,
    errno.ERANGE,
    errno.EEXIST,
    errno.EFBIG,
    errno.EPERM,
    errno.EXDEV,
    errno.EMLINK,
)

Parts = tuple[bytes, ...]


class TreeMaker:
    """Makes the files of one root in a new folder, by its absolute path. `subject` is what errors name."""

    def __init__(self, folder: Path, subject: str, budget: Budget) -> None:
        try:
            folder.mkdir()
            folder.chmod(0o755)
            self._root = os.open(folder, _FOLDER)
        except OSError as error:
            raise EnvironmentFault(f"{folder}: {error.strerror}") from error
        self._folder = folder
        self._subject = subject
        self._budget = budget
        self._most_id = IDS - 1 if is_in_user_namespace() else _NO_ID - 1
        self._top = _path_of(self._root)
        self._above: Parts = ()
        self._here = os.dup(self._root)  # the folder of the member that is made
        self._path = b"/"  # its path in the tree, with a `/` at its end
        self._devices: dict[bytes, DeviceNode] = {}
        self._folders: dict[bytes, tuple[int, bytes | None]] = {b"/": (0, None)}  # time and default ACL of each
        self._layer: set[bytes] | None = None  # the paths of the layer at hand
        self._dropped: dict[str, int] = {}
        self.newest = 1
        """When anything in the tree was changed last, in Unix seconds."""

    def add(self, stream: PlainStream, *, layer: bool) -> str:
        """Add all members of an archive; return the SHA-256 of all of it.

        ImageFileError, InputError, NoSpace, EnvironmentFault.
        """
        self._layer = set() if layer else None
        name = ""
        try:
            members = TarMembers(stream, self._budget)
            for member in members:
                name = member.name
                self._add(members, member, stream)
            members.check_end()
            return stream.finish()
        except (*FAULTS, tarfile.TarError) as error:
            raise self._fault(name, error) from error

    def finish(self) -> UnpackedRoot:
        """Set what changes when files are made in a folder, or changes them; return what folders cannot hold."""
        path = b"/"
        try:
            for path, (time, rule) in self._folders.items():
                with suppress(FileNotFoundError, NotADirectoryError):  # gone since, or replaced
                    folder = open_in_root(self._root, path, _FOLDER | os.O_NOFOLLOW)
                    if rule is not None:
                        self._set_attribute(folder, _DEFAULT_ACL, rule)
                    os.utime(folder, ns=(time, time))
                    os.close(folder)
        except OSError as error:
            raise self._fault(os.fsdecode(path), error) from error
        finally:
            os.close(self._here)
            os.close(self._root)
        return UnpackedRoot(tuple(self._devices[path] for path in sorted(self._devices)), {}, self._dropped)

    def _add(self, members: TarMembers, member: tarfile.TarInfo, stream: PlainStream) -> None:
        parts = self._parts(member.name)
        if not parts:
            if not member.isdir():
                raise self._damaged(member.name, "is the root, and no folder")
            self._enter(())
            self._set_folder(self._root, member, b"/")
            return
        name = parts[-1]
        if self._layer is not None and name.startswith(_HIDES):
            with suppress(FileNotFoundError, NotADirectoryError):  # a whiteout of nothing
                os.close(self._open(parts[:-1]))
                self._enter(parts[:-1])
                self._hide(name)
            return
        self._enter(parts[:-1])
        path = self._path + name
        if member.islnk():
            self._link(member, name, path)
        elif member.isdir():
            self._make_folder(member, name, path)
        else:
            self._remove(name)
            self._make(members, member, stream, name)
        self._note(path)

    def _note(self, path: bytes) -> None:
        """Remember that the layer at hand has a path, and so the folders above it."""
        while self._layer is not None and path and path not in self._layer:
            self._count(path)
            self._layer.add(path)
            path = path.rpartition(b"/")[0]

    def _count(self, path: bytes) -> None:
        """Take what a path costs that no member has named, and that is remembered."""
        self._budget.step()
        self._budget.keep(_REMEMBERED + len(path))

    def _parts(self, name: str) -> Parts:
        parts = tuple(part for part in os.fsencode(name).split(b"/") if part not in (b"", b"."))
        if b".." in parts:
            raise self._damaged(name, "leads out of the folder that it is in")
        return parts

    def _enter(self, parts: Parts) -> None:
        """Open the folder of a path's name, and make what is missing of it."""
        if parts == self._above:
            return
        os.close(self._here)
        self._here = -1
        self._here = self._opened(parts)
        self._above = parts
        self._path = self._path_in_tree(self._here)

    def _opened(self, parts: Parts) -> int:
        try:
            return self._open(parts)
        except FileNotFoundError:
            pass
        folder, there = self._open(()), True
        for count in range(1, len(parts) + 1):
            below = self._there(parts[:count]) if there else None
            there = below is not None
            if below is None:
                os.mkdir(parts[count - 1], dir_fd=folder)
                below = os.open(parts[count - 1], _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                os.fchown(below, 0, 0)
                os.fchmod(below, 0o755)
                path = self._path_in_tree(below).rstrip(b"/")
                self._count(path)
                self._folders[path] = 0, None
            os.close(folder)
            folder = below
        return folder

    def _there(self, parts: Parts) -> int | None:
        try:
            return self._open(parts)
        except FileNotFoundError:
            return None

    def _open(self, parts: Parts) -> int:
        return open_in_root(self._root, b"/".join(parts) or b".", _FOLDER)

    def _path_in_tree(self, folder: int) -> bytes:
        return _path_of(folder)[len(self._top) :].rstrip(b"/") + b"/"

    def _make_folder(self, member: tarfile.TarInfo, name: bytes, path: bytes) -> None:
        state = self._state(name)
        if state is None or not stat.S_ISDIR(state.st_mode):
            self._remove(name)
            os.mkdir(name, 0o700, dir_fd=self._here)
        folder = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=self._here)
        try:
            self._set_folder(folder, member, path)
        finally:
            os.close(folder)

    def _set_folder(self, folder: int, member: tarfile.TarInfo, path: bytes) -> None:
        self._set(folder, member)
        self._folders[path] = self._time(member), dict(_attributes(member)).get(_DEFAULT_ACL)

    def _make(self, members: TarMembers, member: tarfile.TarInfo, stream: PlainStream, name: bytes) -> None:
        """Make what is neither a folder nor a hard link."""
        if member.isreg():
            self._make_file(members, member, stream, name)
            return
        if member.ischr() or member.isblk():
            path = os.fsdecode(self._path + name)
            kind = "c" if member.ischr() else "b"
            number = (member.devmajor, member.devminor)
            if not (0 <= number[0] < 1 << 12 and 0 <= number[1] < 1 << 20):
                raise self._damaged(member.name, f"is a device of no possible number: {number[0]}:{number[1]}")
            owner = self._owner(member)
            mode = member.mode & 0o7777
            self._devices[self._path + name] = DeviceNode(path, kind, *number, mode, *owner, self._time(member))
            return
        if member.issym():
            os.symlink(os.fsencode(member.linkname), name, dir_fd=self._here)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=self._here)
        else:
            raise self._damaged(member.name, f"is of the unknown type {member.type!r}")
        os.chown(name, *self._owner(member), dir_fd=self._here, follow_symlinks=False)
        if not member.issym():
            os.chmod(name, member.mode & 0o7777, dir_fd=self._here)
        self._set_attributes(f"/proc/self/fd/{self._here}/{os.fsdecode(name)}", member)
        time = self._time(member)
        os.utime(name, ns=(time, time), dir_fd=self._here, follow_symlinks=False)

    def _make_file(self, members: TarMembers, member: tarfile.TarInfo, stream: PlainStream, name: bytes) -> None:
        descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=self._here)
        try:
            if member.issparse():
                self._write_sparse(members, member, descriptor)
            elif member.size:
                self._write(stream, member, descriptor)
            self._set(descriptor, member)
            time = self._time(member)
            os.utime(descriptor, ns=(time, time))
        finally:
            os.close(descriptor)

    def _write(self, stream: PlainStream, member: tarfile.TarInfo, descriptor: int) -> None:
        stream.seek(member.offset_data)
        left = member.size
        while left:
            data = stream.read(min(left, _PIECE))
            if not data:
                raise EOFError("the archive ends in the middle of it")
            _write_all(descriptor, data)
            left -= len(data)

    def _write_sparse(self, members: TarMembers, member: tarfile.TarInfo, descriptor: int) -> None:
        end = 0
        contents = members.open(member)
        for at, length in data_map(member):
            if length == 0:
                continue
            if at < end or length < 0 or at + length > member.size:
                raise self._damaged(member.name, "has a map of its data that is not in order")
            end = at + length
            contents.seek(at)
            os.lseek(descriptor, at, os.SEEK_SET)
            while at < end:
                data = contents.read(min(end - at, _PIECE))
                if not data:
                    raise EOFError("the archive ends in the middle of it")
                _write_all(descriptor, data)
                at += len(data)
        os.ftruncate(descriptor, member.size)

    def _link(self, member: tarfile.TarInfo, name: bytes, path: bytes) -> None:
        """Make another name of a file, which may be of a layer below."""
        parts = self._parts(member.linkname)
        if not parts:
            raise self._damaged(member.name, "is another name of the root")
        folder = self._open(parts[:-1])
        try:
            first = self._path_in_tree(folder) + parts[-1]
            if first == path:
                raise self._damaged(member.name, "is another name of itself")
            self._remove(name)
            if first in self._devices:
                self._devices[path] = replace(self._devices[first], path=os.fsdecode(path))
                return
            os.link(parts[-1], name, src_dir_fd=folder, dst_dir_fd=self._here, follow_symlinks=False)
        finally:
            os.close(folder)

    def _hide(self, name: bytes) -> None:
        """Obey a whiteout; one of what is not there is none."""
        if name == _OPAQUE:
            self._empty(self._here, self._path)
        elif not name.startswith(_OF_A_TOOL):
            self._hide_below(self._here, self._path, name[len(_HIDES) :])

    def _empty(self, folder: int, path: bytes) -> None:
        """Remove all of an open folder that is of the layers below; devices as well."""
        for name in os.listdir(f"/proc/self/fd/{folder}".encode()):  # noqa: PTH208 - in bytes
            self._hide_below(folder, path, name)
        for device in [device for device in self._devices if device.startswith(path)]:
            if not self._is_of_layer(device):
                del self._devices[device]
        self._budget.step(len(self._devices))

    def _hide_below(self, folder: int, path: bytes, name: bytes) -> None:
        if name in (b"", b".", b".."):
            raise self._damaged(os.fsdecode(path + _HIDES + name), "hides no name")
        if not self._is_of_layer(path + name):
            self._remove(name, folder, path)
            return
        state = self._state(name, folder)
        if state is not None and stat.S_ISDIR(state.st_mode):
            below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            try:
                self._empty(below, path + name + b"/")
            finally:
                os.close(below)

    def _is_of_layer(self, path: bytes) -> bool:
        return self._layer is not None and path in self._layer

    def _remove(self, name: bytes, folder: int | None = None, path: bytes | None = None) -> None:
        """Remove what has a name in a folder, if there is anything."""
        folder = self._here if folder is None else folder
        full = (self._path if path is None else path) + name
        self._devices.pop(full, None)
        state = self._state(name, folder)
        if state is None:
            return
        if not stat.S_ISDIR(state.st_mode):
            os.unlink(name, dir_fd=folder)
            return
        place = f"/proc/self/fd/{folder}/{os.fsdecode(name)}"
        run_tool(["rm", "-rf", "--one-file-system", "--", place], keep_open=[folder])
        self._budget.step(len(self._devices))
        for device in [device for device in self._devices if device.startswith(full + b"/")]:
            del self._devices[device]

    def _state(self, name: bytes, folder: int | None = None) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._here if folder is None else folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _set(self, descriptor: int, member: tarfile.TarInfo) -> None:
        """Set owner, mode and attributes, in an order in which nothing undoes what was set before."""
        os.fchown(descriptor, *self._owner(member))
        os.fchmod(descriptor, member.mode & 0o7777)
        self._set_attributes(descriptor, member)

    def _owner(self, member: tarfile.TarInfo) -> tuple[int, int]:
        if not (0 <= member.uid < _NO_ID and 0 <= member.gid < _NO_ID):
            raise self._damaged(member.name, f"belongs to ids that there cannot be, {member.uid}:{member.gid}")
        if max(member.uid, member.gid) > self._most_id:
            raise InputError(
                f"{self._subject}: {member.name!r} belongs to {member.uid}:{member.gid}, and without root only ids up "
                f"to {self._most_id} can be kept; run this as root"
            )
        return member.uid, member.gid

    def _time(self, member: tarfile.TarInfo) -> int:
        text = member.pax_headers.get("mtime")
        try:
            time = int(Decimal(text) * _SECOND) if text else int(member.mtime) * _SECOND
        except (InvalidOperation, OverflowError, ValueError) as error:
            raise self._damaged(member.name, f"was changed at no time: {str(text)[:40]!r}") from error
        time = min(max(time, _TIMES.start), _TIMES.stop - 1)
        self.newest = max(self.newest, time // _SECOND)
        return time

    def _set_attributes(self, target: int | str, member: tarfile.TarInfo) -> None:
        for name, value in _attributes(member):
            if name == _DEFAULT_ACL:
                continue
            if name.startswith(("trusted.", "user.overlay.")):
                self._drop(name)
            else:
                self._set_attribute(target, name, value)

    def _set_attribute(self, target: int | str, name: str, value: bytes) -> None:
        try:
            if isinstance(target, int):
                os.setxattr(target, name, value)
            else:
                os.setxattr(target, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _REFUSED or (isinstance(target, int) and not may_be_dropped(name)):
                raise
            self._drop(name)

    def _drop(self, name: str) -> None:
        self._dropped[name] = self._dropped.get(name, 0) + 1

    def _damaged(self, name: str, what: str) -> ImageFileError:
        return ImageFileError(f"{self._subject}: {name[:200]!r} {what}; pack it again from its files")

    def _fault(self, name: str, error: Exception) -> GoldsmithError:
        if not isinstance(error, OSError) or error.errno is None:
            where = f"is damaged after {name[:200]!r}" if name else "cannot be read"
            return ImageFileError(f"{self._subject}: {where}: {error}; pack it again from its files")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return NoSpace(f"{self._folder}: the file system is full ({error.strerror}); free some space")
        if error.errno in _OF_THE_ARCHIVE:
            return self._damaged(name, f"cannot be made: {error.strerror}")
        return EnvironmentFault(f"{self._folder}: {name[:200]!r} cannot be made: {error.strerror}")


def _attributes(member: tarfile.TarInfo) -> Iterator[tuple[str, bytes]]:
    """Yield the extended attributes of a member; what Python made text of is bytes again."""
    for key, value in member.pax_headers.items():
        if key.startswith(_ATTRIBUTE):
            yield key.removeprefix(_ATTRIBUTE), value.encode("utf-8", "surrogateescape")


def _path_of(descriptor: int) -> bytes:
    return os.readlink(f"/proc/self/fd/{descriptor}".encode())  # noqa: PTH115 - in bytes


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
