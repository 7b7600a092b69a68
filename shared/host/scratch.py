"""Folders for work in progress, which a process that was killed cannot leave for long.

Every scratch folder is locked (flock) by the process that made it and by the programs that it started; the kernel
drops the lock with the last of them. The process that makes the next folder beside it removes those that are not
locked. The parent is locked while folders are made and removed, so that a folder is never seen between its making and
its lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import EnvironmentFault, NoSpace

_MARK = ".scratch-"
_MEMORY_FILES = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
_AVAILABLE = re.compile(r"^MemAvailable: *(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Scratch:
    """A scratch folder in use. Programs that may outlive this process inherit `lock`."""

    path: Path
    lock: int


@contextmanager
def faults(folder: Path) -> Iterator[None]:
    """Turn what the system says about work in `folder` into NoSpace or EnvironmentFault.

    FileNotFoundError stays as it is: what it means, only the block's caller knows.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{folder}: the file system is full ({error.strerror}); free some space") from error
        raise EnvironmentFault(f"{error.filename or folder}: {error.strerror}") from error


def part_of(path: Path) -> Path:
    """Return the name that a file has while it is being written. Deleting a bucket's object deletes this as well."""
    return path.with_name(f".{path.name}.part")


def force(path: Path) -> None:
    """Wait until a file's or folder's contents are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold a folder's lock against every other process; gives the descriptor that holds it. Waits for its turn."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file still has that name: a lock on a replaced or removed file protects nothing."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def scratch_folder(
    parent: Path, mode: int = 0o700, remove: Callable[[Path], None] = shutil.rmtree
) -> Iterator[Scratch]:
    """Make a folder below `parent` (which exists) and remove it, and those of the dead, at the end.

    `remove` deletes a folder with all that is in it. What the block has moved elsewhere is kept.
    """
    with locked(parent):
        remove_abandoned(parent, remove)
        path = parent / f"{_MARK}{secrets.token_hex(6)}"
        path.mkdir(mode=mode)
        path.chmod(mode)  # whatever the umask
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield Scratch(path, lock)
    finally:
        with suppress(FileNotFoundError):
            remove(path)
        os.close(lock)


def own_folder(parent: Path) -> Path:
    """Return this user's folder below one that all users share; others may pass through it, and not look around."""
    folder = parent / f"goldsmith-{os.geteuid()}"
    folder.mkdir(mode=0o711, exist_ok=True)
    if folder.lstat().st_uid != os.geteuid():
        raise EnvironmentFault(f"{folder} belongs to another user; set TMPDIR to a folder of yours")
    folder.chmod(0o711)  # a user namespace's root passes through it
    return folder


def passage() -> int:
    """Return the mode of a folder of trees that are made with other ids: root lets no other user in.

    An image has programs that are setuid root. Old ones, or a stranger's, must not be within reach of local users.
    """
    return 0o711 if os.geteuid() else 0o700


def memory_folder(needed: int) -> Path | None:
    """Return this user's folder in memory, where files are quick; None where there are not `needed` bytes of it."""
    if not _MEMORY_FILES.is_dir():
        return None
    state = os.statvfs(_MEMORY_FILES)
    unfit = state.f_flag & (os.ST_NOEXEC | os.ST_NODEV | os.ST_RDONLY)
    if unfit or min(state.f_bavail * state.f_frsize, _available_memory()) < needed:
        return None
    return own_folder(_MEMORY_FILES)


def _available_memory() -> int:
    """Return the bytes of memory that can be used without swapping."""
    found = _AVAILABLE.search(Path("/proc/meminfo").read_text())
    return int(found[1]) * 1024 if found else 0


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder below TMPDIR for what has no home. What killed processes have left goes with the next one."""
    with faults(Path(tempfile.gettempdir())):
        folder = own_folder(Path(tempfile.gettempdir())) / "files"
        folder.mkdir(mode=0o700, exist_ok=True)
    with scratch_folder(folder) as scratch:
        yield scratch.path


def remove_abandoned(parent: Path, remove: Callable[[Path], None] = shutil.rmtree) -> None:
    """Remove the scratch folders that no living process holds. The caller holds the parent's lock."""
    for path in parent.glob(_MARK + "*"):
        with if_abandoned(path) as abandoned, suppress(FileNotFoundError):  # its owner may remove it at this moment
            if abandoned:
                remove(path)


@contextmanager
def if_abandoned(folder: Path) -> Iterator[bool]:
    """Yield whether no living process holds the lock of a folder, and hold it meanwhile.

    A link, or what cannot be opened, is another's.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        yield _locks(descriptor)
    finally:
        os.close(descriptor)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
