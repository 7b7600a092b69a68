"""Folders that hold keys, disks and consoles: their owner alone enters them.

What lies in such a folder needs no modes of its own: no other user gets as far as its name. The folder may be reached
by a symbolic link, such as one to a larger disk, as long as the link is not another user's to change.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path

from ..errors import EnvironmentFault, GoldsmithError, NoSpace

LOG = logging.getLogger(__name__)

OTHERS = 0o077


def private_folder(folder: Path, setting: str = "GOLDSMITH_HOME") -> None:
    """Make a folder, or tighten it, so that only this user may enter it. NoSpace, EnvironmentFault.

    One that belongs to another user, or that a link of another user's leads to, is refused, and so is one whose file
    system keeps no modes. `setting` is what a person changes to name another folder.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_link_of_others(folder, setting)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _tighten(descriptor, folder, setting)
        finally:
            os.close(descriptor)
    except (FileExistsError, NotADirectoryError) as error:
        raise EnvironmentFault(f"{folder} is not a folder; set {setting} to one") from error
    except OSError as error:
        raise barred(folder, error, setting) from error


def barred(folder: Path, error: OSError, setting: str = "GOLDSMITH_HOME") -> GoldsmithError:
    """Return what a folder that cannot be used means."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"{folder}: {error.strerror}; free some space on its file system")
    return EnvironmentFault(f"{folder}: {error.strerror}; set {setting} to a folder that you may write to")


def _refuse_link_of_others(folder: Path, setting: str) -> None:
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode) and found.st_uid not in (os.geteuid(), 0):
        raise EnvironmentFault(
            f"{folder} is a link that belongs to user {found.st_uid}, who may lead it elsewhere; "
            f"set {setting} to a folder of your own"
        )


def _tighten(descriptor: int, folder: Path, setting: str) -> None:
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        raise EnvironmentFault(
            f"{folder} belongs to user {found.st_uid}, and this is user {os.geteuid()}; "
            f"set {setting} to a folder of your own, or run as its owner"
        )
    if not found.st_mode & OTHERS:
        return
    os.fchmod(descriptor, 0o700)
    if os.fstat(descriptor).st_mode & OTHERS:  # vfat, some network file systems and mounts of other systems' disks
        raise EnvironmentFault(
            f"{folder} can be read by other users, and its file system keeps no modes; "
            f"set {setting} to a folder on a local disk"
        )
    LOG.warning("%s could be read by other users; its mode is 0700 now", folder)
