"""This machine's own master key: HOME/master.key, made once, readable by its owner alone."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from ..errors import EnvironmentFault
from ..host.scratch import faults

BYTES = 32
LONGEST = 4096  # bytes of a key that the user has provided


def master_key(home: Path) -> bytes:
    """Return the key, which is made where there is none. EnvironmentFault for a file that holds none; NoSpace."""
    path = home / "master.key"
    try:
        return _read(path)
    except FileNotFoundError:
        with faults(home):
            _make(path)
        return _read(path)


def _read(path: Path) -> bytes:
    remedy = "restore it, or move it away, and a new one is made: VMs that run meanwhile are not believed any more"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would be waited for
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise EnvironmentFault(f"{path} is not a file; {remedy}")
            key = os.read(descriptor, LONGEST + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise EnvironmentFault(f"{path}: {error.strerror}; {remedy}") from error
    if not BYTES <= len(key) <= LONGEST:
        size = f"{len(key)} bytes" if len(key) <= LONGEST else f"more than {LONGEST} bytes"
        raise EnvironmentFault(f"{path} holds {size}, and a master key has at least {BYTES}; {remedy}")
    return key


def _make(path: Path) -> None:
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    # what is there already was left by a process that was killed here and had our number
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(BYTES))
        file.flush()
        os.fsync(file.fileno())  # before it has its name: a short key would stop every command
    try:
        os.link(staged, path)  # the first process wins; the others take its key
    except FileExistsError:
        pass
    finally:
        staged.unlink()
