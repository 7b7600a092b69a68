"""Apply what an overlay's upper folder holds to a mounted file system: the way of root, which needs no new one.

    in the upper folder                        done to the root file system
    a character device 0/0                     the name is removed
    a folder with user.overlay.opaque          it is made anew
    another folder                             its members are applied; owner, mode and times are taken over
    anything else                              takes the place of what has its name

Owners are those that a sandbox's user namespace has on the host; `base` is taken from them. What the layer holds is
hostile: no link is followed, on either side.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..disks.extents import data_extents
from ..errors import EnvironmentFault, NoSpace
from ..host.open_folder import OpenFolder
from ..host.programs import run_tool

_OPAQUE = "user.overlay.opaque"
_OWN = "user.overlay."
_CAPABILITY = "security.capability"
_ACL = ("system.posix_acl_access", "system.posix_acl_default")
_NAMED = (0x02, 0x08)  # tags of an ACL's entries that have an id: ACL_USER and ACL_GROUP
_REVISION, _REVISION_2, _REVISION_3 = 0xFF000000, 0x02000000, 0x03000000  # linux/capability.h
_REVISION_2_BYTES = 20
_IDS = 65536  # of a sandbox's user namespace
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 8 << 20
_SAFE = 4000  # bytes of a path by which a hard link can be made


class _Level(NamedTuple):
    names: list[str]  # that are left
    path: str  # below the root, with a `/` at its end


def apply_layer(layer: int, root: Path, base: int) -> None:
    """Apply a layer, an open descriptor of a folder, to a root file system. NoSpace, EnvironmentFault."""
    try:
        with OpenFolder(layer) as source, OpenFolder(root) as target:
            _Applying(source, target, base).all()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                "the image's disk is too small for what the steps have written; write output.disk_size_gb"
            ) from error
        raise EnvironmentFault(f"a layer cannot be applied to the disk: {error.strerror}") from error


class _Applying:
    """Walks through both in step."""

    def __init__(self, source: OpenFolder, target: OpenFolder, base: int) -> None:
        self._source = source
        self._target = target
        self._base = base
        self._top = os.dup(target.descriptor)
        self._links: dict[tuple[int, int], str] = {}  # the first name of a file that has several

    def all(self) -> None:
        """Apply everything."""
        try:
            levels = [_Level(self._source.names(), "")]
            while levels:
                level = levels[-1]
                if level.names:
                    name = level.names.pop()
                    if self._entry(name, level.path):
                        self._source.down(name)
                        self._target.down(name)
                        levels.append(_Level(self._source.names(), f"{level.path}{name}/"))
                    continue
                self._settle(self._source.descriptor, self._target.descriptor, os.fstat(self._source.descriptor))
                levels.pop()
                if levels:
                    self._source.up()
                    self._target.up()
        finally:
            os.close(self._top)

    def _entry(self, name: str, path: str) -> bool:
        """Apply one entry; return whether it is a folder, whose members follow."""
        state = os.stat(name, dir_fd=self._source.descriptor, follow_symlinks=False)
        kind = stat.S_IFMT(state.st_mode)
        if kind == stat.S_IFDIR:
            self._folder(name)
            return True
        self._remove(name)
        if kind == stat.S_IFCHR and state.st_rdev == 0:
            return False
        if self._is_linked(name, path, state):
            return False
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=self._source.descriptor), name, dir_fd=self._target.descriptor)
            os.chown(name, *self._owner(state), dir_fd=self._target.descriptor, follow_symlinks=False)
            times = (state.st_mtime_ns, state.st_mtime_ns)
            os.utime(name, ns=times, dir_fd=self._target.descriptor, follow_symlinks=False)
        elif kind == stat.S_IFREG:
            self._file(name, state)
        else:
            os.mknod(name, state.st_mode, state.st_rdev, dir_fd=self._target.descriptor)
            os.chown(name, *self._owner(state), dir_fd=self._target.descriptor, follow_symlinks=False)
            os.chmod(name, stat.S_IMODE(state.st_mode), dir_fd=self._target.descriptor)
            times = (state.st_mtime_ns, state.st_mtime_ns)
            os.utime(name, ns=times, dir_fd=self._target.descriptor, follow_symlinks=False)
        return False

    def _is_linked(self, name: str, path: str, state: os.stat_result) -> bool:
        """Make another name of a file that has been made; return whether it was one."""
        if state.st_nlink == 1:
            return False
        first = self._links.setdefault((state.st_dev, state.st_ino), path + name)
        if first == path + name or len(os.fsencode(first)) >= _SAFE:
            return False
        os.link(first, name, src_dir_fd=self._top, dst_dir_fd=self._target.descriptor, follow_symlinks=False)
        return True

    def _folder(self, name: str) -> None:
        handle = os.open(name, _READ | os.O_DIRECTORY, dir_fd=self._source.descriptor)
        try:
            with suppress(OSError):
                if os.getxattr(handle, _OPAQUE) == b"y":
                    self._remove(name)
        finally:
            os.close(handle)
        with suppress(FileNotFoundError):
            there = os.stat(name, dir_fd=self._target.descriptor, follow_symlinks=False)
            if stat.S_ISDIR(there.st_mode):
                return
            self._remove(name)
        os.mkdir(name, 0o700, dir_fd=self._target.descriptor)

    def _file(self, name: str, state: os.stat_result) -> None:
        source = os.open(name, _READ, dir_fd=self._source.descriptor)
        try:
            target = os.open(name, _NEW, 0o600, dir_fd=self._target.descriptor)
            try:
                _copy(source, target, state.st_size)
                self._settle(source, target, state)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _settle(self, source: int, target: int, state: os.stat_result) -> None:
        """Take over all but contents, in an order in which nothing undoes what was set before."""
        os.fchown(target, *self._owner(state))
        os.fchmod(target, stat.S_IMODE(state.st_mode))
        wanted = {name: os.getxattr(source, name) for name in os.listxattr(source) if not name.startswith(_OWN)}
        for name in set(os.listxattr(target)) - set(wanted):
            with suppress(OSError):  # a security module's own
                os.removexattr(target, name)
        for name, value in wanted.items():
            os.setxattr(target, name, self._attribute(name, value))
        os.utime(target, ns=(state.st_mtime_ns, state.st_mtime_ns))

    def _attribute(self, name: str, value: bytes) -> bytes:
        if name == _CAPABILITY and int.from_bytes(value[:4], "little") & _REVISION == _REVISION_3:
            magic = int.from_bytes(value[:4], "little") & ~_REVISION | _REVISION_2  # of the machine's root
            return magic.to_bytes(4, "little") + value[4:_REVISION_2_BYTES]
        if name not in _ACL:
            return value
        entries = []
        for tag, permissions, number in struct.iter_unpack("<HHI", value[4:]):
            entries.append(struct.pack("<HHI", tag, permissions, self._own(number) if tag in _NAMED else number))
        return value[:4] + b"".join(entries)

    def _owner(self, state: os.stat_result) -> tuple[int, int]:
        return self._own(state.st_uid), self._own(state.st_gid)

    def _own(self, number: int) -> int:
        """Return the id of an image's user that a host's id stands for. EnvironmentFault."""
        if not self._base <= number < self._base + _IDS:
            raise EnvironmentFault(
                f"a layer has a file of the host's user {number}; throw it away: goldsmith cache verify"
            )
        return number - self._base

    def _remove(self, name: str) -> None:
        folder = self._target.descriptor
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError):
            run_tool(["rm", "-rf", "--one-file-system", "--", f"/proc/self/fd/{folder}/{name}"], keep_open=[folder])


def _copy(source: int, target: int, size: int) -> None:
    """Copy a file's contents; holes stay holes."""
    for start, length in data_extents(source, size):
        os.lseek(target, start, os.SEEK_SET)
        end = start + length
        while start < end and (count := os.sendfile(target, source, start, min(_PIECE, end - start))):
            start += count
    os.ftruncate(target, size)
