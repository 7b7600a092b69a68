"""What two inodes that are packed apart are known to say, from their bytes."""

import pytest

from shared.disks.ext4.reader import Ext4
from shared.images.diff.shortcuts import alike
from tests.shared.disks.ext4_trees import OFFSET, make


@pytest.fixture(scope="module")
def file_system(tmp_path_factory: pytest.TempPathFactory) -> Ext4:
    """A file system with one of each kind."""
    folder = tmp_path_factory.mktemp("records")
    tree = folder / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "file").write_bytes(b"x" * 5000)
    (tree / "empty").touch()
    (tree / "link").symlink_to("file")
    (tree / "two-names").write_bytes(b"y")
    (tree / "again").hardlink_to(tree / "two-names")
    return make(folder / "disk.raw", tree)


def record(file_system: Ext4, name: str) -> bytearray:
    """Return the bytes of an inode."""
    return bytearray(file_system.record(file_system.entries(file_system.root)[name]))


def compare(file_system: Ext4, a: bytearray, b: bytearray) -> tuple[int, int, int] | None:
    """Compare two inodes of the same file system."""
    return alike(bytes(a), bytes(b), (file_system.layout, file_system.layout))


def test_what_is_simple_is_known_and_where_its_contents_begin(file_system: Ext4) -> None:
    """Only a file's bytes are left to be compared."""
    inode = file_system.inode(file_system.entries(file_system.root)["file"])
    place = ((file_system.place(inode) or 0) - OFFSET) // file_system.layout.block
    found = {name: compare(file_system, *[record(file_system, name)] * 2) for name in ("file", "empty", "link")}
    assert found == {"file": (5000, place, place), "empty": (0, 0, 0), "link": (0, 0, 0)}


@pytest.mark.parametrize("name", ["two-names", "folder"])
def test_what_is_not_simple_is_left_to_others(file_system: Ext4, name: str) -> None:
    """Files of two names are read once; folders are entered."""
    assert compare(file_system, *[record(file_system, name)] * 2) is None


def test_times_places_and_checksums_are_no_difference(file_system: Ext4) -> None:
    """All else is one: every byte of an inode is changed in turn."""
    whole = record(file_system, "file")
    ignored = set()
    for at in range(len(whole)):
        other = whole.copy()
        other[at] ^= 0x55
        if compare(file_system, whole, other) is not None:
            ignored.add(at)
    times = {*range(8, 24), *range(132, 152)}  # and the creation
    counts = {*range(28, 32), *range(116, 118)}  # of blocks, with those of the extent tree
    # Versions, generation, and project.
    never_shown = {
        *range(36, 40),
        *range(100, 104),
        *range(112, 116),
        *range(152, 160),
    }
    checksums = {*range(124, 128), *range(130, 132)}
    tree = set(range(40, 100))  # what is looked at there is whether it leads to as many bytes
    assert ignored - tree == times | counts | never_shown | checksums


@pytest.mark.parametrize(
    ("name", "at", "value"), [("file", 40, 0), ("file", 60, 0xFF), ("file", 128, 3), ("file", 129, 9)]
)
def test_what_cannot_be_is_left_to_who_refuses_it(file_system: Ext4, name: str, at: int, value: int) -> None:
    """No extent tree, a place beyond the end, and further fields of a length that none has, in both."""
    damaged = record(file_system, name)
    damaged[at] = value
    damaged[58:60] = b"\xff\xff" if at == 60 else damaged[58:60]
    assert compare(file_system, damaged, damaged) is None


def test_a_link_that_leads_elsewhere_is_no_simple_one(file_system: Ext4) -> None:
    """What it leads to is in the inode."""
    other = record(file_system, "link")
    other[40:44] = b"life"
    assert compare(file_system, record(file_system, "link"), other) is None
