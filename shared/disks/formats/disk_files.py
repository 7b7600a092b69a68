"""Disk files of other programs' formats: qemu-img writes them, and compares each with the disk that it was made of."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

from ...errors import ImageFileError
from .halt import Fraction, Halt, pieces_of
from .tree_files import file_digest


@dataclass(frozen=True)
class _Kind:
    driver: str  # qemu-img's name of the format
    options: tuple[str, ...] = ()
    checks: bool = False  # whether qemu-img can check its structure


_KINDS: Mapping[str, _Kind] = {
    "raw": _Kind("raw"),
    "qcow2": _Kind("qcow2", checks=True),
    "qcow2-compressed": _Kind("qcow2", ("-c",), checks=True),
    "vmdk": _Kind("vmdk", ("-o", "subformat=streamOptimized,adapter_type=lsilogic"), checks=True),
    "vhd": _Kind(
        "vpc", ("-o", "subformat=fixed,force_size=on")
    ),  # without force_size the size becomes one of cylinders
}
FOOTER = 512  # bytes that a fixed VHD has behind the disk
_FIXED = b"conectix", b"\0\0\0\2"  # how the footer begins, and the kind of disk at byte 60
_TIME_AT, _SUM_AT = 24, 64  # in the footer: seconds since 2000; a checksum, and an id of 16 bytes behind it
_YEAR_2000 = 946_684_800
_DESCRIPTOR = struct.Struct("<QQ")  # of a VMDK, at byte 28: where it is and how long, in sectors
_DESCRIPTOR_AT, _SECTOR, _MOST_SECTORS = 28, 512, 256
_ID = b"\nCID="


def write_disk_file(source: Path, target: Path, name: str, halt: Halt, fraction: Fraction) -> None:
    """Write a raw disk in another format, holes and runs of zeros as holes. ProgramFailed, NoSpace."""
    kind = _KINDS[name]
    halt.run(
        ["qemu-img", "convert", "-p", "-f", "raw", "-O", kind.driver, *kind.options, source, target],
        fraction,
    )


def identify_vmdk(target: Path, halt: Halt) -> None:
    """Replace the random number by which a VMDK is known by one of its contents. ImageFileError."""
    with target.open("r+b") as file:
        file.seek(_DESCRIPTOR_AT)
        start, length = _DESCRIPTOR.unpack(file.read(_DESCRIPTOR.size))
        file.seek(start * _SECTOR)
        at = file.read(min(length, _MOST_SECTORS) * _SECTOR).find(_ID)
        if at < 0:
            raise ImageFileError(f"{target}: has no descriptor of a VMDK; export it again")
        place = start * _SECTOR + at + len(_ID)
        for value in (b"0" * 8, None):
            file.seek(place)
            file.write(value or file_digest(target, halt)[:8].encode())
            file.flush()


def identify_vhd(target: Path, digest: bytes, created: float) -> None:
    """Replace what is random in a VHD's footer: a number by the digest of its disk, the time by the image's."""
    with target.open("r+b") as file:
        file.seek(-FOOTER, 2)
        footer = bytearray(file.read(FOOTER))
        struct.pack_into(">I", footer, _TIME_AT, min(max(0, int(created) - _YEAR_2000), 0xFFFFFFFF))
        struct.pack_into(">I16s", footer, _SUM_AT, 0, digest[:16])
        struct.pack_into(">I", footer, _SUM_AT, ~sum(footer) & 0xFFFFFFFF)
        file.seek(-FOOTER, 2)
        file.write(footer)


def check_disk_file(source: Path, target: Path, name: str, halt: Halt) -> None:
    """Let qemu-img check the file's structure and compare all of its contents with the disk's. ImageFileError."""
    kind = _KINDS[name]
    size = source.stat().st_size
    if kind.checks:
        halt.run(["qemu-img", "check", "-q", "-f", kind.driver, target])
    with halt.program(["qemu-img", "info", "-f", kind.driver, "--output=json", target], stdout=PIPE) as info:
        found = json.loads(b"".join(pieces_of(info.output, 1 << 16)))["virtual-size"]
    if found != size:
        raise ImageFileError(f"{target}: is of a disk of {found} bytes in place of {size}; export it again")
    halt.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", kind.driver, source, target])
    if name == "vhd":
        _check_footer(target, size)


def _check_footer(target: Path, size: int) -> None:
    with target.open("rb") as file:
        file.seek(size)
        footer = file.read(FOOTER + 1)
    if len(footer) != FOOTER or (footer[:8], footer[60:64]) != _FIXED:
        raise ImageFileError(f"{target}: has not the footer of a fixed VHD of {size} bytes; export it again")
