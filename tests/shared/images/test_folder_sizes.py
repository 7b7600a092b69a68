"""Sizes by folder, of disks that mke2fs has made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.disks.root_files import RootUnreadable
from shared.images.folder_sizes import MOST_BELOW, FolderSize, folder_sizes
from tests.shared.disks.small_disks import os_tree, partitioned, rooted


def by_path(folder: FolderSize) -> dict[str, tuple[int, int]]:
    found = {folder.path: (folder.bytes, folder.files)}
    for below in folder.folders:
        found |= by_path(below)
    return found


def test_each_folder_has_all_that_is_below_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for path, size in {"a/b/c/d/e": 1000, "a/b/x": 200, "a/y": 30, "top": 4, "f/none": 0}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(b"x" * size)
    os.link(tree / "a/y", tree / "f/again")
    (tree / "f/link").symlink_to("/a/b/x")
    found = by_path(folder_sizes(rooted(tmp_path / "disk.raw", tree)))
    found.pop("/lost+found")
    assert found == {
        "/": (1234, 5),
        "/a": (1230, 3),
        "/a/b": (1200, 2),
        "/a/b/c": (1000, 1),
        "/f": (0, 1),
    }


def test_the_largest_folders_are_told_first_and_not_all_of_them(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(MOST_BELOW + 6):
        (tree / f"d{number:02}").mkdir(parents=True)
        (tree / f"d{number:02}/file").write_bytes(b"x" * number)
    found = folder_sizes(rooted(tmp_path / "disk.raw", tree))
    assert len(found.folders) == MOST_BELOW
    sizes = [folder.bytes for folder in found.folders]
    assert sizes == sorted(sizes, reverse=True)
    assert found.bytes == sum(range(MOST_BELOW + 6))


def test_a_tree_of_an_operating_system_adds_up(tmp_path: Path) -> None:
    root = folder_sizes(rooted(tmp_path / "disk.raw", os_tree(tmp_path / "tree")))
    assert root.bytes == sum(folder.bytes for folder in root.folders)
    assert root.files == sum(folder.files for folder in root.folders)


def test_a_disk_without_a_readable_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RootUnreadable):
        folder_sizes(partitioned(tmp_path / "disk.raw", "label: gpt\n"))
