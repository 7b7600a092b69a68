"""The root file system of a disk as a folder under an overlay: the way of ordinary users, who cannot mount a disk.

    HOME/cache/roots/ID/tree, record.json    the files of an image, unpacked once, and what a folder cannot hold of them
    MACHINE/changes/upper, work              what the sandbox has changed; gone with the machine

The overlay is mounted in the supervisor's user namespace. At the end its files are written into the build's disk as a
new file system. The disk has another name meanwhile: one that was written in part is never taken for a whole one.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import EnvironmentFault
from .system_calls import NO_DEVICES, mount_file_system, unmount_file_system
from .unpack_root import UnpackedRoot, remove_all, unpack_root
from .write_root import write_dated_root, write_root

LEAST_ROOM = 64 << 20  # bytes
KEPT_ROOTS = 3  # of those that no sandbox uses
RECORD = "record.json"


@dataclass(frozen=True)
class SourceDisk:
    """The image that a build starts from: its id, its disk, and the folder of all unpacked images."""

    image: str
    disk: Path
    roots: Path


class TreeRoot:
    """The root file system of a disk file. `below` is an empty folder of this process's mount namespace."""

    def __init__(self, disk: Path, source: SourceDisk, folder: Path, below: Path, say: Callable[[str], None]) -> None:
        """Unpack the source that the disk is a copy of, unless that has been done, and mount it.

        InputError for a root that is not ext4, ImageFileError, NoSpace, EnvironmentFault.
        """
        self.path = below / "root"
        self.path.mkdir()
        self._disk = disk
        self._changes = folder / "changes"
        self._lock, tree, self._kept = _unpacked(source, say)
        remove_all(self._changes)  # of a sandbox of this name that was killed
        upper, work = self._changes / "upper", self._changes / "work"
        self._changes.mkdir(mode=0o700)  # setuid files in it are for the sandbox alone
        for each in (upper, work):
            each.mkdir()
        state = tree.stat()
        os.chown(upper, state.st_uid, state.st_gid)
        upper.chmod(state.st_mode & 0o7777)
        opened = [os.open(each, os.O_PATH | os.O_CLOEXEC) for each in (tree, upper, work)]
        layers = zip(("lowerdir", "upperdir", "workdir"), opened, strict=True)  # the sandbox sees these names of them
        options = ",".join(f"{name}=/proc/self/fd/{descriptor}" for name, descriptor in layers)
        try:
            mount_file_system("root", self.path, "overlay", NO_DEVICES, f"{options},userxattr")
        except OSError as error:
            raise EnvironmentFault(
                f"this host's kernel mounts no overlay for an ordinary user on the file system of {self._changes} "
                f"({error.strerror}): the chroot engine needs Linux 5.11 or newer and a home on ext4, xfs or btrfs; "
                "write local.engine: vm"
            ) from error
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def shift(self, users: int) -> None:
        """Do nothing: the sandbox has the ids of this process's namespace."""

    def has_room(self) -> bool:
        """Return whether the disk that takes the changes has room; without, builds could not even be ended."""
        state = os.statvfs(self._changes)
        return state.f_bavail * state.f_frsize >= LEAST_ROOM

    def finish(self, since: float, written_at: int | None) -> None:
        """Write all to the disk. NoSpace, EnvironmentFault.

        `since` is when the sandbox began, in Unix seconds; `written_at` the date of a disk that has no later ones.
        """
        staged = self._disk.with_name(f"{self._disk.name}.writing")
        self._disk.replace(staged)
        if written_at is None:
            write_root(self.path, staged, self._kept, int(since))
        else:
            write_dated_root(self.path, staged, self._kept, written_at)
        staged.replace(self._disk)
        unmount_file_system(self.path)
        os.close(self._lock)
        remove_all(self._changes)


def _unpacked(source: SourceDisk, say: Callable[[str], None]) -> tuple[int, Path, UnpackedRoot]:
    """Return an image's unpacked root, and the descriptor of its lock, which keeps it from being removed."""
    place = source.roots / source.image
    lock = os.open(source.roots / f"{source.image}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            kept = UnpackedRoot.from_json((place / RECORD).read_text())
            os.utime(place / RECORD)
            return lock, place / "tree", kept
        fcntl.flock(lock, fcntl.LOCK_EX)  # not in one step: another process may come first, and is seen then
        if not (place / RECORD).exists():
            _unpack(source, place, say)


def _unpack(source: SourceDisk, place: Path, say: Callable[[str], None]) -> None:
    began = time.monotonic()
    say("unpacking the root file system of the source, once")
    remove_all(place)
    place.mkdir()
    kept = unpack_root(source.disk, place / "tree")
    staged = place / f"{RECORD}.new"
    staged.write_text(kept.to_json())
    staged.replace(place / RECORD)
    say(f"unpacked in {time.monotonic() - began:.1f} s")
    _remove_oldest(source.roots, source.image)


def _remove_oldest(roots: Path, image: str) -> None:
    """Remove the roots that were used longest ago, but for the newest few and those in use."""
    others: list[tuple[float, Path]] = []
    for record in roots.glob(f"*/{RECORD}"):
        with suppress(FileNotFoundError):
            if record.parent.name != image:
                others.append((record.stat().st_mtime, record.parent))
    for _, place in sorted(others)[: max(0, len(others) - KEPT_ROOTS + 1)]:
        lock = os.open(roots / f"{place.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with suppress(BlockingIOError, FileNotFoundError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (place / RECORD).unlink()
                remove_all(place)
        finally:
            os.close(lock)
