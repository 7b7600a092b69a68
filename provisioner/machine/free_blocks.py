"""Trim the blocks of deleted files, as fstrim does.

This saves space, and it removes secrets: the raw data of the image would still hold what was deleted, such as the build
machine's ssh host keys and logs, the context, and the output of the steps. A file system that is mounted with
`discard`, as in the direct boot, trims by itself; reading all bitmaps for a trim takes 0.2 s on an emulated disk of
10 GB.
"""

from __future__ import annotations

import os

from ..system.mounts import Mount, mounts
from ..system.output import StepConsole

FITRIM = 0xC0185879  # linux/fs.h: _IOWR('X', 121, struct fstrim_range)
TRIMMED = ("ext4", "xfs", "btrfs")


def give_back(console: StepConsole) -> None:
    """Trim the file systems on disks that do not do so by themselves."""
    os.sync()  # the disk may still hold the blocks of files that were deleted a moment ago
    for disk in disks():
        if disk.kind in TRIMMED and "discard" not in disk.options:
            _trim(disk.path, console)


def disks() -> list[Mount]:
    """Return the writable file systems on disks, each as the first of its mounts."""
    found: dict[str, Mount] = {}
    for mount in mounts():
        if mount.source.startswith("/dev/") and "ro" not in mount.options:
            found.setdefault(mount.source, mount)
    return list(found.values())


def wipe(path: str) -> None:
    """Overwrite a file that is deleted after the last trim. OSError."""
    with open(path, "r+b") as file:
        file.write(bytes(os.fstat(file.fileno()).st_size))
        file.flush()
        os.fsync(file.fileno())


def wipe_files(folder: str) -> None:
    """Overwrite the files of a folder likewise; links are not followed. OSError."""
    for entry in os.scandir(folder) if os.path.isdir(folder) else ():
        if entry.is_file(follow_symlinks=False):
            wipe(entry.path)


def _trim(path: str, console: StepConsole) -> None:
    import fcntl

    whole = (0).to_bytes(8, "little") + (2**64 - 1).to_bytes(8, "little") + (0).to_bytes(8, "little")
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(handle, FITRIM, whole)
    except OSError as error:
        console.say(f"{path}: free blocks are not given back to the disk: {error.strerror}")
    finally:
        os.close(handle)
