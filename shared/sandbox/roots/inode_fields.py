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
_OLD_BYTES = 128
_OLD, _LARGE = struct.Struct("<32I"), struct.Struct("<38I")  # what can be set, in words of 32 bits
_EXTRA_WITH_TIMES = 24  # bytes of further fields, when there are those of all times
_EXTRA_WITH_CHECKSUM = 4  # the same for the checksum's upper half
_NANOSECONDS = 1_000_000_000

# Of struct ext4_inode, by words: i_mode and i_uid, the times, i_gid and i_links_count, i_flags, i_block[0], osd2,
# i_extra_isize and i_checksum_hi, the other halves of the times.
_MODE, _ACCESSED, _CHANGED, _MODIFIED, _GROUP, _FLAGS, _DEVICE, _HIGH_IDS = 0, 2, 3, 4, 6, 8, 10, 30
_CHECKSUM, _EXTRA, _LATER = 31, 32, 33


class InodeFields:
    """The bytes of an inode, to be changed."""

    def __init__(self, record: bytes) -> None:
        self._record = record
        self._fields = _LARGE if len(record) > _OLD_BYTES else _OLD
        self._old = self._fields.unpack_from(record)
        self._new = list(self._old)
        self._extra = self._old[_EXTRA] & 0xFFFF if len(record) > _OLD_BYTES else 0  # bytes of further fields

    def set_mode(self, mode: int) -> None:
        """Set the kind and the permissions."""
        self._new[_MODE] = self._new[_MODE] & 0xFFFF0000 | mode

    def set_permissions(self, mode: int) -> None:
        """Set the permissions alone."""
        self.set_mode(stat.S_IFMT(self._new[_MODE] & 0xFFFF) | stat.S_IMODE(mode))

    def set_owner(self, user: int, group: int) -> None:
        """Set the owner."""
        new = self._new
        new[_MODE] = new[_MODE] & 0xFFFF | (user & 0xFFFF) << 16
        new[_GROUP] = new[_GROUP] & 0xFFFF0000 | group & 0xFFFF
        new[_HIGH_IDS] = user >> 16 | group & 0xFFFF0000

    def set_times(self, accessed: int, changed: int, modified: int, made: int) -> None:
        """Set all times, in nanoseconds since 1970; a small inode has no place for parts of a second."""
        new = self._new
        new[_ACCESSED], accessed_later = _encoded(accessed)
        new[_CHANGED], changed_later = _encoded(changed)
        new[_MODIFIED], modified_later = _encoded(modified)
        if self._extra >= _EXTRA_WITH_TIMES:
            new[_LATER:] = changed_later, modified_later, accessed_later, *_encoded(made)

    def add_flags(self, flags: int) -> None:
        """Set flags beside those that are set."""
        self._new[_FLAGS] |= flags

    def set_device(self, major: int, minor: int) -> None:
        """Set a device's number, in the old form of 16 bits where it fits (linux/kdev_t.h)."""
        if major < 256 and minor < 256:
            self._new[_DEVICE : _DEVICE + 2] = major << 8 | minor, 0
        else:
            self._new[_DEVICE : _DEVICE + 2] = 0, (minor & 0xFF) | major << 8 | (minor & 0xFFF00) << 12

    def changed(self, *, checksums: bool) -> bytes | None:
        """Return all bytes of the inode; None where none has changed."""
        old, new = self._old, self._new
        if checksums:
            difference, behind = 0, len(self._record) - 4
            for index, before in enumerate(old):
                if before != new[index]:
                    difference ^= _word_after(behind - 4 * index, before ^ new[index])
            new[_CHECKSUM] ^= difference & 0xFFFF
            if self._extra >= _EXTRA_WITH_CHECKSUM:
                new[_EXTRA] ^= difference & 0xFFFF0000
        fields = self._fields
        data = fields.pack(*new) + self._record[fields.size :]
        return None if data == self._record else data


@lru_cache(4096)
def _encoded(time: int) -> tuple[int, int]:
    """Return the field of a time, and the one beside it: parts of a second, and two bits of seconds beyond 2038."""
    seconds, nanoseconds = divmod(time, _NANOSECONDS)
    field = seconds & 0xFFFFFFFF
    signed = field - ((field & 0x80000000) << 1)
    return field, nanoseconds << 2 | (seconds - signed >> 32 & 3)


@lru_cache(1 << 14)
def _word_after(zeros: int, word: int) -> int:
    """Return what a word of 32 bits gives, with so many zeros behind it."""
    given = _after(zeros + 3)[word & 0xFF] ^ _after(zeros + 2)[word >> 8 & 0xFF]
    return given ^ _after(zeros + 1)[word >> 16 & 0xFF] ^ _after(zeros)[word >> 24]


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
