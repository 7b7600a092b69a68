"""Changes of inodes on a disk, field by field, with the checksum that metadata_csum gives each.

CRC-32C is linear: the checksum of the changed bytes is the old one XOR what the difference alone would give. So neither
the file system's seed nor the inode's generation takes part, only bytes that change cost time, and a checksum that was
wrong stays wrong.
"""

from __future__ import annotations

import stat
import struct
from functools import lru_cache

_POLYNOMIAL = 0x82F63B78  # CRC-32C, its bits reversed
_CHECKSUM_LOW, _CHECKSUM_HIGH = 124, 130  # struct ext4_inode: i_checksum_lo, in osd2, and i_checksum_hi
_OLD_BYTES = 128
_EXTRA_WITH_TIMES = 24  # bytes of further fields, when there are those of all times
_CHANGING = ((0, 48), (120, 124), (132, 152))  # where the fields are that can be set here
_NANOSECONDS = 1_000_000_000


class InodeFields:
    """The bytes of an inode, to be changed."""

    def __init__(self, record: bytes) -> None:
        self._old = record
        self._new = bytearray(record)

    def set_mode(self, mode: int) -> None:
        """Set the kind and the permissions."""
        struct.pack_into("<H", self._new, 0, mode)

    def set_permissions(self, mode: int) -> None:
        """Set the permissions alone."""
        (old,) = struct.unpack_from("<H", self._new)
        self.set_mode(stat.S_IFMT(old) | stat.S_IMODE(mode))

    def set_owner(self, user: int, group: int) -> None:
        """Set the owner."""
        struct.pack_into("<H", self._new, 2, user & 0xFFFF)
        struct.pack_into("<H", self._new, 24, group & 0xFFFF)
        struct.pack_into("<HH", self._new, 120, user >> 16, group >> 16)

    def set_times(self, accessed: int, changed: int, modified: int, made: int) -> None:
        """Set all times, in nanoseconds since 1970; a small inode has no place for parts of a second."""
        new, times = self._new, [_encoded(each) for each in (accessed, changed, modified, made)]
        struct.pack_into("<3I", new, 8, times[0][0], times[1][0], times[2][0])
        if self._extra() >= _EXTRA_WITH_TIMES:
            struct.pack_into("<5I", new, 132, times[1][1], times[2][1], times[0][1], *times[3])

    def add_flags(self, flags: int) -> None:
        """Set flags beside those that are set."""
        (old,) = struct.unpack_from("<I", self._new, 32)
        struct.pack_into("<I", self._new, 32, old | flags)

    def set_device(self, major: int, minor: int) -> None:
        """Set a device's number, in the old form of 16 bits where it fits (linux/kdev_t.h)."""
        if major < 256 and minor < 256:
            struct.pack_into("<II", self._new, 40, major << 8 | minor, 0)
        else:
            struct.pack_into("<II", self._new, 40, 0, (minor & 0xFF) | major << 8 | (minor & 0xFFF00) << 12)

    def changed(self, *, checksums: bool) -> bytes | None:
        """Return all bytes of the inode; None where none has changed."""
        if self._new == self._old:
            return None
        if checksums:
            difference, last = 0, len(self._old) - 1
            for start, end in _CHANGING:
                for at, (old, new) in enumerate(zip(self._old[start:end], self._new[start:end], strict=True), start):
                    if old != new:
                        difference ^= _after(last - at)[old ^ new]
            (low,) = struct.unpack_from("<H", self._new, _CHECKSUM_LOW)
            struct.pack_into("<H", self._new, _CHECKSUM_LOW, low ^ difference & 0xFFFF)
            if self._extra() >= _CHECKSUM_HIGH + 2 - _OLD_BYTES:
                (high,) = struct.unpack_from("<H", self._new, _CHECKSUM_HIGH)
                struct.pack_into("<H", self._new, _CHECKSUM_HIGH, high ^ difference >> 16)
        return bytes(self._new)

    def _extra(self) -> int:
        """Return how many bytes of further fields there are."""
        return int(struct.unpack_from("<H", self._new, _OLD_BYTES)[0]) if len(self._new) > _OLD_BYTES else 0


@lru_cache(4096)
def _encoded(time: int) -> tuple[int, int]:
    """Return the field of a time, and the one beside it: parts of a second, and two bits of seconds beyond 2038."""
    seconds, nanoseconds = divmod(time, _NANOSECONDS)
    field = seconds & 0xFFFFFFFF
    signed = field - ((field & 0x80000000) << 1)
    return field, nanoseconds << 2 | (seconds - signed >> 32 & 3)


def _after(zeros: int) -> list[int]:
    """Return what each value of a byte gives, with so many zeros behind it."""
    while len(_tables) <= zeros:
        _tables.append([value >> 8 ^ _tables[0][value & 0xFF] for value in _tables[-1]])
    return _tables[zeros]


def _step(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_tables = [[_step(value) for value in range(256)]]
