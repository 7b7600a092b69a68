"""Files that only their owner may read: keys. They are whole or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def made_once(path: Path, make: Callable[[], bytes]) -> bytes:
    """Read a file, or make it; of several processes that make it at once, one does, and all read the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        staged = _staged(path.parent, make())
        try:
            path.hardlink_to(staged)
        except FileExistsError:  # another process was first
            pass
        finally:
            staged.unlink()
    return path.read_bytes()


def write_secret(path: Path, content: bytes) -> None:
    """Write a file, or write it anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _staged(path.parent, content).replace(path)


def _staged(folder: Path, content: bytes) -> Path:
    fd, name = tempfile.mkstemp(dir=folder)  # of mode 0600
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    return Path(name)
