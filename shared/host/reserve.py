"""Room that is kept back, so that a build on a full disk can still be ended, written down and cleaned up.

A database that cannot grow by a page cannot record that anything was deleted. So a file of some megabytes lies in the
home, given up when there is no room left, and made again afterwards. The order is: the reserve goes, then what is large
and known without the database, then the rest, as it is recorded.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..errors import NoSpace
from .scratch import faults

SIZE = 16 << 20  # bytes: a build's last events, its logs and its result take less than one million
LEAST = 1 << 20  # bytes; a home with less has no room


class Reserve:
    """The reserve of one home."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file = home / ".reserve"

    def keep(self) -> None:
        """Keep the room back, unless that has been done. NoSpace."""
        staged = self._file.with_name(f".reserve.{os.getpid()}")
        if self._file.exists():
            return
        with faults(self._home):
            descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, SIZE)
                staged.replace(self._file)
            finally:
                os.close(descriptor)
                staged.unlink(missing_ok=True)

    def give_up(self) -> bool:
        """Free the reserved room. Return whether there was any."""
        with suppress(FileNotFoundError):
            self._file.unlink()
            return True
        return False

    def look(self) -> None:
        """Raise NoSpace when the home's file system is full: what writes there next, a VM perhaps, will fail."""
        state = os.statvfs(self._home)
        blocks = state.f_bfree if os.geteuid() == 0 else state.f_bavail  # some file systems keep blocks back for root
        if blocks * state.f_frsize < LEAST or (state.f_files and not state.f_ffree):
            raise NoSpace(f"{self._home}: its file system is full; free some space on it")
