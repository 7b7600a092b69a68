"""The record of the source image's files: written at the first boot, before any step, to recognize changed files.

A file is the source's own while its inode, size and times are the same. No time is compared with a clock, since a step
may set it. Paths are not kept: an inode that was only renamed or linked has another change time, and a folder above it
may get any name. The record lies in the provisioner's own folder, and is removed with it.
"""

from __future__ import annotations

import os
import stat
import struct

from ..system.files import write_whole
from .own_files import own_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional

_ENTRY = struct.Struct("<QQqq")  # inode, size, mtime and ctime in ns. 32 MB for a million files


def take_record(root: str, state: str, path: str, mark: str, *, resumed: bool, whole: bool = False) -> None:
    """Write the record of the files below `root` to `path`, once; with `whole`, of published files as well. OSError.

    `state` is the provisioner's own folder. A resumed job without a record began with a provisioner of the release
    before, which left the file `mark` at its beginning; without that, all files count as the build's.
    """
    if os.path.exists(path):
        return
    began = _began(mark)
    entries: list[bytes] = []
    if began is not None or not resumed:
        for file in own_files(root, os.path.realpath(state), whole=whole):
            if stat.S_ISREG(file.mode) and (began is None or file.found.st_ctime_ns < began):
                entries.append(_entry(file.found))
    write_whole(path, b"".join(entries))


def read_record(path: str) -> Callable[[os.stat_result], bool]:
    """Return a function that returns whether the source had a file, from the result of lstat(). OSError."""
    with open(path, "rb") as file:
        data = file.read()
    entries = frozenset(data[at : at + _ENTRY.size] for at in range(0, len(data), _ENTRY.size))
    return lambda found: _entry(found) in entries


def _entry(found: os.stat_result) -> bytes:
    return _ENTRY.pack(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _began(mark: str) -> Optional[int]:
    try:
        return os.stat(mark).st_ctime_ns
    except FileNotFoundError:
        return None
