"""The names in a folder of ext2, ext3 or ext4.

An index of the names (htree) hides in what looks like unused room, and is not needed to read them all.
"""

from __future__ import annotations

import struct

from .ext4_layout import Damaged

_ENTRY = struct.Struct("<IHBB")  # inode, length of the entry, length of the name, kind
_MOST_NAMES = 1 << 20  # in one folder: more would be more memory than one may ask for
_PARENT_BYTES = 4  # of a folder inside its inode: the parent's number, before the entries


def entries_of_block(block: bytes, *, file_types: bool, into: dict[str, int]) -> int:
    """Add the names of one block, with their inodes' numbers, to `into`; return how many entries it has. Damaged.

    Names are text with what is no UTF-8 escaped as os.fsdecode() does. `.` and `..` are left out.
    """
    at, end, count = 0, len(block), 0
    unpack, head = _ENTRY.unpack_from, _ENTRY.size
    while at < end:
        if end - at < head:
            raise Damaged(f"has a folder whose entry at byte {at} is cut short")
        inode, length, name_length, high = unpack(block, at)
        if length in (0, 0xFFFF) and end == 0x10000:  # 64 KiB do not fit into 16 bits
            length = end - at
        if not file_types:
            name_length |= high << 8
        if length % 4 or length < head + name_length or at + length > end:
            raise Damaged(f"has a folder whose entry at byte {at} has {length} bytes")
        if inode:
            raw = block[at + head : at + head + name_length]
            if raw != b"." and raw != b"..":
                name = raw.decode("utf-8", "surrogateescape")
                if not raw or b"/" in raw or b"\0" in raw or name in into:
                    raise Damaged(f"has a folder with the name {name!r}" + (" twice" if name in into else ""))
                into[name] = inode
        at += length
        count += 1
    if len(into) > _MOST_NAMES:
        raise Damaged(f"has more than {_MOST_NAMES} names")
    return count


def entries_of_inode(inside: bytes, beyond: bytes, *, file_types: bool, into: dict[str, int]) -> int:
    """Do the same for a folder that is kept in its inode, and for what of it is in an extended attribute."""
    count = entries_of_block(inside[_PARENT_BYTES:], file_types=file_types, into=into)
    return count + entries_of_block(beyond, file_types=file_types, into=into)
