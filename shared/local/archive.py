r"""Export: a raw disk to the archive that Compute Engine imports; its proof; its publication.

The archive is one gzip member that holds a GNU tar archive whose one member is `disk.raw`, sparse. Its digests, and how
anybody can check them without Goldsmith:

| digest | of what | check |
| --- | --- | --- |
| sha256 | the archive | `sha256sum X.tar.gz` |
| tar_sha256 | the tar stream: the content, whatever has compressed it | `gzip -dc X.tar.gz \| sha256sum` |
| crc32 | disk.raw, its holes read as zeros | `tar -xOf X.tar.gz \| gzip -1 \| tail -c8 \| od -An -tx4 -N4` |

A SHA-256 of disk.raw would have to hash the zeros of its holes as well: 9.4 GB of 10, ten times the time of the whole
export. A CRC-32 gets over them by arithmetic. tar_sha256 comes from the proof, where a core has time for it.
"""

import errno
import filecmp
import os
from pathlib import Path

from ..errors import AlreadyExists, EnvironmentFault, NotFound
from .archive_reader import verify_archive
from .archive_writer import Archive, write_archive

__all__ = ["Archive", "publish_archive", "verify_archive", "write_archive"]

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def publish_archive(staged: Path, final: Path) -> None:
    """Give a proved archive its name, on the same file system, so that it outlives a power cut.

    Nothing of that name is ever overwritten: AlreadyExists when there is another file. Doing it again, after it was
    cut off anywhere, ends the same. NotFound when there is neither; EnvironmentFault when the folder refuses.
    """
    try:
        if not staged.exists():
            raise NotFound(f"{staged}: there is no such archive to publish as {final}")
        _sync(staged)
        _name(staged, final)
        staged.unlink(missing_ok=True)
        _sync(final.parent)
    except OSError as error:
        raise EnvironmentFault(f"{final}: cannot be written: {error.strerror}; may you write to its folder?") from error


def _name(staged: Path, final: Path) -> None:
    try:
        # Unlike a rename, a link never replaces a file that somebody else has put there in the meantime.
        os.link(staged, final)
    except FileExistsError:
        if not filecmp.cmp(staged, final, shallow=False):
            raise AlreadyExists(
                f"{final}: exists already and is another file; remove it or choose another name"
            ) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        staged.replace(final)  # vfat and the like: looking and renaming cannot be one step there


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
