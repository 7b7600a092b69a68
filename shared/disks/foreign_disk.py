"""Make a raw disk of another program's: qcow2, VMDK, VHD, VHDX, VDI. QEMU reads them, after a check of our own.

QEMU opens whatever other files a disk image names: a backing file, an external data file, the extents of a VMDK. So the
header is read here first, and an image that is not whole by itself is refused before QEMU sees it. Layouts: QEMU's
docs/interop/qcow2.txt; VMware's Virtual Disk Format 5.0; Microsoft's VHD specification 1.0 and [MS-VHDX] 2.2; what
VirtualBox writes as VDI.
"""

from __future__ import annotations

import json
import os
import re
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from provisioner.system.partition_table import SECTOR

from ..errors import ImageFileError, NoSpace
from ..host.programs import ProgramFailed, find_tool, follow_output, run_tool
from .extents import need_space, open_file

LARGEST_DISK = 64 << 40
"""Bytes of the largest disk that Compute Engine has."""

_MEMORY = 1 << 30  # bytes of addresses that QEMU's program may take: a disk of 64 TiB needs half of it
_SECONDS = 15  # of a CPU, for a file without data
_BYTES_A_SECOND = 4 << 20

_QCOW2 = struct.Struct(">4sIQIIQI")  # magic, version, backing file's offset and name length, cluster bits, size, cipher
_QCOW2_FEATURES_AT = 72  # incompatible features, version 3
_CORRUPT, _EXTERNAL_DATA = 1 << 1, 1 << 2

_VMDK = struct.Struct("<4sIIQQQQ")  # magic, version, flags, capacity, grain, descriptor's offset and size; in sectors
_VMDK_DESCRIPTOR = 1 << 20  # bytes; QEMU reads no longer one
_VMDK_OWN = (SECTOR, 20 * SECTOR)  # where, and how far, QEMU looks for a parent, wherever the header says to look
_VMDK_EXTENT = re.compile(rb"^[ \t]*(?:RW|RDONLY|NOACCESS)\b", re.MULTILINE)
_VMDK_PARENT = re.compile(rb"^[ \t]*parentCID[ \t]*=[ \t]*(?!ffffffff\b)[0-9a-fA-F]|parentFileNameHint", re.MULTILINE)

_VHD_TYPE_AT = 60
_VHD_DIFFERENCING = 4
_VDI_TYPE_AT = 76
_VDI_WHOLE = (1, 2)  # dynamic, static
_WHOLE = "make it whole with the program that made it"


@dataclass(frozen=True)
class Format:
    """A format that QEMU reads: its usual name, QEMU's driver, and the check of its header that comes first."""

    name: str
    driver: str
    check: Callable[[Path, BinaryIO], None]  # ImageFileError for an image that leads to other files
    options: str = ""  # of the driver


def find_format(file: Path) -> Format | None:
    """Return which of these formats a file has, by its content; None for another. Raises ImageFileError."""
    with open_file(file) as opened:
        head = opened.read(SECTOR)
        size = os.fstat(opened.fileno()).st_size
        opened.seek(max(size - SECTOR, 0))
        tail = opened.read(SECTOR)
    for at, magic, found in _FORMATS:
        if head[at:].startswith(magic):
            return found
    return _VHD if tail.startswith(b"conectix") else None  # one of fixed size is a raw disk with a footer


def convert_disk(found: Format, file: Path, disk: Path) -> None:
    """Write the raw disk, sparse. Raises ImageFileError, NoSpace, MissingTool."""
    with open_file(file) as opened:
        found.check(file, opened)
    # QEMU never reads a path with a slash as one of its protocols, and a comma is doubled within options.
    path = str(file.absolute()).replace(",", ",,")
    image = f"driver={found.driver}{found.options},file.driver=file,file.filename={path}"
    _refuse_damaged(file, image)
    try:
        asked = ["measure", "--output=json", "-O", "raw", "--image-opts", image]
        measured = json.loads(run_tool(_qemu_img(file, *asked)))
        if measured["fully-allocated"] > LARGEST_DISK:
            raise ImageFileError(
                f"{file}: is a disk of {measured['fully-allocated']} bytes; the most is {LARGEST_DISK}"
            )
        needed = measured["required"]
        need_space(disk.parent, needed)
        asked = ["convert", "-q", "--image-opts", "-O", "raw", image, str(disk)]
        run_tool(_qemu_img(file, *asked, written=needed))
    except ProgramFailed as error:
        if "No space left" in error.output:
            raise NoSpace(f"{disk.parent}: the file system is full; free some space and try again") from error
        raise ImageFileError(f"{file}: cannot be converted: {_why(error)}") from error


def _refuse_damaged(file: Path, image: str) -> None:
    """Raise ImageFileError for an image whose parts do not fit together: at the first of them, since there may be many.

    2 KiB of a VDI can speak of 64 Mi blocks, and cause an error message for each.
    """

    def refuse(line: str) -> None:
        if line.startswith("ERROR"):
            raise ImageFileError(f"{file}: qemu-img check says that it is damaged: {line}")

    try:
        follow_output(_qemu_img(file, "check", "-q", "--image-opts", image), refuse)
    except ProgramFailed as error:
        if error.status not in (3, 63):  # 3: clusters that are not used, which are harmless; 63: has no check
            raise ImageFileError(f"{file}: qemu-img check says that it is damaged: {_why(error)}") from error


def _qemu_img(file: Path, *arguments: str, written: int = 0) -> list[str]:
    """Return a command that ends when it takes more memory, or more time of a CPU, than a file of its data can need."""
    program = find_tool("qemu-img")
    seconds = _SECONDS + (file.stat().st_blocks * 512 + written) // _BYTES_A_SECOND
    return ["prlimit", f"--as={_MEMORY}", f"--cpu={seconds}", program, *arguments]


def _why(error: ProgramFailed) -> str:
    if error.status in (-signal.SIGXCPU, -signal.SIGKILL):
        return "it takes longer to read than its size can account for"
    return _last_line(error.output)


def _check_qcow2(file: Path, opened: BinaryIO) -> None:
    head = _read(file, opened, 0, _QCOW2_FEATURES_AT + 8, "qcow2")
    _, version, backing, _, _, size, cipher = _QCOW2.unpack_from(head)
    features = int.from_bytes(head[_QCOW2_FEATURES_AT:], "big") if version > 2 else 0
    if version not in (2, 3):
        raise ImageFileError(f"{file}: byte 4: qcow2 of version {version}; convert it to a raw disk with qemu-img")
    _refuse(
        file,
        (backing, "has a backing file; make it whole with: qemu-img convert -O raw"),
        (cipher, "is encrypted; decrypt it with qemu-img convert"),
        (features & _EXTERNAL_DATA, "keeps its data in another file; make it whole with: qemu-img convert -O raw"),
        (features & _CORRUPT, "is marked as corrupt; repair it with: qemu-img check -r all"),
        (size < SECTOR, "holds an empty disk"),
    )


def _check_vmdk(file: Path, opened: BinaryIO) -> None:
    head = _read(file, opened, 0, SECTOR, "VMDK")
    _, _, _, capacity, _, at, sectors = _VMDK.unpack_from(head)
    # For a capacity of 0, QEMU believes the descriptor about where the data are.
    _refuse(file, (not capacity, "is a VMDK without a size; make it whole with: qemu-img convert -O raw"))
    length = min(sectors * SECTOR, _VMDK_DESCRIPTOR)
    told = _read(file, opened, at * SECTOR, length, "VMDK") if at else b""
    opened.seek(_VMDK_OWN[0])
    for text in (told, opened.read(_VMDK_OWN[1])):
        descriptor = text.partition(b"\0")[0].replace(b"\r", b"\n")
        _refuse(
            file,
            (len(_VMDK_EXTENT.findall(descriptor)) > 1, f"keeps its data in several files; {_WHOLE}"),
            (_VMDK_PARENT.search(descriptor), f"is the difference from another disk; {_WHOLE}"),
        )


def _refuse_descriptor(file: Path, opened: BinaryIO) -> None:
    raise ImageFileError(
        f"{file}: is the description of a VMDK whose data are in other files; make one raw disk of them, where they "
        "are: qemu-img convert -O raw THIS.vmdk disk.raw"
    )


def _check_vhd(file: Path, opened: BinaryIO) -> None:
    size = os.fstat(opened.fileno()).st_size
    footer = _read(file, opened, max(size - SECTOR, 0), SECTOR, "VHD")
    copy = _read(file, opened, 0, SECTOR, "VHD")  # which QEMU believes; one of fixed size has none
    kinds = [
        int.from_bytes(each[_VHD_TYPE_AT : _VHD_TYPE_AT + 4], "big")
        for each in (footer, copy)
        if each.startswith(b"conectix")
    ]
    _refuse(
        file,
        (not footer.startswith(b"conectix"), "is a VHD without its footer: it is cut short; copy it again"),
        (_VHD_DIFFERENCING in kinds, f"is the difference from another disk; {_WHOLE}"),
    )


def _check_vdi(file: Path, opened: BinaryIO) -> None:
    head = _read(file, opened, 0, SECTOR, "VDI")
    kind = int.from_bytes(head[_VDI_TYPE_AT : _VDI_TYPE_AT + 4], "little")
    _refuse(file, (kind not in _VDI_WHOLE, f"is the difference from another disk; {_WHOLE}"))


def _check_vhdx(file: Path, opened: BinaryIO) -> None:
    """Leave it to QEMU, which refuses every VHDX that has a parent."""
    _read(file, opened, 0, 1 << 20, "VHDX")


_VHD = Format("VHD", "vpc", _check_vhd, ",force_size_calc=current_size")
_FORMATS: tuple[tuple[int, bytes, Format], ...] = (  # offset, bytes
    (0, b"QFI\xfb", Format("qcow2", "qcow2", _check_qcow2)),
    (0, b"KDMV", Format("VMDK", "vmdk", _check_vmdk)),
    (0, b"# Disk DescriptorFile", Format("VMDK", "vmdk", _refuse_descriptor)),
    (0, b"vhdxfile", Format("VHDX", "vhdx", _check_vhdx)),
    (0, b"conectix", _VHD),
    (64, b"\x7f\x10\xda\xbe", Format("VDI", "vdi", _check_vdi)),
)


def _read(file: Path, opened: BinaryIO, at: int, length: int, what: str) -> bytes:
    """Read part of a header whole."""
    end = os.fstat(opened.fileno()).st_size
    if at + length > end:
        raise ImageFileError(f"{file}: byte {end}: the file ends within the {what} header: it is cut short")
    opened.seek(at)
    return opened.read(length)


def _refuse(file: Path, *faults: tuple[object, str]) -> None:
    for wrong, what in faults:
        if wrong:
            raise ImageFileError(f"{file}: {what}")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing was said"])[-1]
