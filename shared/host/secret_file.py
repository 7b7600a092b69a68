"""Files with secrets: those of people, and those that are made where they are first needed, whole or not there."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import EnvironmentFault
from .scratch import faults, force


class NoPlainFile(OSError):
    """A path leads to a folder, a device or the like."""


def read_plain(path: Path, most: int) -> tuple[bytes, int]:
    """Return the first `most` bytes of a regular file, and its mode. NoPlainFile; OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would be waited for
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise NoPlainFile(f"{path} is no regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most), mode
    finally:
        os.close(descriptor)


def read_or_make(path: Path, make: Callable[[], bytes], most: int, remedy: str) -> bytes:
    """Read a secret of at most `most` bytes, made by the first process that needs it.

    EnvironmentFault, which ends with `remedy`, for what is no such file; NoSpace.
    """
    try:
        return _read(path, most, remedy)
    except FileNotFoundError:
        if path.is_symlink():
            raise EnvironmentFault(f"{path} is a link to a file that is not there; {remedy}") from None
        with faults(path.parent):
            _write(path, make())
        return _read(path, most, remedy)


def _read(path: Path, most: int, remedy: str) -> bytes:
    try:
        secret, _ = read_plain(path, most + 1)
    except NoPlainFile:
        raise EnvironmentFault(f"{path} is not a file; {remedy}") from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise EnvironmentFault(f"{path}: {error.strerror}; {remedy}") from error
    if len(secret) > most:
        raise EnvironmentFault(f"{path} holds more than {most} bytes, and is no key of Goldsmith's; {remedy}")
    return secret


def _write(path: Path, secret: bytes) -> None:
    descriptor, staged = _open_unseen(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())  # before it has its name: a short key would stop every command
            with suppress(FileExistsError):  # the first process wins; the others take its key
                if staged is None:
                    os.link(f"/proc/self/fd/{file.fileno()}", path, src_dir_fd=file.fileno(), follow_symlinks=True)
                else:
                    os.link(staged, path)
    finally:
        if staged is not None:
            staged.unlink()
    force(path.parent)  # before anything is signed with it: another key would not be believed


def _open_unseen(path: Path) -> tuple[int, Path | None]:
    """Open a new file beside a path, which nothing is left of after a kill; on some file systems it has a name."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(path.parent, flags | os.O_TMPFILE, 0o600), None
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
    staged = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}")
    # what is there already was left by a process that was killed here and had our numbers
    return os.open(staged, flags | os.O_CREAT | os.O_TRUNC, 0o600), staged
