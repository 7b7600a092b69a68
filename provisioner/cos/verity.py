"""A dm-verity hash tree behind its data, as `veritysetup format --format=0 --no-superblock` writes it.

    data                        hash tree
    [ block 0 ... block N-1 ]   [ top level ] ... [ bottom level: the digests of data blocks 0, 1, 2, ... ]

A digest is the SHA-256 of a block followed by the salt; a block of the tree holds 128 digests; the digest of the top
level's one block is the root hash. All blocks have 4096 bytes. Container-Optimized OS has no veritysetup.
Source: linux/drivers/md/dm-verity-target.c, verity_hash_at_level() for version 0.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ..system.disk_file import DiskFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import _Hash
    from typing import Callable

BLOCK = 4096
DIGEST = 32
DIGESTS = BLOCK // DIGEST  # in a block of the tree
PIECE = 1024  # blocks read at once by a thread; their digests fill whole blocks of the tree
ZEROS = bytes(PIECE * BLOCK)
MOST_THREADS = 4


class VerityError(Exception):
    """There is no room for the hash tree; the text says how much it needs."""


class Seal(NamedTuple):
    """The numbers that the kernel needs in order to verify the data. `root_hash` and `salt` are in hex."""

    root_hash: str
    salt: str
    blocks: int  # of data
    sectors: int  # of data, of 512 bytes; the hash tree begins behind them


def seal(path: str, offset: int, blocks: int, salt: bytes) -> Seal:
    """Write the hash tree of `blocks` blocks at byte `offset` of a device or file, directly behind them.

    The same data and salt give the same bytes, so it can be repeated after an interruption. VerityError; OSError.
    """
    needed = blocks + tree_blocks(blocks)
    with DiskFile(path, writable=True) as disk:
        if blocks < 1 or offset + needed * BLOCK > disk.size:
            raise VerityError(
                f"{path}: {blocks} blocks and their hash tree take {needed * BLOCK} bytes, and there are "
                f"{disk.size - offset}: ask for a larger partition"
            )
        hasher = _Hasher(disk, salt)
        below, count = offset, blocks
        end = offset + needed * BLOCK
        for level in _levels(blocks):  # from the bottom level, which lies last
            end -= level * BLOCK
            hasher.digest_level(below, count, end)
            below, count = end, level
        root = hasher.digests(below, 1)
        disk.sync()
    return Seal(root.hex(), salt.hex(), blocks, blocks * (BLOCK >> 9))


def tree_blocks(blocks: int) -> int:
    """Return the number of blocks in the hash tree of `blocks` blocks of data."""
    return sum(_levels(blocks))


def _levels(blocks: int) -> list[int]:
    """Return the sizes of the tree's levels, in blocks, from the bottom; one block of data needs none."""
    levels: list[int] = []
    while blocks > 1:
        blocks = -(-blocks // DIGESTS)
        levels.append(blocks)
    return levels


class _Hasher:
    """Hashes blocks of an open file."""

    def __init__(self, disk: DiskFile, salt: bytes) -> None:
        self._disk = disk
        self._salt = salt
        self._sha256 = fast_sha256()
        self._of_zeros = self._sha256(ZEROS[:BLOCK] + salt).digest()

    def digests(self, offset: int, blocks: int) -> bytes:
        """Return the digests of some blocks, concatenated."""
        data = self._disk.read(offset, blocks * BLOCK)
        if data == ZEROS[: len(data)]:  # most of a file system that is not full
            return self._of_zeros * blocks
        found: list[bytes] = []
        sha256, salt, view = self._sha256, self._salt, memoryview(data)
        for begin in range(0, len(data), BLOCK):
            digest = sha256(view[begin : begin + BLOCK])
            digest.update(salt)
            found.append(digest.digest())
        return b"".join(found)

    def digest_level(self, source: int, blocks: int, target: int) -> None:
        """Write the digests of `blocks` blocks at byte `source` to byte `target`, the last block padded with zeros."""

        def piece(first: int) -> None:
            digests = self.digests(source + first * BLOCK, min(PIECE, blocks - first))
            padded = digests.ljust(-(-len(digests) // BLOCK) * BLOCK, b"\0")
            self._disk.write(target + first * DIGEST, padded)

        with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as threads:
            for _ in threads.map(piece, range(0, blocks, PIECE)):
                pass  # raises a thread's error


def fast_sha256() -> Callable[..., _Hash]:
    """Return OpenSSL's SHA-256, which uses the processor's instructions for it and lets other threads run.

    __main__.py keeps hashlib from loading OpenSSL at the start; here loading it pays.
    """
    if sys.modules.get("_hashlib", sys) is None:
        del sys.modules["_hashlib"]
    try:
        from _hashlib import openssl_sha256
    except ImportError:  # a Python without OpenSSL
        from hashlib import sha256

        return sha256
    return openssl_sha256
