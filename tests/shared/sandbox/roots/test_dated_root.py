"""Trees that are written as the same bytes each time: times, devices, and compiled Python."""

from __future__ import annotations

import os
import py_compile
import shutil
import stat
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from shared.disks.disk import Disk
from shared.disks.extents import copy_around
from shared.host.open_folder import OpenFolder
from shared.sandbox.roots.unpack_root import DeviceNode, UnpackedRoot, read_kept, remove_all, unpack_root
from shared.sandbox.roots.write_root import remove_devices, write_dated_root
from shared.sandbox.user_namespace import run_with_all_ids
from tests.shared.sandbox.ordinary_user import AS_ROOT, give, run
from tests.shared.sandbox.trees import full_disk, on_disk

pytestmark = pytest.mark.slow

DATE = 1_700_000_000
AFTER, BEFORE = DATE + 5000, DATE - 5000


def written(disk: str, folder: str, like: str) -> str:
    """Unpack the root of `like`, and write it to another disk."""
    kept = unpack_root(Path(like), Path(folder))
    write_dated_root(Path(folder), Path(disk), kept, DATE, like=Path(like))
    return kept.to_json()


def test_no_time_is_later_and_no_old_file_system_is_needed(mode: str, place: Path, tmp_path: Path) -> None:
    original = full_disk(tmp_path)
    expected = on_disk(original)
    with Disk(original) as opened:
        part = opened.root.partition
    like, disk = give(Path(shutil.copy(original, place / "like.raw")), mode), place / "disk.raw"
    like.chmod(0o640)
    copy_around(like, disk, part.start, part.size)
    assert stat.S_IMODE(disk.stat().st_mode) == 0o640
    give(disk, mode)
    with Disk(disk) as opened:
        assert opened.ext4 == {}
        assert opened.table.partitions[0].start == part.start
    kept = UnpackedRoot.from_json(run(mode, written, disk, place / "tree", like))
    assert {**read_kept(like).flags} == kept.flags
    assert sorted(read_kept(like).devices, key=str) == sorted(kept.devices, key=str)
    found = on_disk(disk)
    assert found.keys() == expected.keys()
    with Disk(disk) as opened:
        inodes = [inode for _, inode in opened.root.file_system.walk()]
    assert {inode.ctime_ns for inode in inodes} == {DATE * 10**9}
    assert max(inode.mtime_ns for inode in inodes) == DATE * 10**9
    with Disk(original) as one, Disk(disk) as other:
        before = dict(one.root.file_system.walk())
        for path, inode in other.root.file_system.walk():
            assert inode.mtime_ns == min(before[path].mtime_ns, DATE * 10**9)


def compiled(place: str, late: str) -> str:
    """Write a disk of a tree with compiled Python, whose source has the time `late`."""
    tree, disk = Path(place, "tree"), Path(place, "disk.raw")
    kept = unpack_root(disk, tree)
    run_with_all_ids(lambda: add_compiled(tree, int(late)))
    write_dated_root(tree, disk, kept, DATE)
    return ""


def add_compiled(tree: Path, late: int) -> str:
    source = tree / "module.py"
    source.write_text("x = 1\n")
    os.utime(source, (late, late))
    for name, kind in (("timed", "TIMESTAMP"), ("hashed", "CHECKED_HASH")):
        target = tree / f"{name}.pyc"
        py_compile.compile(str(source), str(target), invalidation_mode=py_compile.PycInvalidationMode[kind])
        os.utime(target, (AFTER, AFTER))
    (tree / "old.pyc").write_bytes(struct.pack("<H2sII", 3379, b"\r\n", late, 6) + b"code")
    (tree / "short.pyc").write_bytes(b"\0\0\r\n")
    (tree / "text.pyc").write_bytes(b"no compiled file at all")
    os.mkfifo(tree / "pipe.pyc")
    (tree / "link.pyc").symlink_to("/dev/full")
    return ""


@pytest.mark.parametrize(("late", "noted"), [(AFTER, DATE), (BEFORE, BEFORE)])
def test_compiled_python_keeps_to_the_time_of_its_source(
    mode: str, place: Path, tmp_path: Path, late: int, noted: int
) -> None:
    disk = give(Path(shutil.copy(full_disk(tmp_path), place / "disk.raw")), mode)
    run(mode, compiled, place, str(late))
    with Disk(disk) as opened:
        source = opened.root.file_system.find("/module.py")
        assert source is not None
        assert source.mtime_ns == noted * 10**9
        timed, hashed = opened.root.read("/timed.pyc"), opened.root.read("/hashed.pyc")
        assert struct.unpack_from("<II", timed, 4) == (0, noted)
        assert struct.unpack_from("<I", hashed, 4) == (3,)
        assert struct.unpack_from("<I", opened.root.read("/old.pyc"), 4) == (noted,)
        assert opened.root.read("/short.pyc") == b"\0\0\r\n"
        assert opened.root.read("/text.pyc") == b"no compiled file at all"


def test_devices_leave_their_folders_as_they_are(mode: str, tmp_path: Path) -> None:
    device = DeviceNode("/dev/null", "c", 1, 3, 0o666, 0, 0, 0)
    folder = tmp_path / "tree/dev"
    folder.mkdir(parents=True)
    if mode == AS_ROOT:  # only root has any in a tree
        os.mknod(folder / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.utime(folder, ns=(BEFORE * 10**9, BEFORE * 10**9 + 7))
    (tmp_path / "tree/file").write_text("stays")
    others = [replace(device, path=each) for each in ("/file", "/nowhere/null", "/file/null", "/null")]
    remove_devices(tmp_path / "tree", [device, *others])
    assert list(folder.iterdir()) == []
    assert folder.stat().st_mtime_ns == BEFORE * 10**9 + 7
    assert (tmp_path / "tree/file").read_text() == "stays"


def test_a_walk_finds_every_file_at_any_depth(tmp_path: Path) -> None:
    depth = 1500  # Python calls itself 1000 times at most
    with OpenFolder(tmp_path) as folder:
        for _ in range(depth):
            os.mkdir("d", dir_fd=folder.descriptor)
            os.close(os.open("b", os.O_CREAT | os.O_WRONLY, dir_fd=folder.descriptor))
            folder.down("d")
        os.symlink("/", "link", dir_fd=folder.descriptor)
    try:
        with OpenFolder(tmp_path) as folder:
            found = list(folder.files())
        assert (found.count("b"), found.count("link"), len(found)) == (depth, 1, depth + 1)
    finally:
        remove_all(tmp_path / "d")
