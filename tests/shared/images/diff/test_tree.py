"""Files of two file systems, compared with what reading all of both says."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.budget import DISK_BOUNDS, Budget
from shared.disks.ext4.reader import Ext4, FileSystemUnreadable
from shared.disks.reader import DiskReader
from shared.errors import ImageFileError
from shared.images.diff.contents import ContentComparison
from shared.images.diff.shortcuts import SAME, SAME_FOLDER, surely_same
from shared.images.diff.tree import TreeDiff
from tests.shared.disks.ext4_trees import OFFSET, make
from tests.shared.disks.small_disks import MIB, tool

SIZE = 2 * MIB


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small disk with something of everything: many extents, links, attributes, files of several names."""
    folder = tmp_path_factory.mktemp("alike")
    tree = folder / "tree"
    (tree / "many").mkdir(parents=True)
    for number in range(80):
        (tree / "many" / f"file-{number}").write_bytes(bytes([number % 251 + 1]) * (number * 70))
    (tree / "a/b/c").mkdir(parents=True)
    (tree / "a/b/c/deep").write_bytes(b"deep" * 5000)
    (tree / "long").symlink_to("c" * 200)
    (tree / "short").symlink_to("many")
    (tree / "twice").hardlink_to(tree / "a/b/c/deep")
    with (tree / "sparse").open("wb") as file:
        for number in range(60):
            file.seek(number * 3000)
            file.write(b"x" * 10)
    disk = folder / "disk.raw"
    make(disk, tree, "-b1024", "-O", "^has_journal", "-N", "128", size=SIZE)
    requests = ["ea_set /sparse user.one 1", "ea_set /short user.two " + "d" * 300]
    tool("debugfs", "-w", "-f", "-", f"{disk}?offset={OFFSET}", stdin="\n".join(requests) + "\n")
    return disk


Seen = dict[str, tuple[object, ...]]


def seen(file_system: Ext4) -> Seen:
    """Read all of a file system."""
    found: Seen = {}
    for path, inode in file_system.walk():
        contents: object = None
        if inode.is_file:
            contents = file_system.read(inode)
        elif inode.is_link:
            contents = file_system.link(inode)
        attributes = file_system.attributes(inode)
        device, flags = inode.device, inode.flags & 0x830  # immutable, append only, encrypted
        found[path] = (inode.mode, inode.user, inode.group, contents, attributes, device, flags)
    return found


def differing(a: Seen, b: Seen) -> set[str]:
    return {path for path in {*a, *b} if a.get(path) != b.get(path)}


def changes(before: Path, after: Path) -> set[str]:
    with DiskReader(before) as one, DiskReader(after) as other, ContentComparison(one, other) as contents:
        a, b = Ext4(one, OFFSET, SIZE), Ext4(other, OFFSET, SIZE)
        return {change.path for change in TreeDiff(a, b, contents).changes()}


@pytest.fixture(scope="module")
def all_of_it(disk: Path) -> Seen:
    """What reading all of the disk says, read once."""
    with DiskReader(disk) as reader:
        file_system = Ext4(reader, OFFSET, SIZE)
        return seen(file_system)


@pytest.fixture(scope="module")
def written(disk: Path) -> list[int]:
    """Where the disk has 64 bytes that are not all zeros."""
    sound = disk.read_bytes()
    return [at for at in range(OFFSET, len(sound), 64) if any(sound[at : at + 64])]


@settings(max_examples=60)
@given(data=st.data())
def test_whatever_byte_is_changed_what_it_changes_is_found(
    tmp_path: Path, disk: Path, all_of_it: Seen, written: list[int], data: st.DataObject
) -> None:
    """A copy of which some bytes are other ones: a file whose inode is as it was may hold something else."""
    other = bytearray(disk.read_bytes())
    for _ in range(data.draw(st.integers(0, 5))):
        at = data.draw(st.sampled_from(written)) + data.draw(st.integers(0, 63))
        other[at] = data.draw(st.integers(0, 255))
    after = tmp_path / "after.raw"
    after.write_bytes(other)
    try:
        with DiskReader(after) as reader:
            file_system = Ext4(reader, OFFSET, SIZE)
            expected = differing(all_of_it, seen(file_system))
    except (ImageFileError, FileSystemUnreadable):
        return
    assert changes(disk, after) == expected


def test_what_a_build_does_is_found(tmp_path: Path, disk: Path) -> None:
    after, text = tmp_path / "after.raw", tmp_path / "text"
    after.write_bytes(disk.read_bytes())
    text.write_text("text")
    requests = [
        "rm /many/file-3",
        f"write {text} /many/file-3",
        f"write {text} /a/b/new",
        "rm /twice",
        "mkdir /a/folder",
        "set_inode_field /many/file-9 mode 0100600",
        "link /many/file-10 /a/another-name",
    ]
    tool("debugfs", "-w", "-f", "-", f"{after}?offset={OFFSET}", stdin="\n".join(requests) + "\n")
    with DiskReader(disk) as one, DiskReader(after) as other, ContentComparison(one, other) as contents:
        a, b = Ext4(one, OFFSET, SIZE), Ext4(other, OFFSET, SIZE)
        assert (
            changes(disk, after)
            == differing(seen(a), seen(b))
            == {
                "/many/file-3",
                "/a/b/new",
                "/twice",
                "/a/folder",
                "/many/file-9",
                "/a/another-name",
            }
        )
        known = surely_same(a, b, contents)
        assert known is not None, "a copy with few changes is not laid out alike"
        assert known.count(SAME) > 70
        folder = a.inode(a.entries(a.inode(a.entries(a.root)["a"]))["b"])
        assert known[folder.number] != SAME_FOLDER
        assert known[a.entries(folder)["c"]] == SAME_FOLDER


def test_a_file_system_that_was_packed_anew_is_not_laid_out_alike(tmp_path: Path, disk: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("text")
    packed = tmp_path / "other.raw"
    make(packed, tree, "-b1024", "-O", "^has_journal", "-N", "128", size=SIZE)
    with DiskReader(disk) as one, DiskReader(packed) as other, ContentComparison(one, other) as contents:
        a, b = Ext4(one, OFFSET, SIZE), Ext4(other, OFFSET, SIZE)
        assert surely_same(a, b, contents) is None
        assert changes(disk, packed) == differing(seen(a), seen(b))


def test_files_that_share_their_blocks_are_damage(tmp_path: Path) -> None:
    """However small a disk is, such files could keep the comparison busy for as long as its maker likes."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(20):
        (tree / f"file-{number}").write_bytes(bytes([number + 1]) * 400_000)
    disks = []
    for name in ("before", "after"):
        disk = tmp_path / f"{name}.raw"
        make(disk, tree, "-O", "^has_journal", size=16 * MIB)
        with DiskReader(disk) as reader:
            file_system = Ext4(reader, OFFSET, 16 * MIB)
            numbers = file_system.entries(file_system.root)
            first = file_system.inode(numbers["file-0"]).block_map
            records = [file_system.record(number) for path, number in numbers.items() if path != "lost+found"]
        data = bytearray(disk.read_bytes())
        for record in records:
            at = data.index(record)
            data[at + 0x28 : at + 0x28 + 60] = first
        disk.write_bytes(data)
        disks.append(disk)
    limits = replace(DISK_BOUNDS, read=7_000_000, read_per_byte=0)
    readers = [DiskReader(disk, Budget(limits, disk)) for disk in disks]
    a, b = (Ext4(reader, OFFSET, 16 * MIB) for reader in readers)
    with (
        ContentComparison(*readers) as contents,
        pytest.raises(ImageFileError, match="more than 7000000 bytes of contents"),
    ):
        TreeDiff(a, b, contents).changes()
