"""Read ext2, ext3 and ext4 file systems in raw disk files: no root, no mount, no program; nothing is ever written.

What is on the disk is taken for hostile: numbers are checked before they lead anywhere, nothing is read twice in one
walk, and whatever cannot be true is an ImageFileError that names the disk and the inode. Checksums are not looked at.
A file system that was cut off in its work is read as it is, without its journal: `needs_recovery` says so.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..budget import Budget
from ..errors import EnvironmentFault, ImageFileError
from . import ext4_attributes, ext4_folder, ext4_inode, ext4_map
from .disk_reader import LETTERS_PER_STEP, MOST_AT_ONCE, DiskReader
from .ext4_inode import Inode
from .ext4_layout import SUPERBLOCK_AT, SUPERBLOCK_BYTES, Damaged, Layout, UnknownFeature

Extent = tuple[int, int | None, int]  # (byte of the file, byte of the disk or None for zeros, length), in bytes

_TABLE_PIECE = 64 << 10  # bytes of an inode table that are read at once
_TABLE_PIECES = 256  # of them that are kept: 16 MiB
_CHUNK = 1 << 20
_POINTER_BYTES = 32  # of a block of a map or of attributes, for a step each
_LONGEST_PATH = 32768  # characters; Linux opens none of more than 4095 bytes
_LONGEST_LINK = 65536  # bytes; Linux makes none of more than 4095


class FileSystemUnreadable(EnvironmentFault):
    """A file system that this reader does not know, or knows to be of a kind that it cannot read."""


class Ext4(DiskReader):
    """The file system at `offset` of a disk file, in a partition of `size` bytes. The file stays open until close().

    Names are text with what is no UTF-8 escaped, as os.fsdecode() does. Raises ImageFileError where it is damaged,
    FileSystemUnreadable where it has features that this reader does not know.
    """

    def __init__(self, disk: Path, offset: int, size: int, budget: Budget | None = None) -> None:
        super().__init__(disk, budget)
        self.offset = offset
        with self._damage():
            try:
                self.layout = Layout.read(self._read(SUPERBLOCK_AT, SUPERBLOCK_BYTES))
            except UnknownFeature as error:
                raise FileSystemUnreadable(
                    f"{disk}: the file system at byte {offset} has features ({error}) that cannot be read here"
                ) from error
            if self.layout.size > size:
                raise Damaged(f"it has {self.layout.size} bytes in a partition of {size}")
        self._tables: dict[int, int] = {}  # group: where its inode table is
        self._pieces: dict[int, bytes] = {}  # the inode tables' pieces that were read last, by their place

    @property
    def needs_recovery(self) -> bool:
        """Whether it was cut off in its work: a mount would replay its journal first."""
        return self.layout.needs_recovery

    @property
    def uuid(self) -> str:
        """Its own identity, as blkid writes it."""
        return str(uuid.UUID(bytes=self.layout.uuid))

    @property
    def block_size(self) -> int:
        """Bytes of a block."""
        return self.layout.block

    @property
    def root(self) -> Inode:
        """The folder that all others are in."""
        return self.inode(ext4_inode.ROOT)

    def inode(self, number: int) -> Inode:
        """Give an inode by its number."""
        try:  # and no `with`, which takes longer than all else here
            return ext4_inode.parse(number, self.record(number), self.layout)
        except Damaged as error:
            raise self._damaged(str(error), number) from error

    def record(self, number: int) -> bytes:
        """Give the bytes of an inode on the disk: who finds the same ones elsewhere need not look what they mean."""
        layout = self.layout
        if not 0 < number <= layout.inodes:
            raise self._damaged(f"a folder names inode {number} of {layout.inodes}")
        group, index = divmod(number - 1, layout.inodes_per_group)
        table = self._tables.get(group)
        if table is None:
            table = self.table(group)
        within = index * layout.inode % _TABLE_PIECE
        start = index * layout.inode - within
        piece = self._pieces.get(table + start)
        if piece is None:
            piece = self._piece(table, start)
        return piece[within : within + layout.inode]

    def records(self, group: int, start: int, length: int) -> bytes:
        """Give bytes of a group's inode table, as far as there are."""
        length = min(length, self.layout.inodes_per_group * self.layout.inode - start)
        return self._uncounted(self.offset + self.table(group) + start, length)

    def entries(self, folder: Inode) -> dict[str, int]:
        """Give the names in a folder, but `.` and `..`, with the numbers of their inodes."""
        try:
            return self._entries(folder)
        except Damaged as error:
            raise self._damaged(str(error), folder.number) from error

    def link(self, inode: Inode) -> str:
        """Give where a symbolic link leads."""
        with self._damage(inode.number):
            if not inode.is_link or not 0 < inode.size <= _LONGEST_LINK:
                raise Damaged("is no symbolic link" if not inode.is_link else f"is a link of {inode.size} bytes")
            is_inside = inode.size < len(inode.block_map) and not inode.flags & ext4_inode.EXTENTS
        target = inode.block_map[: inode.size] if is_inside else self.read(inode)
        return target.rstrip(b"\0").decode("utf-8", "surrogateescape")

    def attributes(self, inode: Inode) -> dict[str, bytes]:
        """Give the extended attributes with their full names, such as security.capability. ACLs are as on the disk."""
        with self._damage(inode.number):
            found = self._all_attributes(inode)
        found.pop(ext4_attributes.INLINE_DATA, None)
        return found

    def extents(self, inode: Inode, *, reserved: bool = False) -> Iterator[Extent]:
        """Give where the contents of a file or folder are, from its first byte to its last.

        Each is (byte of the file, byte of the disk file or None where all is zero, length). What is kept in the inode
        is nowhere else, and has no extents: read() has it. Blocks that are reserved and were never written are zeros,
        or with `reserved` where they are.
        """
        try:
            yield from self._extents(inode, reserved=reserved)
        except Damaged as error:
            raise self._damaged(str(error), inode.number) from error

    def place(self, inode: Inode) -> int | None:
        """Give the byte of the disk file where the contents begin, when they are there in one piece; else None.

        Says no more than extents(), in a fraction of its time.
        """
        at = ext4_map.single_extent(inode.block_map, -(-inode.size // self.layout.block), self.layout.blocks)
        return None if at is None or not inode.flags & ext4_inode.EXTENTS else self.offset + at * self.layout.block

    def chunks(self, inode: Inode) -> Iterator[tuple[int, bytes]]:
        """Give the contents in pieces of at most 1 MiB, each with its place in the file; holes are left out."""
        with self._damage(inode.number):
            yield from self._chunks(inode)

    def read(self, inode: Inode, limit: int | None = None) -> bytes:
        """Give the contents, or their first `limit` bytes."""
        with self._damage(inode.number):
            size = inode.size if limit is None else min(inode.size, limit)
            if size > MOST_AT_ONCE:
                raise Damaged(f"has {size} bytes, more than can be read at once")
            data = bytearray(size)
            for at, chunk in self._chunks(inode):
                if at >= size:
                    break
                data[at : at + len(chunk)] = chunk[: size - at]
            return bytes(data)

    def walk(self, path: str = "/", inode: Inode | None = None) -> Iterator[tuple[str, Inode]]:
        """Give everything in and below a folder, which is `inode` (else the root) and called `path`, itself first.

        A folder comes before what is in it, names in the order of their code points. A folder that is in two places
        would have no end, and is damaged.
        """
        seen: set[int] = set()
        # One iterator for each folder on the way down, and no list of paths: those may be long, and there may be many.
        below: list[tuple[str, Iterator[tuple[str, int]]]] = []
        found: Inode | None = inode or self.root
        while found is not None:
            yield path, found
            if found.is_folder:
                if found.number in seen or len(path) > _LONGEST_PATH:
                    raise self._damaged("is a folder in two places, or in too many folders", found.number)
                seen.add(found.number)
                below.append((path.rstrip("/"), iter(sorted(self.entries(found).items()))))
            found = None
            while below and found is None:
                parent, names = below[-1]
                for name, number in names:
                    path, found = f"{parent}/{name}", self.inode(number)
                    self.budget.step(len(path) // LETTERS_PER_STEP)
                    break
                else:
                    below.pop()

    def _entries(self, folder: Inode) -> dict[str, int]:
        if not folder.is_folder:
            raise Damaged("is no folder")
        if folder.flags & ext4_inode.ENCRYPTED:
            raise Damaged("is an encrypted folder, whose names cannot be read")
        found: dict[str, int] = {}
        file_types, size = self.layout.file_types, self.layout.block
        if folder.flags & ext4_inode.INLINE_DATA:
            beyond = self._all_attributes(folder).get(ext4_attributes.INLINE_DATA, b"")
            self.budget.step(ext4_folder.entries_of_inode(folder.block_map, beyond, file_types=file_types, into=found))
            return found
        place = self.place(folder)  # nearly always in one piece
        for _, at, length in self._extents(folder) if place is None else ((0, place, folder.size),):
            for start in range(0, length if at is not None else 0, size):
                block = self._read((at or 0) + start - self.offset, size)
                self.budget.step(ext4_folder.entries_of_block(block, file_types=file_types, into=found))
        return found

    def _all_attributes(self, inode: Inode) -> dict[str, bytes]:
        found = ext4_attributes.in_inode(inode.extra, self._attribute_value)
        if inode.attribute_block:
            found |= ext4_attributes.in_block(self._block(inode.attribute_block), self._attribute_value)
        return found

    def _attribute_value(self, number: int, size: int) -> bytes:
        """Read an attribute that is too large for a block, and has an inode of its own."""
        inode = self.inode(number)
        if not inode.is_file or inode.size != size or inode.flags & ext4_inode.INLINE_DATA:
            raise Damaged(f"has an extended attribute in inode {number}, which holds none")
        return self.read(inode)

    def _extents(self, inode: Inode, *, reserved: bool = False) -> Iterator[Extent]:
        layout = self.layout
        size, block, reached, blocks = inode.size, layout.block, 0, 0
        for first, on_disk, count in self._runs(inode, reserved=reserved):
            self.budget.step()
            start, end = first * block, min((first + count) * block, size)
            if start >= size:
                break
            if on_disk is not None:
                blocks += count
                if on_disk < layout.first_block or on_disk + count > layout.blocks or blocks > layout.blocks:
                    raise Damaged(f"has its contents in blocks {on_disk} to {on_disk + count - 1} of {layout.blocks}")
            if start > reached:
                yield reached, None, start - reached
            yield start, None if on_disk is None else self.offset + on_disk * block, end - start
            reached = end
        if reached < size:
            yield reached, None, size - reached

    def _runs(self, inode: Inode, *, reserved: bool) -> Iterable[ext4_map.Run]:
        if inode.flags & ext4_inode.INLINE_DATA or not (inode.is_file or inode.is_folder or inode.is_link):
            return ()
        if inode.flags & ext4_inode.EXTENTS:
            return ext4_map.extent_runs(inode.block_map, self._block, reserved=reserved)
        blocks = -(-inode.size // self.layout.block)
        return ext4_map.block_map_runs(inode.block_map, blocks, self.layout.block, self._block)

    def _chunks(self, inode: Inode) -> Iterator[tuple[int, bytes]]:
        if inode.flags & ext4_inode.ENCRYPTED and inode.is_file:
            raise Damaged("is encrypted, and cannot be read")
        if inode.flags & ext4_inode.INLINE_DATA:
            beyond = self._all_attributes(inode).get(ext4_attributes.INLINE_DATA, b"")
            yield 0, (inode.block_map + beyond)[: inode.size]
            return
        for start, at, length in self._extents(inode):
            if at is not None:
                for piece in range(0, length, _CHUNK):
                    yield start + piece, self._read(at + piece - self.offset, min(_CHUNK, length - piece))

    def table(self, group: int) -> int:
        """Give the place of a group's inode table, in bytes from the file system's start."""
        layout = self.layout
        self.budget.step()
        with self._damage():
            table = layout.inode_table(self._read(layout.descriptor_at(group), layout.descriptor))
        self._tables[group] = table
        return table

    def _piece(self, table: int, start: int) -> bytes:
        length = min(_TABLE_PIECE, self.layout.inodes_per_group * self.layout.inode - start)
        self.budget.step()  # and no bytes: a walk in another order than the table's comes to a piece again and again
        piece = self._uncounted(self.offset + table + start, length)
        if len(self._pieces) >= _TABLE_PIECES:
            del self._pieces[next(iter(self._pieces))]
        self._pieces[table + start] = piece
        return piece

    def _block(self, number: int) -> bytes:
        if not self.layout.first_block <= number < self.layout.blocks:
            raise Damaged(f"names block {number} of {self.layout.blocks}")
        self.budget.step(self.layout.block // _POINTER_BYTES)
        return self._read(number * self.layout.block, self.layout.block)

    def _read(self, at: int, length: int) -> bytes:
        """Read `length` bytes at byte `at` of the file system."""
        return self._bytes(self.offset + at, length)

    @contextmanager
    def _damage(self, inode: int | None = None) -> Iterator[None]:
        try:
            yield
        except Damaged as error:
            raise self._damaged(str(error), inode) from error

    def _damaged(self, what: str, inode: int | None = None) -> ImageFileError:
        subject = "" if inode is None else f"inode {inode} "
        return ImageFileError(
            f"{self.disk}: the file system at byte {self.offset} is damaged: {subject}{what}; check it with e2fsck"
        )
