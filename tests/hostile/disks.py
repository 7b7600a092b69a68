"""Disks that no mkfs would make: file systems whose folders, files and maps share what they are made of."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from tests.shared.disks.small_disks import tool

BLOCK = 4096
START = 1 << 20  # of the one partition
FOLDER, FILE = 0o040755, 0o100644
ROOT, FIRST = 2, 20  # inodes: the root's, and the first of others
EXTENTS = 0x80000
INODE = 128


class HostileExt4:
    """An ext4 file system in the only partition of an MBR disk; blocks are handed out one after the other."""

    def __init__(self, disk: Path, blocks: int, inodes: int = 16384) -> None:
        self.disk = disk
        self.blocks = blocks
        self._inodes = inodes
        self._next = 2 + inodes * INODE // BLOCK
        with disk.open("wb") as file:
            file.write(table(START // 512, blocks * BLOCK // 512, 0x83))
            file.truncate(START + blocks * BLOCK)
        self._put(1024, self._superblock())
        self._put(BLOCK, struct.pack("<3I", 0, 0, 2).ljust(32, b"\0"))

    def _superblock(self) -> bytes:
        data = bytearray(1024)
        struct.pack_into("<7I4xI4xI12xH18xI", data, 0, self._inodes, self.blocks, 0, 0, 0, 0, 2, self.blocks,
                         self._inodes, 0xEF53, 1)  # fmt: skip
        struct.pack_into("<H2x3I", data, 0x58, INODE, 0, 0x42, 0)  # extents, and kinds in folders
        return bytes(data)

    def _put(self, at: int, data: bytes) -> None:
        with self.disk.open("r+b") as file:
            file.seek(START + at)
            file.write(data)

    def write(self, data: bytes) -> int:
        """Write whole blocks; return the first one's number."""
        first, count = self._next, -(-len(data) // BLOCK)
        self._next += count
        assert self._next <= self.blocks
        self._put(first * BLOCK, data)
        return first

    def inode(self, number: int, mode: int, size: int, block_map: bytes, flags: int = EXTENTS) -> None:
        """Write an inode."""
        data = bytearray(INODE)
        struct.pack_into("<HHI", data, 0, mode, 0, size & 0xFFFFFFFF)
        struct.pack_into("<HHII", data, 24, 0, 1, 0, flags)
        data[40:100] = block_map.ljust(60, b"\0")
        struct.pack_into("<I", data, 108, size >> 32)
        self._put(2 * BLOCK + (number - 1) * INODE, bytes(data))

    def folder(self, number: int, names: list[tuple[bytes, int]]) -> bytes:
        """Write a folder; return its map, for others to have the same."""
        data = entries(names)
        made = extents(self.write(data), len(data) // BLOCK)
        self.inode(number, FOLDER, len(data), made)
        return made


def table(start: int, sectors: int, kind: int) -> bytes:
    """Make an MBR."""
    return (bytes(446) + struct.pack("<B3xB3xII", 0, kind, start, sectors)).ljust(510, b"\0") + b"\x55\xaa"


def extents(first: int, count: int) -> bytes:
    """Make the map of contents that lie in one piece, of up to four times 32768 blocks."""
    lengths = [min(32768, count - at) for at in range(0, count, 32768)]
    leaves = [struct.pack("<IHHI", at * 32768, length, 0, first + at * 32768) for at, length in enumerate(lengths)]
    return struct.pack("<4H4x", 0xF30A, len(leaves), 4, 0) + b"".join(leaves)


def entries(names: list[tuple[bytes, int]]) -> bytes:
    """Make the blocks of a folder."""
    blocks: list[bytes] = []
    block, last = b"", b""
    for name, inode in [*names, (b"", 0)]:
        size = 8 + -(-len(name) // 4) * 4
        entry = struct.pack("<IHBB", inode, size, len(name), 0) + name.ljust(size - 8, b"\0")
        if not inode or len(block) + len(last) + size > BLOCK:
            rest = BLOCK - len(block)
            blocks.append((block + last[:4] + struct.pack("<H", rest) + last[6:]).ljust(BLOCK, b"\0"))
            block, last = b"", b""
        block, last = block + last, entry
    return b"".join(blocks)


def names(count: int, first: int, *, one: bool = False) -> Iterator[tuple[bytes, int]]:
    """Name inodes from `first` on, or one of them again and again."""
    for number in range(count):
        yield b"%06x" % number, first if one else first + number


def shared_folders(disk: Path, size: int) -> None:
    """Thousands of folders with the same names in them."""
    made = HostileExt4(disk, size // BLOCK + 1024)
    made.inode(FIRST, FILE, 0, extents(0, 0))
    inside = entries(list(names(min(900_000, size // 16), FIRST, one=True)))
    shared = extents(made.write(inside), len(inside) // BLOCK)
    for number in range(1000):
        made.inode(FIRST + 1 + number, FOLDER, len(inside), shared)
    made.folder(ROOT, list(names(1000, FIRST + 1)))


def deep_folders(disk: Path, size: int) -> None:
    """Folders in folders with long names."""
    depth = min(16_000, size // BLOCK)
    made = HostileExt4(disk, depth + 2048)
    for number in range(depth):
        made.folder(ROOT if not number else FIRST + number, [(b"n" * 250, FIRST + number + 1)])
    made.inode(FIRST + depth, FILE, 0, extents(0, 0))


def shared_contents(disk: Path, size: int) -> None:
    """Thousands of files with the same contents, as large as the disk."""
    made = HostileExt4(disk, size // BLOCK + 2048)
    length = size // BLOCK * BLOCK
    shared = extents(made.write(b"password " * (length // 9)), length // BLOCK)
    for number in range(15_000):
        made.inode(FIRST + number, FILE, length, shared)
    made.folder(ROOT, list(names(15_000, FIRST)))


def shared_maps(disk: Path, size: int) -> None:
    """Hundreds of files with the same map of single blocks, of which each is another one."""
    made = HostileExt4(disk, size // BLOCK + 2048)
    count = min(1000, size // BLOCK)
    data = made.write(b"x" * BLOCK * 2)
    pointers = struct.pack("<1024I", *([data, data + 1] * 512))
    maps = made.write(pointers * count)
    upper = made.write(struct.pack(f"<{count}I", *range(maps, maps + count)).ljust(BLOCK, b"\0"))
    block_map = struct.pack("<15I", *[0] * 13, upper, 0)
    for number in range(500):
        made.inode(FIRST + number, FILE, (12 + 1024 + count * 1024) * BLOCK, block_map, flags=0)
    made.folder(ROOT, list(names(500, FIRST)))


def large_file(disk: Path, size: int) -> None:
    """A list of packages that claims a terabyte."""
    del size
    made = HostileExt4(disk, 1024)
    path = (b"var", b"lib", b"dpkg", b"status")
    for number, name in enumerate(path):
        made.folder(ROOT if not number else FIRST + number, [(name, FIRST + number + 1)])
    made.inode(FIRST + len(path), FILE, 1 << 40, extents(0, 0))


def long_fat_name(disk: Path, size: int) -> None:
    """A FAT file system whose root has 32752 parts of one name."""
    size = max(size, 16 << 20)
    with disk.open("wb") as file:
        file.write(table(START // 512, size // 512, 0xEF))
        file.truncate(START + size)
    tool("mkfs.vfat", "-F", "16", "-r", "32752", "-s", "4", "--offset", str(START // 512), disk, str(size // 1024))
    part = bytearray(b"A" * 32)
    part[0], part[11] = 1, 0x0F
    with disk.open("r+b") as file:
        file.seek(START)
        boot = file.read(512)
        reserved, tables = struct.unpack_from("<HB", boot, 14)
        file.seek(START + (reserved + tables * struct.unpack_from("<H", boot, 22)[0]) * 512)
        file.write(bytes(part) * 32752)


def gpt(disk: Path, partitions: list[tuple[int, int]], kind: str) -> None:
    """Write a partition table of up to 1024 partitions (first sector, last) of one kind."""
    size = disk.stat().st_size // 512
    own = [uuid.UUID(kind).bytes_le + uuid.UUID(int=number + 1).bytes_le for number in range(len(partitions))]
    table_entries = b"".join(
        names + struct.pack("<QQQ72x", first, last, 0) for names, (first, last) in zip(own, partitions, strict=True)
    )
    with disk.open("r+b") as file:
        file.write((bytes(446) + struct.pack("<B3xB3xII", 0, 0xEE, 1, size - 1)).ljust(510, b"\0") + b"\x55\xaa")
        for at, other, first in ((1, size - 1, 2), (size - 1, 1, 2)):
            head = struct.pack("<8s4I4Q16s", b"EFI PART", 0x10000, 92, 0, 0, at, other, 2048, size - 34, bytes(16))
            head += struct.pack("<QIII", first, len(partitions), 128, crc32(table_entries))
            file.seek(at * 512)
            file.write(head[:16] + struct.pack("<I", crc32(head)) + head[20:])
        file.seek(1024)
        file.write(table_entries)


LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"


def one_for_all_partitions(disk: Path, size: int) -> None:
    """A file system of thousands of files, in hundreds of partitions."""
    made = HostileExt4(disk, size // BLOCK + 2048)
    shared = extents(made.write(b"password " * 2000), 5)
    for number in range(15_000):
        made.inode(FIRST + number, FILE, 18_000, shared)
    made.folder(ROOT, list(names(15_000, FIRST)))
    end = START // 512 + made.blocks * BLOCK // 512
    with disk.open("r+b") as file:
        file.truncate((end + 34) * 512)
    gpt(disk, [(START // 512, end - 1)] * 1000, LINUX)


def one_swap_for_all_partitions(disk: Path, size: int) -> None:
    """An empty root, and one swap area in a thousand partitions, with something in its last byte."""
    made = HostileExt4(disk, 1024)
    made.folder(ROOT, [(b"a", ROOT)])
    begin = START // 512 + made.blocks * BLOCK // 512
    with disk.open("r+b") as file:
        file.seek(begin * 512)
        file.write(bytes(4086) + b"SWAPSPACE2" + b"\1" + bytes(size // 512 * 512 - 4098) + b"x")
        file.truncate((begin + size // 512 + 40) * 512)
    last = begin + size // 512 - 1
    gpt(disk, [(START // 512, begin - 1)] + [(begin, last)] * 1000, LINUX)
