"""The ranges of a sparse file that hold data, and copies that touch nothing else.

A raw disk of 10 GiB holds a few hundred megabytes; the rest are holes, which the file system reports at
no cost. Each reader of a disk asks for its extents first. Comparing blocks with zeros instead takes 4 to 19 s.
"""

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import EnvironmentFault, ImageFileError, NoSpace

_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_NO_SEEK_HOLE = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}
_NO_CLONE = {*_NO_SEEK_HOLE, errno.EXDEV, errno.ENOTTY, errno.EPERM, errno.EBADF, errno.EISDIR, errno.ETXTBSY}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_PUNCH_HOLE = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE and FALLOC_FL_PUNCH_HOLE of linux/falloc.h
_PIECE = 32 << 20  # copied by one system call: an interrupt waits no longer than this takes, some 20 ms


def open_descriptor(path: Path) -> int:
    """Open an image file for reading. ImageFileError where it cannot be, and for what is no file.

    A FIFO without a writer would block for ever, and a device may have no end.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ImageFileError(f"{path}: {error.strerror}") from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    what = "a folder" if stat.S_ISDIR(mode) else "a FIFO" if stat.S_ISFIFO(mode) else "a device"
    raise ImageFileError(f"{path}: is {what}, and no file; give a disk image in a file")


def open_file(path: Path) -> BinaryIO:
    """Open an image file for reading, as open_descriptor() does."""
    return os.fdopen(open_descriptor(path), "rb")


def data_extents(fd: int, size: int, offset: int = 0) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) in bytes of each run of data from `offset` to `size`, in order; what is between are holes.

    Where the file system cannot tell holes from data, the whole file is one run: right, only slower. Moves the
    file's position.
    """
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data from here to the end
                return
            if error.errno not in _NO_SEEK_HOLE:
                raise
            start, end = offset, size
        if start >= size:
            return
        end = min(end, size)
        yield start, end - start
        offset = end


def data_bytes(fd: int, size: int) -> int:
    """Return how many bytes of a file are data. Moves the file's position."""
    return sum(length for _, length in data_extents(fd, size))


@contextmanager
def written_file(path: Path) -> Iterator[int]:
    """Make a new file and yield its descriptor; when the block fails in any way, nothing is left behind.

    A file system that is full becomes NoSpace, any other fault of the system EnvironmentFault; both name `path`.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise _fault(path, error) from error
    try:
        try:
            yield fd
        finally:
            os.close(fd)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _fault(path, error) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def need_space(folder: Path, needed: int) -> None:
    """Raise NoSpace unless `needed` bytes are free in the file system of `folder`."""
    try:
        state = os.statvfs(folder)
    except OSError as error:
        raise EnvironmentFault(f"{folder}: {error.strerror}; give a folder that exists") from error
    free = state.f_bavail * state.f_frsize
    if needed > free:
        raise NoSpace(
            f"{folder}: {needed / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free; "
            "free some space, or choose a folder on another file system"
        )


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file with its holes: a clone where the file system can (XFS, Btrfs), else its extents alone.

    `target` appears whole or not at all, and replaces a file of that name. It outlives the death of this process, but
    is not forced to the disk. Faults: ImageFileError (source), NoSpace, EnvironmentFault.
    """
    reader = open_descriptor(source)
    staged = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with written_file(staged) as writer:
            if not _clone(reader, writer):
                _copy_extents(reader, writer, source, target.parent)
            staged.replace(target)
    finally:
        os.close(reader)


def copy_around(source: Path, target: Path, start: int, length: int) -> None:
    """Copy a file with its holes, and with one more from byte `start` on. Faults as of copy_sparse().

    `target` is made anew, with the permissions of `source`; nothing of it is left after a fault.
    """
    target.unlink(missing_ok=True)
    reader = open_descriptor(source)
    try:
        state = os.fstat(reader)
        with written_file(target) as writer:
            os.fchmod(writer, stat.S_IMODE(state.st_mode))
            os.ftruncate(writer, state.st_size)
            for begin, end in ((0, start), (start + length, state.st_size)):
                for offset, size in list(data_extents(reader, end, begin)):
                    _copy_whole(reader, writer, offset, size, source)
    finally:
        os.close(reader)


def _clone(reader: int, writer: int) -> bool:
    try:
        fcntl.ioctl(writer, _FICLONE, reader)
    except OSError as error:
        if error.errno in _NO_CLONE:
            return False
        raise
    return True


def copy_range(reader: int, source: int, writer: int, target: int, length: int) -> int:
    """Copy a range of an open file to a place in another one; return how much of it the file had, in bytes. OSError."""
    done = 0
    while done < length:
        wanted = min(length - done, _PIECE)
        try:
            copied = os.copy_file_range(reader, writer, wanted, source + done, target + done)
        except OSError as error:
            if error.errno not in _NO_CLONE:
                raise
            copied = os.pwrite(writer, os.pread(reader, min(wanted, 1 << 20), source + done), target + done)
        if copied == 0:
            break
        done += copied
    return done


def punch_hole(descriptor: int, start: int, size: int) -> None:
    """Make a range of an open file a hole, which has zeros. OSError."""
    import ctypes  # few programs punch holes

    library = ctypes.CDLL(None, use_errno=True)
    if library.fallocate64(descriptor, _PUNCH_HOLE, ctypes.c_int64(start), ctypes.c_int64(size)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _copy_extents(reader: int, writer: int, source: Path, folder: Path) -> None:
    size = os.fstat(reader).st_size
    extents = list(data_extents(reader, size))
    need_space(folder, sum(length for _, length in extents))
    os.ftruncate(writer, size)
    for offset, length in extents:
        _copy_whole(reader, writer, offset, length, source)


def _copy_whole(reader: int, writer: int, offset: int, length: int, source: Path) -> None:
    copied = copy_range(reader, offset, writer, offset, length)
    if copied < length:
        end = offset + copied
        raise ImageFileError(f"{source}: ends at byte {end} now, while it is copied; stop what writes to it")


def _fault(path: Path, error: OSError) -> EnvironmentFault:
    if error.errno in _FULL:
        return NoSpace(f"{path.parent}: the file system is full ({error.strerror}); free some space and try again")
    if error.errno == errno.EEXIST:
        return EnvironmentFault(f"{path}: exists already; remove it or choose another name")
    return EnvironmentFault(f"{path}: cannot be written: {error.strerror}; is {path.parent} a folder you may write to?")
