"""Root file systems with something of everything, and what has to be found of them wherever they are."""

import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.disks.disk import Disk
from shared.disks.ext4.reader import Ext4, Inode
from tests.shared.disks.ext4_trees import varied_tree
from tests.shared.disks.small_disks import MIB, rooted, tool

Description = dict[str, dict[str, Any]]

ROOT_START = 2 * MIB  # as rooted() lays it out
CAPABILITY = struct.pack("<5I", 0x02000001, 0x2400, 0, 0, 0)  # version 2, effective: net_bind_service and net_raw
ACL = ((1, 6, None), (2, 4, 1000), (4, 4, None), (8, 6, 65534), (16, 6, None), (32, 4, None))
NANOSECONDS = 123_456_789
_ATTRIBUTES = ("user.", "security.capability", "system.posix_acl")


def packed_acl(named: tuple[tuple[int, int, int | None], ...] = ACL) -> bytes:
    """Pack an ACL as setxattr(2) takes it."""
    entries = (struct.pack("<HHI", tag, mode, 0xFFFFFFFF if owner is None else owner) for tag, mode, owner in named)
    return struct.pack("<I", 2) + b"".join(entries)


def full_disk(folder: Path, size: int = 32 * MIB) -> Path:
    """Make a disk whose root has what only root could make in a folder; debugfs makes it, for any user."""
    tree = varied_tree(folder / "tree")
    with (tree / "large").open("wb") as file:
        file.truncate((2 << 30) + 10)
        file.seek(2 << 30)
        file.write(b"behind 2^31")
    (tree / "capable").write_text("program")
    (tree / "noted").write_text("file")
    (tree / "flagged").write_text("file")
    os.mknod(tree / "socket", stat.S_IFSOCK | 0o755)
    (tree / ("x" * 255)).touch()
    values = folder / "values"
    values.mkdir()
    for name, value in {"cap": CAPABILITY, "acl": packed_acl(), "long": b"v" * 3000, "empty": b""}.items():
        (values / name).write_bytes(value)
    disk = rooted(folder / "disk.raw", tree, size)
    requests = f"""
ea_set -f {values}/cap capable security.capability
ea_set -f {values}/acl noted system.posix_acl_access
ea_set -f {values}/acl deep system.posix_acl_default
ea_set -f {values}/long noted user.long
ea_set noted user.short 1
set_inode_field noted mode 0100664
ea_set noted trusted.overlay.opaque y
ea_set noted user.overlay.opaque y
ea_set -f {values}/long empty user.folder
ea_set / user.root 1
set_inode_field / uid 7
set_inode_field / gid 8
set_inode_field / mode 040751
set_inode_field / mtime @1600000000
set_inode_field deep uid 1000
set_inode_field deep gid 65534
set_inode_field short uid 42
set_inode_field pipe gid 43
set_inode_field pipe mode 010640
set_inode_field socket uid 44
set_inode_field setuid uid 100
set_inode_field setuid mtime_extra {NANOSECONDS << 2:#x}
set_inode_field short mtime_extra {(NANOSECONDS + 1) << 2:#x}
set_inode_field deep mtime_extra {(NANOSECONDS + 2) << 2 | 1:#x}
set_inode_field flagged flags 0x800d0
mkdir dev
cd dev
mknod console c 5 1
mknod disk b 1 1
mknod null c 1 3
set_inode_field null mode 020666
set_inode_field disk block[0] 0
set_inode_field disk block[1] {(300000 & 0xFF) | 259 << 8 | (300000 & ~0xFF) << 12:#x}
set_inode_field disk gid 6
set_inode_field disk mtime @1234567890
"""
    tool("debugfs", "-w", "-f", "-", f"{disk}?offset={ROOT_START}", stdin=requests)
    return disk


def on_disk(disk: Path) -> Description:
    """Describe the root file system of a disk, by our own reader."""
    with Disk(disk) as opened:
        files = opened.root.file_system
        first: dict[int, str] = {}
        return {
            path: _of_inode(files, inode) | {"same as": first.setdefault(inode.number, path)}
            for path, inode in files.walk()
        }


def _of_inode(files: Ext4, inode: Inode) -> dict[str, Any]:
    attributes = {
        name: hashlib.sha256(value).hexdigest()
        for name, value in files.attributes(inode).items()
        if name.startswith(_ATTRIBUTES) and not name.startswith("user.overlay.")
    }
    found: dict[str, Any] = {
        "mode": inode.mode,
        "owner": [inode.user, inode.group],
        "mtime": inode.mtime_ns,
        "attributes": attributes,
    }
    if inode.is_link:
        found["target"] = files.link(inode)
    if inode.is_device:
        found["device"] = inode.device
    if inode.is_file:
        found |= {"size": inode.size, "contents": _digest(files.chunks(inode))}
    return found


def in_folder(folder: Path) -> Description:
    """Describe a tree of this machine in the same way, as this process sees its owners."""
    first: dict[int, str] = {}
    found = {}
    for path in _walk(os.fsencode(folder)):
        name = "/" + os.fsdecode(path[len(os.fsencode(folder)) + 1 :])
        state = os.lstat(path)
        found[name] = _of_file(path, state) | {"same as": first.setdefault(state.st_ino, name)}
    return found


def _walk(path: bytes) -> Iterator[bytes]:
    yield path
    if stat.S_ISDIR(os.lstat(path).st_mode):
        for name in sorted(os.listdir(path), key=os.fsdecode):  # noqa: PTH208 - in bytes
            yield from _walk(path + b"/" + name)


def _of_file(path: bytes, state: os.stat_result) -> dict[str, Any]:
    names = os.listxattr(path, follow_symlinks=False)
    values = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    found: dict[str, Any] = {
        "mode": state.st_mode,
        "owner": [state.st_uid, state.st_gid],
        "mtime": state.st_mtime_ns,
        "attributes": {name: hashlib.sha256(_as_on_disk(name, value)).hexdigest() for name, value in values.items()},
    }
    if stat.S_ISLNK(state.st_mode):
        found["target"] = os.fsdecode(os.readlink(path))  # noqa: PTH115 - in bytes
    if stat.S_ISREG(state.st_mode):
        with open(path, "rb") as file:  # noqa: PTH123 - a path in bytes
            pieces = _data(file.fileno(), state.st_size)
            found |= {"size": state.st_size, "contents": _digest(pieces)}
    return found


def _as_on_disk(name: str, value: bytes) -> bytes:
    """Convert an ACL to ext4's form: version 1, and no id where there is none."""
    if not name.startswith("system.posix_acl"):
        return value
    entries = struct.iter_unpack("<HHI", value[4:])
    return struct.pack("<I", 1) + b"".join(
        struct.pack("<HH", tag, mode) + (struct.pack("<I", owner) if tag in (2, 8) else b"")
        for tag, mode, owner in entries
    )


def _data(descriptor: int, size: int) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < size:
        try:
            at = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:
            return
        data = os.pread(descriptor, min(MIB, os.lseek(descriptor, at, os.SEEK_HOLE) - at), at)
        yield at, data
        at += len(data)


def _digest(pieces: Iterator[tuple[int, bytes]]) -> str:
    """Digest the bytes that are not zero, with their places: the same with and without holes."""
    digest = hashlib.sha256()
    for at, data in pieces:
        for start in range(0, len(data), 512):
            block = data[start : start + 512].rstrip(b"\0")
            if block:
                digest.update(f"{at + start} {len(block)} ".encode() + block)
    return digest.hexdigest()
