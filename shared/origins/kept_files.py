"""What scripts of root.d keep for the next run of the same elements (DIB_IMAGE_CACHE): fetched images and archives.

    HOME/cache/elements/KEY12          locked (exclusively) by the run that uses it; its mtime is that of the last use
    HOME/cache/elements/KEY12/files    DIB_IMAGE_CACHE; its files may be of other ids than this user's
    HOME/cache/elements/.gone-*        folders that are being removed; who removes any holds the lock of the parent

A folder in use stays: its user holds the lock until the last of its programs has ended, also one that was killed. A
folder is renamed before it is removed, so that the next run never finds a part of what another one has kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..host.programs import run_tool
from ..host.scratch import faults, is_at, locked
from ..sandbox.roots.unpack_root import remove_unpacked
from ..sandbox.system_calls import sync_file_system
from ..sandbox.user_namespace import run_with_all_ids

KEPT_LIMIT = 8 << 30  # bytes: an image of a distribution has some 500 MB, and its repacked archive as many
_FILES = "files"
_GONE = ".gone-"


@dataclass(frozen=True)
class KeptFolder:
    """A folder in use. Programs that may outlive this process inherit `lock`."""

    files: Path
    lock: int


@dataclass(frozen=True)
class KeptEntry:
    """What one list of elements has kept."""

    path: Path
    bytes: int  # that it takes on this disk
    used: float  # Unix seconds


class KeptFiles:
    """The folders of one home. Any number of processes may use them at once."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "cache" / "elements"

    @contextmanager
    def of(self, elements: Sequence[str]) -> Iterator[KeptFolder]:
        """Hold what a list of elements keeps; waits while another process does. All are held to the limit after it."""
        place = self._folder / hashlib.sha256("\0".join(elements).encode()).hexdigest()[:12]
        lock = self._take(place)
        try:
            files = place / _FILES
            files.mkdir(exist_ok=True)
            yield KeptFolder(files, lock)
            with faults(place):
                sync_file_system(files)  # scripts of root.d cannot: fsync has no effect for them
            os.utime(place)
        finally:
            os.close(lock)
        self.prune(KEPT_LIMIT)

    def entries(self) -> list[KeptEntry]:
        """Return what is kept, that which was used last first."""
        if not self._folder.exists():
            return []
        with faults(self._folder):
            found = {path: path.stat().st_mtime for path in self._folder.iterdir() if not path.name.startswith(_GONE)}
        sizes = json.loads(run_with_all_ids(lambda: json.dumps([_bytes_of(path) for path in found])))
        entries = [KeptEntry(path, size, used) for (path, used), size in zip(found.items(), sizes, strict=True)]
        return sorted(entries, key=lambda entry: -entry.used)

    def prune(self, keep: int) -> int:
        """Remove what was used longest ago, until the rest has `keep` bytes; what is in use stays.

        Returns the bytes that were removed. NoSpace, EnvironmentFault.
        """
        if not self._folder.exists():
            return 0
        removed = 0
        with faults(self._folder), locked(self._folder):
            for left in self._folder.glob(f"{_GONE}*"):
                remove_unpacked(left)
            entries = self.entries()
            kept = sum(entry.bytes for entry in entries)
            for entry in reversed(entries):
                if kept <= keep:
                    break
                if self._remove(entry.path):
                    kept -= entry.bytes
                    removed += entry.bytes
        return removed

    def _take(self, place: Path) -> int:
        """Return the lock of a folder, which is made where it is not there."""
        while True:
            with faults(place):
                place.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # removed meanwhile
                    lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    if is_at(lock, place):
                        return lock
                    os.close(lock)

    def _remove(self, path: Path) -> bool:
        """Remove a folder; return False for one in use."""
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = path.with_name(f"{_GONE}{secrets.token_hex(6)}")
            path.rename(gone)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        remove_unpacked(gone)
        return True


def _bytes_of(folder: Path) -> int:
    """Return the bytes of a folder on the disk; of what disappears meanwhile, 0."""
    with suppress(ValueError, IndexError):
        return int(run_tool(["du", "--summarize", "--one-file-system", "--block-size=1", folder]).split()[0])
    return 0
