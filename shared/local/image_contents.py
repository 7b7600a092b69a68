"""What is inside a disk: partitions, operating system, and what a build needs to find there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..budget import Budget
from ..errors import ImageFileError
from .disk import EFI_TYPES, Partition, PartitionTable, read_table
from .disk_reader import disk_budget
from .fat import Fat
from .root_files import RootFiles, RootUnreadable

_MACHINES = {62: "x86_64", 183: "arm64"}  # e_machine of the ELF header
_SHELLS = ("/bin/sh", "/bin/bash", "/usr/bin/env")
_PYTHON = "/usr/bin/python3"
_CLOUD_INIT = "/usr/bin/cloud-init"
_EFI_PROGRAM = re.compile(r"BOOT(X64|AA64)\.EFI", re.IGNORECASE)
_NUMBERS = re.compile(r"\d+")


@dataclass(frozen=True)
class ImageContents:
    """What is inside a disk. What is in the root file system is None where that cannot be read."""

    table: str  # gpt or mbr
    partitions: tuple[Partition, ...]
    bios: bool  # whether a BIOS finds code to run
    efi: bool  # whether UEFI finds a program at the removable medium's path
    unreadable: str | None = None  # why the root file system cannot be read
    system: str | None = None  # PRETTY_NAME of os-release
    architecture: str | None = None  # x86_64 or arm64
    kernel: str | None = None  # the newest installed kernel's release
    python3: bool | None = None
    cloud_init: bool | None = None

    def __str__(self) -> str:
        """Give the lines that a person reads."""
        ways = [name for name, there in (("BIOS", self.bios), ("UEFI", self.efi)) if there]
        lines = [
            ("system", f"{self.system or 'unknown'}, {self.architecture or 'unknown architecture'}"),
            ("kernel", self.kernel or "none found"),
            ("python3", _answer(self.python3)),
            ("cloud-init", _answer(self.cloud_init)),
            ("boots by", " and ".join(ways) or "neither BIOS nor UEFI"),
            ("partitions", self.table.upper()),
        ]
        for partition in sorted(self.partitions, key=lambda partition: partition.start):
            kind = partition.file_system or "no known file system"
            lines.append(
                ("", f"{partition.number:>2}  {partition.size / 1e6:>9.0f} MB  {kind}  {partition.name}".rstrip())
            )
        if self.unreadable:
            lines.append(("note", self.unreadable))
        return "\n".join(f"{key + ':' if key else '':<12} {value}" for key, value in lines)


def describe(disk: Path) -> ImageContents:
    """Look into a raw disk. Raises ImageFileError when it is not one, or damaged."""
    table, budget = read_table(disk), disk_budget(disk)
    efi = any(_has_efi_program(disk, partition, budget) for partition in table.partitions)
    try:
        root = RootFiles(disk, budget)
    except RootUnreadable as error:
        return ImageContents(table.kind, table.partitions, table.bios_code, efi, unreadable=str(error))
    return _with_root(table, root, efi)


def _with_root(table: PartitionTable, root: RootFiles, efi: bool) -> ImageContents:
    return ImageContents(
        table.kind,
        table.partitions,
        table.bios_code,
        efi,
        system=_system(root),
        architecture=_architecture(root),
        kernel=_kernel(root),
        python3=root.exists(_PYTHON),
        cloud_init=root.exists(_CLOUD_INIT),
    )


def _answer(there: bool | None) -> str:
    return {True: "yes", False: "no", None: "unknown"}[there]


def _system(root: RootFiles) -> str | None:
    fields = root.os_release()
    return fields.get("PRETTY_NAME") or fields.get("NAME") or None


def _architecture(root: RootFiles) -> str | None:
    for path in _SHELLS:
        head = root.read_all([path]).get(path, b"")[:20]
        if head.startswith(b"\x7fELF"):
            return _MACHINES.get(int.from_bytes(head[18:20], "little"))
    return None


def _kernel(root: RootFiles) -> str | None:
    releases = [name.removeprefix("vmlinuz-") for name in _names(root, "/boot") if name.startswith("vmlinuz-")]
    releases = releases or _names(root, "/lib/modules")
    return max(releases, key=lambda release: [int(digits) for digits in _NUMBERS.findall(release)], default=None)


def _names(root: RootFiles, folder: str) -> list[str]:
    entry = root.entry(folder)
    return root.names(folder) if entry is not None and entry.is_folder else []


def _has_efi_program(disk: Path, partition: Partition, budget: Budget) -> bool:
    if partition.type not in EFI_TYPES or partition.file_system != "vfat":
        return False
    try:
        with Fat(disk, partition.start, partition.size, budget) as files:
            found = files.root
            for folder in ("efi", "boot"):
                entries = {name.lower(): number for name, number in files.entries(found).items()}
                found = files.inode(entries[folder])
            return any(_EFI_PROGRAM.fullmatch(name) for name in files.entries(found))
    except (ImageFileError, KeyError):  # what cannot be read, firmware cannot read either
        return False
