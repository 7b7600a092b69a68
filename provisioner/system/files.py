"""Read small files of the machine, and replace a file as a whole."""

from __future__ import annotations

import errno
import os
import stat

LIMIT = 1 << 20  # bytes


def read_text(path: str, limit: int = LIMIT, errors: str = "surrogateescape") -> str:
    """Read a regular file of UTF-8 that has at most `limit` bytes. OSError. `errors` is as for bytes.decode().

    A step may have put a FIFO, a device or a file without an end in its place.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", path)
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"has more than {limit} bytes", path)
    return data.decode("utf-8", errors)


def write_whole(path: str, data: bytes, mode: int = 0o600) -> None:
    """Replace a file so that it is whole and on the disk, or as it was, whenever the power goes. OSError."""
    temporary = path + ".new"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(temporary, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
