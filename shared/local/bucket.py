"""The bucket on this machine: an object's URI is a path, absolute or relative to one folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import Conflict, EnvironmentFault, GoldsmithError, NoSpace, NotFound, Permanent
from ..export_ports import ObjectSum
from ..host.scratch import is_at, part_of

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FULL = {errno.ENOSPC, errno.EDQUOT}


class LocalBucket:
    """Objects as files. `root` is what relative URIs start from."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, uri: str) -> bytes:
        """Read an object. NotFound."""
        return _read(self._path(uri))

    def read_part(self, uri: str, start: int, most: int) -> tuple[bytes, int]:
        """Read a part of an object, and its size. NotFound."""
        with _opened(self._path(uri)) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(start if start >= 0 else max(0, size + start))
            return file.read(most), size

    def write(self, uri: str, data: bytes) -> None:
        """Write an object, making its folders; it is whole or not there, also after a power cut."""
        self._write(self._path(uri), data, None)

    def read_with_generation(self, uri: str) -> tuple[bytes, str]:
        """Read an object, and its generation, which is the digest of its content. NotFound."""
        data = self.read(uri)
        return data, _generation(data)

    def generation(self, uri: str) -> str:
        """Return an object's generation, a piece of it at a time; "" where there is no object."""
        path = self._path(uri)
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return ""
        except OSError as error:
            raise _fault(path, error) from error

    def upload_session(self, uri: str) -> str:
        """Refuse: a machine of this host writes no files beside its own disk."""
        raise Permanent(f"{uri}: files of this machine are written by no session")

    def checksum(self, uri: str) -> ObjectSum | None:
        """Return the size and the MD5 of a file, read a piece at a time."""
        path = self._path(uri)
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
                return ObjectSum(os.fstat(file.fileno()).st_size, digest.hexdigest())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise _fault(path, error) from error

    def write_if_generation(self, uri: str, data: bytes, generation: str) -> str:
        """Write an object if it is still of that generation; return the new one. Conflict."""
        self._write(self._path(uri), data, generation)
        return _generation(data)

    def _write(self, path: Path, data: bytes, generation: str | None) -> None:
        """Write an object; None for a generation means whatever is there."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _staged(path) as (fd, staged):
                if generation is not None and _is_written(path, data, generation):
                    staged.unlink()
                    return
                _write_all(fd, data)
                os.fsync(fd)
                staged.replace(path)
        except OSError as error:
            raise _fault(path, error) from error
        _sync_folder(path.parent)

    def delete(self, uri: str) -> None:
        """Delete an object, and what a killed writer has left of one; absent is fine."""
        path = self._path(uri)
        try:
            path.unlink(missing_ok=True)
            part_of(path).unlink(missing_ok=True)
        except NotADirectoryError:  # something on the way is a file, so the object cannot be there
            return
        except OSError as error:
            raise _fault(path, error) from error

    def publish(self, staged: str, final: str) -> None:
        """Move a staged object to its final name. Done before is fine; AlreadyExists for another object there."""
        from ..disks.archive import publish_archive  # with two compressors, which only exports need

        source, target = self._path(staged), self._path(final)
        if source.exists() or not target.exists():
            publish_archive(source, target)

    def withdraw(self, uri: str, sha256: str, known: ObjectSum | None = None) -> None:
        """Delete an object that has this content, which is read if it has the right size; another one stays."""
        path = self._path(uri)
        try:
            with path.open("rb") as file:
                if known is not None and os.fstat(file.fileno()).st_size != known.size:
                    return
                same = hashlib.file_digest(file, "sha256").hexdigest() == sha256
                if same and is_at(file.fileno(), path):
                    path.unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return
        except OSError as error:
            raise _fault(path, error) from error

    def _path(self, uri: str) -> Path:
        if uri.startswith("gs://"):
            raise Permanent(f"{uri}: gs:// needs Google Cloud, and this backend is this machine; give a path")
        if _SCHEME.match(uri) or not uri or "\0" in uri:
            raise Permanent(f"{uri!r} is not a path on this machine; give a path")
        return self._root / uri


def _read(path: Path) -> bytes:
    with _opened(path) as file:
        return file.read()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open an object. NotFound."""
    try:
        with path.open("rb") as file:
            yield file
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFound(f"{path}: {error.strerror}; there is no such object") from error
    except OSError as error:
        raise _fault(path, error) from error


def _generation(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_written(path: Path, data: bytes, generation: str) -> bool:
    """Return whether an object has this content already. Conflict when it is of another generation."""
    try:
        found = _read(path)
    except NotFound:
        if not generation:
            return False
        raise Conflict(f"{path}: was deleted after it was read; look again") from None
    if found != data and _generation(found) != generation:
        raise Conflict(f"{path}: was written by another process; read it again")
    return found == data


@contextmanager
def _staged(path: Path) -> Iterator[tuple[int, Path]]:
    """Open the one file that `path` is written in before it has its name; writers of one object take turns.

    What a killed writer leaves is used by the next, which redelivery brings; what a failing one leaves is removed.
    """
    staged = part_of(path)
    fd = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        while not is_at(fd, staged):  # the writer before us has given it its name
            os.close(fd)
            fd = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.flock(fd, fcntl.LOCK_EX)
        os.ftruncate(fd, 0)
        try:
            yield fd, staged
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _fault(path: Path, error: OSError) -> GoldsmithError:
    if error.errno in _FULL:
        return NoSpace(f"{path}: {error.strerror}; free some space on its file system")
    return EnvironmentFault(f"{path}: {error.strerror}; give a path in a folder that you may use")
