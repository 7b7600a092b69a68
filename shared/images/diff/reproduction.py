"""Say in one line what two builds of one spec differ in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ...disks.disk import Disk
from ...disks.extents import data_extents, open_file
from ...disks.root_files import RootUnreadable
from .compare import compare_disks
from .result import FileChange, ImageDiff

MOST_NAMED = 20
_PIECE = 1 << 20


def describe_difference(first: Path, second: Path, *, same_bytes: bool) -> str:
    """Return what differs between two raw disks, at most MOST_NAMED things by name; "" where nothing does.

    Times of files, and where on the disk they are, count only with `same_bytes`. ImageFileError.
    """
    if same_bytes and has_same_bytes(first, second):
        return ""
    found = list(_named(compare_disks(first, second)))
    if not found and same_bytes:
        found = list(_times(first, second)) or ["no file, but in where files are on the disk"]
    more = f", and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return ", ".join(found[:MOST_NAMED]) + more


def has_same_bytes(first: Path, second: Path) -> bool:
    """Return whether two files are the same bytes; what is a hole in both is not read. ImageFileError."""
    with open_file(first) as one, open_file(second) as other:
        descriptors = one.fileno(), other.fileno()
        sizes = [os.fstat(each).st_size for each in descriptors]
        if sizes[0] != sizes[1]:
            return False
        for descriptor in descriptors:
            for start, length in data_extents(descriptor, sizes[0]):
                for at in range(start, start + length, _PIECE):
                    piece = min(_PIECE, start + length - at)
                    if os.pread(descriptors[0], piece, at) != os.pread(descriptors[1], piece, at):
                        return False
    return True


def _named(found: ImageDiff) -> Iterator[str]:
    if found.table[0] != found.table[1] or found.disk_bytes[0] != found.disk_bytes[1]:
        yield "the size or the partition table of the disk"
    if found.boot_code:
        yield "the boot code"
    for partition in found.partitions:
        if partition.change != "same":
            yield f"partition {partition.number} ({', '.join(partition.fields) or partition.change})"
    for inside in found.contents:
        if inside.different_bytes:
            yield f"{inside.different_bytes} bytes of partition {inside.number}"
        for change in inside.files:
            yield _of_file(change)


def _of_file(change: FileChange) -> str:
    path = change.path if change.path.isprintable() else ascii(change.path)
    if change.change != "changed":
        return f"{path} (in one of them alone)"
    what = [*(["contents"] if change.contents else []), *(name for name in change.differences if name != "size")]
    return f"{path} ({', '.join(what) or 'contents'})"


def _times(first: Path, second: Path) -> Iterator[str]:
    """Yield the files of two root file systems of the same names whose times differ."""
    with suppress(RootUnreadable), Disk(first) as one, Disk(second) as other:
        for (path, before), (_, after) in zip(one.root.file_system.walk(), other.root.file_system.walk(), strict=False):
            if before.mtime_ns != after.mtime_ns:
                yield f"{path if path.isprintable() else ascii(path)} (time)"
