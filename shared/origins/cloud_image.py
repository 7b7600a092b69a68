"""A distribution's disk image as an archive of its files, for root.d of elements that begin with one.

diskimage-builder mounts such an image by loop devices. Here its files are read out of it, by the reader of images, and
packed in the order of their file systems: the root, then /boot and /boot/efi where they are file systems of their own,
which are known as there: by the types of their partitions, or the label `boot`.

Devices are left out: no user namespace makes them, and an image fills /dev when it boots. Holes are written as zeros,
and how large a file is, the image alone says: all files together may have as many bytes as their disk, which honest
ones do not exceed, and there has to be room for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from ..archives import pax
from ..archives.pax import TarEntry, padding, pax_header
from ..archives.sparse_tar import trailer
from ..disks.disk import Disk
from ..disks.ext4.reader import Ext4, FileSystemUnreadable
from ..disks.extents import data_bytes, need_space, open_file
from ..disks.fat import Fat
from ..disks.formats.tree import tree_members
from ..disks.partition_table import DiskPartition
from ..errors import ImageFileError, InputError
from ..host.scratch import faults
from ..images.file import as_raw
from ..ports import Notify

_EFI, _EXTENDED_BOOT = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "bc13c2ff-59e6-4262-a352-b275fd6f7172"  # types in a GPT
_EFI_OF_MBR = "0xef"
_BOOT, _EFI_PLACE, _LABEL = b"boot/", b"boot/efi/", "boot"
_DEVICES = (pax.CHARACTERS, pax.BLOCKS)
_PIECE = 1 << 20
_BETWEEN_LOOKS = 64 << 20  # bytes of files that are written between two looks at the room that is left
_DEEPEST = 64  # folders in each other
_REMEDY = "import that image (source.file), and run the elements in a step"


def pack_cloud_image(file: Path, scratch: Path, target: Path, progress: Notify) -> None:
    """Write a tar archive of the files of a disk image: raw, qcow2 or another program's. `scratch` is a folder.

    InputError for a root that cannot be read, ImageFileError for no disk or a damaged one, NoSpace, MissingTool.
    """
    raw = as_raw(file, scratch / "image.raw", progress)
    with open_file(raw) as opened:
        need_space(target.parent, data_bytes(opened.fileno(), raw.stat().st_size))
    try:
        with Disk(raw) as disk, faults(target), target.open("xb") as archive:
            _Archive(archive, target.parent, raw).write(disk)
    except FileSystemUnreadable as error:
        raise InputError(f"{str(error).replace(str(raw), str(file))}; {_REMEDY}") from error
    except ImageFileError as error:
        raise ImageFileError(str(error).replace(str(raw), str(file))) from error
    if raw != file:
        raw.unlink()


class _Archive:
    """A tar archive in the making."""

    def __init__(self, file: IO[bytes], folder: Path, raw: Path) -> None:
        self._file = file
        self._folder = folder
        self._raw = raw
        self._size = self._left = raw.stat().st_size  # of the disk; what its files may still have
        self._unlooked = 0

    def write(self, disk: Disk) -> None:
        """Write all file systems of a disk, and the archive's end."""
        root = disk.root.file_system
        self._add_ext4(root, b"")
        others = [each for each in disk.table.partitions if each != disk.root_partition]
        for place, partition in _places(disk, others):
            found = disk.file_system(partition)
            if isinstance(found, Ext4):
                self._add_ext4(found, place)
            elif isinstance(found, Fat):
                for entry, contents in _fat_members(found, place):
                    self._add(entry, iter(((0, contents),)))
            else:
                raise FileSystemUnreadable(f"{disk.path}: /{place.decode()[:-1]} is {partition.file_system}")
        self._file.write(trailer(self._file.tell()))

    def _add_ext4(self, files: Ext4, place: bytes) -> None:
        if files.needs_recovery:
            raise FileSystemUnreadable(f"{files.disk}: a file system of it was not unmounted")
        for entry, inode in tree_members(files):
            if entry.kind in _DEVICES:
                continue
            moved = replace(entry, name=_below(place, entry.name))
            if entry.kind == pax.HARD_LINK:
                moved = replace(moved, target=_below(place, entry.target))
            self._add(moved, files.chunks(inode) if entry.kind == pax.FILE else iter(()))

    def _add(self, entry: TarEntry, chunks: Iterator[tuple[int, bytes]]) -> None:
        if entry.kind == pax.FILE:
            self._take(entry)
        self._file.write(pax_header(entry))
        reached = 0
        for offset, chunk in chunks:
            self._fill(offset - reached)
            self._file.write(chunk)
            reached = offset + len(chunk)
        if entry.kind == pax.FILE:
            self._fill(entry.size - reached)
            self._file.write(padding(entry.size))

    def _take(self, entry: TarEntry) -> None:
        """Raise ImageFileError for a file that is more than its disk can hold, NoSpace for one that has no room."""
        if entry.size > self._left:
            name = entry.name.decode("utf-8", "backslashreplace")
            raise ImageFileError(
                f"{self._raw}: {name} has {entry.size} bytes, and all files up to it "
                f"{self._size - self._left + entry.size}: more than their disk, which has {self._size}; a sparse "
                "file has to be made smaller in the image"
            )
        self._left -= entry.size
        self._unlooked += entry.size
        if self._unlooked >= _BETWEEN_LOOKS:
            need_space(self._folder, entry.size)
            self._unlooked = 0

    def _fill(self, count: int) -> None:
        while count > 0:
            self._file.write(bytes(min(count, _PIECE)))
            count -= _PIECE


def _below(place: bytes, name: bytes) -> bytes:
    """Return the name that a member has in the whole tree."""
    return place + name.removeprefix(b"./") if place else name


def _places(disk: Disk, partitions: list[DiskPartition]) -> list[tuple[bytes, DiskPartition]]:
    """Return where file systems beside the root belong, the upper one first."""
    found: dict[bytes, DiskPartition] = {}
    for partition in partitions:
        if partition.type in (_EFI, _EFI_OF_MBR):
            found.setdefault(_EFI_PLACE, partition)
        elif partition.type == _EXTENDED_BOOT or _label(disk, partition).lower() == _LABEL:
            found.setdefault(_BOOT, partition)
    return sorted(found.items())


def _label(disk: Disk, partition: DiskPartition) -> str:
    files = disk.ext4.get(partition)
    return "" if files is None else files.layout.label


def _fat_members(files: Fat, place: bytes) -> Iterator[tuple[TarEntry, bytes]]:
    """Yield the members of a FAT file system with their contents, each folder before what is in it."""
    waiting = [(place, files.root)]
    while waiting:
        name, inode = waiting.pop()
        if name.count(b"/") > _DEEPEST:
            raise ImageFileError(f"{files.disk}: folder {name[:80]!r} is in itself")
        if inode.is_folder:
            yield TarEntry(name, pax.FOLDER, 0o755, 0, 0, 0, 0), b""
            entries = sorted(files.entries(inode).items(), reverse=True)
            below = [(name + each.encode("utf-8", "surrogateescape"), files.inode(number)) for each, number in entries]
            waiting += [(path + b"/" if found.is_folder else path, found) for path, found in below]
        else:
            data = files.read(inode)
            yield TarEntry(name, pax.FILE, 0o755, 0, 0, len(data), 0), data
