"""Unpack a kernel or a module that is in memory, in all formats that Linux uses, within a Budget."""

from __future__ import annotations

import bz2
import lzma
import subprocess
from collections.abc import Callable, Iterator
from tempfile import TemporaryFile

from ...archives.inflate import FAULTS, Decompressor, gzip_member
from ...budget import Budget
from ...host.programs import find_tool

_PIECE = 1 << 20
_MEMORY = 128 << 20  # bytes for a dictionary of xz and lzma
_LIBRARIES: dict[bytes, Callable[[], Decompressor]] = {
    b"\x1f\x8b": gzip_member,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(memlimit=_MEMORY),
    b"\x5d\0\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MEMORY),
    b"BZh": bz2.BZ2Decompressor,
}
_PROGRAMS = {b"\x02\x21\x4c\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd"}  # both refuse larger dictionaries themselves
MAGICS = (*_LIBRARIES, *_PROGRAMS)
"""The first bytes of the formats that unpack_bytes() knows."""


def unpack_bytes(data: bytes, budget: Budget, *, behind: int = 0) -> bytes | bytearray:
    """Unpack data that begins with one of MAGICS. Raises ValueError for damaged data, MissingTool.

    The last `behind` bytes are no part of it. Libraries find the end of their data, programs do not.
    """
    made = bytearray()
    try:
        for piece in _pieces(data, behind):
            budget.read(len(piece))
            budget.keep(len(piece))
            made += piece
    except FAULTS as error:
        raise ValueError(f"it cannot be unpacked: {error}") from error
    return made


def _pieces(data: bytes, behind: int) -> Iterator[bytes]:
    for magic, make in _LIBRARIES.items():
        if data.startswith(magic):
            return _by_library(data, make())
    [program] = [name for magic, name in _PROGRAMS.items() if data.startswith(magic)]
    return _by_program(memoryview(data)[: len(data) - behind], program)


def _by_library(data: bytes, library: Decompressor) -> Iterator[bytes]:
    while not library.eof and (data or not library.needs_input):
        yield library.decompress(data, _PIECE)
        data = b""


def _by_program(data: memoryview, program: str) -> Iterator[bytes]:
    """Unpack with a program of the host, which is killed when the caller stops reading."""
    with TemporaryFile() as packed, TemporaryFile() as said:
        packed.write(data)
        packed.seek(0)
        with subprocess.Popen(
            [find_tool(program), "-dcq"], stdin=packed, stdout=subprocess.PIPE, stderr=said
        ) as running:
            assert running.stdout is not None
            try:
                while piece := running.stdout.read(_PIECE):
                    yield piece
            except GeneratorExit:
                running.kill()
                raise
        if running.returncode:
            said.seek(0)
            raise ValueError(f"{program}: {said.read(200).decode(errors='replace').strip()}")
