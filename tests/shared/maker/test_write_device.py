"""A finished disk goes to a device of its very size, and nothing else that was there is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import EnvironmentFault
from shared.maker.write_device import copy_to_device

MIB = 1 << 20


def sparse(path: Path, size: int, **data: bytes) -> Path:
    """Make a file with data at some MiB, by number: at3=b"..."."""
    with path.open("wb") as file:
        file.truncate(size)
        for place, content in data.items():
            file.seek(int(place.removeprefix("at")) * MIB)
            file.write(content)
    return path


def test_only_what_the_disk_holds_is_written(tmp_path: Path) -> None:
    disk = sparse(tmp_path / "disk", 64 * MIB, at0=b"table", at40=b"x" * MIB)
    device = sparse(tmp_path / "device", 64 * MIB)
    assert copy_to_device(disk, device, blank=True) < 3 * MIB
    assert device.read_bytes() == disk.read_bytes()
    assert device.stat().st_blocks * 512 < 3 * MIB


@pytest.mark.parametrize("size", [63 * MIB, 65 * MIB])
def test_a_device_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    disk, device = sparse(tmp_path / "disk", 64 * MIB, at0=b"table"), sparse(tmp_path / "device", size)
    with pytest.raises(EnvironmentFault, match=f"has {size} bytes, and the disk {64 * MIB}; build again"):
        copy_to_device(disk, device, blank=True)
    assert device.stat().st_blocks == 0


@pytest.mark.parametrize("blank", [True, False])
def test_what_is_not_blank_is_emptied_first(tmp_path: Path, blank: bool) -> None:
    """A file cannot be, as a device can; that it was not written over is what counts here."""
    disk = sparse(tmp_path / "disk", 64 * MIB, at0=b"table")
    device = sparse(tmp_path / "device", 64 * MIB, **{"at0" if blank else "at50": b"another's"})
    before = device.read_bytes()
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        copy_to_device(disk, device, blank=blank)
    assert device.read_bytes() == before
