"""Bring an image file into the catalogue: a raw disk, also packed, or another program's. What it is, its content tells.

A file is checked before and while it is read; what is left after a failure is the catalogue as it was.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from provisioner.system.partition_table import SECTOR

from ..architectures import X86_64, find_architecture
from ..archives.inflate import is_packed
from ..disks.extents import copy_sparse, open_file
from ..disks.foreign_disk import convert_disk, find_format
from ..disks.partition_table import NO_TABLE, read_disk_table
from ..disks.sector_size import count_small_sectors, has_large_sectors
from ..disks.unpack import unpack_disk
from ..errors import AlreadyExists, ImageFileError, InputError
from ..names import NAME_LENGTH
from ..ports import Image, Notify
from .catalogue import Catalogue
from .contents import describe_image

_SIGNATURE_AT = 510  # of the first sector, where a disk with a table has 55 AA
_OTHERS = (  # what it is, offset, bytes, the command that makes something of it that is read here
    ("compressed with zstd", 0, b"\x28\xb5\x2f\xfd", "zstd -d {file}"),
    ("a zip archive", 0, b"PK\x03\x04", "unzip {file}"),
    ("a tar archive that is not compressed", 257, b"ustar", "gzip -k {file}"),
)


def name_of_file(file: Path) -> str:
    """Make a catalogue name of a file's: my_Disk.tar.gz gives my-disk."""
    name = re.sub(r"(\.tar)?\.[A-Za-z0-9]{1,5}$", "", file.name).lower()
    name = re.sub(r"^[^a-z]+", "", re.sub(r"[^a-z0-9]+", "-", name))[:NAME_LENGTH].rstrip("-")
    return name or "image"


def source_name(file: Path) -> str:
    """Make a catalogue name that changes when the file does: for specs whose source is a file. ImageFileError."""
    try:
        state = file.stat()
    except OSError as error:
        raise ImageFileError(f"{file}: {error.strerror}") from error
    identity = [str(file.resolve()), state.st_ino, state.st_size, state.st_mtime_ns]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    return f"{name_of_file(file)[: NAME_LENGTH - 13]}-{digest}"


def import_image(
    file: Path,
    name: str,
    catalogue: Catalogue,
    *,
    family: str | None = None,
    architecture: str | None = None,
    progress: Notify = lambda line: None,
) -> Image:
    """Add a file's disk to the catalogue. `progress` gets a line for each stage.

    `architecture` is for disks whose programs cannot be looked at; of all others it is found, and checked.
    Raises ImageFileError (not a disk, damaged, cut short, leading elsewhere), AlreadyExists, NoSpace, MissingTool;
    InputError for another architecture than the disk's.
    """
    if architecture is not None:
        find_architecture(architecture)
    if catalogue.get(name) is not None:
        raise AlreadyExists(f"there is an image {name} already; choose another name, or delete it first")
    make_raw = _reader(file)
    with catalogue.staging() as scratch:
        disk = scratch.path / "disk.raw"
        progress(f"reading {file}")
        make_raw(file, disk)
        with _errors_of(file, disk):
            if has_large_sectors(disk):
                progress("writing its partition table anew, in sectors of 512 bytes")
                count_small_sectors(disk)
            progress("looking at what is inside")
            contents = describe_image(disk)
            _refuse_bare(contents.table, disk)
        found = contents.architecture
        if architecture is not None and found not in (None, architecture):
            raise InputError(f"{file}: is for {found}, not for {architecture}; leave --architecture out")
        return catalogue.add(
            disk,
            name,
            transfer="move",
            family=family,
            description=f"imported from {file.name}",
            architecture=architecture or found or X86_64.name,
        )


def as_raw(file: Path, target: Path, progress: Notify = lambda line: None) -> Path:
    """Return a raw disk of a file: the file itself where it is one, else `target`, a sparse file that is made of it.

    Raises ImageFileError, NoSpace, MissingTool.
    """
    make_raw = _reader(file)
    if make_raw is _from_raw and not has_large_sectors(file):
        return file
    progress(f"unpacking {file} into a temporary file, for its data have to be read at their places")
    make_raw(file, target)
    with _errors_of(file, target):
        if has_large_sectors(target):
            count_small_sectors(target)
    return target


@contextmanager
def _errors_of(file: Path, disk: Path) -> Iterator[None]:
    """Make errors name the file from which a temporary disk was made."""
    try:
        yield
    except ImageFileError as error:
        raise ImageFileError(str(error).replace(str(disk), f"{file}: its disk")) from error


def _reader(file: Path) -> Callable[[Path, Path], None]:
    """Choose by the file's content how a raw disk is made of it."""
    try:
        with open_file(file) as opened:
            head = opened.read(SECTOR)
    except OSError as error:  # of a device, or of a file on one that is broken
        raise ImageFileError(f"{file}: cannot be read: {error.strerror}; give a disk image") from error
    if not head:
        raise ImageFileError(f"{file}: is empty; give a disk image")
    if is_packed(head):
        return unpack_disk
    for what, at, magic, command in _OTHERS:
        if head[at:].startswith(magic):
            remedy = command.format(file=shlex.quote(str(file)))
            raise ImageFileError(f"{file}: is {what}; import what this makes of it: {remedy}")
    found = find_format(file)
    return _from_raw if found is None else partial(convert_disk, found)


def _from_raw(file: Path, disk: Path) -> None:
    if not has_large_sectors(file):
        _refuse_bare(read_disk_table(file).kind, file)  # before anything is copied
    copy_sparse(file, disk)


def _refuse_bare(table: str, disk: Path) -> None:
    """Raise ImageFileError for a file system without a table around it, which no machine starts by itself."""
    if table == "none":
        raise ImageFileError(f"{disk}: byte {_SIGNATURE_AT}: {NO_TABLE}")
