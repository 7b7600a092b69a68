"""Unpack a disk: disk.raw of a tar.gz, Compute Engine's form of an image, or a raw disk that is compressed by itself.

Nothing in the archive decides where anything is written: one member, disk.raw, goes to the given file, and an archive
with another member is refused. What a small file can make of itself is bounded by its Budget, by the size in the
member's header, and that by the space that is free.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from provisioner.system.partition_table import SECTOR

from ..archives.inflate import FAULTS, Inflated
from ..archives.tar_members import TarMembers, data_map
from ..budget import DISK_ARCHIVE_BOUNDS, Budget
from ..errors import ImageFileError
from .extents import need_space, open_file, written_file

_MEMBER = "disk.raw"
_LARGEST = 64 << 40  # bytes; the largest disk of Compute Engine
_PIECE = 1 << 20
_BLOCK = 64 << 10  # runs of zeroes that are shorter are written
_ZEROS = bytes(_PIECE)
_SPACE_LOOK = 256 << 20  # bytes between looks at the free space
_PADDING = 1 << 20  # bytes that may follow the archive's end: GNU tar fills its last record


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Plain:
    """The tar stream of an archive. Whatever is wrong with the compressed file is an ImageFileError."""

    def __init__(self, archive: Path, file: IO[bytes], budget: Budget) -> None:
        self._archive = archive
        with self._faults():
            self._stream = Inflated(file.read, budget)

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; fewer only at the end."""
        with self._faults():
            return self._stream.read(size)

    def seek(self, position: int) -> int:
        """Go forward."""
        with self._faults():
            return self._stream.seek(position)

    def tell(self) -> int:
        """Return the position in the tar stream."""
        return self._stream.tell()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except FAULTS as error:
            raise ImageFileError(f"{self._archive}: is damaged, or cut short: {error}; copy it again") from error


def unpack_disk(archive: Path, disk: Path) -> None:
    """Write the disk in `archive` as a sparse file. Raises ImageFileError, NoSpace; leaves nothing then.

    What is inside is a disk where it begins as one, and a tar archive otherwise.
    """
    try:
        with open_file(archive) as file:
            size = os.fstat(file.fileno()).st_size
            budget = Budget(DISK_ARCHIVE_BOUNDS, archive, size)
            first = _Plain(archive, file, Budget(DISK_ARCHIVE_BOUNDS, archive, size)).read(SECTOR)
            file.seek(0)
            plain = _Plain(archive, file, budget)
            if first[510:] == b"\x55\xaa":  # where a tar archive's header has zeros
                _copy_whole(plain, disk)
                return
            tar = TarMembers(plain, budget)
            member = _check(archive, tar.next())
            with written_file(disk) as target:
                _copy(archive, tar, member, target, disk.parent)
            _expect_end(archive, tar, plain)
    except (ImageFileError, tarfile.TarError, OverflowError, ValueError) as error:
        disk.unlink(missing_ok=True)
        if isinstance(error, ImageFileError):
            raise
        raise ImageFileError(
            f"{archive}: holds neither a disk nor a sound tar archive: {error}; copy it again"
        ) from error


def _copy_whole(plain: _Plain, disk: Path) -> None:
    with written_file(disk) as target:
        _copy_run(plain, target, 0, _LARGEST, disk.parent)
        os.ftruncate(target, plain.tell())


def _check(archive: Path, member: tarfile.TarInfo | None) -> tarfile.TarInfo:
    if member is None:
        raise ImageFileError(f"{archive}: the tar archive in it is empty; it should hold {_MEMBER}")
    if member.name.removeprefix("./") != _MEMBER:
        raise _other(archive, member.name)
    if not member.isreg():
        raise ImageFileError(f"{archive}: {_MEMBER} in it is a link, a folder or a device; it should be a file")
    if not 0 < member.size <= _LARGEST:
        raise ImageFileError(f"{archive}: {_MEMBER} in it has {member.size} bytes; a disk has up to {_LARGEST}")
    return member


def _other(archive: Path, name: str) -> ImageFileError:
    return ImageFileError(
        f"{archive}: holds {name[:80]!r}; a disk's archive holds {_MEMBER} and nothing else: unpack it with tar -xSf, "
        "and import the disk"
    )


def _copy(archive: Path, tar: TarMembers, member: tarfile.TarInfo, target: int, folder: Path) -> None:
    """Write the member's data where it belongs; what is zero stays a hole."""
    contents = tar.open(member)
    runs = _runs(archive, member)
    if member.issparse():
        need_space(folder, sum(length for _, length in runs))
    os.ftruncate(target, member.size)
    for start, length in runs:
        contents.seek(start)
        if not _copy_run(contents, target, start, start + length, folder):
            raise ImageFileError(f"{archive}: {_MEMBER} in it ends before its size; copy the file again")


def _runs(archive: Path, member: tarfile.TarInfo) -> list[tuple[int, int]]:
    """Return the (offset, length) pairs of the data of a member; in order and inside of it, or ImageFileError."""
    if not member.issparse():
        return [(0, member.size)]
    pairs = [pair for pair in data_map(member) if pair[1]]
    end = 0
    for offset, length in pairs:
        if offset < end or length < 0 or offset + length > member.size:
            raise ImageFileError(
                f"{archive}: the map of {_MEMBER} is damaged at its entry for byte {offset}; copy it again"
            )
        end = offset + length
    return pairs


def _copy_run(contents: _Readable, target: int, start: int, end: int, folder: Path) -> bool:
    """Write the run from `start` to `end`; False when the contents end before it does."""
    looked = start - _SPACE_LOOK
    while start < end:
        if start - looked >= _SPACE_LOOK:
            need_space(folder, _SPACE_LOOK if end - start > _SPACE_LOOK else 0)
            looked = start
        piece = contents.read(min(_PIECE, end - start))
        if not piece:
            return False
        if piece != _ZEROS[: len(piece)]:
            _write_blocks(target, piece, start)
        start += len(piece)
    return True


def _write_blocks(target: int, piece: bytes, at: int) -> None:
    for offset in range(0, len(piece), _BLOCK):
        block = piece[offset : offset + _BLOCK]
        if block != _ZEROS[: len(block)]:
            os.pwrite(target, block, at + offset)


def _expect_end(archive: Path, tar: TarMembers, plain: _Plain) -> None:
    """Read to the end of the compressed stream, whose checksum is only then known to be right."""
    following = tar.next()
    if following is not None:
        raise _other(archive, following.name)
    if len(plain.read(_PADDING + 1)) > _PADDING:
        raise ImageFileError(f"{archive}: goes on after the end of the tar archive; copy it again")
