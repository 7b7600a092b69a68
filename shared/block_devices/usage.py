"""How much room the files of a tree take, for each place at which a file system will be mounted in it.

Sizes are those of the files, not what they take on this machine: the same tree asks for the same disk everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..build.block_devices.description import FileSystemKind
from ..host.programs import run_tool
from ..quantities import MIB

_BLOCK = 4096
_SPARSE = 64 << 10  # bytes: what a sparse file takes here is rounded to this
_FORMAT = r"%y %s %b %n %D:%i %P\0"
_LEAST: Mapping[FileSystemKind, int] = {  # what the programs that make them want, and room for their own structures
    "ext4": 4 * MIB,
    "xfs": 300 * MIB,
    "btrfs": 128 * MIB,
    "vfat": 512 << 10,
    "swap": 64 << 10,
}
_JOURNAL = 64 * MIB
_USED = 0.6  # of a new file system, as diskimage-builder has it


@dataclass
class FileUsage:
    """The files of one file system."""

    data: int = 0  # bytes, in whole blocks
    inodes: int = 0

    def least(self, kind: FileSystemKind) -> int:
        """Return the bytes without which they cannot be written."""
        return max(_LEAST[kind], self.data + self.inodes * 256 + _LEAST[kind] // 2)

    def comfortable(self, kind: FileSystemKind, inode_ratio: int) -> int:
        """Return the bytes of a file system that they fill to three fifths, beside its journal."""
        if kind == "vfat":
            return max(_LEAST[kind], int(self.data * 1.25) + MIB)
        wanted = int(self.data / _USED) + _JOURNAL
        return max(self.least(kind), wanted, int(self.inodes * inode_ratio * 1.25) if kind == "ext4" else 0)


def measure_tree(tree: Path, mount_points: Iterable[str]) -> dict[str, FileUsage]:
    """Return what the files below each mount point take; one below another one counts there alone.

    The process has to be able to read every folder.
    """
    usage = {point: FileUsage() for point in mount_points}
    places = sorted(usage, key=len, reverse=True)
    seen: set[str] = set()
    names: dict[str, int] = {}
    for record in run_tool(["find", tree, "-xdev", "-printf", _FORMAT]).split("\0")[:-1]:
        kind, size, blocks, links, inode, path = record.split(" ", 5)
        if kind != "d" and int(links) > 1:
            if inode in seen:
                continue
            seen.add(inode)
        place = next((each for each in places if each == "/" or f"/{path}/".startswith(f"{each}/")), "/")
        found = usage[place]
        found.inodes += 1
        if kind == "f":
            found.data += _bytes_of(int(size), int(blocks) * 512)
        parent = path.rpartition("/")[0]
        names[parent] = names.get(parent, 0) + 12 + len(path) - len(parent)
        if kind == "d":
            found.data += _BLOCK
    for parent, length in names.items():
        if length > _BLOCK // 2:
            place = next((each for each in places if each == "/" or f"/{parent}/".startswith(f"{each}/")), "/")
            usage[place].data += length * 2 // _BLOCK * _BLOCK
    return usage


def _bytes_of(size: int, taken: int) -> int:
    """Return what a file takes: less than its size where more than half of it are holes."""
    if taken * 2 < size:
        return -(-taken // _SPARSE) * _SPARSE
    return -(-size // _BLOCK) * _BLOCK
