"""A bootable disk file from a folder that holds a root file system: no root, no loop device, no mount.

    sector 0          boot code of the BIOS, protective MBR
    1 MiB             BIOS boot partition (number 14): GRUB's core image
    2 MiB             EFI system partition (number 15): GRUB as the removable medium's boot program
    66 MiB to the end root (number 1): ext4; the last one, so that it can grow with the disk

The partition numbers are those of Debian's own cloud images. All sizes are explicit and aligned to 1 MiB: sfdisk
rounds down, and a file system that is larger than its partition fails only in the machine.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...block_devices.boot_loader import GRUB_SECTOR, GrubHome, bios_boot, efi_program
from ...host.programs import run_tool
from ...quantities import MIB
from .tree_owner import as_owner

BLOCK = 4096
_BIOS_START, _BIOS_SIZE = 1 * MIB, 1 * MIB
_EFI_START, _EFI_SIZE = 2 * MIB, 64 * MIB
ROOT_START = 66 * MIB

_TABLE = """\
label: gpt
label-id: {disk}
first-lba: 2048
start={root_start}, size={root_size}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid={root}, name="root"
14: start={bios_start}, size={bios_size}, type=21686148-6449-6E6F-744E-656564454649, uuid={bios}, name="bios"
15: start={efi_start}, size={efi_size}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid={efi}, name="esp"
"""

# The host's mke2fs.conf is left out: newer e2fsprogs turn on features that Debian 12's GRUB cannot read.
_MKE2FS_CONF = """\
[defaults]
    base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
    default_mntopts = acl,user_xattr
    enable_periodic_fsck = 0
    blocksize = 4096
    inode_size = 256
    inode_ratio = 16384
[fs_types]
    ext4 = {
        features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
    }
"""

_FREE_INODES = re.compile(r"^(Inode count|Free inodes): *(\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Identity:
    """The identifiers of a disk and of what is on it."""

    disk: str
    root_partition: str
    bios_partition: str
    efi_partition: str
    root: str  # of the root file system
    hash_seed: str

    @classmethod
    def derived(cls, seed: str) -> Identity:
        """Return identifiers that depend on `seed` alone, so that the same seed gives the same disk."""
        names = ("disk", "root-partition", "bios-partition", "efi-partition", "root", "hash-seed")
        return cls(*(str(uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}/{name}")) for name in names))


def assemble(tree: Path, disk: Path, *, size: int, identity: Identity, scratch: Path, time: int) -> None:
    """Write a disk of `size` bytes (a multiple of 1 MiB) with a root file system that holds `tree`.

    Whatever tells a time in a file system tells `time` (Unix seconds): the same tree gives the same bytes.
    """
    settled = {"E2FSPROGS_FAKE_TIME": str(time), "SOURCE_DATE_EPOCH": str(time)}
    root_size = size - ROOT_START - MIB  # the last MiB has the backup partition table
    with disk.open("w+b") as file:
        file.truncate(size)
        _partition(disk, identity, root_size)
        _make_root(tree, file.fileno(), root_size, identity, scratch, settled)
        _settle_change_times(disk, time, settled)
        boot = bios_boot(GrubHome(identity.root), _BIOS_START // GRUB_SECTOR, scratch)
        if len(boot.core) > _BIOS_SIZE:
            raise ValueError(f"GRUB's core image has {len(boot.core)} bytes, its partition {_BIOS_SIZE}")
        os.pwrite(file.fileno(), boot.boot_code, 0)
        os.pwrite(file.fileno(), boot.core, _BIOS_START)
        _write_sparse(file.fileno(), _efi_partition(identity, scratch, time, settled), _EFI_START)
        os.fsync(file.fileno())


def _partition(disk: Path, identity: Identity, root_size: int) -> None:
    table = _TABLE.format(
        disk=identity.disk,
        root=identity.root_partition,
        bios=identity.bios_partition,
        efi=identity.efi_partition,
        root_start=ROOT_START // GRUB_SECTOR,
        root_size=root_size // GRUB_SECTOR,
        bios_start=_BIOS_START // GRUB_SECTOR,
        bios_size=_BIOS_SIZE // GRUB_SECTOR,
        efi_start=_EFI_START // GRUB_SECTOR,
        efi_size=_EFI_SIZE // GRUB_SECTOR,
    )
    run_tool(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe=never", disk], stdin=table)


def _make_root(tree: Path, disk: int, size: int, identity: Identity, scratch: Path, settled: Mapping[str, str]) -> None:
    """Write the root into the open file `disk` with mke2fs.

    In a user namespace it is another user than ours: it gets the disk as a descriptor, because it may not enter the
    disk's folder, and for the same reason it does no harm that every user could write to the file in there.
    """
    configuration = scratch / "mke2fs.conf"
    configuration.write_text(_MKE2FS_CONF)
    configuration.chmod(0o644)
    mode = os.fstat(disk).st_mode
    os.fchmod(disk, 0o666)
    options = (
        f"offset={ROOT_START},nodiscard,lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1,"
        f"hash_seed={identity.hash_seed}"
    )
    format_as = ("-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-L", "root", "-m", "0", "-U", identity.root)
    run_tool(
        as_owner("mke2fs", *format_as, "-E", options, "-d", tree, f"/proc/self/fd/{disk}", str(size // BLOCK)),
        environment={**settled, "MKE2FS_CONFIG": str(configuration)},
        keep_open=[disk],
    )
    os.fchmod(disk, mode)


def _settle_change_times(disk: Path, time: int, settled: Mapping[str, str]) -> None:
    """Set every inode's change time, which mke2fs copies and nothing can set in a folder."""
    source = f"{disk}?offset={ROOT_START}"
    found = _FREE_INODES.findall(run_tool(["dumpe2fs", "-h", source], environment=settled))
    counts = {name: int(number) for name, number in found}
    last = counts["Inode count"] - counts["Free inodes"]  # mke2fs gives them out in order
    requests = "".join(f"set_inode_field <{inode}> ctime @{time}\n" for inode in (2, *range(11, last + 1)))
    run_tool(["debugfs", "-w", "-f", "-", source], stdin=requests, environment=settled)


def _efi_partition(identity: Identity, scratch: Path, time: int, settled: Mapping[str, str]) -> Path:
    image = scratch / "efi.img"
    with image.open("wb") as file:
        file.truncate(_EFI_SIZE)
    serial = identity.efi_partition.replace("-", "")[:8]
    run_tool(["mkfs.vfat", "-F", "32", "-s", "1", "-n", "ESP", "-i", serial, "--invariant", image])
    program = scratch / "BOOTX64.EFI"
    program.write_bytes(efi_program(GrubHome(identity.root), scratch))
    os.utime(program, (time, time))
    run_tool(["mmd", "-i", image, "::/EFI", "::/EFI/BOOT"], environment=settled)
    run_tool(["mcopy", "-m", "-i", image, program, "::/EFI/BOOT/BOOTX64.EFI"], environment=settled)
    return image


def _write_sparse(target: int, source: Path, at: int) -> None:
    """Copy a small file into `target`, all but its pages of zeroes."""
    data = source.read_bytes()
    for start in range(0, len(data), BLOCK):
        page = data[start : start + BLOCK]
        if any(page):
            os.pwrite(target, page, at + start)
