"""Inodes of ext2, ext3 and ext4, from their bytes on the disk (struct ext4_inode of the kernel's fs/ext4/ext4.h)."""

from __future__ import annotations

import stat
import struct
from typing import NamedTuple

from .ext4_layout import Damaged, Layout

ROOT = 2
IMMUTABLE, APPEND_ONLY = 0x10, 0x20
ENCRYPTED, EXTENTS, VERITY, INLINE_DATA, CASE_FOLDED = 0x800, 0x80000, 0x100000, 0x10000000, 0x40000000

_OLD_BYTES = 128  # what every inode has; what follows is `extra`
_HEAD = struct.Struct("<HHI4xii4xHH4xI4x60s4xII6xHHH")
_EXTRA = struct.Struct("<H2xII")
_NANOSECONDS = 1_000_000_000


class Inode(NamedTuple):
    """A file, folder, link or device. `mode` as in stat(2), with the type; `size` in bytes; times in ns since 1970."""

    number: int
    mode: int
    user: int
    group: int
    size: int
    links: int
    mtime_ns: int
    ctime_ns: int
    flags: int  # as lsattr shows them: IMMUTABLE, ENCRYPTED, VERITY, ...
    block_map: bytes  # 60 bytes: the root of the extent tree, block numbers, inline data, a link's target, or a device
    attribute_block: int  # with further extended attributes; 0 for none
    extra: bytes  # behind the fields: the extended attributes that are in the inode itself

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is an ordinary file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_device(self) -> bool:
        """Whether it is a character or block device."""
        return stat.S_ISCHR(self.mode) or stat.S_ISBLK(self.mode)

    @property
    def device(self) -> int:
        """The number of a device, as the kernel encodes it for 32 bits; 0 for all else."""
        if not self.is_device:
            return 0
        old, new = self.block_map[:4], self.block_map[4:8]
        return int.from_bytes(old, "little") or int.from_bytes(new, "little")


def parse(number: int, record: bytes, layout: Layout) -> Inode:
    """Read an inode. Damaged when it is not in use, or cannot be one."""
    (mode, user, size, ctime, mtime, group, links, flags, block_map, attributes, size_high, *high) = _HEAD.unpack_from(
        record
    )
    if not links or mode & 0xF000 not in _KINDS:
        raise Damaged("is named in a folder and not in use")
    if size_high and (stat.S_ISREG(mode) or layout.large_folders):
        size |= size_high << 32
    mtime_ns, ctime_ns = mtime * _NANOSECONDS, ctime * _NANOSECONDS
    extra = b""
    if len(record) > _OLD_BYTES:
        length, ctime_extra, mtime_extra = _EXTRA.unpack_from(record, _OLD_BYTES)
        if length % 4 or length > len(record) - _OLD_BYTES:
            raise Damaged(f"has {length} bytes of further fields")
        if length >= 8 and ctime_extra:
            ctime_ns += _later(ctime_extra)
        if length >= 12 and mtime_extra:
            mtime_ns += _later(mtime_extra)
        extra = record[_OLD_BYTES + length :]
    attributes |= high[0] << 32
    user |= high[1] << 16
    group |= high[2] << 16
    fields = (number, mode, user, group, size, links, mtime_ns, ctime_ns, flags, block_map, attributes, extra)
    return tuple.__new__(Inode, fields)  # what Inode(...) does, in half of its time


def _later(extra: int) -> int:
    """Give the nanoseconds, and the two bits of seconds beyond 2038, that the field beside a time holds."""
    return (extra >> 2) + ((extra & 3) << 32) * _NANOSECONDS


_KINDS = frozenset([stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
