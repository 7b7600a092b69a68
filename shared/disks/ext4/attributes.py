"""Extended attributes of ext2, ext3 and ext4, in an inode and in a block of their own (fs/ext4/xattr.h)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from .layout import DamagedExt4

INLINE_DATA = "system.data"  # the part of a small file that does not fit beside the inode's fields

_MAGIC = b"\x00\x00\x02\xea"
_BLOCK_HEADER = 32
_MOST_BYTES = 16 << 20  # of all values of an inode; Linux returns no value of more than 64 KiB
_ENTRY = struct.Struct("<BBHIII")  # name's length, prefix, value's offset, inode of the value, its size, hash
_PREFIXES: Mapping[int, str] = {
    0: "",
    1: "user.",
    2: "system.posix_acl_access",
    3: "system.posix_acl_default",
    4: "trusted.",
    6: "security.",
    7: "system.",
    8: "system.richacl",
}

ReadValue = Callable[[int, int], bytes]  # of an attribute in an inode of its own: the inode's number, the value's size


def in_inode(extra: bytes, read_value: ReadValue) -> dict[str, bytes]:
    """Read the attributes behind an inode's fields. Damaged."""
    if extra[:4] != _MAGIC:
        return {}
    return _attributes(extra, 4, 4, read_value)


def in_block(block: bytes, read_value: ReadValue) -> dict[str, bytes]:
    """Read the attributes of a block. Damaged."""
    if block[:4] != _MAGIC:
        raise DamagedExt4("has a damaged block of extended attributes")
    return _attributes(block, _BLOCK_HEADER, 0, read_value)


def _attributes(data: bytes, at: int, base: int, read_value: ReadValue) -> dict[str, bytes]:
    """Read the entries from `at` to the four zeros that end them; offsets of values count from `base`."""
    found: dict[str, bytes] = {}
    total = 0
    while data[at : at + 4].strip(b"\0"):
        if at + _ENTRY.size > len(data):
            raise DamagedExt4("has extended attributes that do not end")
        name_length, prefix, offset, inode, size, _ = _ENTRY.unpack_from(data, at)
        raw = data[at + _ENTRY.size : at + _ENTRY.size + name_length]
        name = _PREFIXES.get(prefix, f"{prefix}.") + raw.decode("utf-8", "surrogateescape")
        total += size
        if total > _MOST_BYTES:
            raise DamagedExt4(f"has more than {_MOST_BYTES} bytes of extended attributes")
        if inode:
            found[name] = read_value(inode, size)
        elif base + offset + size > len(data):
            raise DamagedExt4(f"has an extended attribute {name!r} that lies elsewhere")
        else:
            found[name] = data[base + offset : base + offset + size]
        at += (_ENTRY.size + name_length + 3) & ~3
    return found
