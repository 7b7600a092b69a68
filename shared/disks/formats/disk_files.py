"""Disk files of other programs' formats: qemu-img writes them, and compares each with the disk that it was made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

from ...errors import ImageFileError
from .halt import Fraction, Halt, pieces_of


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


def write_disk_file(source: Path, target: Path, name: str, halt: Halt, fraction: Fraction) -> None:
    """Write a raw disk in another format, holes and runs of zeros as holes. ProgramFailed, NoSpace."""
    kind = _KINDS[name]
    halt.run(
        ["qemu-img", "convert", "-p", "-f", "raw", "-O", kind.driver, *kind.options, source, target],
        fraction,
    )


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
