"""Delete and empty files below a root without trusting its contents: no link is followed, no mount is entered.

File systems in memory stay as they are: no image holds them, and the machine may need them to the end.
Container-Optimized OS keeps the changes of its /etc in /tmp, as the upper layer of an overlay.

Each part of a path is opened relative to the one before it and never through a link, so that nothing outside can be
reached, even while a process replaces folders with links.
"""

from __future__ import annotations

import errno
import os
import stat

from .mounts import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

IN_MEMORY = ("tmpfs", "ramfs")
DEEPEST = 150  # levels; each holds a handle while what is below it is removed

GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602  # linux/fs.h: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS
LOCKED = 0x10 | 0x20  # FS_IMMUTABLE_FL, FS_APPEND_FL

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """The files below a root. `problems` lists what could not be done, which raises nothing.

    A pattern is a path relative to the root, of which each part may have one `*`.
    """

    def __init__(self, root: str) -> None:
        self.problems: list[str] = []
        self._root = os.path.realpath(root)
        self._mounts = mount_points()

    def remove(self, *patterns: str) -> None:
        """Remove files, links, and folders with all that is in them."""
        for pattern in patterns:
            for folder, path in self._matches(pattern):
                self._attempt(self._remove, folder, path)

    def remove_name(self, pattern: str, name: str) -> None:
        """Remove what has a name, whatever is in it, in folders, with all that is in that."""
        for folder, path in self._matches(pattern + "/*"):
            if os.path.basename(path) == name:
                self._attempt(self._remove, folder, path)

    def remove_inside(self, pattern: str, keep: tuple[str, ...] = ()) -> None:
        """Empty folders but for the names in `keep`."""
        for folder, path in self._matches(pattern + "/*"):
            if os.path.basename(path) not in keep:
                self._attempt(self._remove, folder, path)

    def remove_link(self, pattern: str, target: str) -> None:
        """Remove links whose target begins with `target`."""
        for folder, path in self._matches(pattern):
            name = os.path.basename(path)
            if self._is_link(folder, name) and os.readlink(name, dir_fd=folder).startswith(target):
                self._attempt(self._remove, folder, path)

    def empty(self, *patterns: str) -> None:
        """Cut files to length 0, and keep them: a process may have them open."""
        for pattern in patterns:
            for folder, path in self._matches(pattern):
                self._attempt(truncate, folder, path)

    def files(self, pattern: str) -> Iterator[tuple[int, str]]:
        """Yield all files below a folder, each as a handle of its folder and its path."""
        for folder, path in self._matches(pattern):
            yield from self._files(folder, path)

    def remove_file(self, folder: int, path: str) -> None:
        """Remove a file from files()."""
        self._attempt(self._remove, folder, path)

    def empty_file(self, folder: int, path: str) -> None:
        """Empty a file from files()."""
        self._attempt(truncate, folder, path)

    def fill(self, pattern: str, data: bytes, modified: int) -> None:
        """Write other contents into a file and set its time of change, in nanoseconds; the file itself stays."""

        def rewrite(folder: int, path: str) -> None:
            handle = _open_to_write(folder, path)
            try:
                os.ftruncate(handle, 0)
                os.write(handle, data)
                os.utime(handle, ns=(modified, modified))
            finally:
                os.close(handle)

        for folder, path in self._matches(pattern):
            self._attempt(rewrite, folder, path)

    def _attempt(self, act: Callable[[int, str], None], folder: int, path: str) -> None:
        try:
            try:
                act(folder, path)
            except PermissionError:
                _act_unlocked(act, folder, path)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno == errno.EROFS:  # the build could not write there either
                return
            self.problems.append(f"{path}: {error.strerror}")

    def _matches(self, pattern: str) -> Iterator[tuple[int, str]]:
        handle = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield from self._below(handle, "", pattern.split("/"))
        finally:
            os.close(handle)

    def _below(self, folder: int, path: str, parts: list[str]) -> Iterator[tuple[int, str]]:
        before, star, after = parts[0].partition("*")
        names = [before]
        if star:
            names = [name for name in os.listdir(folder) if name.startswith(before) and name.endswith(after)]
        for name in names:
            here = f"{path}/{name}"
            if len(parts) == 1:
                yield folder, here
                continue
            try:
                inner = os.open(name, _FOLDER, dir_fd=folder)
            except OSError:  # absent, or not a folder; links are not followed
                continue
            try:
                if self._mounts.get(self._root.rstrip("/") + here) not in IN_MEMORY:
                    yield from self._below(inner, here, parts[1:])
            finally:
                os.close(inner)

    def _is_link(self, folder: int, name: str) -> bool:
        try:
            return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def _is_foreign(self, folder: int, path: str, found: os.stat_result) -> bool:
        if found.st_dev != os.fstat(folder).st_dev or path.count("/") > DEEPEST:
            return True
        return self._root.rstrip("/") + path in self._mounts

    def _remove(self, folder: int, path: str) -> None:
        name = os.path.basename(path)
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if self._is_foreign(folder, path, found):
            self.problems.append(f"{path}: is another file system, or too deep: left as it is")
        elif not stat.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=folder)
        else:
            inner = os.open(name, _FOLDER, dir_fd=folder)
            try:
                for entry in os.listdir(inner):
                    self._attempt(self._remove, inner, f"{path}/{entry}")
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=folder)

    def _files(self, folder: int, path: str) -> Iterator[tuple[int, str]]:
        try:
            inner = os.open(os.path.basename(path), _FOLDER, dir_fd=folder)
        except OSError:
            return
        try:
            for entry in os.listdir(inner):
                here = f"{path}/{entry}"
                found = os.stat(entry, dir_fd=inner, follow_symlinks=False)
                if self._is_foreign(inner, here, found):
                    continue
                if stat.S_ISDIR(found.st_mode):
                    yield from self._files(inner, here)
                elif stat.S_ISREG(found.st_mode):
                    yield inner, here
        finally:
            os.close(inner)


def truncate(folder: int, path: str) -> None:
    """Cut a file to length 0; an empty one keeps its time. OSError, also for a link or a device."""
    handle = _open_to_write(folder, path)
    try:
        if os.fstat(handle).st_size:
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _open_to_write(folder: int, path: str) -> int:
    return os.open(os.path.basename(path), os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)


def _act_unlocked(act: Callable[[int, str], None], folder: int, path: str) -> None:
    """Act on a file that is immutable or append-only, or lies in such a folder; put back the flags of what remains.

    OSError names the flags where they cannot be removed.
    """
    handles = [os.dup(folder)]
    locked: list[tuple[int, int]] = []  # handle, flags
    unlocked: list[tuple[int, int]] = []
    try:
        name = os.path.basename(path)
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            handles.append(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder))
        locked += [(handle, flags) for handle in handles for flags in [_flags(handle)] if flags & LOCKED]
        for handle, flags in locked:
            _set_flags(handle, flags & ~LOCKED)
            unlocked.append((handle, flags))
        act(folder, path)
    except OSError as error:
        if not locked:
            raise
        why = "it, or its folder, is immutable or append-only, as lsattr shows; take that away with chattr -ia"
        raise OSError(error.errno, f"{error.strerror}: {why}") from error
    finally:
        for handle, flags in unlocked:
            _set_flags(handle, flags)
        for handle in handles:
            os.close(handle)


def _flags(handle: int) -> int:
    import fcntl  # few images have such files

    try:
        return int.from_bytes(fcntl.ioctl(handle, GET_FLAGS, bytes(8)), "little")
    except OSError:  # a file system without flags
        return 0


def _set_flags(handle: int, flags: int) -> None:
    import fcntl

    fcntl.ioctl(handle, SET_FLAGS, flags.to_bytes(8, "little"))


def mount_points() -> dict[str, str]:
    """Return the mount points, each with the kind of the file system that is visible there."""
    try:
        return {mount.path: mount.kind for mount in mounts()}
    except FileNotFoundError:
        return {}
