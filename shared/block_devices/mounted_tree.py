"""A tree of files as the file systems of a disk will hold it: mount points, /etc/fstab, and places that are covered.

The tree may be hostile: it is walked name by name, and no link in it is followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from ..sandbox.system_calls import NO_DEVICES, mount_file_system

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NANOSECONDS = 1_000_000_000


@contextmanager
def opened_folder(tree: Path, path: str, time: int | None = None) -> Iterator[int]:
    """Open a folder of a tree. With a `time` (Unix seconds), folders that are not there are made, and are root's.

    InputError where something else than a folder is on the way.
    """
    descriptor = os.open(tree, _FOLDER)
    here = ""
    try:
        for name in [part for part in path.split("/") if part]:
            here += f"/{name}"
            try:
                below = os.open(name, _FOLDER, dir_fd=descriptor)
            except FileNotFoundError:
                if time is None:
                    raise
                below = _new_folder(descriptor, name, time)
            except (NotADirectoryError, OSError) as error:
                raise InputError(
                    f"{here} is no folder in the tree of files ({error.strerror}), and the disk needs one there; "
                    "choose another mount point, or another source"
                ) from error
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def write_tree_file(tree: Path, path: str, text: str, time: int) -> None:
    """Write a file of root's into a tree, in the place of what is there. InputError where that is a folder."""
    parent, _, name = path.rpartition("/")
    with opened_folder(tree, parent, time) as folder:
        times = _times(folder)
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise InputError(f"{path} is no file in the tree of files ({error.strerror}), and has to be one") from error
        descriptor = os.open(name, _FILE, 0o644, dir_fd=folder)
        try:
            os.write(descriptor, text.encode())
            os.fchmod(descriptor, 0o644)
            os.utime(descriptor, (time, time))
        finally:
            os.close(descriptor)
        os.utime(folder, ns=times)


def cover_folder(tree: Path, path: str) -> None:
    """Mount an empty folder of the same owner, mode and time over one of a tree, in this process's mounts."""
    with opened_folder(tree, path) as folder:
        state = os.fstat(folder)
        options = f"mode={stat.S_IMODE(state.st_mode):o},uid={state.st_uid},gid={state.st_gid},size=64k"
        mount_file_system("none", f"/proc/self/fd/{folder}", "tmpfs", NO_DEVICES, options)
    with opened_folder(tree, path) as covered:
        os.utime(covered, ns=(state.st_mtime_ns, state.st_mtime_ns))


def _new_folder(above: int, name: str, time: int) -> int:
    times = _times(above)
    os.mkdir(name, 0o755, dir_fd=above)
    below = os.open(name, _FOLDER, dir_fd=above)
    os.fchmod(below, 0o755)
    os.utime(below, (time, time))
    os.utime(above, ns=times)
    return below


def _times(folder: int) -> tuple[int, int]:
    state = os.fstat(folder)
    return state.st_atime_ns, state.st_mtime_ns
