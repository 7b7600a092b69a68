r"""Export: write a raw disk's archive, as Compute Engine imports it; publish it when archive_reader.py has proved it.

Only the disk's data is read, each piece once, and threads compress it meanwhile.

The archive is one gzip member that holds a GNU tar archive whose one member is `disk.raw`, sparse. Its digests, and how
to check them without Goldsmith:

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
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..archives import sparse_tar
from ..archives.crc32 import SparseCrc32, crc32, joined
from ..archives.gzip_stream import GzipMember, Level, Part, ahead, deflate, threads
from ..errors import AlreadyExists, EnvironmentFault, NotFound, Permanent
from .extents import data_extents, open_descriptor, written_file

MEMBER = "disk.raw"
CHUNK = 512 << 10  # bytes that one call compresses: larger ones save less than 0.1 %, and all threads have one each

ByteProgress = Callable[[int, int], None]
DataRun = tuple[int, int]  # offset, length

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


@dataclass(frozen=True)
class Archive:
    """The archive that write_archive() has written."""

    path: Path
    bytes: int
    sha256: str  # of the archive
    crc32: str  # of disk.raw, holes being zeros: 8 hex digits
    disk_bytes: int
    data_bytes: int  # of disk_bytes; the rest are holes
    seconds: float


@dataclass(frozen=True)
class _Chunk:
    part: Part
    crcs: Sequence[tuple[DataRun, int]]  # of the disk's runs in it


def write_archive(
    disk: Path,
    target: Path,
    *,
    level: Level = "fast",
    progress: ByteProgress | None = None,
) -> Archive:
    """Write the archive of a disk that is not written to; `progress` gets bytes of data done, and in all.

    `target` has to be a name of the caller's own, which publish_archive() makes the final one: a file that an earlier,
    killed run has left there is replaced. On failure nothing is left. Faults: ImageFileError (no such disk),
    Permanent (the disk changed meanwhile), NoSpace, EnvironmentFault, and whatever `progress` raises to end it.
    """
    started = time.monotonic()
    with _opened(disk) as reader:
        before = os.fstat(reader)
        size = before.st_size
        runs = sparse_tar.whole_blocks(data_extents(reader, size), size)
        _remove(target)
        with written_file(target) as writer:
            output = HashedFile(writer)
            member = GzipMember(output.write)
            head = sparse_tar.header(MEMBER, size, runs)
            member.add(Part(deflate(head, level), len(head), crc32(head)))
            crc = _add_data(member, partial(_compress, reader, disk, level), runs, progress)
            tail = sparse_tar.trailer(member.length)
            member.add(Part(deflate(tail, level), len(tail), crc32(tail)))
            member.finish()
            _refuse_change(disk, before, os.fstat(reader))
    return Archive(
        path=target,
        bytes=output.length,
        sha256=output.digest.hexdigest(),
        crc32=f"{crc.up_to(size):08x}",
        disk_bytes=size,
        data_bytes=sum(length for _, length in runs),
        seconds=time.monotonic() - started,
    )


def publish_archive(staged: Path, final: Path) -> None:
    """Publish a proved archive under its name, on the same file system, so that it outlives a power cut.

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


def _add_data(
    member: GzipMember,
    compress: Callable[[Sequence[DataRun]], _Chunk],
    runs: Sequence[DataRun],
    progress: ByteProgress | None,
) -> SparseCrc32:
    """Add the runs of the disk to the stream; return their CRC-32."""
    crc = SparseCrc32()
    done, total = 0, sum(length for _, length in runs)
    workers = threads()
    with closing(ahead((partial(compress, chunk) for chunk in _chunks(runs)), workers, 2 * workers)) as chunks:
        for chunk in chunks:
            member.add(chunk.part)
            for (offset, length), piece in chunk.crcs:
                crc.add(offset, length, piece)
            done += chunk.part.length
            if progress:
                progress(done, total)
    return crc


def _chunks(runs: Sequence[DataRun]) -> Iterator[list[DataRun]]:
    """Cut runs into, and collect small ones to, chunks of CHUNK bytes."""
    chunk: list[DataRun] = []
    room = CHUNK
    for start, length in runs:
        offset, end = start, start + length
        while offset < end:
            taken = min(end - offset, room)
            chunk.append((offset, taken))
            offset += taken
            room -= taken
            if room == 0:
                yield chunk
                chunk, room = [], CHUNK
    if chunk:
        yield chunk


def _compress(reader: int, disk: Path, level: Level, chunk: Sequence[DataRun]) -> _Chunk:
    """Read and compress a chunk, in a thread."""
    plain = memoryview(bytearray(sum(length for _, length in chunk)))
    crcs = []
    whole = position = 0
    for offset, length in chunk:
        piece = plain[position : position + length]
        _read(reader, disk, offset, piece)
        crc = crc32(piece)
        crcs.append(((offset, length), crc))
        whole = joined(whole, crc, length)
        position += length
    return _Chunk(Part(deflate(plain, level), len(plain), whole), crcs)


def _read(reader: int, disk: Path, offset: int, into: memoryview) -> None:
    while into:
        try:
            got = os.preadv(reader, [into], offset)
        except OSError as error:
            raise EnvironmentFault(f"{disk}: cannot be read at byte {offset}: {error.strerror}") from error
        if got == 0:
            raise Permanent(f"{disk}: ends at byte {offset} now; stop what writes to it, then export again")
        offset += got
        into = into[got:]


class HashedFile:
    """A file that is being written, and the SHA-256 of what was written to it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.digest = hashlib.sha256()
        self.length = 0

    def write(self, data: bytes) -> None:
        """Write all of some bytes."""
        self.digest.update(data)
        self.length += len(data)
        left = memoryview(data)
        while left:
            left = left[os.write(self.descriptor, left) :]


@contextmanager
def _opened(disk: Path) -> Iterator[int]:
    fd = open_descriptor(disk)
    try:
        yield fd
    finally:
        os.close(fd)


def _remove(target: Path) -> None:
    try:
        target.unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"{target}: cannot be written: {error.strerror}") from error


def _refuse_change(disk: Path, before: os.stat_result, after: os.stat_result) -> None:
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Permanent(f"{disk}: changed while it was exported; stop what writes to it, then export again")


def _name(staged: Path, final: Path) -> None:
    try:
        # Unlike a rename, a link never replaces a file that another program has put there meanwhile.
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
