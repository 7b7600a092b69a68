"""This machine's own master key: HOME/master.key, made once, readable by its owner alone."""

from __future__ import annotations

import secrets
from pathlib import Path

from ..errors import EnvironmentFault
from ..host.secret_file import read_or_make

BYTES = 32
LONGEST = 4096  # bytes of a key that the user has provided


def master_key(home: Path) -> bytes:
    """Return the key, which is made where there is none. EnvironmentFault for a file that holds none; NoSpace."""
    path = home / "master.key"
    remedy = "restore it, or move it away, and a new one is made: VMs that run meanwhile are not believed any more"
    key = read_or_make(path, lambda: secrets.token_bytes(BYTES), LONGEST, remedy)
    if len(key) < BYTES:
        raise EnvironmentFault(f"{path} holds {len(key)} bytes, and a master key has at least {BYTES}; {remedy}")
    return key
