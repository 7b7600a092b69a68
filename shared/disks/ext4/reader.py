"""Read ext2, ext3 and ext4 file systems in raw disk files: no root, no mount, no program; nothing is ever written.

All that is on the disk is hostile: numbers are checked before they are used as places, nothing is read twice in one
walk, and anything that cannot be true is an ImageFileError that names the disk and the inode. Checksums are not
checked. A file system that was cut off in its work is read without its journal; `needs_recovery` says so.

Inodes are struct ext4_inode of the kernel's fs/ext4/ext4.h. The names of a folder are all read; its index (htree) is in
what looks like unused room, and is not needed for that.
"""

from __future__ import annotations

import stat
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import NamedTuple

from ...errors import EnvironmentFault, ImageFileError
from ..reader import LETTERS_PER_STEP, MOST_AT_ONCE, TABLE_PIECE, DiskReader
from . import attributes, block_map
from .layout import SUPERBLOCK_AT, SUPERBLOCK_BYTES, DamagedExt4, Layout, UnknownFeature

ROOT = 2
IMMUTABLE, APPEND_ONLY = 0x10, 0x20
ENCRYPTED, EXTENTS, VERITY, INLINE_DATA, CASE_FOLDED = 0x800, 0x80000, 0x100000, 0x10000000, 0x40000000

Extent = tuple[int, int | None, int]  # (byte of the file, byte of the disk or None for zeros, length), in bytes

_KINDS = frozenset([stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
_OLD_BYTES = 128  # of an inode that has no further fields
_INODE = struct.Struct("<HHI4xii4xHH4xI4x60s4xII6xHHH")
_INODE_EXTRA = struct.Struct("<H2xII")
_NANOSECONDS = 1_000_000_000

_ENTRY = struct.Struct("<IHBB")  # of a folder: inode, length of the entry, length of the name, kind
_MOST_NAMES = 1 << 20  # in one folder: more would be more memory than one may ask for
_PARENT_BYTES = 4  # of a folder inside its inode: the parent's number, before the entries

_CHUNK = 1 << 20
_POINTER_BYTES = 32  # of a block of a map or of attributes, for a step each
_LONGEST_PATH = 32768  # characters; Linux opens none of more than 4095 bytes
_LONGEST_LINK = 65536  # bytes; Linux makes none of more than 4095
_MOST_LINKS = 20  # that are followed on the way to one file


class FileSystemUnreadable(EnvironmentFault):
    """A file system that this reader does not know, or knows to be of a kind that it cannot read."""


class Inode(NamedTuple):
    """A file, folder, link or device. `mode` as in stat(2), with the type; `size` in bytes; times in ns since 1970."""

    number: int
    mode: int
    user: int
    group: int
    size: int
    links: int
    mtime_ns: int
    ctime_ns: int
    flags: int  # as lsattr shows them: IMMUTABLE, ENCRYPTED, VERITY, ...
    block_map: bytes  # 60 bytes: the root of the extent tree, block numbers, inline data, a link's target, or a device
    attribute_block: int  # with further extended attributes; 0 for none
    extra: bytes  # behind the fields: the extended attributes that are in the inode itself

    @property
    def is_folder(self) -> bool:
        """Return whether it is a folder."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Return whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        """Return whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_device(self) -> bool:
        """Return whether it is a character or block device."""
        return stat.S_ISCHR(self.mode) or stat.S_ISBLK(self.mode)

    @property
    def device(self) -> int:
        """The number of a device, as the kernel encodes it for 32 bits; 0 for anything else."""
        if not self.is_device:
            return 0
        old, new = self.block_map[:4], self.block_map[4:8]
        return int.from_bytes(old, "little") or int.from_bytes(new, "little")


NamedInode = tuple[str, Inode]  # with its path
Enter = Callable[[str, Inode], bool]


class Ext4:
    """The file system at byte `offset` of a disk, in a partition of `size` bytes.

    Names are text in which bytes that are not UTF-8 are escaped, as os.fsdecode() does. Raises ImageFileError where the
    file system is damaged, FileSystemUnreadable where it has features that this reader does not know.
    """

    def __init__(self, reader: DiskReader, offset: int, size: int) -> None:
        self.disk = reader.path
        self.budget = reader.budget
        self.offset = offset
        self._reader = reader
        with self._damage():
            try:
                self.layout = Layout.read(self._read(SUPERBLOCK_AT, SUPERBLOCK_BYTES))
            except UnknownFeature as error:
                raise FileSystemUnreadable(
                    f"{self.disk}: the file system at byte {offset} has features ({error}) that cannot be read here"
                ) from error
            if self.layout.size > size:
                raise DamagedExt4(f"it has {self.layout.size} bytes in a partition of {size}")
        self._tables: dict[int, int] = {}  # group: where its inode table is
        self._folders: dict[int, dict[str, int]] = {}  # the names in the folders on the way to a file
        self._pieces = reader.pieces

    @property
    def needs_recovery(self) -> bool:
        """Return whether it was not unmounted: a mount would replay its journal first."""
        return self.layout.needs_recovery

    @property
    def uuid(self) -> str:
        """Its own identity, as blkid writes it."""
        return str(uuid.UUID(bytes=self.layout.uuid))

    @property
    def root(self) -> Inode:
        """The folder that all others are in."""
        return self.inode(ROOT)

    def inode(self, number: int) -> Inode:
        """Read an inode by its number."""
        try:  # and no `with`, which takes longer than all else here
            return _inode(number, self.record(number), self.layout)
        except DamagedExt4 as error:
            raise self._damaged(str(error), number) from error

    def record(self, number: int) -> bytes:
        """Return the bytes of an inode on the disk. Equal bytes need not be parsed to be known as equal."""
        layout = self.layout
        if not 0 < number <= layout.inodes:
            raise self._damaged(f"a folder names inode {number} of {layout.inodes}")
        group, index = divmod(number - 1, layout.inodes_per_group)
        table = self._tables.get(group) or self.table(group)
        within = index * layout.inode % TABLE_PIECE
        start = index * layout.inode - within
        at = self.offset + table + start
        piece = self._pieces.get(at)
        if piece is None:
            piece = self._reader.piece(at, needed=layout.inodes_per_group * layout.inode - start)
        return piece[within : within + layout.inode]

    def records(self, group: int, start: int, length: int) -> bytes:
        """Read bytes of a group's inode table, fewer at its end."""
        length = min(length, self.layout.inodes_per_group * self.layout.inode - start)
        return self._reader.read_uncounted(self.offset + self.table(group) + start, length)

    def table(self, group: int) -> int:
        """Return the place of a group's inode table, in bytes from the file system's start."""
        if group not in self._tables:
            layout = self.layout
            self.budget.step()
            with self._damage():
                descriptor = self._read(layout.descriptor_at(group), layout.descriptor)
                self._tables[group] = layout.inode_table(descriptor)
        return self._tables[group]

    def entries(self, folder: Inode) -> dict[str, int]:
        """Return the names in a folder, without `.` and `..`, with the numbers of their inodes."""
        try:
            return self._entries(folder)
        except DamagedExt4 as error:
            raise self._damaged(str(error), folder.number) from error

    def find(self, path: str) -> Inode | None:
        """Return the file at an absolute path; None where there is none, or a link that leads nowhere.

        Links are followed, and lead to files of this file system alone.
        """
        return self._find(absolute(path), _MOST_LINKS)

    def walk(self, path: str = "/", inode: Inode | None = None, enter: Enter | None = None) -> Iterator[NamedInode]:
        """Yield everything in and below a folder, which is `inode` (else the root) and called `path`, itself first.

        A folder comes before its contents, names in the order of their code points. `enter` returns whether the
        contents of a folder below it are wanted, and must not want a folder again and again. Without `enter` all are,
        and a folder that is in two places, which would have no end, is damaged.
        """
        found = inode or self.root
        enter = enter or self._enter_once(found)
        yield path, found
        # One iterator for each folder on the way down, and no list of paths: those may be long, and there may be many.
        below = [self._members(path, found)] if found.is_folder else []
        while below:
            for path, found in below[-1]:
                yield path, found
                if found.is_folder and enter(path, found):
                    below.append(self._members(path, found))
                    break
            else:
                below.pop()

    def link(self, inode: Inode) -> str:
        """Return the target of a symbolic link."""
        with self._damage(inode.number):
            if not inode.is_link or not 0 < inode.size <= _LONGEST_LINK:
                raise DamagedExt4("is no symbolic link" if not inode.is_link else f"is a link of {inode.size} bytes")
            is_inside = inode.size < len(inode.block_map) and not inode.flags & EXTENTS
        target = inode.block_map[: inode.size] if is_inside else self.read(inode)
        return target.rstrip(b"\0").decode("utf-8", "surrogateescape")

    def attributes(self, inode: Inode) -> dict[str, bytes]:
        """Return the extended attributes by their full names, such as security.capability. ACLs are as on the disk."""
        with self._damage(inode.number):
            found = self._all_attributes(inode)
            found.pop(attributes.INLINE_DATA, None)
            return found

    def extents(self, inode: Inode, *, reserved: bool = False) -> Iterator[Extent]:
        """Yield where the contents of a file or folder are, from its first byte to its last.

        Each is (byte of the file, byte of the disk file or None where all is zero, length). Contents that are kept in
        the inode have no extents; read() returns them. Blocks that are reserved and were never written are zeros, or
        with `reserved` where they are.
        """
        try:
            yield from self._extents(inode, reserved=reserved)
        except DamagedExt4 as error:
            raise self._damaged(str(error), inode.number) from error

    def place(self, inode: Inode) -> int | None:
        """Return the byte of the disk file where the contents begin, when they are there in one piece; else None.

        It tells no more than extents(), in a fraction of its time.
        """
        at = block_map.single_extent(inode.block_map, -(-inode.size // self.layout.block), self.layout.blocks)
        return None if at is None or not inode.flags & EXTENTS else self.offset + at * self.layout.block

    def chunks(self, inode: Inode) -> Iterator[tuple[int, bytes]]:
        """Yield the contents in pieces of at most 1 MiB, each with its place in the file; holes are left out."""
        with self._damage(inode.number):
            yield from self._chunks(inode)

    def read(self, inode: Inode, limit: int | None = None) -> bytes:
        """Read the contents, or their first `limit` bytes."""
        with self._damage(inode.number):
            size = inode.size if limit is None else min(inode.size, limit)
            if size > MOST_AT_ONCE:
                raise DamagedExt4(f"has {size} bytes, more than can be read at once")
            data = bytearray(size)
            for at, chunk in self._chunks(inode):
                if at >= size:
                    break
                data[at : at + len(chunk)] = chunk[: size - at]
            return bytes(data)

    def _find(self, path: PurePosixPath, links: int) -> Inode | None:
        """Follow a path from the root, folder by folder, and at most `links` links on the way."""
        entry = self.root
        parts = path.parts[1:]
        for index, part in enumerate(parts):
            number = self._names(entry).get(part)
            if number is None:
                return None
            found = self.inode(number)
            if found.is_link:
                if links == 0:
                    return None
                parent = PurePosixPath("/", *parts[:index])
                target = parent.joinpath(self.link(found), *parts[index + 1 :])
                return self._find(absolute(str(target)), links - 1)
            entry = found
        return entry

    def _names(self, folder: Inode) -> dict[str, int]:
        """Return the names in a folder on the way to a file; none in what is no folder."""
        if not folder.is_folder:
            return {}
        if folder.number not in self._folders:
            self._folders[folder.number] = self.entries(folder)
        return self._folders[folder.number]

    def _enter_once(self, root: Inode) -> Enter:
        seen = {root.number}

        def enter(path: str, folder: Inode) -> bool:
            if folder.number in seen or len(path) > _LONGEST_PATH:
                raise self._damaged("is a folder in two places, or in too many folders", folder.number)
            seen.add(folder.number)
            return True

        return enter

    def _members(self, path: str, folder: Inode) -> Iterator[NamedInode]:
        names = sorted(self.entries(folder).items())  # without the dict, which takes as much again
        path = path.rstrip("/")
        self.budget.step(len(path) * len(names) // LETTERS_PER_STEP)
        for name, number in names:
            yield f"{path}/{name}", self.inode(number)

    def _entries(self, folder: Inode) -> dict[str, int]:
        if not folder.is_folder:
            raise DamagedExt4("is no folder")
        if folder.flags & ENCRYPTED:
            raise DamagedExt4("is an encrypted folder, whose names cannot be read")
        found: dict[str, int] = {}
        if folder.flags & INLINE_DATA:
            beyond = self._all_attributes(folder).get(attributes.INLINE_DATA, b"")
            blocks: Iterable[bytes] = (folder.block_map[_PARENT_BYTES:], beyond)
        else:
            blocks = self._folder_blocks(folder)
        for block in blocks:
            self.budget.step(_read_names(block, self.layout, found))
        return found

    def _folder_blocks(self, folder: Inode) -> Iterator[bytes]:
        size = self.layout.block
        place = self.place(folder)  # nearly always in one piece
        for _, at, length in self._extents(folder) if place is None else ((0, place, folder.size),):
            for start in range(0, length if at is not None else 0, size):
                yield self._reader.read((at or 0) + start, size)

    def _all_attributes(self, inode: Inode) -> dict[str, bytes]:
        found = attributes.in_inode(inode.extra, self._attribute_value)
        if inode.attribute_block:
            found |= attributes.in_block(self._block(inode.attribute_block), self._attribute_value)
        return found

    def _attribute_value(self, number: int, size: int) -> bytes:
        """Read an attribute that is too large for a block, and has an inode of its own."""
        inode = self.inode(number)
        if not inode.is_file or inode.size != size or inode.flags & INLINE_DATA:
            raise DamagedExt4(f"has an extended attribute in inode {number}, which holds none")
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
                    raise DamagedExt4(
                        f"has its contents in blocks {on_disk} to {on_disk + count - 1} of {layout.blocks}"
                    )
            if start > reached:
                yield reached, None, start - reached
            yield start, None if on_disk is None else self.offset + on_disk * block, end - start
            reached = end
        if reached < size:
            yield reached, None, size - reached

    def _runs(self, inode: Inode, *, reserved: bool) -> Iterable[block_map.Run]:
        if inode.flags & INLINE_DATA or not (inode.is_file or inode.is_folder or inode.is_link):
            return ()
        if inode.flags & EXTENTS:
            return block_map.extent_runs(inode.block_map, self._block, reserved=reserved)
        blocks = -(-inode.size // self.layout.block)
        return block_map.block_map_runs(inode.block_map, blocks, self.layout.block, self._block)

    def _chunks(self, inode: Inode) -> Iterator[tuple[int, bytes]]:
        if inode.flags & ENCRYPTED and inode.is_file:
            raise DamagedExt4("is encrypted, and cannot be read")
        if inode.flags & INLINE_DATA:
            beyond = self._all_attributes(inode).get(attributes.INLINE_DATA, b"")
            yield 0, (inode.block_map + beyond)[: inode.size]
            return
        for start, at, length in self._extents(inode):
            if at is not None:
                for piece in range(0, length, _CHUNK):
                    yield start + piece, self._reader.read(at + piece, min(_CHUNK, length - piece))

    def _block(self, number: int) -> bytes:
        if not self.layout.first_block <= number < self.layout.blocks:
            raise DamagedExt4(f"names block {number} of {self.layout.blocks}")
        self.budget.step(self.layout.block // _POINTER_BYTES)
        return self._read(number * self.layout.block, self.layout.block)

    def _read(self, at: int, length: int) -> bytes:
        """Read `length` bytes at byte `at` of the file system."""
        return self._reader.read(self.offset + at, length)

    @contextmanager
    def _damage(self, inode: int | None = None) -> Iterator[None]:
        try:
            yield
        except DamagedExt4 as error:
            raise self._damaged(str(error), inode) from error

    def _damaged(self, what: str, inode: int | None = None) -> ImageFileError:
        subject = "" if inode is None else f"inode {inode} "
        return ImageFileError(
            f"{self.disk}: the file system at byte {self.offset} is damaged: {subject}{what}; check it with e2fsck"
        )


def absolute(path: str) -> PurePosixPath:
    """Return an absolute path without `..`, which leads nowhere above the root."""
    parts: list[str] = []
    for part in PurePosixPath(path).parts:
        if part == "..":
            parts[-1:] = []
        elif part != "/":
            parts.append(part)
    return PurePosixPath("/", *parts)


def _inode(number: int, record: bytes, layout: Layout) -> Inode:
    """Parse an inode. DamagedExt4 when it is not in use, or cannot be one."""
    (mode, user, size, ctime, mtime, group, links, flags, block_map, attributes, size_high, *high) = _INODE.unpack_from(
        record
    )
    if not links or mode & 0xF000 not in _KINDS:
        raise DamagedExt4("is named in a folder and not in use")
    if size_high and (stat.S_ISREG(mode) or layout.large_folders):
        size |= size_high << 32
    mtime_ns, ctime_ns = mtime * _NANOSECONDS, ctime * _NANOSECONDS
    extra = b""
    if len(record) > _OLD_BYTES:
        length, ctime_extra, mtime_extra = _INODE_EXTRA.unpack_from(record, _OLD_BYTES)
        if length % 4 or length > len(record) - _OLD_BYTES:
            raise DamagedExt4(f"has {length} bytes of further fields")
        if length >= 8 and ctime_extra:
            ctime_ns += _later(ctime_extra)
        if length >= 12 and mtime_extra:
            mtime_ns += _later(mtime_extra)
        extra = record[_OLD_BYTES + length :]
    attributes |= high[0] << 32
    user |= high[1] << 16
    group |= high[2] << 16
    fields = (number, mode, user, group, size, links, mtime_ns, ctime_ns, flags, block_map, attributes, extra)
    return tuple.__new__(Inode, fields)  # what Inode(...) does, in half of its time


def _later(extra: int) -> int:
    """Return the nanoseconds, with the two bits of seconds beyond 2038, in the field beside a time."""
    return (extra >> 2) + ((extra & 3) << 32) * _NANOSECONDS


def _read_names(block: bytes, layout: Layout, into: dict[str, int]) -> int:
    """Add the names in a block of a folder, with their inodes' numbers; return its number of entries. DamagedExt4."""
    at, end, count = 0, len(block), 0
    unpack, head, file_types = _ENTRY.unpack_from, _ENTRY.size, layout.file_types
    while at < end:
        if end - at < head:
            raise DamagedExt4(f"has a folder whose entry at byte {at} is cut short")
        inode, length, name_length, high = unpack(block, at)
        if length in (0, 0xFFFF) and end == 0x10000:  # 64 KiB do not fit into 16 bits
            length = end - at
        if not file_types:
            name_length |= high << 8
        if length % 4 or length < head + name_length or at + length > end:
            raise DamagedExt4(f"has a folder whose entry at byte {at} has {length} bytes")
        if inode:
            raw = block[at + head : at + head + name_length]
            if raw != b"." and raw != b"..":
                name = raw.decode("utf-8", "surrogateescape")
                if not raw or b"/" in raw or b"\0" in raw or name in into:
                    raise DamagedExt4(f"has a folder with the name {name!r}" + (" twice" if name in into else ""))
                into[name] = inode
        at += length
        count += 1
    if len(into) > _MOST_NAMES:
        raise DamagedExt4(f"has more than {_MOST_NAMES} names")
    return count
