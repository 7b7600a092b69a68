"""Describe what is inside a disk: partitions, operating system, and the programs that a build needs there."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from ..architectures import ARCHITECTURES, of_kernel, program_machine
from ..build.image.python import PROGRAMS
from ..disks.disk import Disk
from ..disks.ext4.reader import FileSystemUnreadable
from ..disks.fat import Fat
from ..disks.partition_table import EFI_TYPES, DiskPartition
from ..disks.root_files import RootFiles, RootUnreadable
from ..errors import ImageFileError

_PROGRAMS = ("/sbin/init", "/bin/sh", "/bin/bash", "/usr/bin/env")
_HEAD = 1024  # bytes of a program or kernel, which tell its architecture
_CLOUD_INIT = "/usr/bin/cloud-init"
_GUEST_AGENT = "/usr/bin/google_metadata_script_runner"
_EFI_PROGRAMS = {each.boot_program.lower(): each.name for each in ARCHITECTURES.values()}
_NUMBERS = re.compile(r"\d+")


@dataclass(frozen=True)
class ImageContents:
    """The contents of a disk. Fields of the root file system are None where that cannot be read."""

    table: str  # gpt, mbr or none
    partitions: tuple[DiskPartition, ...]
    bios: bool  # whether a BIOS finds code to run
    efi: bool  # whether UEFI finds a program at the removable medium's path
    unreadable: str | None = None  # why the root file system cannot be read
    system: str | None = None  # PRETTY_NAME of os-release
    architecture: str | None = None  # x86_64, arm64, or what its programs are for
    kernel: str | None = None  # the newest installed kernel's release
    python3: bool | None = None
    cloud_init: bool | None = None
    guest_agent: bool | None = None  # Google's, which runs the metadata server's scripts

    def __str__(self) -> str:
        """Return the lines that a person reads."""
        ways = [name for name, there in (("BIOS", self.bios), ("UEFI", self.efi)) if there]
        lines = [
            ("system", f"{self.system or 'unknown'}, {self.architecture or 'unknown architecture'}"),
            ("kernel", self.kernel or "none found"),
            ("python3", _answer(self.python3)),
            ("cloud-init", _answer(self.cloud_init)),
            ("boots by", " and ".join(ways) or "neither BIOS nor UEFI"),
            ("partitions", "none" if self.table == "none" else self.table.upper()),
        ]
        for partition in sorted(self.partitions, key=lambda partition: partition.start):
            kind = partition.file_system or "no known file system"
            lines.append(
                ("", f"{partition.number:>2}  {partition.size / 1e6:>9.0f} MB  {kind}  {partition.name}".rstrip())
            )
        if self.unreadable:
            lines.append(("note", self.unreadable))
        return "\n".join(f"{key + ':' if key else '':<12} {value}" for key, value in lines)


def describe_image(path: Path) -> ImageContents:
    """Look into a raw disk. Raises ImageFileError when it is not one, or damaged."""
    with Disk(path) as disk:
        table = disk.table
        efi = {name for partition in table.partitions for name in _efi_architectures(disk, partition)}
        by_efi = next(iter(efi)) if len(efi) == 1 else None
        found = ImageContents(table.kind, table.partitions, table.bios_code, bool(efi), architecture=by_efi)
        try:
            root = disk.root
        except RootUnreadable as error:
            return replace(found, unreadable=str(error))
        return replace(
            found,
            system=_system(root),
            architecture=_architecture(root) or by_efi,
            kernel=_kernel(root),
            python3=has_python(root),
            cloud_init=root.exists(_CLOUD_INIT),
            guest_agent=root.exists(_GUEST_AGENT),
        )


def date_of(path: Path) -> int:
    """Return when a raw disk's root file system was last written, in Unix seconds; 0 where that cannot be read."""
    try:
        with Disk(path) as disk:
            return disk.root.file_system.layout.written
    except (ImageFileError, RootUnreadable):
        return 0


def has_python(root: RootFiles) -> bool:
    """Return whether there is a program that the provisioner may run by; its version only shows in a VM."""
    return any(root.exists(path) for path in PROGRAMS)


def _answer(there: bool | None) -> str:
    return {True: "yes", False: "no", None: "unknown"}[there]


def _system(root: RootFiles) -> str | None:
    fields = root.os_release()
    return fields.get("PRETTY_NAME") or fields.get("NAME") or None


def _architecture(root: RootFiles) -> str | None:
    for path in _PROGRAMS:
        machine = program_machine(root.read_all([path], _HEAD).get(path, b""))
        if machine is not None:
            return machine
    kernels = [f"/boot/{name}" for name in _names(root, "/boot") if name.startswith("vmlinuz-")]
    for head in root.read_all(kernels, _HEAD).values():
        kind = of_kernel(head)
        if kind is not None:
            return kind.name
    return None


def _kernel(root: RootFiles) -> str | None:
    releases = [name.removeprefix("vmlinuz-") for name in _names(root, "/boot") if name.startswith("vmlinuz-")]
    releases = releases or _names(root, "/lib/modules")
    return max(releases, key=lambda release: [int(digits) for digits in _NUMBERS.findall(release)], default=None)


def _names(root: RootFiles, folder: str) -> list[str]:
    entry = root.entry(folder)
    return root.names(folder) if entry is not None and entry.is_folder else []


def _efi_architectures(disk: Disk, partition: DiskPartition) -> set[str]:
    """Return the architectures for which a partition has a program that UEFI starts by itself."""
    if partition.type not in EFI_TYPES:
        return set()
    try:
        files = disk.file_system(partition)
        if not isinstance(files, Fat):
            return set()
        found = files.root
        for folder in ("efi", "boot"):
            entries = {name.lower(): number for name, number in files.entries(found).items()}
            found = files.inode(entries[folder])
        names = {name.lower() for name in files.entries(found)}
    except (ImageFileError, FileSystemUnreadable, KeyError):  # what cannot be read, firmware cannot read either
        return set()
    return {_EFI_PROGRAMS[name] for name in names & set(_EFI_PROGRAMS)}
