import os
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.disks.ext4.reader import Ext4, FileSystemUnreadable
from shared.disks.reader import DiskReader
from shared.errors import ImageFileError
from tests.shared.disks.ext4_trees import OFFSET, in_image, make, on_host, varied_tree
from tests.shared.disks.small_disks import MIB, tool

FEATURES = {
    "as mke2fs makes them": [],
    "ext2": ["-O", "^has_journal,^extent,^64bit,^metadata_csum,^flex_bg,^dir_index,^extra_isize", "-I", "128"],
    "ext2 of old": [
        "-O",
        "^has_journal,^extent,^64bit,^metadata_csum,^flex_bg,^filetype,^sparse_super,^resize_inode",
        "-b1024",
    ],
    "ext3": ["-O", "^extent,^64bit,^metadata_csum", "-b1024"],
    "small blocks": ["-b1024"],
    "32 bits": ["-O", "^64bit,^metadata_csum,uninit_bg"],
    "inline data": ["-O", "inline_data"],
    "inline data, large inodes": ["-O", "inline_data", "-I", "1024"],
    "meta block groups": ["-O", "meta_bg,^resize_inode", "-b1024", "-g", "256", "-N", "4096"],
    "meta groups, 32 bits, few backups": ["-O", "meta_bg,^resize_inode,^64bit,sparse_super2", "-b1024", "-g", "256"],
    "no flexible groups": ["-O", "^flex_bg", "-b1024", "-g", "1024"],
    "few backups": ["-O", "sparse_super2", "-b1024"],
    "clusters": ["-O", "bigalloc", "-C", "16384"],
    "clusters of small blocks": ["-O", "bigalloc", "-b1024", "-C", "4096"],
    "large folders, encryption, verity, casefold": ["-O", "large_dir,encrypt,verity,casefold,ea_inode,project,quota"],
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return varied_tree(tmp_path_factory.mktemp("varied") / "tree")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, tree: Path) -> Path:
    path = tmp_path_factory.mktemp("disk") / "a disk.raw"
    make(path, tree)
    return path


def opened(disk: Path) -> Ext4:
    return Ext4(DiskReader(disk), OFFSET, 16 * MIB)


def number_of(file_system: Ext4, path: str) -> int:
    return dict(file_system.walk())[path].number


def in_debugfs(disk: Path, *requests: str, write: bool = True) -> str:
    options = ["-w"] if write else []
    return tool("debugfs", *options, "-f", "-", f"{disk}?offset={OFFSET}", stdin="\n".join(requests) + "\n")


@pytest.mark.parametrize("options", FEATURES.values(), ids=FEATURES)
def test_all_is_as_on_the_host(tmp_path: Path, tree: Path, options: list[str]) -> None:
    file_system = make(tmp_path / "disk.raw", tree, *options)
    assert in_image(file_system) == on_host(tree)
    assert not file_system.needs_recovery


NAMES = (
    st.binary(min_size=1, max_size=40)
    .map(lambda raw: os.fsdecode(raw.translate(None, b"/\0")))
    .filter(lambda name: name not in ("", ".", "..", "lost+found"))
)
CONTENTS = st.one_of(
    st.binary(max_size=200),
    st.tuples(st.integers(0, 200_000), st.binary(max_size=9000)).map(lambda made: bytes(made[0]) + made[1]),
)
TREES = st.recursive(
    st.one_of(CONTENTS, st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=90)),
    lambda below: st.dictionaries(NAMES, below, max_size=12),
    max_leaves=25,
)


def build(path: Path, made: object) -> None:
    if isinstance(made, dict):
        path.mkdir()
        for name, below in made.items():
            build(path / name, below)
    elif isinstance(made, bytes):
        path.write_bytes(made)
    else:
        path.symlink_to(str(made))


@settings(max_examples=30)
@given(made=st.dictionaries(NAMES, TREES, max_size=8), options=st.sampled_from(list(FEATURES.values())))
def test_any_tree_is_read_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, made: dict[str, object], options: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    build(folder / "tree", made)
    file_system = make(folder / "disk.raw", folder / "tree", *options)
    assert in_image(file_system) == on_host(folder / "tree")
    (folder / "disk.raw").unlink()


def test_folders_come_before_what_is_in_them_and_names_in_order(disk: Path) -> None:
    paths = [path for path, _ in opened(disk).walk()]
    assert paths[0] == "/"
    assert len(paths) == len(set(paths)) > 900
    keys = [path.split("/")[1:] for path in paths[1:]]
    assert keys == sorted(keys)
    deep = opened(disk).inode(number_of(opened(disk), "/deep/er"))
    assert [path for path, _ in opened(disk).walk("/x", deep)] == ["/x", "/x/and", "/x/and/deeper", "/x/hard"]


def test_what_was_written_later_by_others(tmp_path: Path, tree: Path) -> None:
    """Times to the nanosecond, times beyond 2038, attributes, devices and flags, as debugfs writes them."""
    disk = tmp_path / "disk.raw"
    make(disk, tree, "-I", "256")
    big = tmp_path / "value"
    big.write_bytes(bytes(range(256)) * 10)
    in_debugfs(
        disk,
        "ea_set /setuid security.capability small",
        f"ea_set -f {big} /setuid user.big",
        "ea_set /deep trusted.overlay.opaque y",
        "set_inode_field /setuid mtime 20240101000000",
        f"set_inode_field /setuid mtime_extra {123_456_789 << 2 | 1}",  # nanoseconds, and 2^32 seconds more
        "set_inode_field /setuid uid 100000",
        "set_inode_field /setuid flags 0x80010",
        "mknod device c 5 1",
        "mknod block b 8 300",
    )
    file_system = opened(disk)
    found = dict(file_system.walk())
    setuid = found["/setuid"]
    assert file_system.attributes(setuid) == {"security.capability": b"small", "user.big": big.read_bytes()}
    assert file_system.attributes(found["/deep"]) == {"trusted.overlay.opaque": b"y"}
    assert file_system.attributes(found["/empty"]) == {}
    assert (setuid.user, setuid.flags & 0x10) == (100_000, 0x10)
    seconds, nanoseconds = divmod(setuid.mtime_ns, 1_000_000_000)
    assert (seconds, nanoseconds) == (1_704_067_200 + (1 << 32), 123_456_789)
    assert [found[path].device for path in ("/device", "/block", "/setuid")] == [0x0501, 0x10082C, 0]


def test_attributes_in_inodes_of_their_own(tmp_path: Path, tree: Path) -> None:
    disk = tmp_path / "disk.raw"
    make(disk, tree, "-O", "ea_inode")
    value = tmp_path / "value"
    value.write_bytes(os.urandom(4096))  # which do not fit into a block beside its header
    in_debugfs(disk, f"ea_set -f {value} /setuid user.large")
    file_system = opened(disk)
    assert file_system.attributes(dict(file_system.walk())["/setuid"]) == {"user.large": value.read_bytes()}


def test_extents_that_were_never_written_are_zeros(tmp_path: Path, tree: Path) -> None:
    disk = tmp_path / "disk.raw"
    make(disk, tree)
    in_debugfs(disk, "write /dev/null reserved", "fallocate /reserved 0 9", "set_inode_field /reserved size 40000")
    file_system = opened(disk)
    inode = dict(file_system.walk())["/reserved"]
    assert file_system.read(inode) == bytes(40_000)
    assert list(file_system.chunks(inode)) == []


def test_a_deep_extent_tree(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with (tree / "file").open("wb") as file:
        for number in range(700):
            file.seek(number * 8192)
            file.write(number.to_bytes(2, "big"))
    for options in (["-b1024"], ["-b1024", "-O", "^extent,^64bit"]):
        file_system = make(tmp_path / "disk.raw", tree, *options)
        inode = dict(file_system.walk())["/file"]
        assert len(list(file_system.extents(inode))) >= 1398
        assert in_image(file_system) == on_host(tree)
        assert file_system.read(inode, 8194) == bytes(8193) + b"\x01"


def test_a_folder_with_an_index(tmp_path: Path, tree: Path) -> None:
    disk = tmp_path / "disk.raw"
    make(disk, tree, "-b1024")
    tool("e2fsck", "-fyD", f"{disk}?offset={OFFSET}")
    file_system = opened(disk)
    found = dict(file_system.walk())["/many"]
    assert found.flags & 0x1000, "e2fsck has made no index"
    assert len(file_system.entries(found)) == 900


def test_a_file_system_that_was_cut_off_is_read_and_says_so(tmp_path: Path, tree: Path) -> None:
    disk = tmp_path / "disk.raw"
    make(disk, tree)
    in_debugfs(disk, "feature needs_recovery")
    file_system = opened(disk)
    assert file_system.needs_recovery
    assert in_image(file_system) == on_host(tree)


def test_it_is_never_written_to(disk: Path) -> None:
    disk.chmod(0o444)
    before = disk.stat()
    in_image(opened(disk))
    assert disk.stat().st_mtime_ns == before.st_mtime_ns


def changed(disk: Path, at: int, data: bytes) -> Ext4:
    with disk.open("r+b") as file:
        file.seek(OFFSET + at)
        file.write(data)
    return opened(disk)


@pytest.mark.parametrize(
    ("at", "data", "what"),
    [
        (1024 + 0x38, b"\0\0", "there is no superblock"),
        (1024 + 0x18, b"\xff", "blocks of 2\\^265 bytes"),
        (1024 + 0x20, bytes(4), "groups of no blocks"),
        (1024 + 0x28, bytes(4), "0 inodes per group"),
        (1024 + 0x58, b"\x01\x01", "inodes of 257 bytes"),
        (1024 + 0xFE, b"\x41", "group descriptors of 65 bytes"),
        (1024 + 0x04, b"\xff\xff\xff\x0f", "inodes in"),
        (1024 + 0x00, b"\x01\0\0\0", "speaks of 1 inodes"),
    ],
)
def test_a_damaged_superblock(tmp_path: Path, disk: Path, at: int, data: bytes, what: str) -> None:
    copy = tmp_path / "copy.raw"
    copy.write_bytes(disk.read_bytes())
    with pytest.raises(ImageFileError, match=rf"copy\.raw: the file system at byte {OFFSET} is damaged: .*{what}"):
        changed(copy, at, data)


def test_a_file_system_that_is_larger_than_its_partition(disk: Path) -> None:
    with pytest.raises(ImageFileError, match="16777216 bytes in a partition of 8388608"):
        Ext4(DiskReader(disk), OFFSET, 8 * MIB)


def test_a_disk_that_ends_too_early(tmp_path: Path, disk: Path) -> None:
    copy = tmp_path / "copy.raw"
    copy.write_bytes(disk.read_bytes()[: OFFSET + 200_000])
    with pytest.raises(ImageFileError, match=r"copy\.raw: ends before byte"):
        in_image(opened(copy))
    with pytest.raises(ImageFileError, match="No such file"):
        opened(tmp_path / "nothing.raw")


def test_unknown_features_are_refused(tmp_path: Path, disk: Path) -> None:
    copy = tmp_path / "copy.raw"
    copy.write_bytes(disk.read_bytes())
    with pytest.raises(FileSystemUnreadable, match=r"has features \(0x80000000\) that cannot be read here"):
        changed(copy, 1024 + 0x63, b"\x80")


def test_an_encrypted_folder_is_refused_by_its_inode(tmp_path: Path, tree: Path) -> None:
    disk = tmp_path / "disk.raw"
    make(disk, tree)
    in_debugfs(disk, "set_inode_field /deep flags 0x80800")
    file_system = opened(disk)
    number = file_system.entries(file_system.root)["deep"]
    with pytest.raises(ImageFileError, match=f"inode {number} is an encrypted folder"):
        list(file_system.walk())


def test_a_folder_that_is_in_itself(tmp_path: Path, tree: Path) -> None:
    disk = tmp_path / "disk.raw"
    make(disk, tree)
    in_debugfs(disk, "link deep deep/er/again")
    with pytest.raises(ImageFileError, match=r"inode \d+ is a folder in two places"):
        list(opened(disk).walk())


def test_an_extent_tree_that_leads_back_to_itself(tmp_path: Path) -> None:
    """Each of its nodes names another one below, over and over: a reader that believed it would never end."""
    tree = tmp_path / "tree"
    tree.mkdir()
    with (tree / "file").open("wb") as file:
        for number in range(700):
            file.seek(number * 8192)
            file.write(b"x")
    disk = tmp_path / "disk.raw"
    make(disk, tree, "-b1024")
    file_system = opened(disk)
    inode = dict(file_system.walk())["/file"]
    magic, _, room, depth = struct.unpack_from("<4H", inode.block_map)
    assert (magic, depth > 0) == (0xF30A, True)
    first_below = inode.block_map[12:24]
    looped = struct.pack("<4H4x", magic, 2, room, depth) + first_below * 2
    at = disk.read_bytes().index(inode.block_map) - OFFSET
    file_system = changed(disk, at, looped)
    with pytest.raises(ImageFileError) as raised:
        file_system.read(file_system.inode(inode.number))
    assert f"inode {inode.number} has an extent tree that comes to block" in str(raised.value)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[int]]:
    """A small disk with something of everything, and where its file system holds anything but zeros."""
    folder = tmp_path_factory.mktemp("small")
    tree = folder / "tree"
    (tree / "many").mkdir(parents=True)
    for number in range(60):
        (tree / "many" / f"a-name-of-some-length-{number:04}").write_bytes(bytes(number))
    (tree / "long").symlink_to("c" * 200)
    (tree / "short").symlink_to("many")
    with (tree / "sparse").open("wb") as file:
        for number in range(120):
            file.seek(number * 3000)
            file.write(b"x")
    disk = folder / "disk.raw"
    make(disk, tree, "-b1024", "-O", "inline_data,^has_journal", "-N", "96", size=MIB)
    in_debugfs(
        disk,
        "ea_set /sparse user.one 1",
        f"ea_set -f {disk.parent / 'tree/many'}/a-name-of-some-length-0059 /short user.two",
    )
    data = disk.read_bytes()
    return data, [at for at in range(0, MIB, 64) if any(data[OFFSET + at : OFFSET + at + 64])]


@settings(max_examples=150)
@given(data=st.data())
def test_whatever_is_damaged_is_said_and_never_hangs(
    tmp_path: Path, small: tuple[bytes, list[int]], data: st.DataObject
) -> None:
    """Bytes are changed where the file system keeps its own; what comes is an answer, or ImageFileError."""
    sound, places = small
    broken = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.sampled_from(places)) + data.draw(st.integers(0, 63))
        broken[OFFSET + at] = data.draw(st.integers(0, 255))
    disk = tmp_path / "disk.raw"
    disk.write_bytes(broken)
    with suppress(ImageFileError, FileSystemUnreadable):
        file_system = Ext4(DiskReader(disk), OFFSET, MIB)
        for _, inode in file_system.walk():
            file_system.attributes(inode)
            if inode.is_link:
                file_system.link(inode)
            elif inode.is_file and inode.size < 64 * MIB:
                file_system.read(inode)
            else:
                assert sum(1 for _ in file_system.extents(inode)) < 100_000
