"""The blocks of a file: the extent trees of ext4 and the block maps of ext2 and ext3.

Both yield runs (first block of the file, first block on the disk or None for zeros that are nowhere, number of blocks),
in order and without overlaps; blocks that no run has are holes. A hostile tree may name a block again and again: one
that is seen twice is Damaged, so that no walk is longer than the file system is large.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

from .layout import DamagedExt4

Run = tuple[int, int | None, int]
ReadBlock = Callable[[int], bytes]

_MAGIC = 0xF30A
_DEEPEST = 5
_HEADER = struct.Struct("<4H4x")  # magic, entries, room for entries, depth
_LEAF = struct.Struct("<IHHI")  # block of the file, length, block on the disk: its high half, its low half
_INDEX = struct.Struct("<IIH2x")  # block of the file, block of the node below: its low half, its high half
_SINGLE = struct.Struct("<4H4xIHHI")  # a header and one leaf
_WRITTEN = 32768  # longer extents are that much shorter, and allocated but never written
_DIRECT = 12


def extent_runs(root: bytes, read_block: ReadBlock, *, reserved: bool = False) -> Iterable[Run]:
    """Return the runs of an extent tree whose root is in the inode. Damaged.

    Blocks that are reserved and were never written are zeros, or with `reserved` where they are.
    """
    return _ExtentTree(read_block, reserved=reserved).runs(root, None)


def single_extent(root: bytes, blocks: int, disk_blocks: int) -> int | None:
    """Return the first block on the disk of a file of `blocks` blocks, if its extent tree is one sound extent."""
    magic, entries, _, depth, start, count, high, low = _SINGLE.unpack_from(root)
    first: int = low | high << 32
    if magic != _MAGIC or entries != 1 or depth or start or not blocks <= count <= _WRITTEN:
        return None
    return first if 0 < first <= disk_blocks - count else None


class _ExtentTree:
    def __init__(self, read_block: ReadBlock, *, reserved: bool) -> None:
        self._read_block = read_block
        self._reserved = reserved
        self._seen: set[int] = set()
        self._end = 0  # the first block of the file that no run has reached

    def runs(self, node: bytes, depth: int | None) -> Iterable[Run]:
        """Return the runs below a node, which has to be `depth` levels above the leaves (None for the root)."""
        magic, entries, room, above = _HEADER.unpack_from(node)
        if magic != _MAGIC or above > _DEEPEST or depth not in (None, above):
            raise DamagedExt4("has a damaged extent tree")
        if not entries <= room <= (len(node) - _HEADER.size) // _LEAF.size:
            raise DamagedExt4(f"has an extent tree with {entries} entries in room for {room}")
        body = node[_HEADER.size : _HEADER.size + entries * _LEAF.size]
        return self._below(body, above - 1) if above else self._leaves(body)

    def _below(self, body: bytes, depth: int) -> Iterator[Run]:
        for _, low, high in _INDEX.iter_unpack(body):
            block = low | high << 32
            if block in self._seen:
                raise DamagedExt4(f"has an extent tree that comes to block {block} twice")
            self._seen.add(block)
            yield from self.runs(self._read_block(block), depth)

    def _leaves(self, body: bytes) -> list[Run]:
        found: list[Run] = []
        for first, length, high, low in _LEAF.iter_unpack(body):
            written = length <= _WRITTEN
            count = length if written else length - _WRITTEN
            if first < self._end or not count:
                raise DamagedExt4(f"has extents that overlap at block {first}")
            self._end = first + count
            found.append((first, low | high << 32 if written or self._reserved else None, count))
        return found


def block_map_runs(root: bytes, blocks: int, block_size: int, read_block: ReadBlock) -> Iterator[Run]:
    """Yield the runs of a block map for a file of `blocks` blocks. Damaged."""
    first: int | None = None  # on the disk, of the run that is being made
    start = end = 0  # its blocks of the file
    for at, on_disk in _BlockMap(blocks, block_size // 4, read_block).pointers(root):
        if first is not None and at == end and on_disk == first + end - start:
            end += 1
            continue
        if first is not None:
            yield start, first, end - start
        first, start, end = on_disk, at, at + 1
    if first is not None:
        yield start, first, end - start


class _BlockMap:
    """Twelve pointers to blocks of the file, and three to blocks of pointers, one to three levels deep."""

    def __init__(self, blocks: int, width: int, read_block: ReadBlock) -> None:
        self._blocks = blocks
        self._width = width  # pointers in a block
        self._read_block = read_block
        self._seen: set[int] = set()

    def pointers(self, root: bytes) -> Iterator[tuple[int, int]]:
        """Yield (block of the file, block on the disk) for all that are on the disk."""
        pointers = struct.unpack("<15I", root)
        for at, pointer in enumerate(pointers[: min(_DIRECT, self._blocks)]):
            if pointer:
                yield at, pointer
        at = _DIRECT
        for levels, pointer in enumerate(pointers[_DIRECT:], 1):
            if pointer and at < self._blocks:
                yield from self._below(pointer, levels, at)
            at += self._width**levels

    def _below(self, block: int, levels: int, at: int) -> Iterator[tuple[int, int]]:
        if block in self._seen:
            raise DamagedExt4(f"has a block map that comes to block {block} twice")
        self._seen.add(block)
        reach = self._width ** (levels - 1)  # blocks of the file that each pointer is for
        for index, pointer in enumerate(struct.unpack(f"<{self._width}I", self._read_block(block))):
            position = at + index * reach
            if position >= self._blocks:
                return
            if pointer and levels == 1:
                yield position, pointer
            elif pointer:
                yield from self._below(pointer, levels - 1, position)
