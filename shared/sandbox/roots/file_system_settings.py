"""What an ext4 file system was made with, as options of mke2fs that make another one like it.

Everything comes from the superblock (struct ext4_super_block of the kernel's fs/ext4/ext4.h) and the journal's inode.
Quotas, which mke2fs counts wrongly with -d, are refused. Not carried over: raid geometry, intervals between checks, and
mount options beside the default ones that tune2fs -o sets.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from ...disks.ext4.reader import Ext4
from ...errors import InputError
from ...quantities import MIB

_COMPATIBLE: Mapping[int, str] = {
    0x1: "dir_prealloc",
    0x2: "imagic_inodes",
    0x4: "has_journal",
    0x8: "ext_attr",
    0x10: "resize_inode",
    0x20: "dir_index",
    0x200: "sparse_super2",
    0x400: "fast_commit",
    0x800: "stable_inodes",
    0x1000: "orphan_file",
}
_INCOMPATIBLE: Mapping[int, str] = {
    0x2: "filetype",
    0x10: "meta_bg",
    0x40: "extent",
    0x80: "64bit",
    0x100: "mmp",
    0x200: "flex_bg",
    0x400: "ea_inode",
    0x2000: "metadata_csum_seed",
    0x4000: "large_dir",
    0x8000: "inline_data",
    0x10000: "encrypt",
    0x20000: "casefold",
}
_READ_ONLY_COMPATIBLE: Mapping[int, str] = {
    0x1: "sparse_super",
    0x2: "large_file",
    0x8: "huge_file",
    0x10: "uninit_bg",
    0x20: "dir_nlink",
    0x40: "extra_isize",
    0x400: "metadata_csum",
    0x2000: "project",
    0x8000: "verity",
}
_OF_A_STATE = (0, 0x4, 0x10000)  # bits of the three that come and go with mounts: a journal or orphans that wait
_MOUNT_OPTIONS: Mapping[int, str] = {
    0x1: "debug",
    0x2: "bsdgroups",
    0x4: "user_xattr",
    0x8: "acl",
    0x10: "uid16",
    0x100: "nobarrier",
    0x200: "block_validity",
    0x400: "discard",
    0x800: "nodelalloc",
}
_JOURNAL_MODES = ("", "journal_data", "journal_data_ordered", "journal_data_writeback")
_ERRORS = {2: "remount-ro", 3: "panic"}  # beside 1, to go on
_SINGULAR = "its root file system has the feature {}, which a new one cannot be given; write engine: vm"
_MOST_BLOCKS = (1 << 32) - 1  # that mke2fs takes for -E resize=


@dataclass(frozen=True)
class FileSystemSettings:
    """Options of mke2fs: the arguments, those after -E, and what its configuration has to say."""

    arguments: tuple[str, ...]
    extended: tuple[str, ...]
    configuration: str
    block: int  # its size in bytes
    checksums: bool  # whether each inode has one


def read_settings(file_system: Ext4, superblock: bytes, size: int) -> FileSystemSettings:
    """Read how to make a file system of `size` bytes that is like another one. InputError where none can be."""
    layout = file_system.layout
    compatible, incompatible, read_only = struct.unpack_from("<3I", superblock, 0x5C)
    blocks = size // layout.block
    reserved = _wide(superblock, 0x08, 0x154) / layout.blocks * 100
    per_group = layout.blocks_per_group
    arguments = [
        *("-b", str(layout.block), "-I", str(layout.inode), "-g", str(per_group)),
        *("-N", str(layout.inodes * blocks // layout.blocks)),
        *("-m", f"{min(reserved + 50 / layout.blocks, 50):.17g}"),  # half a block more: mke2fs rounds down
        *("-U", str(uuid.UUID(bytes=layout.uuid))),
        *("-L", superblock[0x78:0x88].split(b"\0")[0].decode("utf-8", "surrogateescape")),
        *("-e", _ERRORS.get(superblock[0x3C], "continue")),
        *("-O", ",".join(["none", *_features(file_system, (compatible, incompatible, read_only))])),
    ]
    if incompatible & 0x200:
        arguments += ["-G", str(1 << min(superblock[0x174], 31))]
    (journal,) = struct.unpack_from("<I", superblock, 0xE0)
    if compatible & 0x4 and journal:
        length = file_system.inode(journal).size
        arguments += ["-J", f"size={length // MIB}"] if length >= MIB else []
    extended = [f"hash_seed={uuid.UUID(bytes=superblock[0xEC:0xFC])}"]
    (spare,) = struct.unpack_from("<H", superblock, 0xCE)
    if compatible & 0x10 and spare:
        in_block = layout.block // layout.descriptor
        largest = (-(-layout.groups // in_block) + spare) * in_block * per_group
        extended += [f"resize={min(largest, _MOST_BLOCKS)}"] if blocks < min(largest, _MOST_BLOCKS) else []
    (options,) = struct.unpack_from("<I", superblock, 0x100)
    mount = [name for bit, name in _MOUNT_OPTIONS.items() if options & bit]
    mount += [name for name in (_JOURNAL_MODES[options >> 5 & 3],) if name]
    configuration = (
        "[defaults]\n    base_features = none\n    enable_periodic_fsck = 0\n"
        f'    default_mntopts = "{",".join(mount)}"\n'
        "[fs_types]\n    ext4 = {\n        inode_ratio = 16384\n    }\n"
    )
    return FileSystemSettings(tuple(arguments), tuple(extended), configuration, layout.block, bool(read_only & 0x400))


def _features(file_system: Ext4, sets: tuple[int, int, int]) -> list[str]:
    names = []
    for bits, of_a_state, known in zip(
        sets, _OF_A_STATE, (_COMPATIBLE, _INCOMPATIBLE, _READ_ONLY_COMPATIBLE), strict=True
    ):
        left = bits & ~of_a_state
        for bit in (1 << index for index in range(32)):
            if left & bit:
                if bit not in known:
                    raise InputError(f"{file_system.disk}: {_SINGULAR.format(hex(bit))}")
                names.append(known[bit])
    return names


def _wide(superblock: bytes, low: int, high: int) -> int:
    """Read a number of 64 bits whose halves lie apart."""
    return int(struct.unpack_from("<I", superblock, low)[0] | struct.unpack_from("<I", superblock, high)[0] << 32)
