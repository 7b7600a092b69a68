"""The root file system of a disk as a folder under an overlay: the way of ordinary users, who cannot mount a disk.

    HOME/cache/roots/ID/tree, record.json    the files of an image, unpacked once, and what a folder cannot hold of them
    MACHINE/changes/                         what the sandbox has changed (layer_stack.py); gone with the machine

The overlay is mounted in the supervisor's user namespace. At the end its files are written into the build's disk as a
new file system. Until then the disk has all of the source's but its root file system, and another name: one that is not
written, or in part, is never taken for a whole one.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...disks.disk import Disk
from ...disks.extents import copy_around, copy_sparse
from ...errors import EnvironmentFault
from ...host.scratch import force
from ..system_calls import sync_file_system, unmount_file_system
from .layer_stack import LayerStack
from .unpack_root import UnpackedRoot, remove_all, unpack_root
from .write_root import write_dated_root, write_root

KEPT_ROOTS = 3  # of those that no sandbox uses
RECORD = "record.json"


@dataclass(frozen=True)
class SourceDisk:
    """The image that a build starts from: its id, its disk, and the folder of all unpacked images."""

    image: str
    disk: Path
    roots: Path


def unwritten_disk(disk: Path) -> Path:
    """Return where a build's disk is until its root file system is written."""
    return disk.with_name(f"{disk.name}.writing")


def copy_without_root(source: Path, target: Path) -> None:
    """Copy a disk with a hole in the place of its root file system. RootUnreadable; faults as of copy_sparse().

    One without a partition table is copied whole: nothing but the file system says what it is.
    """
    with Disk(source) as disk:
        place, alone = disk.root.partition, disk.table.kind == "none"
    if alone:
        copy_sparse(source, target)
    else:
        copy_around(source, target, place.start, place.size)


class TreeRoot:
    """The root file system of a disk file. `below` is an empty folder of this process's mount namespace."""

    def __init__(
        self, disk: Path, source: SourceDisk, layers: LayerStack, below: Path, say: Callable[[str], None]
    ) -> None:
        """Unpack the source that the disk is of, unless that has been done; the disk is at unwritten_disk().

        InputError for a root that is not ext4, ImageFileError, NoSpace, EnvironmentFault.
        """
        self.path = below / "root"
        self.path.mkdir()
        self._disk = disk
        self._source = source.disk
        self._layers = layers
        self._lock, self._tree, self._kept = open_kept_root(source, say)

    def shift(self, users: int) -> None:
        """Do nothing: the sandbox has the ids of this process's namespace."""

    def begin(self) -> None:
        """Mount what the next steps change at `path`. EnvironmentFault."""
        state = self._tree.stat()
        try:
            self._layers.mount(self._tree, self.path, state.st_mode & 0o7777, (state.st_uid, state.st_gid))
        except OSError as error:
            raise EnvironmentFault(
                f"this host's kernel mounts no overlay for an ordinary user on the file system of GOLDSMITH_HOME "
                f"({error.strerror}): the chroot engine needs Linux 5.11 or newer and a home on ext4, xfs or btrfs; "
                "write local.engine: vm"
            ) from error

    def keep(self) -> None:
        """Keep what the steps since begin() have changed as a layer. OSError."""
        unmount_file_system(self.path)
        self._layers.keep()

    def has_room(self) -> bool:
        """Return whether the disk that takes the changes has room; without, builds could not even be ended."""
        return self._layers.has_room()

    def finish(self, since: float, written_at: int | None) -> None:
        """Write all to the disk. NoSpace, EnvironmentFault.

        `since` is when the sandbox began, in Unix seconds; `written_at` the date of a disk that has no later ones.
        """
        staged = unwritten_disk(self._disk)
        if written_at is None:
            write_root(self.path, staged, self._kept, int(since), like=self._source)
        else:
            write_dated_root(self.path, staged, self._kept, written_at, like=self._source)
        staged.replace(self._disk)
        unmount_file_system(self.path)
        os.close(self._lock)


def open_kept_root(source: SourceDisk, say: Callable[[str], None]) -> tuple[int, Path, UnpackedRoot]:
    """Return an image's unpacked root, and the descriptor of its lock, which keeps it from being removed."""
    place = source.roots / source.image
    lock = os.open(source.roots / f"{source.image}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        fcntl.flock(lock, fcntl.LOCK_SH)
        kept = _read_record(place)
        if kept is not None:
            os.utime(place / RECORD)
            return lock, place / "tree", kept
        fcntl.flock(lock, fcntl.LOCK_EX)  # not in one step: another process may come first, and is seen then
        if _read_record(place) is None:
            _unpack(source, place, say)


def _read_record(place: Path) -> UnpackedRoot | None:
    """Read what a folder has not of a root; None where there is no record, or what a power cut has left of one."""
    try:
        return UnpackedRoot.from_json((place / RECORD).read_text())
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _unpack(source: SourceDisk, place: Path, say: Callable[[str], None]) -> None:
    began = time.monotonic()
    say("unpacking the root file system of the source, once")
    (place / RECORD).unlink(missing_ok=True)  # before the files that it is of
    remove_all(place)
    place.mkdir()
    kept = unpack_root(source.disk, place / "tree")
    staged = place / f"{RECORD}.new"
    staged.write_text(kept.to_json())
    sync_file_system(place)  # its record must not outlive the files in a power cut
    staged.replace(place / RECORD)
    force(place)
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
