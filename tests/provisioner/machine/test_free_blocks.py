"""Deleted data does not stay readable in blocks that no file has any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.machine.free_blocks import disks, wipe, wipe_files


def test_a_wiped_file_is_overwritten_in_place(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"secret" * 1000)
    before = path.stat()
    with path.open("rb") as reader:  # reads the blocks themselves, whichever file has the name by then
        wipe(str(path))
        assert reader.read() == bytes(6000)
    assert (path.stat().st_ino, path.stat().st_size) == (before.st_ino, before.st_size)


def test_files_of_a_folder_are_overwritten_and_nothing_that_a_link_leads_to(tmp_path: Path) -> None:
    outside, folder = tmp_path / "passwd", tmp_path / "files"
    folder.mkdir()
    outside.write_bytes(b"root")
    (folder / "job.tar").write_bytes(b"key")
    (folder / "link").symlink_to(outside)
    wipe_files(str(folder))
    wipe_files(str(tmp_path / "none"))
    assert ((folder / "job.tar").read_bytes(), outside.read_bytes()) == (bytes(3), b"root")


def test_a_file_that_is_not_there_cannot_be_wiped(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        wipe(str(tmp_path / "state.json"))


def test_each_disk_is_listed_once_and_is_writable() -> None:
    found = disks()
    assert len({disk.source for disk in found}) == len(found)
    listed = Path("/proc/self/mounts").read_text().splitlines()
    for disk in found:
        assert any(line.startswith(f"{disk.source} {disk.path} {disk.kind} rw") for line in listed)
