"""The disk of an ordinary user's sandbox, before and after its root file system is written."""

import os
import shutil
from pathlib import Path

import pytest

from shared.disks.disk import Disk
from shared.sandbox.roots.tree_root import SourceDisk, copy_without_root, open_kept_root, unwritten_disk
from shared.sandbox.roots.unpack_root import UnpackedRoot, unpack_root
from shared.sandbox.roots.write_root import write_root
from shared.sandbox.user_namespace import run_with_all_ids
from tests.shared.sandbox.ordinary_user import give, run
from tests.shared.sandbox.trees import full_disk, on_disk

pytestmark = pytest.mark.slow

TIME = 1_700_000_000


def unpack(disk: str, folder: str) -> str:
    return unpack_root(Path(disk), Path(folder)).to_json()


def copy(source: str, target: str) -> None:
    copy_without_root(Path(source), Path(target))


def write(tree: str, disk: str, source: str, kept: str) -> None:
    write_root(Path(tree), Path(disk), UnpackedRoot.from_json(kept), TIME, like=Path(source))


def kept(disk: str, roots: str) -> list[str]:
    """Return what is said while a root is unpacked, or found."""
    said: list[str] = []

    def find() -> str:
        lock, tree, _ = open_kept_root(SourceDisk("1", Path(disk), Path(roots)), said.append)
        os.close(lock)
        return "\n".join([*said, *sorted(path.name for path in tree.iterdir())])

    return run_with_all_ids(find).split("\n")


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


def test_a_root_whose_record_a_power_cut_has_damaged_is_unpacked_anew(mode: str, place: Path, tmp_path: Path) -> None:
    source = give(Path(shutil.copy(full_disk(tmp_path), place / "source.raw")), mode)
    roots = place / "roots"
    roots.mkdir()
    give(roots, mode)
    first = run(mode, kept, source, roots)
    assert run(mode, kept, source, roots) == first[2:]
    record = roots / "1" / "record.json"
    whole = record.read_bytes()
    for damaged in (b"", bytes(len(whole)), b"{}", b"[]"):
        record.write_bytes(damaged)
        assert run(mode, kept, source, roots)[2:] == first[2:], damaged
        assert record.read_bytes() == whole
