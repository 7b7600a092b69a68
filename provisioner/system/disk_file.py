"""A block device, or the raw file of a disk: read, written and cleared at byte offsets, completely or with an error.

Relocation, partition tables and hash trees touch a disk only here, so that tests can use a disk that loses power at any
write.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 4096  # bytes that the kernel keeps in memory together
CHUNK = 1 << 20  # bytes read and written at once: as many as fit into a processor's cache
ZEROS = bytes(CHUNK)
BLKZEROOUT = 0x127F  # linux/fs.h

_UNABLE = (errno.EBUSY, errno.EINVAL, errno.ENOTTY, errno.EOPNOTSUPP)


class DiskFile:
    """An open disk. All methods raise OSError. Threads may share it."""

    def __init__(self, path: str, *, writable: bool = False) -> None:
        self.path = path
        self._handle = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        self._is_device = stat.S_ISBLK(os.fstat(self._handle).st_mode)
        self.size = os.lseek(self._handle, 0, os.SEEK_END)  # bytes

    def __enter__(self) -> DiskFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def read(self, offset: int, length: int) -> bytes:
        """Read `length` bytes; fewer only at the end of the disk."""
        data = os.pread(self._handle, length, offset)
        while len(data) < length:
            more = os.pread(self._handle, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Write all of it."""
        while data:
            count = os.pwrite(self._handle, data, offset)
            offset += count
            data = data[count:]

    def sync(self) -> None:
        """Wait until all written data would survive a power cut."""
        os.fdatasync(self._handle)

    def clear(self, begin: int, end: int) -> None:
        """Set bytes to zero: by the device itself where it can. Holes of a file stay as they are."""
        first, last = -(-begin // PAGE) * PAGE, end // PAGE * PAGE
        if self._is_device and first < last and self._cleared_by_device(first, last):
            self._write_zeros(begin, first)
            self._write_zeros(last, end)
        else:
            self._write_zeros(begin, end)

    def _write_zeros(self, begin: int, end: int) -> None:
        for start, stop in self.runs(begin, end):
            for offset in range(start, stop, CHUNK):
                self.write(offset, ZEROS[: stop - offset])

    def runs(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield (begin, end) of each run of bytes that is not a hole; the whole range where holes are unknown."""
        while begin < end:
            try:
                start = os.lseek(self._handle, begin, os.SEEK_DATA)
                stop = os.lseek(self._handle, start, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole from here on
                    return
                if error.errno not in _UNABLE:
                    raise
                start, stop = begin, end  # a block device
            if start >= end:
                return
            yield start, min(stop, end)
            begin = stop

    def _cleared_by_device(self, begin: int, end: int) -> bool:
        """Clear whole pages by the device; return False where it cannot.

        While a partition of the disk is in use, the kernel refuses pages that are not written out yet (EBUSY). STATE of
        Container-Optimized OS ends within a page, so there is such a page wherever a cleared range meets data.
        """
        try:
            fcntl.ioctl(self._handle, BLKZEROOUT, struct.pack("=QQ", begin, end - begin))
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
            return False
        return True
