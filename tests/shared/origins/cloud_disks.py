"""Disks such as distributions offer, with a file system for each of /boot/efi, /boot and the root."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from shared.host.programs import run_tool
from shared.quantities import MIB

TABLE = """label: gpt
start=2048, size=8192, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
start=10240, size=16384, type={boot}, name=any
start=26624, size=32768, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
"""
EXTENDED_BOOT, LINUX = "BC13C2FF-59E6-4262-A352-B275FD6F7172", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"


def file_system(kind: str, folder: Path, size: int, *options: str) -> bytes:
    """Make a file system of the files of a folder."""
    path = folder.with_suffix(".fs")
    with path.open("wb") as file:
        file.truncate(size)
    if kind == "vfat":
        run_tool(["mkfs.vfat", path])
        for found in sorted(folder.iterdir()):
            run_tool(["mcopy", "-s", "-i", path, found, "::"])
    else:
        run_tool(["mke2fs", "-q", "-F", "-t", kind, "-d", folder, *options, path])
    return path.read_bytes()


def cloud_disk(
    folder: Path, boot: str = EXTENDED_BOOT, label: str = "", root: str = "ext4", holes: Sequence[int] = ()
) -> Path:
    """Make a disk with /boot/efi, /boot and the root file system, which has files that are but holes of some sizes."""
    for name in ("efi", "boot", "root"):
        (folder / name).mkdir(parents=True)
    (folder / "efi" / "EFI").mkdir()
    (folder / "efi" / "EFI" / "BOOTX64.EFI").write_bytes(b"MZ" * 3000)
    (folder / "boot" / "vmlinuz").write_bytes(b"kernel")
    os.link(folder / "boot" / "vmlinuz", folder / "boot" / "again")
    etc = folder / "root" / "etc"
    etc.mkdir()
    (folder / "root" / "boot").mkdir()
    (etc / "own").write_text("own")
    os.chown(etc / "own", 33, 44)
    (etc / "own").chmod(0o4711)
    os.setxattr(etc / "own", "user.mine", b"value")
    os.mknod(etc / "null", 0o20666, os.makedev(1, 3))
    (etc / "link").symlink_to("own")
    with (etc / "holes").open("wb") as file:
        file.truncate(MIB + 1)
        file.seek(4096)
        file.write(b"data")
    for number, size in enumerate(holes):
        with (etc / f"holes{number}").open("wb") as file:
            file.truncate(size)
    disk = folder / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(32 * MIB)
    run_tool(["sfdisk", "--quiet", disk], stdin=TABLE.format(boot=boot))
    options = ("-L", label) if label else ()
    parts = [
        (2048, file_system("vfat", folder / "efi", 8192 * 512)),
        (10240, file_system("ext4", folder / "boot", 16384 * 512, *options)),
    ]
    if root == "ext4":
        parts.append((26624, file_system("ext4", folder / "root", 32768 * 512)))
    else:
        parts.append((26624, b"XFSB" + bytes(4092)))
    with disk.open("r+b") as file:
        for sector, data in parts:
            file.seek(sector * 512)
            file.write(data)
    return disk
