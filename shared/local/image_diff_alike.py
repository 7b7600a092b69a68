"""What is surely the same in two ext4 file systems of which one is a changed copy of the other, as a build makes it.

There, almost all inodes and blocks are where they were. So the disks are compared block by block, as they lie; an inode
is the same when its own bytes are and when all blocks that it names are. Nothing more has to be known about it, which
makes the comparison of two such images little more than reading them.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import replace

from .ext4 import Ext4
from .ext4_inode import EXTENTS, INLINE_DATA
from .image_diff_contents import Contents

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


def surely_same(a: Ext4, b: Ext4, contents: Contents) -> bytearray | None:
    """Say for each inode's number what is known of it; None when the file systems are not laid out alike."""
    layouts = [replace(one.layout, uuid=b"", needs_recovery=False) for one in (a, b)]
    if layouts[0] != layouts[1] or a.layout.attribute_inodes or max(a.layout.blocks, a.layout.inodes) > _MOST:
        return None
    if not _are_alike(a, b):
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


def _are_alike(a: Ext4, b: Ext4) -> bool:
    """Whether most of the inodes in a few groups have the same bytes."""
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
    """Whether any block of an inode's extents is not the same, or cannot be."""
    for at in range(0, 3 * entries, 3):
        length, high, low = extents[at : at + 3]
        first = low | high << 32
        if length > _WRITTEN or first + length > len(changed) or changed.find(1, first, first + length) >= 0:
            return True
    return False
