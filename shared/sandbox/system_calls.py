"""Linux's system calls for namespaces and mounts, which Python 3.11 does not offer. Each raises OSError.

Numbers and structures are those of the kernel's headers linux/mount.h, linux/loop.h, linux/sched.h and linux/fs.h, and
are the same on x86-64 and arm64.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

NEW_MOUNTS, NEW_CGROUPS, NEW_NAMES, NEW_IPC = 0x20000, 0x02000000, 0x04000000, 0x08000000
NEW_USERS, NEW_PROCESSES, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000

READ_ONLY, NO_SET_ID, NO_DEVICES, NO_PROGRAMS, REMOUNT = 0x1, 0x2, 0x4, 0x8, 0x20
BIND, RECURSIVE, PRIVATE = 0x1000, 0x4000, 0x40000
DETACH = 2

_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_HERE, _EMPTY_PATH = -100, 0x1000
_CLONE_TREE, _CLOSE_ON_EXEC, _MOVE_EMPTY_PATH = 1, 0x80000, 4
_IDMAP = struct.Struct("=QQQQ")
_ATTR_IDMAP = 0x100000

_LOOP_CONTROL = "/dev/loop-control"
_LOOP_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_LOOP_AUTO_CLEAR = 4
_LOOP_HEAD, _LOOP_INFO, _LOOP_TAIL = struct.Struct("=II"), struct.Struct("=QQQQQIIII"), bytes(64)
_LOOP_INFO_BYTES = 232
_LOOP_TRIES = 64
_TRIM, _TRIM_RANGE = 0xC0185879, struct.Struct("=QQQ")

_PARENT_DEATH, _DUMPABLE, _DROP_BOUND = 1, 4, 24
_OPEN_HOW, _OPENAT2 = struct.Struct("=QQQ"), 437
_NO_MAGIC_LINKS, _IN_ROOT = 0x02, 0x10  # of linux/openat2.h

_library = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def _text(value: str | Path | None) -> bytes | None:
    return None if value is None else os.fsencode(value)


def unshare(flags: int) -> None:
    """Leave namespaces of this process for new ones."""
    _checked(_library.unshare(ctypes.c_int(flags)), "unshare")


def mount_file_system(
    source: str | Path, target: str | Path, kind: str = "", flags: int = 0, options: str = ""
) -> None:
    """Mount a file system."""
    result = _library.mount(
        _text(source), _text(target), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None
    )
    _checked(result, str(target))


def bind(source: str | Path, target: str | Path, flags: int = 0) -> None:
    """Show a file or a folder at another place too. `flags`, such as READ_ONLY, take a second mount."""
    mount_file_system(source, target, flags=BIND)
    if flags:
        mount_file_system("none", target, flags=BIND | REMOUNT | flags)


def keep_mounts_private() -> None:
    """Make later mounts unknown to other mount namespaces."""
    mount_file_system("none", "/", flags=PRIVATE | RECURSIVE)


def unmount_file_system(target: str | Path, flags: int = 0) -> None:
    """Unmount a file system."""
    _checked(_library.umount2(_text(target), ctypes.c_int(flags)), str(target))


def pivot_root(folder: str | Path) -> None:
    """Make a mount the root of this mount namespace, and let go of the old root."""
    os.chdir(folder)
    _checked(_library.syscall(_SYS_PIVOT_ROOT[os.uname().machine], b".", b"."), str(folder))
    unmount_file_system(".", DETACH)
    os.chdir("/")


def mount_shifted(source: str | Path, target: str | Path, users: int) -> None:
    """Show a mounted folder at `target` with the ids of a user namespace, an open descriptor: an idmapped mount.

    Needs Linux 5.12, and a file system that supports it, such as ext4.
    """
    tree = _checked(
        _library.syscall(_OPEN_TREE, _HERE, _text(source), ctypes.c_uint(_CLONE_TREE | _CLOSE_ON_EXEC)), str(source)
    )
    try:
        wanted = _IDMAP.pack(_ATTR_IDMAP, 0, 0, users)
        result = _library.syscall(_MOUNT_SETATTR, tree, b"", _EMPTY_PATH, wanted, ctypes.c_size_t(len(wanted)))
        _checked(result, str(source))
        _checked(_library.syscall(_MOVE_MOUNT, tree, b"", _HERE, _text(target), _MOVE_EMPTY_PATH), str(target))
    finally:
        os.close(tree)


def attach_loop(disk: str | Path, offset: int, size: int) -> tuple[int, str]:
    """Make a loop device of a part of a file, in bytes; return its open descriptor and its path.

    The kernel frees the device once the descriptor is closed and nothing is mounted from it, however that comes.
    """
    control = os.open(_LOOP_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    file = os.open(disk, os.O_RDWR | os.O_CLOEXEC)
    try:
        info = _LOOP_INFO.pack(0, 0, 0, offset, size, 0, 0, 0, _LOOP_AUTO_CLEAR).ljust(_LOOP_INFO_BYTES, b"\0")
        for _ in range(_LOOP_TRIES):
            path = f"/dev/loop{fcntl.ioctl(control, _LOOP_GET_FREE)}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, _LOOP_HEAD.pack(file, 0) + info + _LOOP_TAIL)
            except OSError:  # another process has taken this device meanwhile
                os.close(device)
                continue
            return device, path
        raise OSError(f"no loop device is free after {_LOOP_TRIES} tries")
    finally:
        os.close(file)
        os.close(control)


def trim(folder: str | Path) -> None:
    """Free the unused blocks of a mounted file system on its disk: FITRIM."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(handle, _TRIM, _TRIM_RANGE.pack(0, (1 << 64) - 1, 0))
    finally:
        os.close(handle)


def sync_file_system(folder: str | Path) -> None:
    """Write all of a mounted file system to its disk: syncfs(2), which tells of data that was lost, too."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _checked(_library.syncfs(handle), str(folder))
    finally:
        os.close(handle)


def end_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when its parent ends. A change of ids undoes it."""
    _checked(_library.prctl(_PARENT_DEATH, number, 0, 0, 0), "prctl")


def hide_process() -> None:
    """Close /proc/PID of this process to all but the host's root: its program, memory and descriptors."""
    _checked(_library.prctl(_DUMPABLE, 0, 0, 0, 0), "prctl")


def show_process() -> None:
    """Open /proc/PID of this process to its own user again, which a change of ids has closed."""
    _checked(_library.prctl(_DUMPABLE, 1, 0, 0, 0), "prctl")


def open_in_root(root: int, path: bytes, flags: int) -> int:
    """Open a path for which an open folder is the root: no link, and no `..`, leads out of it. openat2(2)."""
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, 0, _IN_ROOT | _NO_MAGIC_LINKS)
    arguments = (root, ctypes.c_char_p(path), ctypes.c_char_p(how), ctypes.c_size_t(len(how)))
    while True:
        with suppress(BlockingIOError):  # something was renamed meanwhile, anywhere: a `..` may have led elsewhere
            return _checked(_library.syscall(_OPENAT2, *arguments), os.fsdecode(path))


def renounce(capability: int) -> None:
    """Renounce a capability for this process and all that it will start."""
    _checked(_library.prctl(_DROP_BOUND, capability, 0, 0, 0), "prctl")
