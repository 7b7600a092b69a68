"""Prove an archive: read the file back with code that had no part in writing it.

Another deflate library inflates the whole of it and checks the gzip member's CRC-32 and length; Python's tarfile reads
the tar stream and the map of the sparse member; the data's CRC-32, holes and size are compared with what was read from
the disk. The data goes by once; holes are never made.
"""

import hashlib
import tarfile
from functools import partial
from pathlib import Path
from typing import IO, cast

from ..archives.crc32 import SparseCrc32, crc32
from ..archives.gzip_stream import in_background, inflated
from ..errors import ImageFileError
from .archive import MEMBER, Archive, ByteProgress

_PIECE = 64 << 10  # bytes of the file that are read at a time
_WINDOW = 8  # inflated pieces that wait to be looked at
_RUN = 256 << 10  # bytes looked at in one go: what a core's cache holds, and malloc keeps
_RECORD = 10240
_END = 1024  # two blocks of zeros end a tar archive


def verify_archive(archive: Path, expected: Archive, progress: ByteProgress | None = None) -> str:
    """Read an archive back and compare it with what was written; `progress` gets bytes of the file read, and in all.

    Returns the SHA-256 of the tar stream, which names the content whatever compressed it (`gzip -dc FILE | sha256sum`).
    ImageFileError says what is wrong, and where.
    """
    try:
        with archive.open("rb", buffering=0) as file, _Stream(file, expected.bytes, progress) as stream:
            _check_tar(stream, expected)
    except (ValueError, tarfile.TarError) as error:
        raise ImageFileError(f"{archive}: {error}; export it again") from error
    except OSError as error:
        raise ImageFileError(f"{archive}: cannot be read: {error.strerror}") from error
    if stream.file_digest.hexdigest() != expected.sha256:
        raise ImageFileError(f"{archive}: has another SHA-256 than what was written; export it again")
    return stream.tar_digest.hexdigest()


class _Stream:
    """The tar stream, inflated by another thread, for tarfile; it hashes what goes by."""

    def __init__(self, file: IO[bytes], size: int, progress: ByteProgress | None) -> None:
        self._pieces = in_background(inflated(partial(file.read, _PIECE)), _WINDOW)
        self._size = size
        self._progress = progress
        self._read = 0  # bytes of the file
        self._ready = memoryview(b"")
        self._position = 0  # in the tar stream
        self.file_digest = hashlib.sha256()
        self.tar_digest = hashlib.sha256()

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._pieces.close()

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; fewer only at the end."""
        pieces = []
        wanted = size
        while wanted and (self._ready or self._fill()):
            piece = self._ready[:wanted]
            self._ready = self._ready[len(piece) :]
            wanted -= len(piece)
            pieces.append(piece)
        self._position += size - wanted
        return b"".join(pieces)

    def tell(self) -> int:
        """Return the position in the tar stream."""
        return self._position

    def seek(self, position: int) -> int:
        """Go forward; there is no way back."""
        if position < self._position:
            raise ValueError(f"the tar stream would have to be read backwards, from byte {self._position}")
        while self._position < position and self.read(min(position - self._position, _RUN)):
            pass
        return self._position

    def seekable(self) -> bool:
        """Return whether seek() is there: it is."""
        return True

    def finish(self) -> int:
        """Read what tarfile has left, so that the end is checked too; return the length of the tar stream."""
        while self.read(_RUN):
            pass
        return self._position

    def _fill(self) -> bool:
        """Wait for the next plain bytes; False when there are none."""
        for compressed, plain in self._pieces:
            self.file_digest.update(compressed)
            self.tar_digest.update(plain)
            if compressed and self._progress:
                self._read += len(compressed)
                self._progress(self._read, self._size)
            if plain:
                self._ready = memoryview(plain)
                return True
        return False


def _check_tar(stream: _Stream, expected: Archive) -> None:
    """Read the one member; ValueError when it is not what was read from the disk, or not the only one."""
    # ignore_zeros makes tarfile look for members after the end of the archive as well.
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:", ignore_zeros=True) as tar:
        member = tar.next()
        if member is None:
            raise ValueError("holds no member")
        if member.name != MEMBER or not member.isreg():
            raise ValueError(f"its first member is {member.name!r}, not a file called {MEMBER}")
        if member.size != expected.disk_bytes:
            raise ValueError(f"{MEMBER} has {member.size} bytes in it; the disk has {expected.disk_bytes}")
        runs = _runs(member)
        if sum(length for _, length in runs) != expected.data_bytes:
            raise ValueError(f"{MEMBER} does not have the disk's {expected.data_bytes} bytes of data")
        crc = _crc(tar, member, runs)
        if f"{crc:08x}" != expected.crc32:
            raise ValueError(f"{MEMBER} has CRC-32 {crc:08x}; what was read from the disk had {expected.crc32}")
        if another := tar.next():
            raise ValueError(f"holds another member, {another.name!r}, at byte {another.offset} of the tar stream")
    end = stream.finish()
    if end % _RECORD or end < member.offset_data + expected.data_bytes + _END:
        raise ValueError(f"the tar stream ends at byte {end}, before the end of its last record")


def _runs(member: tarfile.TarInfo) -> list[tuple[int, int]]:
    """Return the runs of data of a member, as tarfile has read its map."""
    if not member.issparse():
        return [(0, member.size)]
    # typeshed has None or bytes here; tarfile keeps (offset, length) pairs, unused entries among them.
    pairs = cast("list[tuple[int, int]]", member.sparse)
    return [(offset, length) for offset, length in pairs if length]


def _crc(tar: tarfile.TarFile, member: tarfile.TarInfo, runs: list[tuple[int, int]]) -> int:
    contents = tar.extractfile(member)
    if contents is None:
        raise ValueError(f"{MEMBER} has no contents")
    crc = SparseCrc32()
    for start, length in runs:
        offset, end = start, start + length
        contents.seek(offset)
        while offset < end:
            piece = contents.read(min(end - offset, _RUN))
            if not piece:
                raise ValueError(f"{MEMBER} ends at byte {offset} of {member.size}")
            crc.add(offset, len(piece), crc32(piece))
            offset += len(piece)
    return crc.up_to(member.size)
