"""The seal of a layer: a digest by which a change of its files is seen.

The quick one is over what the file system says of each file: size, inode number and time of change among it. The whole
one is over all that a build sees of it: contents, owners, modes, times, links and extended attributes. Neither follows
a link, and a tree may be of any depth.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..disks.extents import data_extents
from ..host.open_folder import OpenFolder

_PIECE = 1 << 20
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class QuickSeal:
    """What the file system says of a layer's files: their digest, and the space that they take."""

    digest: str
    disk_bytes: int


def quick_seal(content: Path) -> QuickSeal:
    """Return the seal of a folder or of a file. OSError, EnvironmentFault."""
    digest, size = hashlib.sha256(), 0
    for path, state, _, _ in _entries(content):
        fields = (state.st_mode, *_owner(path, state), state.st_nlink, state.st_size, state.st_rdev)
        times = (state.st_ino, state.st_mtime_ns, state.st_ctime_ns)
        digest.update(b"%d %s %s\n" % (len(path), path, repr((*fields, *times)).encode()))
        size += state.st_blocks * 512
    return QuickSeal(digest.hexdigest(), size)


def whole_digest(content: Path) -> str:
    """Return the digest of all that a build sees of a folder or of a file. OSError, EnvironmentFault."""
    digest, links = hashlib.sha256(), dict[tuple[int, int], bytes]()
    for path, state, folder, name in _entries(content):
        fields = (state.st_mode, *_owner(path, state), state.st_rdev, state.st_mtime_ns)
        digest.update(b"%d %s %s\n" % (len(path), path, repr(fields).encode()))
        if stat.S_ISLNK(state.st_mode):
            digest.update(os.readlink(name, dir_fd=folder))
        if stat.S_ISREG(state.st_mode):
            first = links.setdefault((state.st_dev, state.st_ino), path) if state.st_nlink > 1 else path
            if first != path:
                digest.update(b"link %s" % first)
                continue
        if stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode):
            _add_content(digest, folder, name, state)
    return digest.hexdigest()


def _owner(path: bytes, state: os.stat_result) -> tuple[int, int]:
    """Return the user and group of a file. One that is all of a layer is this user's, whose id differs by namespace."""
    return (state.st_uid, state.st_gid) if path or stat.S_ISDIR(state.st_mode) else (0, 0)


def _add_content(digest: hashlib._Hash, folder: int, name: bytes, state: os.stat_result) -> None:
    handle = os.open(name, _FILE, dir_fd=folder)
    try:
        for attribute in sorted(os.listxattr(handle)):
            value = os.getxattr(handle, attribute)
            digest.update(b"%s %d %s" % (os.fsencode(attribute), len(value), value))
        if stat.S_ISREG(state.st_mode):
            for start, length in data_extents(handle, state.st_size):
                digest.update(b"%d %d " % (start, length))
                end = start + length
                while start < end and (piece := os.pread(handle, min(_PIECE, end - start), start)):
                    digest.update(piece)
                    start += len(piece)
    finally:
        os.close(handle)


def _entries(content: Path) -> Iterator[tuple[bytes, os.stat_result, int, bytes]]:
    """Yield the path, state, open folder and name there of each file, sorted, folders before what is in them."""
    above = os.open(content.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        state = os.stat(content.name, dir_fd=above, follow_symlinks=False)
        yield b"", state, above, os.fsencode(content.name)
    finally:
        os.close(above)
    if not stat.S_ISDIR(state.st_mode):
        return
    with OpenFolder(content) as folder:
        levels = [iter(_names(folder))]
        path: list[bytes] = []
        while levels:
            name = next(levels[-1], None)
            if name is None:
                levels.pop()
                if levels:
                    folder.up()
                    path.pop()
                continue
            state = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
            yield b"/".join((*path, name)), state, folder.descriptor, name
            if stat.S_ISDIR(state.st_mode):
                folder.down(os.fsdecode(name))
                levels.append(iter(_names(folder)))
                path.append(name)


def _names(folder: OpenFolder) -> list[bytes]:
    return sorted(os.fsencode(name) for name in folder.names())
