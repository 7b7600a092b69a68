"""The CIDATA disk: the files that a machine is given, on a read-only file system labelled `cidata`.

An ISO 9660 image by genisoimage or xorriso; where neither is installed, a FAT32 one by mtools. cloud-init's
NoCloud takes both, by the label alone. The same files give the same bytes: times, owners and serial numbers are fixed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from ..errors import MissingTool
from .programs import find, run
from .scratch import faults, scratch_folder

LABEL = "cidata"
_FOR_ROOT = ("-r", "-file-mode", "0400", "-dir-mode", "0500")  # job.json has the key that signs reports
_EPOCH = "315532800"  # 1980-01-01, the first second that FAT can tell; any fixed time would do
_MIB = 1 << 20

_SECTOR, _FIRST_DESCRIPTOR, _LAST_DESCRIPTOR = 2048, 16, 255
_VOLUMES = (1, 2)  # primary and supplementary: the descriptors that hold dates
_ROOT_AT, _DATES_AT, _NO_DATE = 156, 813, b"0" * 16 + b"\0"  # created, modified, expires, effective
_STAMP = bytes([80, 1, 1, 0, 0, 0, 0])  # years since 1900, month, day, hour, minute, second, zone


def write_cidata(files: Mapping[str, bytes | Path], target: Path) -> None:
    """Write a disk of these files (name -> contents, or the file that holds them) at `target`, whole or not at all.

    It holds the attempt's key and the context: only its owner may read it. Names are plain: no folders. Raises
    MissingTool, NoSpace, EnvironmentFault.
    """
    with faults(target.parent), scratch_folder(target.parent) as scratch:
        tree = scratch.path / "tree"
        tree.mkdir()
        for name, content in sorted(files.items()):
            _place(content, tree / name)
        os.utime(tree, (int(_EPOCH), int(_EPOCH)))
        image = scratch.path / "image"
        _write_image(tree, image)
        image.chmod(0o600)
        image.replace(target)


def _place(content: bytes | Path, target: Path) -> None:
    if isinstance(content, bytes):
        target.write_bytes(content)
    else:
        shutil.copyfile(content, target)
    target.chmod(0o644)
    os.utime(target, (int(_EPOCH), int(_EPOCH)))


def _write_image(tree: Path, image: Path) -> None:
    environment = {"SOURCE_DATE_EPOCH": _EPOCH, "TZ": "UTC"}
    for command in (["genisoimage"], ["xorriso", "-as", "mkisofs"]):
        try:
            find(command[0])
        except MissingTool:
            continue
        run([*command, "-quiet", "-V", LABEL, *_FOR_ROOT, "-J", "-o", image, tree], environment=environment)
        _fix_times(image)
        return
    _write_fat(tree, image, environment)


def _fix_times(image: Path) -> None:
    """Take out of an ISO image when it was made, and when its files were last looked at."""
    with image.open("r+b") as file:
        for sector in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + 8):
            file.seek(sector * _SECTOR)
            descriptor = bytearray(file.read(_SECTOR))
            if descriptor[1:6] != b"CD001" or descriptor[0] == _LAST_DESCRIPTOR:
                return
            if descriptor[0] not in _VOLUMES:
                continue
            descriptor[_DATES_AT : _DATES_AT + 4 * len(_NO_DATE)] = _NO_DATE * 4
            _write_at(file, sector * _SECTOR, descriptor)
            start, size = (int.from_bytes(descriptor[at : at + 4], "little") for at in (_ROOT_AT + 2, _ROOT_AT + 10))
            file.seek(start * _SECTOR)
            _write_at(file, start * _SECTOR, _with_fixed_times(bytearray(file.read(size))))


def _with_fixed_times(folder: bytearray) -> bytearray:
    """Set all times in a folder's Rock Ridge fields (IEEE P1282, 4.1.6: TF) to the same one."""
    at = 0
    while at < len(folder):
        length = folder[at]
        if length == 0:  # records do not cross sectors
            at += _SECTOR - at % _SECTOR
            continue
        field = at + 33 + folder[at + 32]
        field += field % 2
        while field + 4 <= at + length and folder[field + 2] >= 4:
            if folder[field : field + 2] == b"TF":
                stamps = (folder[field + 2] - 5) // len(_STAMP)
                folder[field + 5 : field + 5 + stamps * len(_STAMP)] = _STAMP * stamps
            field += folder[field + 2]
        at += length
    return folder


def _write_at(file: BinaryIO, offset: int, data: bytearray) -> None:
    file.seek(offset)
    file.write(data)


def _write_fat(tree: Path, image: Path, environment: Mapping[str, str]) -> None:
    """Make FAT32 with room for the files; mformat's serial number is fixed."""
    files = sorted(tree.iterdir())
    size = 40 * _MIB + sum(-(-file.stat().st_size // _MIB) * _MIB for file in files)  # FAT32 starts at 33 MiB
    with image.open("wb") as file:
        file.truncate(size)
    run(
        ["mformat", "-i", image, "-F", "-T", str(size // 512), "-N", "60150217", "-v", LABEL, "::"],
        environment=environment,
    )
    run(["mcopy", "-i", image, "-m", *files, "::"], environment=environment)
