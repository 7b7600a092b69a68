"""ext4 file systems for tests, made by mke2fs of trees on this machine, and what must be found in them."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.disks.ext4.reader import INLINE_DATA, ROOT, Ext4, Inode
from shared.disks.reader import DiskReader
from tests.shared.disks.small_disks import MIB, tool

OFFSET = 3 * MIB  # where a test's file system lies in its file: not at the start, as in a disk
LOST_FOUND = "/lost+found"


@dataclass(frozen=True)
class Found:
    """What the host and the reader have to see alike of a file."""

    mode: int
    owner: tuple[int, int]
    mtime: int  # in seconds; 0 for the root, whose time mke2fs does not take over
    links: int  # 0 for folders, whose count differs with the host's file system
    contents: bytes | str | None  # of a file; where a link leads


def make(disk: Path, tree: Path, *options: str, size: int = 16 * MIB) -> Ext4:
    """Pack a tree; `options` are mke2fs's."""
    block = next((option[2:] for option in options if option.startswith("-b")), "4096")
    arguments = [option for option in options if not option.startswith("-b")]
    with disk.open("wb") as file:
        file.truncate(OFFSET + size)
    arguments += ["-E", f"offset={OFFSET}", "-d", str(tree), str(disk), str(size // int(block))]
    tool("mke2fs", "-q", "-F", "-t", "ext4", "-b", block, *arguments)
    return Ext4(DiskReader(disk), OFFSET, size)


def on_host(tree: Path) -> dict[str, Found]:
    """Look at a tree as the host has it."""
    found = {}
    for path in [tree, *sorted(tree.rglob("*"))]:
        state = path.lstat()
        contents: bytes | str | None = None
        if stat.S_ISLNK(state.st_mode):
            contents = os.readlink(path)  # noqa: PTH115 - Path would tidy it
        elif stat.S_ISREG(state.st_mode):
            contents = path.read_bytes()
        links = 0 if stat.S_ISDIR(state.st_mode) else state.st_nlink
        name = "/" if path == tree else f"/{path.relative_to(tree)}"
        mtime = 0 if path == tree else int(state.st_mtime)
        found[name] = Found(state.st_mode, (state.st_uid, state.st_gid), mtime, links, contents)
    return found


def in_image(file_system: Ext4) -> dict[str, Found]:
    """Look at all of a file system, but the folder that mke2fs adds."""
    return {path: _found(file_system, inode) for path, inode in file_system.walk() if path != LOST_FOUND}


def _found(file_system: Ext4, inode: Inode) -> Found:
    contents: bytes | str | None = None
    if inode.is_link:
        contents = file_system.link(inode)
    elif inode.is_file:
        contents = file_system.read(inode)
        assert inode.flags & INLINE_DATA or b"".join(_by_extents(file_system, inode)) == contents
    links = 0 if inode.is_folder else inode.links
    mtime = 0 if inode.number == ROOT else inode.mtime_ns // 1_000_000_000
    return Found(inode.mode, (inode.user, inode.group), mtime, links, contents)


def _by_extents(file_system: Ext4, inode: Inode) -> Iterator[bytes]:
    """Read a file by hand, from where the reader says that it is; that leaves no byte out."""
    reached = 0
    with file_system.disk.open("rb") as disk:
        for at, on_disk, length in file_system.extents(inode):
            assert at == reached
            reached += length
            if on_disk is None:
                yield bytes(length)
            else:
                disk.seek(on_disk)
                yield disk.read(length)


def varied_tree(tree: Path) -> Path:
    """A tree with something of each kind that the reader treats in its own way."""
    for folder in ("empty", "deep/er/and/deeper", "many", "sticky"):
        (tree / folder).mkdir(parents=True)
    (tree / "sticky").chmod(0o1777)
    (tree / "setuid").write_bytes(b"\x7fELF")
    (tree / "setuid").chmod(0o4755)
    for size in (0, 1, 60, 61, 150, 1023, 1024, 4096, 4097, 70_001, 600_000):
        (tree / "deep" / f"of-{size}").write_bytes(bytes(index * 7 % 251 for index in range(size)))
    for number in range(900):
        (tree / "many" / f"a-name-that-fills-its-block-quickly-{number:05}").touch()
    (tree / os.fsdecode(b"no \xff utf-8")).write_text("bytes")
    (tree / "größe \n\t'\"").write_text("letters")
    os.link(tree / "setuid", tree / "deep/er/hard")
    (tree / "short").symlink_to("deep/er")
    (tree / "dangling").symlink_to("/nowhere")
    (tree / "long").symlink_to("/".join(["a" * 40] * 12))
    (tree / "of-59").symlink_to("b" * 59)
    (tree / "of-60").symlink_to("b" * 60)
    os.mkfifo(tree / "pipe")
    _sparse(tree / "sparse", [(0, b"head"), (70_000, b"middle"), (3_000_000, b"tail")], 3_000_004)
    _sparse(tree / "hole", [], 300_000)
    os.utime(tree / "setuid", (1, 1_700_000_000))
    os.utime(tree / "short", (1, 2), follow_symlinks=False)
    return tree


def _sparse(path: Path, pieces: list[tuple[int, bytes]], size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for at, data in pieces:
            file.seek(at)
            file.write(data)
