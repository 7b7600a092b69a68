"""Shortcuts of the comparison of two ext4 file systems: they find out from bytes alone that inodes are the same.

surely_same() is for two of which one is a changed copy of the other, as a build makes it. There, almost all inodes and
blocks are where they were. So the disks are compared block by block, as they lie; an inode is the same when its own
bytes are and when all blocks that it names are. Nothing more has to be known about it, which makes the comparison of
two such images little more than reading them.

alike() is for two images that were packed apart, of which nearly all files differ in nothing but times and places.
Comparing bytes takes a fraction of the time that parsing the inodes takes. Inodes that are not that simple are left to
the full comparison.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import replace

from ...disks.ext4.block_map import single_extent
from ...disks.ext4.layout import Layout
from ...disks.ext4.reader import ENCRYPTED, EXTENTS, INLINE_DATA, Ext4
from .contents import ContentComparison

UNKNOWN, SAME, SAME_FOLDER = 0, 1, 2
"""What is known of an inode; of a folder that is the same, all names and their inodes' numbers are, too."""

_MOST = 1 << 26  # blocks, and inodes, of which one byte each can be kept
_SAMPLES = 16  # groups that are looked into to see whether the file systems are alike
_SAMPLE = 64 << 10
_EXTENT_MAGIC = 0xF30A
_IN_INODE = 4  # extents that an inode itself has room for
_WRITTEN = 32768  # blocks of the longest extent that is not of zeros
# mode, links, flags, header of the extents (magic, entries, depth), four extents, attributes (low, high half)
_RECORD = "<H24xH4xI4xHH2xH4x" + _IN_INODE * "4xHHI" + "4xI10xH"

_FIELDS = struct.Struct("<H2xI18xH4xI68xII6xH")  # mode, size, links, flags, attributes, size (high), attributes (high)
_MAP = slice(40, 100)  # where the contents are, or a link's target
_OLD_INODE = 128
_NOT_SIMPLE = ENCRYPTED | INLINE_DATA


def surely_same(a: Ext4, b: Ext4, contents: ContentComparison) -> bytearray | None:
    """Return what is known of each inode, by its number; None when the file systems are not laid out alike."""
    layouts = [replace(one.layout, uuid=b"", label="", written=0, needs_recovery=False) for one in (a, b)]
    if layouts[0] != layouts[1] or a.layout.attribute_inodes or max(a.layout.blocks, a.layout.inodes) > _MOST:
        return None
    if not _are_mostly_the_same(a, b):
        return None
    block = a.layout.block
    changed = bytearray(a.layout.blocks)  # 1 for each block that is not the same
    for at in contents.different_blocks(a.offset, b.offset, a.layout.size, block):
        changed[at // block] = 1
    known = bytearray(a.layout.inodes + 1)
    for group in range(a.layout.groups):
        if a.table(group) == b.table(group):
            _look(a, b, group, changed, known)
    return known


def _are_mostly_the_same(a: Ext4, b: Ext4) -> bool:
    """Return whether most of the inodes in a few groups have the same bytes."""
    used = same = 0
    step = max(1, a.layout.groups // _SAMPLES)
    size = a.layout.inode
    for group in range(0, a.layout.groups, step):
        ones, others = a.records(group, 0, _SAMPLE), b.records(group, 0, _SAMPLE)
        for at in range(0, len(ones), size):
            if ones[at + 26 : at + 28] != b"\0\0":  # links
                used += 1
                same += ones[at : at + size] == others[at : at + size]
    return same * 2 > used


def _look(a: Ext4, b: Ext4, group: int, changed: bytearray, known: bytearray) -> None:
    """Note what is known of the inodes of a group whose inode table is in the same place in both."""
    layout = a.layout
    whole = layout.inodes_per_group * layout.inode
    number = group * layout.inodes_per_group + 1
    for start in range(0, whole, _SAMPLE):
        length = min(_SAMPLE, whole - start)
        ones = a.records(group, start, length)
        if ones != bytes(length):
            first = (a.table(group) + start) // layout.block
            is_same = changed.find(1, first, first + -(-length // layout.block)) < 0
            a.budget.step(length // layout.inode)
            others = ones if is_same else b.records(group, start, length)
            _look_at_records(ones, others, layout.inode, number + start // layout.inode, changed, known)


def _look_at_records(ones: bytes, others: bytes, size: int, number: int, changed: bytearray, known: bytearray) -> None:
    record = struct.Struct(_RECORD + f"{size - struct.calcsize(_RECORD)}x")
    is_same = ones is others
    for index, (mode, links, flags, magic, entries, depth, *extents, low, high) in enumerate(record.iter_unpack(ones)):
        if not links or low or high:  # unused; or its attributes are in a block that others may share
            continue
        at = index * size
        if not is_same and ones[at : at + size] != others[at : at + size]:
            continue
        if flags & EXTENTS:
            if magic != _EXTENT_MAGIC or depth or entries > _IN_INODE or _is_changed(extents, entries, changed):
                continue
        elif mode & 0xF000 in (stat.S_IFREG, stat.S_IFDIR) and not flags & INLINE_DATA:
            continue  # a block map
        known[number + index] = SAME_FOLDER if mode & 0xF000 == stat.S_IFDIR else SAME


def _is_changed(extents: list[int], entries: int, changed: bytearray) -> bool:
    """Return whether any block of an inode's extents is not the same, or cannot be."""
    for at in range(0, 3 * entries, 3):
        length, high, low = extents[at : at + 3]
        first = low | high << 32
        if length > _WRITTEN or first + length > len(changed) or changed.find(1, first, first + length) >= 0:
            return True
    return False


def alike(a: bytes, b: bytes, layouts: tuple[Layout, Layout]) -> tuple[int, int, int] | None:
    """Compare a file or link with another; None where they differ, or where more has to be known about them.

    Otherwise returns the size of the contents that are still to be compared, in bytes (0 for none), and the blocks of
    both file systems in which they begin, where they are in one piece.
    """
    if (  # all but times, places and checksums; as cheap as can be, which is slices
        a[:8] != b[:8]
        or a[24:28] != b[24:28]
        or a[32:36] != b[32:36]
        or a[104:112] != b[104:112]
        or a[118:124] != b[118:124]
        or len(a) != len(b)
    ):
        return None
    mode, size, links, flags, attributes, size_high, attributes_high = _FIELDS.unpack_from(a)
    if links != 1 or attributes or size_high or attributes_high or flags & _NOT_SIMPLE or not _is_same_behind(a, b):
        return None
    kind = mode & 0xF000
    if kind == stat.S_IFLNK:
        is_inside = 0 < size < _MAP.stop - _MAP.start and not flags & EXTENTS
        return (0, 0, 0) if is_inside and a[_MAP] == b[_MAP] else None
    if kind != stat.S_IFREG:
        return None
    if not size:
        return 0, 0, 0
    if not flags & EXTENTS:
        return None
    one, other = layouts
    first_a = single_extent(a[_MAP], -(-size // one.block), one.blocks)
    first_b = single_extent(b[_MAP], -(-size // other.block), other.blocks)
    return None if first_a is None or first_b is None else (size, first_a, first_b)


def _is_same_behind(a: bytes, b: bytes) -> bool:
    """Return whether the extended attributes that are in the inodes are the same, and begin where they can."""
    if len(a) == _OLD_INODE:
        return True
    length = int.from_bytes(a[128:130], "little")
    if length % 4 or length > len(a) - _OLD_INODE or a[128:130] != b[128:130]:
        return False
    return a[_OLD_INODE + length :] == b[_OLD_INODE + length :]
