"""Whether two inodes of ext4 say the same, from their bytes alone.

Of two images that were packed apart, nearly all files differ in nothing but times and places. To find that out takes a
fraction of the time that it takes to read what the inodes mean; whatever is not that simple is left to who does.
"""

from __future__ import annotations

import stat
import struct

from .ext4_inode import ENCRYPTED, EXTENTS, INLINE_DATA
from .ext4_layout import Layout
from .ext4_map import single_extent

_FIELDS = struct.Struct("<H2xI18xH4xI68xII6xH")  # mode, size, links, flags, attributes, size (high), attributes (high)
_MAP = slice(40, 100)  # where the contents are, or a link's target
_OLD_BYTES = 128
_NOT_SIMPLE = ENCRYPTED | INLINE_DATA


def alike(a: bytes, b: bytes, layouts: tuple[Layout, Layout]) -> tuple[int, int, int] | None:
    """Compare a file or link with another; None where they differ, or where more has to be known about them.

    Else gives the size of the contents that are still to be compared, in bytes (0 for none), and the blocks of both
    file systems in which they begin, where they are in one piece.
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
    """Whether the extended attributes that are in the inodes are the same, and begin where they can."""
    if len(a) == _OLD_BYTES:
        return True
    length = int.from_bytes(a[128:130], "little")
    if length % 4 or length > len(a) - _OLD_BYTES or a[128:130] != b[128:130]:
        return False
    return a[_OLD_BYTES + length :] == b[_OLD_BYTES + length :]
