"""What is deleted does not stay readable in blocks that no file has any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.free_blocks import disks, wipe


def test_a_wiped_file_is_overwritten_in_place(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"secret" * 1000)
    before = path.stat()
    with path.open("rb") as reader:  # as a block of the disk would be read: whatever has the name by then
        wipe(str(path))
        assert reader.read() == bytes(6000)
    assert (path.stat().st_ino, path.stat().st_size) == (before.st_ino, before.st_size)


def test_a_file_that_is_not_there_cannot_be_wiped(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        wipe(str(tmp_path / "state.json"))


def test_each_disk_is_listed_once_and_is_writable() -> None:
    found = disks()
    assert len({disk.device for disk in found}) == len(found)
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    for disk in found:
        assert any(line.startswith(f"{disk.device} {disk.path} {disk.kind} rw") for line in mounts)
