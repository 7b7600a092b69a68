"""The size of a file system, read from its superblock: ext2 to ext4, XFS and Btrfs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

FILE_SYSTEM_HEAD = 70 << 10  # bytes, that hold the superblock of all three


def file_system_size(head: bytes) -> Optional[int]:
    """Return the size in bytes that the first HEAD bytes of a file system state; None for an unknown file system."""
    if head[0x438:0x43A] == b"\x53\xef":
        blocks = _number(head, 0x404, 4) + (_number(head, 0x550, 4) << 32)
        return blocks * (1024 << _number(head, 0x418, 4))
    if head[:4] == b"XFSB":
        return int.from_bytes(head[4:8], "big") * int.from_bytes(head[8:16], "big")
    if head[0x10040:0x10048] == b"_BHRfS_M":
        return _number(head, 0x10070, 8)
    return None


def _number(head: bytes, at: int, size: int) -> int:
    return int.from_bytes(head[at : at + size], "little")
