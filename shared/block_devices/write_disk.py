"""Write a disk from a tree of files: what a build from nothing begins with.

    1. mount points, /etc/fstab and grub.cfg are put into the tree
    2. the least disk on which all fits, unless a size is given, and where each part lies on it
    3. partition table, LVM's records, boot loader
    4. the file systems, the deepest mount point first; each is covered then, so that the one above does not have it

The same description, tree, seed and time give the same bytes with ext4, vfat and swap.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..architectures import ARM64, X86_64, Architecture
from ..build.block_devices.description import BIOS_BOOT, DiskDescription, NewFileSystem
from ..build.block_devices.layout import SECTOR_BYTES, Area, PlacedDisk, check_room, least_disk, place_disk
from ..disks.extents import need_space
from ..errors import InputError
from ..host.programs import find_tool
from ..host.scratch import temporary_folder
from ..quantities import GIB, MIB
from ..sandbox.roots.unpack_root import UnpackedRoot
from ..sandbox.system_calls import NO_DEVICES, mount_file_system
from ..sandbox.user_namespace import run_with_all_ids
from .arm_boot_loader import arm_configuration, arm_efi_program
from .boot_loader import GrubHome, bios_boot, efi_program, searching_configuration
from .file_systems import FilesToWrite, MadeFileSystem, below, inode_ratio, make_file_system, needs_helper
from .helper_machine import HELPER_PROGRAMS, HelperMachine, prepare_helper
from .identity import DiskIdentity
from .mounted_tree import cover_folder, opened_folder, write_tree_file
from .partitions import write_partitions
from .usage import FileUsage, measure_tree
from .volume_groups import volume_group_records

_PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "ext4": ("mke2fs", "debugfs"),
    "xfs": ("mkfs.xfs",),
    "btrfs": ("mkfs.btrfs",),
    "vfat": ("mkfs.vfat", "mcopy", "mmd"),
    "swap": ("mkswap",),
}
_LOADER_FOLDER = "/EFI/BOOT"
_CONFIGURATION = "/boot/grub/grub.cfg"
_FSTAB = "/etc/fstab"
_NOTHING_KEPT = UnpackedRoot((), {}, {})


def write_disk(
    description: DiskDescription,
    tree: Path,
    kept: UnpackedRoot,
    target: Path,
    *,
    seed: str,
    time: int,
    size: int | None = None,
    kernels: Sequence[Path] = (),
    growth: int = 0,
    architecture: Architecture = X86_64,
) -> int:
    """Write a sparse raw disk with the files of a tree, and return its bytes.

    The tree is a folder as unpack_root() makes it: its files have the ids that they will have, or, for an ordinary
    user, the subordinate ids that stand for them; `kept` is what such a folder cannot hold. The tree gets the folders
    that file systems are mounted on, /etc/fstab and, on a disk with a boot loader, /boot/grub/grub.cfg.
    `target` is made, and must not be there; all identifiers follow from `seed`; all that tells a time in the file
    systems, beside the files' own, is `time` (Unix seconds). `size` is the disk's in bytes, else the description's,
    else the least that fits: whole GiB, or whole MiB without a partition table. `kernels` are disks of images, one of
    whose kernels mounts xfs and btrfs for users who may not, if the tree has none. The programs of the tree, and the
    boot loader, are of `architecture`: one for arm64 is made of GRUB's modules in the tree.

    InputError for what cannot be made of this tree or by this user, NoSpace, EnvironmentFault. No file is left then.
    """
    _refuse(description)
    identity = DiskIdentity(seed)
    kinds = [each.kind for each in description.file_systems]
    with temporary_folder() as scratch:
        usage = _read_usage(run_with_all_ids(lambda: _prepare(description, tree, identity, time, architecture)))
        helper = None
        if needs_helper(kinds):
            helper = HelperMachine.in_folder(scratch)
            mounted = [kind for kind in kinds if needs_helper([kind])]
            run_with_all_ids(lambda: prepare_helper(tree, kernels, mounted, scratch))
        placed = place_disk(description, _size(description, usage, size, growth))
        copies = 1 if helper is None else 3  # what it copies from, what to, and the disk
        need_space(target.parent, copies * sum(each.data for each in usage.values()))
        with target.open("xb") as file:
            file.truncate(placed.size)
        try:
            if description.table is not None:
                write_partitions(description, placed, target, identity)
            loader = _write_start(description, placed, target, identity, time, scratch, tree, architecture)
            making = _Making(
                description, placed, tree, kept, target, identity, time, loader, helper, scratch, architecture
            )
            run_with_all_ids(making.all, own_mounts=True)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return placed.size


def _refuse(description: DiskDescription) -> None:
    """Find what is missing before anything is made."""
    for each in description.file_systems:
        for program in _PROGRAMS[each.kind]:
            find_tool(program)
    if needs_helper(each.kind for each in description.file_systems):
        for program in HELPER_PROGRAMS:
            find_tool(program)
    if description.table is not None:
        find_tool("sfdisk")


# The tree


def _prepare(
    description: DiskDescription, tree: Path, identity: DiskIdentity, time: int, architecture: Architecture
) -> str:
    """Put into the tree what the disk needs there, and return how much room its files take."""
    mounted = description.mounted()
    for each in mounted:
        with opened_folder(tree, each.mount_point or "/", time):
            pass
    write_tree_file(tree, _FSTAB, _fstab(description, identity), time)
    if description.has_bios_place or description.efi is not None:
        root, boot = description.root, description.boot
        group = description.volume_group(root.base)
        device = f"UUID={identity.file_system(root)}" if group is None else _mapped(group.name, root.base)
        parameters = [f"root={device}", "ro", "console=tty0", f"console={architecture.console},115200"]
        configure = arm_configuration if architecture == ARM64 else searching_configuration
        text = configure(parameters, "/boot" if boot == root else "")
        write_tree_file(tree, _CONFIGURATION, text, time)
    usage = measure_tree(tree, [each.mount_point or "/" for each in mounted])
    return json.dumps({place: [each.data, each.inodes] for place, each in usage.items()})


def _fstab(description: DiskDescription, identity: DiskIdentity) -> str:
    lines = []
    swaps = tuple(each for each in description.file_systems if each.kind == "swap")
    for each in (*description.mounted(), *swaps):
        if each.fstab is None:
            continue
        # By its label, as elements name it, too: file systems are copied into disks of others.
        where = f"LABEL={each.label}" if each.label else f"UUID={identity.file_system(each)}"
        entry = each.fstab
        lines.append(f"{where} {each.mount_point or 'none'} {each.kind} {entry.options} {entry.dump} {entry.check}\n")
    return "".join(lines)


def _mapped(group: str, volume: str) -> str:
    """Return the path of a logical volume; device-mapper doubles hyphens in names."""
    return f"/dev/mapper/{group.replace('-', '--')}-{volume.replace('-', '--')}"


# Sizes


def _read_usage(text: str) -> dict[str, FileUsage]:
    return {place: FileUsage(*counts) for place, counts in json.loads(text).items()}


def _size(description: DiskDescription, usage: Mapping[str, FileUsage], size: int | None, growth: int) -> int:
    """Return the bytes of the disk: as asked for, or the least on which the files have room to grow."""
    wanted = size or description.size
    if wanted is not None:
        wanted = wanted // MIB * MIB
        check_room(description, _needs(description, usage, comfortable=False), wanted)
        return wanted
    step = MIB if description.table is None else GIB
    needs = _needs(description, usage, comfortable=True)
    needs[description.root.base] += growth
    return least_disk(description, needs, step)


def _needs(description: DiskDescription, usage: Mapping[str, FileUsage], *, comfortable: bool) -> dict[str, int]:
    """Return the bytes that each file system needs. One whose size is given has to hold its files, and no more."""
    given = {each.name for each in description.partitions if each.size is not None}
    given |= {each.name for group in description.groups for each in group.volumes if each.percent is None}
    needs = {}
    for each in description.file_systems:
        found = usage.get(each.mount_point or "", FileUsage())
        if comfortable and each.base not in given:
            needs[each.base] = found.comfortable(each.kind, inode_ratio(each))
        else:
            needs[each.base] = found.least(each.kind)
    return needs


# What starts the disk


def _write_start(
    description: DiskDescription,
    placed: PlacedDisk,
    disk: Path,
    identity: DiskIdentity,
    time: int,
    scratch: Path,
    tree: Path,
    architecture: Architecture,
) -> bytes | None:
    """Write LVM's records and what a BIOS starts; return the program that EFI starts, if there is a place for it."""
    records = [record for group in placed.groups for record in volume_group_records(group, identity, time)]
    loader, home = None, _grub_home(description, identity)
    if description.has_bios_place and architecture == X86_64:
        place = _core_place(description, placed)
        bios = bios_boot(home, place.start // SECTOR_BYTES, scratch)
        if len(bios.core) > place.size:
            raise InputError(
                f"the boot loader has {len(bios.core) >> 10} KiB, and its place {place.size >> 10} KiB; "
                + ("write align: 1MiB" if description.table == "mbr" else "give its partition a larger size")
            )
        records += [(0, bios.boot_code), (place.start, bios.core)]
    if description.efi is not None:
        loader = arm_efi_program(home, tree, scratch) if architecture == ARM64 else efi_program(home, scratch)
    descriptor = os.open(disk, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for at, data in records:
            os.pwrite(descriptor, data, at)
    finally:
        os.close(descriptor)
    return loader


def _grub_home(description: DiskDescription, identity: DiskIdentity) -> GrubHome:
    boot = description.boot
    modules = ["regexp", *([boot.kind] if boot.kind in ("xfs", "btrfs") else [])]
    modules += ["lvm"] if description.volume_group(boot.base) else []
    folder = "/boot/grub" if boot == description.root else "/grub"
    return GrubHome(identity.file_system(boot), folder, tuple(modules))


def _core_place(description: DiskDescription, placed: PlacedDisk) -> Area:
    """Return where the second part of what a BIOS starts goes: behind the MBR, or into its partition."""
    if description.table == "mbr":
        first = min(each.area.start for each in placed.partitions)
        first = min(first, placed.extended.start) if placed.extended else first
        return Area(SECTOR_BYTES, first - SECTOR_BYTES)
    return next(each.area for each in placed.partitions if each.partition.type == BIOS_BOOT)


# The file systems


@dataclass(frozen=True)
class _Making:
    """Makes the file systems, as root, in mounts of its own."""

    description: DiskDescription
    placed: PlacedDisk
    tree: Path
    kept: UnpackedRoot
    disk: Path
    identity: DiskIdentity
    time: int
    loader: bytes | None
    helper: HelperMachine | None
    scratch: Path
    architecture: Architecture

    def all(self) -> str:
        """Make them, the deepest first."""
        empty, mount_on = self.scratch / "empty", self.scratch / "mounted"
        for folder in (empty, mount_on):
            folder.mkdir()
        mount_file_system("none", empty, "tmpfs", NO_DEVICES, "mode=755,uid=0,gid=0")
        os.utime(empty, (self.time, self.time))
        mounted = self.description.mounted()
        for each in self.description.file_systems:
            if each not in mounted:
                self._make(each, FilesToWrite(empty, mount_on, self.helper, _NOTHING_KEPT, {}))
        places = [each.mount_point or "/" for each in mounted]
        for each in reversed(mounted):
            place = each.mount_point or "/"
            with opened_folder(self.tree, place):  # which finds links on the way
                folder = Path(f"{self.tree}{place}")
            self._make(each, FilesToWrite(folder, mount_on, self.helper, below(self.kept, place, places), {}))
            if place != "/":
                cover_folder(self.tree, place)
        return ""

    def _make(self, described: NewFileSystem, files: FilesToWrite) -> None:
        hash_seed = self.identity.uuid(f"hash-seed/{described.name}")
        made = MadeFileSystem(described, self.identity.file_system(described), hash_seed, self.time)
        efi = self.description.efi
        if efi is not None and described.base == efi.name and self.loader is not None:
            files = replace(files, further={f"{_LOADER_FOLDER}/{self.architecture.boot_program}": self.loader})
        make_file_system(made, self.disk, self.placed.areas[described.base], files)
