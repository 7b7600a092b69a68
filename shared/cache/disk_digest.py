"""The digest of a disk's contents, by which statements name an image's disk, and layers of VMs the disk they are of."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..disks.extents import data_extents

KEPT = "disk.digest"  # beside the disk
_WINDOW = 1 << 20  # bytes that are digested at once, unless all are zeros
_LARGEST = 1 << 12  # bytes of a kept digest
_SETTLED = 1.0  # seconds without a change, before a digest is kept: file systems count time in ticks


@dataclass(frozen=True)
class DiskState:
    """What the file system says of a disk's file: another state may be another content."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, disk: Path) -> Self:
        """Return the present state. OSError."""
        found = disk.stat()
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @property
    def text(self) -> str:
        """The state as it is kept, without the device, whose number may be another one after a boot."""
        return f"{self.inode} {self.size} {self.modified_ns} {self.changed_ns}"


def disk_digest(disk: Path) -> str:
    """Return the digest of a disk's contents, wherever its file has holes. OSError."""
    digest, seen, zeros = hashlib.sha256(), -1, bytes(_WINDOW)
    with disk.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(b"%d" % size)
        for start, length in data_extents(file.fileno(), size):
            for number in range(max(seen + 1, start // _WINDOW), -(-(start + length) // _WINDOW)):
                data = os.pread(file.fileno(), _WINDOW, number * _WINDOW)
                seen = number
                if data != zeros[: len(data)]:  # a third of the time that counting zeros takes
                    digest.update(b"%d %d " % (number, len(data)))
                    digest.update(data)
    return digest.hexdigest()


def kept_digest(disk: Path) -> str:
    """Return what disk_digest() does, from the file beside the disk while its state is the same. OSError.

    It decides which layers a build begins after, and is no proof of what the disk has: an account that can write
    below the home decides what images are built from.
    """
    state, place = DiskState.of(disk), disk.with_name(KEPT)
    with suppress(OSError, ValueError), place.open("rb") as file:
        kept = json.loads(file.read(_LARGEST))
        if isinstance(kept, dict) and kept.get("state") == state.text and isinstance(kept.get("digest"), str):
            return str(kept["digest"])
    began, digest = time.time_ns(), disk_digest(disk)
    if DiskState.of(disk) == state and began - state.changed_ns > _SETTLED * 1e9:
        staged = place.with_name(f"{KEPT}.new")  # of two writers, both have the same to write
        with suppress(OSError):  # a folder that cannot be written: it is read again the next time
            staged.write_text(json.dumps({"state": state.text, "digest": digest}))
            staged.replace(place)
    return digest


class BegunDigest:
    """The digest of a disk that is read beside other work, by a thread that ends with this process."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk
        self._found: tuple[DiskState, str] | None = None
        self._thread = threading.Thread(target=self._read, name="digest of a disk", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError):  # result() reads the disk again, and raises it
            state = DiskState.of(self._disk)
            self._found = state, disk_digest(self._disk)

    def result(self) -> str:
        """Wait for it, and return it; read the disk again where it was changed meanwhile. OSError."""
        self._thread.join()
        if self._found is not None and self._found[0] == DiskState.of(self._disk):
            return self._found[1]
        return disk_digest(self._disk)
