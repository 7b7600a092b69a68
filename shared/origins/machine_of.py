"""Look into a tree of files for which machine its programs are. Each path is opened as one of the tree's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..architectures import program_machine
from ..sandbox.system_calls import open_in_root

_PROGRAMS = (b"bin/sh", b"bin/bash", b"usr/bin/env", b"bin/busybox", b"usr/bin/python3", b"sbin/init")
_HEAD = 20  # bytes of an ELF header


def machine_of(tree: Path) -> tuple[str | None, str | None]:
    """Return the machine of the first program that is there, and its path; None for a tree without. OSError."""
    root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in _PROGRAMS:
            head = _head(root, path)
            machine = program_machine(head)
            if machine is not None:
                return machine, f"/{path.decode()}"
    finally:
        os.close(root)
    return None, None


def _head(root: int, path: bytes) -> bytes:
    try:
        file = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.pread(file, _HEAD, 0) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    finally:
        os.close(file)
