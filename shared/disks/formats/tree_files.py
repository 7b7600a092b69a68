"""Files made of a tree's tar stream: plain, compressed, as squashfs and as an OCI image; each is read back afterwards.

The stream itself is looked into by GNU tar while it is made (listing.py), and has a SHA-256. What gzip and zstd, which
had no part in writing the archives, make of them has to have it too.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from subprocess import PIPE

from ...archives.crc32 import crc32
from ...archives.gzip_stream import GzipMember, Level, Part, ahead, deflate, threads
from ...archives.pax import TarEntry
from ...errors import ImageFileError
from ..archive import HashedFile
from ..extents import data_extents, open_file, written_file
from .halt import Halt, pieces_of, pour
from .listing import Seen, compare, look_into_archive, sum_of
from .work import ExportOrigin

_PIECE = 1 << 20
_ALL_CONTENTS = ("-quiet", "-no-progress", "-data-queue", "16", "-frag-queue", "16", "-pf", "/dev/stdout")  # MiB
_BEGIN = b"# START OF DATA - DO NOT MODIFY\n#\n"  # of the contents, behind a list of the files


@dataclass(frozen=True)
class TreeSource:
    """The image that a tree is of, and its root folder."""

    origin: ExportOrigin
    root: TarEntry


@dataclass(frozen=True)
class Proof:
    """What has to come out of a tree's file again."""

    sha256: str  # of the tar stream that it was made of
    in_squashfs: Seen
    contents: bool  # whether they can be taken out


def write_tar(pieces: Iterable[bytes], target: Path, level: Level, source: TreeSource, halt: Halt) -> None:
    """Write the stream as it is."""
    with written_file(target) as descriptor:
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[os.write(descriptor, left) :]


def write_tar_gz(pieces: Iterable[bytes], target: Path, level: Level, source: TreeSource, halt: Halt) -> None:
    """Write the stream with gzip's compression, by as many threads as there are processors."""
    with written_file(target) as descriptor:
        compress_into(HashedFile(descriptor).write, pieces, level)


def write_tar_zst(pieces: Iterable[bytes], target: Path, level: Level, source: TreeSource, halt: Halt) -> None:
    """Write the stream with zstd's compression."""
    power = "-3" if level == "fast" else "-15"
    with (
        written_file(target) as descriptor,
        os.fdopen(os.dup(descriptor), "wb") as output,
        halt.program(["zstd", "-q", "-T0", power, "-c"], stdin=PIPE, stdout=output) as zstd,
    ):
        pour(pieces, zstd)


def write_squashfs(pieces: Iterable[bytes], target: Path, level: Level, source: TreeSource, halt: Halt) -> None:
    """Let tar2sqfs make a squashfs of the stream: of Debian 12's programs the only one that keeps the root's owner."""
    power = "level=3" if level == "fast" else "level=15"
    with halt.program(["tar2sqfs", "-q", "-c", "zstd", "-X", power, target], stdin=PIPE) as tar2sqfs:
        pour(pieces, tar2sqfs)


def compress_into(write: Callable[[bytes], None], pieces: Iterable[bytes], level: Level) -> str:
    """Write pieces as one gzip member; return the SHA-256 of the plain bytes."""
    member = GzipMember(write)
    plain = hashlib.sha256()
    calls = (partial(_compress, piece, level) for piece in _hashed(pieces, plain))
    with closing(ahead(calls, threads(), 2 * threads())) as parts:
        for part in parts:
            member.add(part)
    member.finish()
    return plain.hexdigest()


def check_tar(target: Path, proof: Proof, source: TreeSource, halt: Halt) -> None:
    """Read an archive that is not compressed back."""
    _compare_digest(target, file_digest(target, halt), proof)


def check_tar_gz(target: Path, proof: Proof, source: TreeSource, halt: Halt) -> None:
    """Let gzip read an archive back."""
    _compare_digest(target, _unpacked_digest(["gzip", "-dc"], target, halt), proof)


def check_tar_zst(target: Path, proof: Proof, source: TreeSource, halt: Halt) -> None:
    """Let zstd read an archive back."""
    _compare_digest(target, _unpacked_digest(["zstd", "-q", "-dc"], target, halt), proof)


def check_squashfs(target: Path, proof: Proof, source: TreeSource, halt: Halt) -> None:
    """Let programs of two projects read a squashfs back.

    sqfs2tar makes an archive of it that GNU tar lists. It leaves out the root, of which unsquashfs tells; and
    unsquashfs gives the contents of all files.
    """
    expected = proof.in_squashfs
    with halt.program(["sqfs2tar", target], stdout=PIPE) as reader:
        seen = look_into_archive(pieces_of(reader.output, _PIECE), halt, contents=False)
    compare(target, seen, expected, contents=False)
    with halt.program(["unsquashfs", "-lln", "-max-depth", "0", target], stdout=PIPE) as lister:
        line = b"".join(pieces_of(lister.output, _PIECE)).split()
    mode = stat.filemode(stat.S_IFDIR | source.root.mode).encode()
    if line[:2] != [mode, b"%d/%d" % (source.root.user, source.root.group)]:
        raise ImageFileError(f"{target}: its root folder has not the mode and owner of the image's; export it again")
    if proof.contents:
        with halt.program(["unsquashfs", *_ALL_CONTENTS, target], stdout=PIPE) as unsquashfs:
            length, crc = sum_of(_behind(_BEGIN, pieces_of(unsquashfs.output, _PIECE)))
        compare(target, replace(seen, length=length, crc=crc), expected, contents=True)


def file_digest(path: Path, halt: Halt) -> str:
    """Return the SHA-256 of a file; its holes are not read."""
    return hash_file(path, halt).hexdigest()


def hash_file(path: Path, halt: Halt) -> hashlib._Hash:
    """Hash a file, and return what its SHA-256 can be read from, or gone on with."""
    digest, zeros, reached = hashlib.sha256(), bytes(_PIECE), 0
    with open_file(path) as file:
        descriptor, size = file.fileno(), os.fstat(file.fileno()).st_size
        for start, length in [*data_extents(descriptor, size), (size, 0)]:
            for at in range(reached, start, _PIECE):
                halt.look()
                digest.update(memoryview(zeros)[: start - at])
            for at in range(start, start + length, _PIECE):
                halt.look()
                piece = os.pread(descriptor, min(_PIECE, start + length - at), at)
                if len(piece) < min(_PIECE, start + length - at):
                    raise ImageFileError(f"{path}: ends at byte {at + len(piece)} now; stop what writes to it")
                digest.update(piece)
            reached = start + length
    return digest


TreeWriter = Callable[[Iterable[bytes], Path, Level, TreeSource, Halt], None]
TreeCheck = Callable[[Path, Proof, TreeSource, Halt], None]
TREE_FILES: Mapping[str, tuple[TreeWriter, TreeCheck]] = {
    "tar": (write_tar, check_tar),
    "tar.gz": (write_tar_gz, check_tar_gz),
    "tar.zst": (write_tar_zst, check_tar_zst),
    "squashfs": (write_squashfs, check_squashfs),
}
"""How each format is written and read back."""


def _behind(mark: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what follows a mark."""
    before = b""
    for piece in pieces:
        before = before[-len(mark) :] + piece
        if mark in before:
            yield before.partition(mark)[2]
            break
    yield from pieces


def _hashed(pieces: Iterable[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece


def _compress(piece: bytes, level: Level) -> Part:
    return Part(deflate(piece, level), len(piece), crc32(piece))


def _unpacked_digest(command: list[str], packed: Path, halt: Halt) -> str:
    with open_file(packed) as file, halt.program(command, stdin=file.fileno(), stdout=PIPE) as unpacker:
        digest = hashlib.sha256()
        for piece in pieces_of(unpacker.output, _PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _compare_digest(target: Path, found: str, proof: Proof) -> None:
    if found != proof.sha256:
        raise ImageFileError(f"{target}: another archive comes out of it than was written; export it again")
