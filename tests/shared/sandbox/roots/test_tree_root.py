"""The disk of an ordinary user's sandbox, before and after its root file system is written."""

import shutil
from pathlib import Path

from shared.disks.disk import Disk
from shared.sandbox.roots.tree_root import copy_without_root, unwritten_disk
from shared.sandbox.roots.unpack_root import UnpackedRoot, unpack_root
from shared.sandbox.roots.write_root import write_root
from tests.shared.sandbox.ordinary_user import give, run
from tests.shared.sandbox.trees import full_disk, on_disk

TIME = 1_700_000_000


def unpack(disk: str, folder: str) -> str:
    return unpack_root(Path(disk), Path(folder)).to_json()


def copy(source: str, target: str) -> None:
    copy_without_root(Path(source), Path(target))


def write(tree: str, disk: str, source: str, kept: str) -> None:
    write_root(Path(tree), Path(disk), UnpackedRoot.from_json(kept), TIME, like=Path(source))


def around(disk: Path, source: Path) -> tuple[bytes, bytes, bytes]:
    """Return the bytes of a disk in front of the root of `source`, there, and behind it."""
    with Disk(source) as opened:
        place = opened.root.partition
    data = disk.read_bytes()
    end = place.start + place.size
    return data[: place.start], data[place.start : end], data[end:]


def test_a_disk_gets_all_but_its_root_at_first(mode: str, place: Path, tmp_path: Path) -> None:
    source = give(Path(shutil.copy(full_disk(tmp_path), place / "source.raw")), mode)
    source.chmod(0o444)
    staged = unwritten_disk(place / "disk.raw")
    run(mode, copy, source, staged)
    front, root, behind = around(source, source)
    assert around(staged, source) == (front, bytes(len(root)), behind)
    assert not (place / "disk.raw").exists()
    assert staged.stat().st_blocks * 512 < len(root) // 4
    staged.chmod(0o600)
    kept = run(mode, unpack, source, place / "tree")
    run(mode, write, place / "tree", staged, source, kept)
    assert on_disk(staged) == on_disk(source)
    assert around(staged, source)[::2] == (front, behind)
