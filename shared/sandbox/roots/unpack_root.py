"""Read the root file system of a disk into a folder: owners, modes, times, links, holes and extended attributes.

A process without root does it in a user namespace (user_namespace.py), where files belong to subordinate ids. What the
disk holds is hostile: nothing is made through a path of the disk's own. Each name is made anew (O_EXCL, mkdir) in the
open folder that was made before it, no link is followed, and on the way up the folder above has to be the one that the
walk came from.

Device nodes cannot be made in a user namespace, and one would be a whiteout to overlayfs. They are returned and never
made; write_root.py puts them back. Not kept: times of access and change, and the attributes that `dropped` counts:
trusted.*, those that an overlay would take for its own, and labels of security modules where the kernel refuses them.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...disks.disk import Disk
from ...disks.ext4.reader import ENCRYPTED, INLINE_DATA, Ext4, Inode
from ...disks.reader import LETTERS_PER_STEP, DiskReader
from ...disks.root_files import RootUnreadable
from ...errors import EnvironmentFault, GoldsmithError, ImageFileError, InputError, NoSpace
from ...host.open_folder import OpenFolder
from ...host.programs import run_tool
from ..user_namespace import IDS, is_in_user_namespace, run_with_all_ids

KEPT_FLAGS = 0x10 | 0x20 | 0x40 | 0x80
"""Of the flags of an inode: immutable, append-only, no dump, no access time. A copy of a file has none of them."""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SMALL = 256 << 10  # bytes; a file of so many is faster copied through memory than by the kernel
_PIECE = 32 << 20  # bytes that one system call copies
_ACL = {"system.posix_acl_access", "system.posix_acl_default"}
_NO_ID = 0xFFFFFFFF
_NAMED = (0x02, 0x08)  # tags of an ACL's entries that have an id: ACL_USER and ACL_GROUP
_REFUSED = (errno.EPERM, errno.EOPNOTSUPP)
_NO_COPY = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_KEPT_BYTES = 300  # of memory for a name that is remembered, beside its letters


@dataclass(frozen=True)
class DeviceNode:
    """A device of a root file system. `path` begins with `/`; `kind` as in mknod(1); `mode` without the kind."""

    path: str
    kind: str  # b or c
    major: int
    minor: int
    mode: int
    user: int
    group: int
    mtime_ns: int


@dataclass(frozen=True)
class UnpackedRoot:
    """What a folder of files cannot hold of a root file system."""

    devices: tuple[DeviceNode, ...]
    flags: dict[str, int]  # KEPT_FLAGS of the paths that have any
    dropped: dict[str, int]  # attributes that were not kept: how many files had each

    def to_json(self) -> str:
        """Write it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> UnpackedRoot:
        """Read what to_json() wrote."""
        found: dict[str, Any] = json.loads(text)
        return cls(tuple(DeviceNode(**device) for device in found["devices"]), found["flags"], found["dropped"])


def read_kept(disk: Path) -> UnpackedRoot:
    """Return what unpack_root() returns, but for the attributes that are not kept, and make nothing. InputError."""
    devices, flags = [], {}
    with Disk(disk) as opened:
        for path, inode in _root_of(opened).walk():
            if inode.is_device:
                devices.append(_device(path, inode))
            elif inode.flags & KEPT_FLAGS and (inode.is_file or inode.is_folder):
                flags[path] = inode.flags & KEPT_FLAGS
    return UnpackedRoot(tuple(devices), flags, {})


def unpack_root(disk: Path, folder: Path) -> UnpackedRoot:
    """Write all files of a disk's root file system into a folder, which is made. Nothing of it is left after a failure.

    InputError for a root that is not ext4, ImageFileError where the disk is damaged, EnvironmentFault and NoSpace.
    """
    with Disk(disk) as opened:
        file_system = _root_of(opened)
        if file_system.needs_recovery:
            raise ImageFileError(
                f"{disk}: its root file system was cut off in its work, and its journal waits to be replayed; "
                "write engine: vm, or check it with e2fsck"
            )
        return UnpackedRoot.from_json(run_with_all_ids(lambda: _unpack(file_system, opened.reader, folder)))


def _root_of(disk: Disk) -> Ext4:
    try:
        return disk.root.file_system
    except RootUnreadable as error:
        raise InputError(f"{error}; write engine: vm") from error


def remove_unpacked(folder: Path) -> None:
    """Remove a folder that unpack_root() has made: its files may belong to other ids than this user's."""
    run_with_all_ids(lambda: remove_all(folder))


def remove_all(folder: Path) -> str:
    """Remove a folder whose files may belong to any id of this process's namespace; return nothing to say.

    A program does it, since a step can make folders that lie deeper than Python recurses.
    """
    return run_tool(["rm", "-rf", "--one-file-system", "--", folder])


def _unpack(file_system: Ext4, reader: DiskReader, folder: Path) -> str:
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise EnvironmentFault(f"{folder}: {error.strerror}") from error
    try:
        return _Unpacking(file_system, reader, folder).all().to_json()
    except BaseException:
        remove_all(folder)
        raise


class _Level(NamedTuple):
    """A folder on the way down from the root."""

    inode: Inode
    path: str  # with a `/` at its end
    members: Iterator[tuple[str, int]]


class _Unpacking:
    """Makes the files of one file system."""

    def __init__(self, file_system: Ext4, reader: DiskReader, folder: Path) -> None:
        self._files = file_system
        self._reader = reader
        self._folder = folder
        self._most_id = IDS - 1 if is_in_user_namespace() else _NO_ID - 1
        self._links: dict[int, str] = {}  # the first name of a file that has several
        self._devices: list[DeviceNode] = []
        self._flags: dict[str, int] = {}
        self._dropped: dict[str, int] = {}
        self._seen: set[int] = set()
        self._here = OpenFolder(folder)
        self._root = os.dup(self._here.descriptor)

    def all(self) -> UnpackedRoot:
        """Make everything, a folder before its contents."""
        levels: list[_Level] = []
        path = "/"
        try:
            levels.append(self._level("/", self._files.root))
            while levels:
                level = levels[-1]
                for name, number in level.members:
                    path = level.path + name
                    inode = self._files.inode(number)
                    if inode.is_folder:
                        os.mkdir(name, 0o700, dir_fd=self._here.descriptor)
                        self._here.down(name)
                        levels.append(self._level(f"{path}/", inode))
                        break
                    self._make(name, path, inode)
                else:
                    path = level.path
                    self._finish(self._here.descriptor, path, level.inode)
                    levels.pop()
                    if levels:
                        self._here.up()
        except (OSError, ValueError) as error:  # the latter for a link's target with a byte that is zero
            raise self._fault(path, error) from error
        finally:
            os.close(self._here.descriptor)
            os.close(self._root)
        return UnpackedRoot(tuple(self._devices), self._flags, self._dropped)

    def _level(self, path: str, inode: Inode) -> _Level:
        """Begin with a folder, which is open."""
        if inode.number in self._seen:
            raise self._damaged(path, "is a folder in two places")
        self._seen.add(inode.number)
        members = sorted(self._files.entries(inode).items())
        self._files.budget.step(len(path) * len(members) // LETTERS_PER_STEP)
        return _Level(inode, path, iter(members))

    def _make(self, name: str, path: str, inode: Inode) -> None:
        """Make what is no folder."""
        if inode.is_device:
            self._keep(path)
            self._devices.append(_device(path, inode))
            return
        if inode.links > 1:
            first = self._links.get(inode.number)
            if first is not None:
                os.link(first, name, src_dir_fd=self._root, dst_dir_fd=self._here.descriptor, follow_symlinks=False)
                return
            self._keep(path)
            self._links[inode.number] = path[1:]
        if inode.is_file:
            self._make_file(name, path, inode)
            return
        if inode.is_link:
            os.symlink(self._files.link(inode), name, dir_fd=self._here.descriptor)
        else:
            os.mknod(name, inode.mode, dir_fd=self._here.descriptor)  # a FIFO or a socket
        os.chown(name, *self._owner(path, inode), dir_fd=self._here.descriptor, follow_symlinks=False)
        if not inode.is_link:
            os.chmod(name, stat.S_IMODE(inode.mode), dir_fd=self._here.descriptor)
        if inode.attribute_block or inode.extra[:4].strip(b"\0"):
            self._set_attributes(f"/proc/self/fd/{self._here.descriptor}/{name}", path, inode)
        os.utime(name, ns=(inode.mtime_ns, inode.mtime_ns), dir_fd=self._here.descriptor, follow_symlinks=False)

    def _make_file(self, name: str, path: str, inode: Inode) -> None:
        descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=self._here.descriptor)
        try:
            if inode.size:
                self._write(descriptor, inode)
            self._finish(descriptor, path, inode)
        finally:
            os.close(descriptor)

    def _write(self, descriptor: int, inode: Inode) -> None:
        if inode.flags & (INLINE_DATA | ENCRYPTED):
            for at, chunk in self._files.chunks(inode):
                os.pwrite(descriptor, chunk, at)
            return
        place = self._files.place(inode)
        if place is not None:
            self._copy(descriptor, 0, place, inode.size)
            return
        end = 0
        for at, place, length in self._files.extents(inode):
            if place is not None:
                end = at + length
                self._copy(descriptor, at, place, length)
        if end < inode.size:
            os.ftruncate(descriptor, inode.size)

    def _copy(self, descriptor: int, at: int, place: int, length: int) -> None:
        """Copy bytes of the disk into a file; in the kernel, where it can do so and there are many."""
        if length <= _SMALL:
            _write_all(descriptor, self._reader.read(place, length), at)
            return
        self._reader.budget.read(length)
        end = place + length
        while place < end:
            piece = min(end - place, _PIECE)
            try:
                count = os.copy_file_range(self._reader.descriptor, descriptor, piece, place, at)
            except OSError as error:
                if error.errno not in _NO_COPY:
                    raise
                count = 0
            if count == 0:  # another file system, or the disk ends here, which reading tells
                count = min(piece, _SMALL)
                _write_all(descriptor, self._reader.read_uncounted(place, count), at)
            place += count
            at += count

    def _finish(self, descriptor: int, path: str, inode: Inode) -> None:
        """Set all but contents of a file or folder, in an order in which nothing undoes what was set before."""
        os.fchown(descriptor, *self._owner(path, inode))
        os.fchmod(descriptor, stat.S_IMODE(inode.mode))
        if inode.attribute_block or inode.extra[:4].strip(b"\0"):
            self._set_attributes(descriptor, path, inode)
        if inode.flags & KEPT_FLAGS:
            self._keep(path)
            self._flags[path.rstrip("/") or "/"] = inode.flags & KEPT_FLAGS
        os.utime(descriptor, ns=(inode.mtime_ns, inode.mtime_ns))

    def _owner(self, path: str, inode: Inode) -> tuple[int, int]:
        if max(inode.user, inode.group) > self._most_id:
            raise InputError(
                f"{self._files.disk}: {path!r} belongs to {inode.user}:{inode.group}, and without root only ids up to "
                f"{self._most_id} can be kept; write engine: vm, or run this as root"
            )
        return inode.user, inode.group

    def _set_attributes(self, target: int | str, path: str, inode: Inode) -> None:
        for name, value in self._files.attributes(inode).items():
            if name.startswith(("trusted.", "user.overlay.")):
                self._drop(name)
                continue
            data = self._acl(path, value) if name in _ACL else value
            try:
                if isinstance(target, int):
                    os.setxattr(target, name, data)
                else:
                    os.setxattr(target, name, data, follow_symlinks=False)
            except OSError as error:
                is_needed = name in _ACL or name == "security.capability" or isinstance(target, int)
                if error.errno not in _REFUSED or (is_needed and not may_be_dropped(name)):
                    raise
                self._drop(name)

    def _acl(self, path: str, value: bytes) -> bytes:
        """Convert an ACL from ext4's form to that of setxattr(2) (linux/posix_acl_xattr.h)."""
        converted = struct.pack("<I", 2)
        at = 4
        while at < len(value):
            try:
                tag, permissions = struct.unpack_from("<HH", value, at)
                at += 4
                number = _NO_ID
                if tag in _NAMED:
                    (number,) = struct.unpack_from("<I", value, at)
                    at += 4
            except struct.error as error:
                raise self._damaged(path, "has an access control list that is cut off") from error
            converted += struct.pack("<HHI", tag, permissions, number)
        return converted

    def _drop(self, name: str) -> None:
        if name not in self._dropped:
            self._keep(name)
        self._dropped[name] = self._dropped.get(name, 0) + 1

    def _keep(self, path: str) -> None:
        self._files.budget.keep(_KEPT_BYTES + 2 * len(path))

    def _damaged(self, path: str, what: str) -> ImageFileError:
        return ImageFileError(f"{self._files.disk}: is damaged: {path!r} {what}; check it with e2fsck")

    def _fault(self, path: str, error: OSError | ValueError) -> GoldsmithError:
        if isinstance(error, ValueError):
            return self._damaged(path, "cannot be made by any system")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return NoSpace(f"{self._folder}: the file system is full ({error.strerror}); free some space")
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.ENOENT, errno.E2BIG, errno.ERANGE, errno.EEXIST):
            return ImageFileError(f"{self._files.disk}: {path!r} cannot be made: {error.strerror}")
        return EnvironmentFault(f"{self._folder}: {path!r} cannot be made: {error.strerror}")


def may_be_dropped(name: str) -> bool:
    """Return whether an attribute is of a security module or a file system, of which this kernel may know nothing."""
    return name.startswith(("security.", "system.")) and name not in _ACL and name != "security.capability"


def _write_all(descriptor: int, data: bytes, at: int) -> None:
    """Write all of some bytes: a call may write fewer where room or a limit ends."""
    written = os.pwrite(descriptor, data, at)
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], at + written)


def _device(path: str, inode: Inode) -> DeviceNode:
    """Describe a device. Its number is in the old form of 16 bits, or in the new one of 32 (linux/kdev_t.h)."""
    old = int.from_bytes(inode.block_map[:4], "little")
    number = inode.device
    if old:
        major, minor = number >> 8 & 0xFF, number & 0xFF
    else:
        major, minor = number >> 8 & 0xFFF, (number & 0xFF) | (number >> 12 & 0xFFF00)
    kind = "c" if stat.S_ISCHR(inode.mode) else "b"
    return DeviceNode(path, kind, major, minor, stat.S_IMODE(inode.mode), inode.user, inode.group, inode.mtime_ns)
