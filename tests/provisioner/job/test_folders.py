"""The sizes of a VM's folders: the same as a look into its disk gives, and bounded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

from provisioner.job.folders import ENOUGH_SECONDS, MOST_FOLDERS, largest_folders
from shared.images.folder_sizes import FolderSize, folder_sizes
from tests.shared.disks.small_disks import rooted


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name, size in {
        "etc/hosts": 10,
        "usr/lib/a/b/c/deep": 5000,
        "usr/lib/a/one": 70,
        "usr/bin/tool": 300,
        "top": 1,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * size)
    (root / "usr/share/empty").mkdir(parents=True)
    os.link(root / "usr/bin/tool", root / "usr/bin/other-name")
    (root / "usr/link").symlink_to("/usr/lib")
    os.mkfifo(root / "pipe")
    return root


def flat(folder: FolderSize) -> Iterator[tuple[str, int, int]]:
    yield folder.path, folder.bytes, folder.files
    for below in folder.folders:
        yield from flat(below)


def test_a_vm_and_a_look_into_its_disk_tell_the_same(tree: Path, tmp_path: Path) -> None:
    told = largest_folders(str(tree))
    assert told[0] == ("/", 5381, 5)
    read = [each for each in flat(folder_sizes(rooted(tmp_path / "disk.raw", tree))) if each[1]]
    assert sorted(told) == sorted(read)


def test_other_file_systems_are_left_out() -> None:
    assert Path("/dev").stat().st_dev != Path("/dev/shm").stat().st_dev
    with NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(b"x" * 5000)
        file.flush()
        assert "/shm" not in [path for path, _, _ in largest_folders("/dev")]
        assert largest_folders("/dev/shm")[0][1] >= 5000


def test_the_largest_ones_are_told_with_those_around_them(tmp_path: Path) -> None:
    for number in range(MOST_FOLDERS + 50):
        folder = tmp_path / "var" / f"d{number}"
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * (number + 1))
    told = [path for path, _, _ in largest_folders(str(tmp_path))]
    assert len(told) == MOST_FOLDERS
    assert told[:3] == ["/", "/var", f"/var/d{MOST_FOLDERS + 49}"]


def test_what_takes_too_long_is_not_told(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / str(number)).touch()
    ticks = count(0.0, ENOUGH_SECONDS + 1)
    assert largest_folders(str(tmp_path), lambda: next(ticks)) == []
    assert largest_folders(str(tmp_path / "none")) == []
