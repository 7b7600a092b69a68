"""The layout of an ext2, ext3 or ext4 file system: its superblock and its group descriptors, from their bytes.

Nothing is read here. Numbers are as in the kernel's fs/ext4/ext4.h; all of them are hostile until they are checked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

SUPERBLOCK_AT, SUPERBLOCK_BYTES = 1024, 1024

_MAGIC = 0xEF53
_SUPERBLOCK = struct.Struct("<7I4xI4xI12xH18xI")  # up to the revision
_SPARSE_SUPER2 = 0x200  # compatible features
_FILE_TYPE, _RECOVER, _META_BG, _64BIT, _EA_INODE, _LARGE_DIR = 0x2, 0x4, 0x10, 0x80, 0x400, 0x4000  # incompatible ones
_SPARSE_SUPER = 0x1  # of those that only writers must know
# filetype, recover, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, metadata_csum_seed, large_dir, inline_data,
# encrypt, casefold. What is not among them may change the meaning of anything: such a file system cannot be read.
_KNOWN = 0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000
_BITS = 8  # per byte of the block that says which inodes of a group are in use


class DamagedExt4(Exception):
    """Something on the disk cannot be true; the text says what. The reader adds the disk and the inode."""


class UnknownFeature(Exception):
    """The file system says that its readers must know a feature that this one does not."""


@dataclass(frozen=True)
class Layout:
    """The measures of a file system. Blocks and inodes are counted in their own units, all else in bytes."""

    block: int
    blocks: int
    first_block: int  # of group 0: 1 where blocks have 1 KiB, since the first KiB belongs to the boot loader
    blocks_per_group: int
    inodes: int
    inodes_per_group: int
    inode: int
    descriptor: int
    uuid: bytes
    label: str
    written: int  # when it was last written, in Unix seconds
    needs_recovery: bool
    file_types: bool  # whether folders say of what kind their entries are
    large_folders: bool
    attribute_inodes: bool  # whether a large extended attribute may be in an inode of its own
    _meta_groups_from: int | None
    _sparse_super: bool
    _backups: tuple[int, int] | None

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read the 1024 bytes of a superblock. Damaged, UnknownFeature."""
        inodes, blocks, _, _, _, first_block, log_block, per_group, inodes_per_group, magic, revision = (
            _SUPERBLOCK.unpack_from(data)
        )
        if magic != _MAGIC:
            raise DamagedExt4("there is no superblock")
        compat, incompat, read_only = struct.unpack_from("<3I", data, 0x5C)
        if revision == 0:  # of before 1997: what the other fields hold has no meaning
            compat = incompat = read_only = 0
        unknown = incompat & ~_KNOWN
        if unknown:
            raise UnknownFeature(f"{unknown:#x}")
        if log_block > 6:
            raise DamagedExt4(f"blocks of 2^{10 + log_block} bytes")
        wide = bool(incompat & _64BIT)
        meta_from = int.from_bytes(data[0x104:0x108], "little")
        backups = struct.unpack_from("<2I", data, 0x24C)
        layout = cls(
            block=1024 << log_block,
            blocks=blocks | (int.from_bytes(data[0x150:0x154], "little") << 32 if wide else 0),
            first_block=first_block,
            blocks_per_group=per_group,
            inodes=inodes,
            inodes_per_group=inodes_per_group,
            inode=int.from_bytes(data[0x58:0x5A], "little") if revision else 128,
            descriptor=int.from_bytes(data[0xFE:0x100], "little") if wide else 32,
            uuid=data[0x68:0x78],
            label=data[0x78:0x88].rstrip(b"\0").decode("utf-8", "replace"),
            written=int.from_bytes(data[0x30:0x34], "little") | data[0x274] << 32,
            needs_recovery=bool(incompat & _RECOVER),
            file_types=bool(incompat & _FILE_TYPE),
            large_folders=bool(incompat & _LARGE_DIR),
            attribute_inodes=bool(incompat & _EA_INODE),
            _meta_groups_from=meta_from if incompat & _META_BG else None,
            _sparse_super=bool(read_only & _SPARSE_SUPER),
            _backups=(backups[0], backups[1]) if compat & _SPARSE_SUPER2 else None,
        )
        layout._check()
        return layout

    def _check(self) -> None:
        for wrong, what in (
            (self.first_block > 1 or self.blocks <= self.first_block, f"{self.blocks} blocks"),
            (not self.blocks_per_group, "groups of no blocks"),
            (not 0 < self.inodes_per_group <= self.block * _BITS, f"{self.inodes_per_group} inodes per group"),
            (not 128 <= self.inode <= self.block or self.inode & (self.inode - 1), f"inodes of {self.inode} bytes"),
            (
                not 32 <= self.descriptor <= self.block or self.descriptor & (self.descriptor - 1),
                f"group descriptors of {self.descriptor} bytes",
            ),
        ):
            if wrong:
                raise DamagedExt4(f"its superblock speaks of {what}")
        if self.inodes != self.groups * self.inodes_per_group:
            raise DamagedExt4(f"its superblock speaks of {self.inodes} inodes in {self.groups} groups")

    @property
    def size(self) -> int:
        """The file system's length."""
        return self.blocks * self.block

    @property
    def groups(self) -> int:
        """Return the number of block groups."""
        return -(-(self.blocks - self.first_block) // self.blocks_per_group)

    def descriptor_at(self, group: int) -> int:
        """Return the place of a group's descriptor, in bytes from the file system's start."""
        block, within = divmod(group, self.block // self.descriptor)
        return self._descriptor_block(block) * self.block + within * self.descriptor

    def _descriptor_block(self, index: int) -> int:
        """Return the block that holds the `index`-th block of descriptors."""
        after_superblock = SUPERBLOCK_AT // self.block + 1
        if self._meta_groups_from is None or index < self._meta_groups_from:
            return after_superblock + index
        group = index * (self.block // self.descriptor)  # the first of the groups that this block describes
        if group == 0:
            return after_superblock
        return self.first_block + group * self.blocks_per_group + self._has_superblock(group)

    def _has_superblock(self, group: int) -> bool:
        if self._backups is not None:
            return group in self._backups
        if group == 1 or not self._sparse_super:
            return True
        return any(_is_power(group, base) for base in (3, 5, 7))

    def inode_table(self, descriptor: bytes) -> int:
        """Return the place of a group's inode table, in bytes from the file system's start. Damaged."""
        block = int.from_bytes(descriptor[8:12], "little")
        if self.descriptor >= 64:
            block |= int.from_bytes(descriptor[0x28:0x2C], "little") << 32
        length = -(-self.inodes_per_group * self.inode // self.block)
        if not self.first_block < block <= self.blocks - length:
            raise DamagedExt4(f"an inode table in block {block} of {self.blocks}")
        return block * self.block


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1
