"""Secrets that are made where they are first needed: files that their owner alone can read, whole or not there."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from ..errors import EnvironmentFault
from .scratch import faults, force


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
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would be waited for
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise EnvironmentFault(f"{path} is not a file; {remedy}")
            secret = os.read(descriptor, most + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise EnvironmentFault(f"{path}: {error.strerror}; {remedy}") from error
    if len(secret) > most:
        raise EnvironmentFault(f"{path} holds more than {most} bytes, and is no key of Goldsmith's; {remedy}")
    return secret


def _write(path: Path, secret: bytes) -> None:
    staged = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}")
    # what is there already was left by a process that was killed here and had our numbers
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())  # before it has its name: a short key would stop every command
    try:
        os.link(staged, path)  # the first process wins; the others take its key
    except FileExistsError:
        pass
    finally:
        staged.unlink()
    force(path.parent)  # before anything is signed with it: another key would not be believed
