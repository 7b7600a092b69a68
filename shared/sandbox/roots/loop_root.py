"""The root file system of a disk, mounted where it lies: the way of root, which copies nothing.

The ids of its files stay what they are. The mount shows them as those of the sandbox's user namespace. Where the
results of steps are kept, an overlay with their layers lies over it, and what they hold is applied to it at the end. A
disk that is to be the same bytes each time is written anew at the end (write_root.py). The disk has another name
meanwhile: one that was written in part is never taken for a whole one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from pathlib import Path

from ...cache.apply_layer import apply_layer
from ...disks.extents import copy_around
from ...errors import EnvironmentFault, NoSpace
from ...host.programs import run_tool
from ..system_calls import (
    NO_DEVICES,
    attach_loop,
    mount_file_system,
    mount_shifted,
    sync_file_system,
    trim,
    unmount_file_system,
)
from .layer_stack import LayerStack
from .unpack_root import read_kept
from .write_root import remove_devices, write_dated_root

SLACK = 16 << 20  # bytes: a file system that is this much smaller than its partition stays as it is
_RESIZE = 0x40086610  # EXT4_IOC_RESIZE_FS
CAPABILITY = "security.capability"


class LoopRoot:
    """The root file system of a disk file. `below` is an empty folder of this process's mount namespace."""

    def __init__(
        self,
        disk: Path,
        offset: int,
        size: int,
        source: Path,
        below: Path,
        layers: LayerStack | None,
        base: int,
    ) -> None:
        """Mount it. `offset` and `size` are the partition's, in bytes; the disk is of `source`. EnvironmentFault.

        `base` is the first id of the sandbox on the host.
        """
        self._disk, self._offset, self._size, self._source = disk, offset, size, source
        self._layers, self._base = layers, base
        self._plain, self._lower, self.path = below / "plain", below / "lower", below / "root"
        for each in (self._plain, self._lower, self.path):
            each.mkdir()
        try:
            device, path = attach_loop(disk, offset, size)
        except OSError as error:
            raise EnvironmentFault(
                f"the chroot engine has no loop device for {disk}: {error.strerror or error}; run it as another user "
                "than root, or write local.engine: vm"
            ) from error
        try:
            self._mount(path)
            self._grow(path, size)
        except OSError as error:
            raise EnvironmentFault(
                f"this host's kernel does not mount the root file system of {disk}: {error.strerror}; "
                "write local.engine: vm"
            ) from error
        finally:
            os.close(device)

    def _mount(self, path: str) -> None:
        mount_file_system(path, self._plain, "ext4", NO_DEVICES, "errors=remount-ro")

    def _grow(self, path: str, size: int) -> None:
        """Grow the file system to its partition, whose disk may be larger than the source's."""
        found = os.statvfs(self._plain)
        if size - found.f_blocks * found.f_frsize < max(SLACK, size // 8):  # some of it is the file system's own
            return
        blocks = size // found.f_frsize
        try:
            _grow_mounted(self._plain, blocks)
        except PermissionError:  # it takes CAP_SYS_RESOURCE, which root of a container may lack
            unmount_file_system(self._plain)
            run_tool(["resize2fs", "-f", path, str(blocks)])
            self._mount(path)
        except OSError as error:
            raise EnvironmentFault(f"the root file system cannot be grown to {size >> 20} MiB: {error}") from error

    def shift(self, users: int) -> None:
        """Show it with the ids of a user namespace, an open descriptor. EnvironmentFault."""
        try:
            mount_shifted(self._plain, self.path if self._layers is None else self._lower, users)
        except OSError as error:
            raise EnvironmentFault(
                f"this host's kernel cannot shift the ids of a file system ({error.strerror}): the chroot engine needs "
                "Linux 5.12 or newer; write local.engine: vm"
            ) from error

    def begin(self) -> None:
        """Mount what the next steps change at `path`. EnvironmentFault."""
        if self._layers is None:
            return
        state = self._plain.stat()
        owner = (self._base + state.st_uid, self._base + state.st_gid)
        try:
            self._layers.mount(self._lower, self.path, state.st_mode & 0o7777, owner)
        except OSError as error:
            raise EnvironmentFault(
                f"this host's kernel mounts no overlay over a file system with shifted ids ({error.strerror}): the "
                "chroot engine's cache needs Linux 5.19 or newer; build with --no-cache"
            ) from error

    def keep(self) -> None:
        """Keep what the steps since begin() have changed as a layer. OSError."""
        if self._layers is not None:
            unmount_file_system(self.path)
            self._layers.keep()

    def has_room(self) -> bool:
        """Return whether the disk that takes the changes has room. Without layers it is a file of a fixed size."""
        return self._layers is None or self._layers.has_room()

    def finish(self, since: float, written_at: int | None) -> None:
        """Write all to the disk, give unused blocks back, and unmount. NoSpace, EnvironmentFault.

        `since` is when the sandbox began, in Unix seconds; `written_at` the date of a disk that has no later ones.
        """
        old = self._disk.with_name(f"{self._disk.name}.old")
        self._disk.replace(old)
        unmount_file_system(self.path)
        if self._layers is not None:
            unmount_file_system(self._lower)
            self._layers.add_last()
            for layer in self._layers.lower:
                apply_layer(layer, self._plain, self._base)
        try:
            if self._layers is None:  # apply_layer() has written those of layers as they have to be
                lower_capabilities(self._plain, since)
            sync_file_system(self._plain)
            if written_at is not None:
                self._write_anew(old, written_at)
                return
            trim(self._plain)
            unmount_file_system(self._plain)
        except OSError as error:
            text = f"the disk of the image cannot be written: {error.strerror}"
            raise (NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else EnvironmentFault)(text) from error
        old.replace(self._disk)

    def _write_anew(self, old: Path, written_at: int) -> None:
        staged = self._disk.with_name(f"{self._disk.name}.writing")
        copy_around(old, staged, self._offset, self._size)
        kept = read_kept(self._source)
        remove_devices(self._plain, kept.devices)
        write_dated_root(self._plain, staged, kept, written_at, like=self._source)
        unmount_file_system(self._plain)
        staged.replace(self._disk)
        old.unlink()


def _grow_mounted(folder: Path, blocks: int) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(handle, _RESIZE, struct.pack("=Q", blocks))
    finally:
        os.close(handle)


def lower_capabilities(folder: Path, since: float) -> None:
    """Write file capabilities that a sandbox has set as a machine would write them: without a root's id.

    The kernel notes the id of the user namespace's root, here 0, with what is set in one, and does not show that to the
    host's root. Both are worth the same.
    """
    for _, _, files, descriptor in os.fwalk(folder):
        for name in files:
            state = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if state.st_ctime < since or not stat.S_ISREG(state.st_mode):
                continue
            path = f"/proc/self/fd/{descriptor}/{name}"
            try:
                value = os.getxattr(path, CAPABILITY, follow_symlinks=False)
            except OSError:
                continue
            os.setxattr(path, CAPABILITY, value, follow_symlinks=False)
