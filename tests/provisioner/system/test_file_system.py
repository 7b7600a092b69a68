"""The size of a file system, from its first bytes. A virtual machine tests growing one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from provisioner.system.file_system import FILE_SYSTEM_HEAD, file_system_size

SIZE = 48 << 20


def head(path: Path) -> bytes:
    """Return the bytes that file_system_size() reads."""
    with path.open("rb") as file:
        return file.read(FILE_SYSTEM_HEAD)


@pytest.mark.parametrize("block", ["1024", "4096"])
def test_ext4(tmp_path: Path, block: str) -> None:
    disk = tmp_path / "disk"
    disk.touch()
    blocks = SIZE // int(block)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", block, str(disk), str(blocks)], check=True)
    with disk.open("r+b") as file:
        file.truncate(4 * SIZE)
    assert file_system_size(head(disk)) == SIZE


def test_ext4_beyond_32_bits(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.touch()
    command = ["mke2fs", "-q", "-t", "ext4", "-O", "64bit,^resize_inode", "-N", "16", "-b", "4096", "-n"]
    assert subprocess.run([*command, str(disk), "20T"], capture_output=True, check=False).returncode == 0
    superblock = bytearray(FILE_SYSTEM_HEAD)
    superblock[0x438:0x43A] = b"\x53\xef"
    superblock[0x404:0x408] = (5).to_bytes(4, "little")
    superblock[0x418:0x41C] = (2).to_bytes(4, "little")
    superblock[0x550:0x554] = (1).to_bytes(4, "little")
    assert file_system_size(bytes(superblock)) == (2**32 + 5) * 4096


def test_xfs() -> None:
    superblock = b"XFSB" + (4096).to_bytes(4, "big") + (12345).to_bytes(8, "big") + bytes(FILE_SYSTEM_HEAD)
    assert file_system_size(superblock) == 4096 * 12345


def test_btrfs() -> None:
    superblock = bytearray(FILE_SYSTEM_HEAD)
    superblock[0x10040:0x10048] = b"_BHRfS_M"
    superblock[0x10070:0x10078] = SIZE.to_bytes(8, "little")
    assert file_system_size(bytes(superblock)) == SIZE


@pytest.mark.parametrize("data", [b"", b"\0" * FILE_SYSTEM_HEAD, b"hsqs" + b"\0" * FILE_SYSTEM_HEAD])
def test_unknown_ones_have_no_size(data: bytes) -> None:
    assert file_system_size(data) is None
