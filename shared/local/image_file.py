"""Bring an image file into the catalogue: raw, qcow2, or Compute Engine's tar.gz with disk.raw. Found by content.

A file is checked before and while it is read; what is left after a failure is the catalogue as it was.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

from ..errors import AlreadyExists, ImageFileError, NoSpace
from ..names import NAME_LENGTH
from ..ports import Image
from .catalogue import Catalogue
from .disk import SECTOR, read_table
from .disk_archive import unpack
from .extents import copy_sparse, need_space, open_file
from .image_contents import describe
from .programs import ProgramFailed, complete, run

Progress = Callable[[str], None]

_QCOW2 = struct.Struct(">4sIQIIQI")  # magic, version, backing file's offset and name length, cluster bits, size, cipher
_QCOW2_FEATURES_AT = 72  # incompatible features, version 3
_CORRUPT, _EXTERNAL_DATA = 1 << 1, 1 << 2
_OTHERS = (  # what it is, offset, bytes
    ("a VMDK image", 0, b"KDMV"),
    ("a VDI image", 64, b"\x7f\x10\xda\xbe"),
    ("a VHDX image", 0, b"vhdxfile"),
    ("a VHD image", 0, b"conectix"),
    ("compressed with xz", 0, b"\xfd7zXZ"),
    ("compressed with zstd", 0, b"\x28\xb5\x2f\xfd"),
    ("compressed with bzip2", 0, b"BZh"),
    ("a tar archive that is not compressed", 257, b"ustar"),
)


def image_name(file: Path) -> str:
    """Make a catalogue name of a file's: my_Disk.tar.gz gives my-disk."""
    name = re.sub(r"(\.tar)?\.[A-Za-z0-9]{1,5}$", "", file.name).lower()
    name = re.sub(r"^[^a-z]+", "", re.sub(r"[^a-z0-9]+", "-", name))[:NAME_LENGTH].rstrip("-")
    return name or "image"


def file_name(file: Path) -> str:
    """Make a catalogue name that changes when the file does: for specs whose source is a file. ImageFileError."""
    try:
        state = file.stat()
    except OSError as error:
        raise ImageFileError(f"{file}: {error.strerror}") from error
    identity = [str(file.resolve()), state.st_ino, state.st_size, state.st_mtime_ns]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    return f"{image_name(file)[: NAME_LENGTH - 13]}-{digest}"


def import_image(
    file: Path,
    name: str,
    catalogue: Catalogue,
    *,
    family: str | None = None,
    progress: Progress = lambda line: None,
) -> Image:
    """Add a file's disk to the catalogue. `progress` gets a line for each stage.

    Raises ImageFileError (not a disk, damaged, cut short, leading elsewhere), AlreadyExists, NoSpace, MissingTool.
    """
    if catalogue.get(name) is not None:
        raise AlreadyExists(f"there is an image {name} already; choose another name, or delete it first")
    convert = _converter(file)
    with catalogue.staging() as scratch:
        disk = scratch.path / "disk.raw"
        progress(f"reading {file}")
        convert(file, disk)
        progress("looking at what is inside")
        architecture = describe(disk).architecture or "x86_64"
        return catalogue.add(
            disk,
            name,
            transfer="move",
            family=family,
            description=f"imported from {file.name}",
            architecture=architecture,
        )


def as_raw(file: Path, target: Path, progress: Progress = lambda line: None) -> Path:
    """Give a raw disk of a file: the file itself where it is one, else `target`, a sparse file that is made of it.

    Raises ImageFileError, NoSpace, MissingTool.
    """
    convert = _converter(file)
    if convert is _from_raw:
        return file
    progress(f"unpacking {file} into a temporary file, for its data have to be read at their places")
    convert(file, target)
    return target


def _converter(file: Path) -> Callable[[Path, Path], None]:
    """Choose by the file's first bytes how a raw disk is made of it."""
    with open_file(file) as opened:
        head = opened.read(SECTOR)
    if not head:
        raise ImageFileError(f"{file}: is empty; give a disk image")
    if head.startswith(b"QFI\xfb"):
        return _from_qcow2
    if head.startswith(b"\x1f\x8b"):
        return unpack
    for what, at, magic in _OTHERS:
        if head[at:].startswith(magic):
            raise ImageFileError(f"{file}: is {what}; give a raw disk, a qcow2, or a tar.gz with disk.raw")
    return _from_raw


def _from_raw(file: Path, disk: Path) -> None:
    read_table(file)  # before anything is copied
    copy_sparse(file, disk)


def _from_qcow2(file: Path, disk: Path) -> None:
    _check_qcow2(file)
    source = file.absolute()  # a path with a slash is never taken for one of QEMU's protocols
    checked = complete(["qemu-img", "check", "-q", "-f", "qcow2", source])
    if checked.returncode not in (0, 3):  # 3: clusters that nobody uses, which hurt nobody
        raise ImageFileError(
            f"{file}: qemu-img check says that it is damaged: {_last_line(checked.stderr or checked.stdout)}"
        )
    extents = json.loads(run(["qemu-img", "map", "--output=json", "-f", "qcow2", source]))
    need_space(disk.parent, sum(extent["length"] for extent in extents if extent["data"] and not extent["zero"]))
    try:
        run(["qemu-img", "convert", "-q", "-f", "qcow2", "-O", "raw", source, disk])
    except ProgramFailed as error:
        if "No space left" in error.output:
            raise NoSpace(f"{disk.parent}: the file system is full; free some space and try again") from error
        raise ImageFileError(f"{file}: cannot be converted: {_last_line(error.output)}") from error


def _check_qcow2(file: Path) -> None:
    """Refuse a qcow2 that is not whole by itself, before QEMU opens whatever it names."""
    with open_file(file) as opened:
        head = opened.read(_QCOW2_FEATURES_AT + 8)
    if len(head) < _QCOW2_FEATURES_AT + 8:
        raise ImageFileError(f"{file}: byte {len(head)}: the qcow2 header ends here; the file is cut short")
    _, version, backing, _, _, size, cipher = _QCOW2.unpack_from(head)
    features = int.from_bytes(head[_QCOW2_FEATURES_AT:], "big") if version > 2 else 0
    if version not in (2, 3):
        raise ImageFileError(f"{file}: byte 4: qcow2 of version {version}; convert it to a raw disk with qemu-img")
    for wrong, what in (
        (backing, "has a backing file; make it whole with: qemu-img convert -O raw"),
        (cipher, "is encrypted; decrypt it with qemu-img convert"),
        (features & _EXTERNAL_DATA, "keeps its data in another file; make it whole with: qemu-img convert -O raw"),
        (features & _CORRUPT, "is marked as corrupt; repair it with: qemu-img check -r all"),
        (size < SECTOR, "holds an empty disk"),
    ):
        if wrong:
            raise ImageFileError(f"{file}: {what}")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing was said"])[-1]
