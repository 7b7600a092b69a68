"""Disks in a relocation: block devices of which another part is in use."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.system.disk_file import DiskFile

MIB = 1 << 20
SECTOR = 512


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """Make a block device full of ones that is claimed exclusively, as a mounted partition claims its disk."""
    file = tmp_path / "disk"
    file.write_bytes(b"\1" * 8 * MIB)
    command = ["losetup", "--find", "--show", str(file)]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    claim = os.open(path, os.O_RDONLY | os.O_EXCL)
    try:
        yield path
    finally:
        os.close(claim)
        subprocess.run(["losetup", "--detach", path], check=True)


@pytest.mark.parametrize("shift", [0, 5 * SECTOR])
def test_what_is_cleared_may_meet_data_within_a_page(device: str, shift: int) -> None:
    """3. relocate STATE and OEM: the real STATE has 10170477 sectors, so that its data end within a page."""
    with DiskFile(device, writable=True) as disk:
        disk.write(MIB + shift, b"\2" * MIB)  # not written out yet when the next bytes are cleared
        disk.clear(2 * MIB + shift, 3 * MIB + shift)
        disk.write(3 * MIB + shift, b"\2" * MIB)
        disk.clear(shift, MIB + shift)
        disk.clear(5 * MIB, 5 * MIB + SECTOR)
        disk.clear(6 * MIB, 6 * MIB)
        disk.sync()
        expected = bytearray(b"\1" * 8 * MIB)
        for begin, byte in ((0, 0), (MIB, 2), (2 * MIB, 0), (3 * MIB, 2)):
            expected[begin + shift : begin + shift + MIB] = bytes([byte]) * MIB
        expected[5 * MIB : 5 * MIB + SECTOR] = bytes(SECTOR)
        assert disk.read(0, 8 * MIB) == expected


def test_pages_that_are_not_written_out_are_cleared_all_the_same(device: str) -> None:
    with DiskFile(device, writable=True) as disk:
        disk.write(0, b"\2" * MIB)
        disk.clear(0, MIB)
        assert disk.read(0, MIB + 1) == bytes(MIB) + b"\1"
