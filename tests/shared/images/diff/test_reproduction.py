"""What two builds differ in, said in one line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from shared.disks.disk import Disk
from shared.images.diff.reproduction import MOST_NAMED, describe_difference, has_same_bytes
from tests.shared.disks.small_disks import MIB, os_tree, rooted, tool

TIME = 1_700_000_000


def disk_of(folder: Path, name: str, change: str = "", time: int = TIME) -> Path:
    """Make a disk of a system's tree with one file more."""
    tree = os_tree(folder / name)
    (tree / "opt").mkdir(exist_ok=True)
    (tree / "opt" / "file").write_text(f"contents {change}")
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (time, time), follow_symlinks=False)
    return rooted(folder / f"{name}.raw", tree, 32 * MIB)


def test_a_copy_is_the_same_holes_or_not(tmp_path: Path) -> None:
    first = disk_of(tmp_path, "first")
    second = tmp_path / "second.raw"
    second.write_bytes(first.read_bytes())
    assert has_same_bytes(first, second)
    assert describe_difference(first, second, same_bytes=True) == ""
    with second.open("r+b") as file:
        file.seek(31 * MIB)
        file.write(b"x")
    assert not has_same_bytes(first, second)
    assert not has_same_bytes(second, first)
    assert not has_same_bytes(first, tmp_path / "first" / "etc" / "os-release")


def test_files_are_named(tmp_path: Path) -> None:
    first, second = disk_of(tmp_path, "first"), disk_of(tmp_path, "second", "that differ")
    for same_bytes in (False, True):
        told = describe_difference(first, second, same_bytes=same_bytes)
        assert "partition 1 (uuid, file_system_uuid)" in told  # sfdisk and mke2fs make new ones
        assert told.endswith("/opt/file (contents)")


def test_times_count_with_the_bytes_alone(tmp_path: Path) -> None:
    tree = os_tree(tmp_path / "tree")
    first = rooted(tmp_path / "first.raw", tree, 32 * MIB)
    os.utime(tree / "etc/os-release", (TIME, TIME))
    second = tmp_path / "second.raw"
    shutil.copy(first, second)
    change_time(second, "/etc/os-release")
    assert describe_difference(first, second, same_bytes=False) == ""
    assert describe_difference(first, second, same_bytes=True) == "/etc/os-release (time)"


def change_time(disk: Path, path: str) -> None:
    """Change a file's time on a disk, and nothing else."""
    with Disk(disk) as opened:
        start = opened.root.partition.start
    tool("debugfs", "-w", "-R", f"set_inode_field {path} mtime 20200101000000", f"{disk}?offset={start}")


def test_of_many_files_some_are_named(tmp_path: Path) -> None:
    first = disk_of(tmp_path, "first")
    for number in range(MOST_NAMED + 5):
        (tmp_path / "first" / "opt" / f"line\nfeed-{number}").touch()
    second = rooted(tmp_path / "second.raw", tmp_path / "first", 32 * MIB)
    told = describe_difference(first, second, same_bytes=False)
    assert told.count("(in one of them alone)") + told.count("partition") == MOST_NAMED
    assert told.endswith(", and 7 more")
    assert "\n" not in told
