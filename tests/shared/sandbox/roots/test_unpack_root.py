import ctypes
import json
import os
import resource
import struct
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ImageFileError, InputError, NoSpace
from shared.sandbox.roots.unpack_root import DeviceNode, UnpackedRoot, remove_unpacked, unpack_root
from shared.sandbox.user_namespace import run_with_all_ids
from tests.shared.disks.small_disks import LINUX_ROOT, MIB, os_tree, partitioned, rooted, tool
from tests.shared.sandbox.ordinary_user import give, run
from tests.shared.sandbox.trees import NANOSECONDS, ROOT_START, full_disk, in_folder, on_disk

pytestmark = pytest.mark.slow


def unpacked(disk: str, folder: str) -> Any:
    """Unpack, and describe the files as their owner sees them."""
    record = unpack_root(Path(disk), Path(folder))
    return [record.to_json(), json.loads(run_with_all_ids(lambda: json.dumps(in_folder(Path(folder)))))]


def removed(folder: str) -> bool:
    remove_unpacked(Path(folder))
    return not Path(folder).exists()


def changed(disk: Path, requests: str) -> None:
    """Change a root behind the back of its file system."""
    tool("debugfs", "-w", "-f", "-", f"{disk}?offset={ROOT_START}", stdin=requests)


def small(folder: Path) -> Path:
    return rooted(folder / "disk.raw", os_tree(folder / "tree"), 8 * MIB)


def refuse(mode: str, disk: Path, folder: Path) -> str:
    """Unpack what cannot be, and return why; nothing may be left."""
    before = sorted(folder.parent.iterdir())
    with pytest.raises(InputError) as error:
        run(mode, unpacked, give(disk, mode), folder)
    assert sorted(folder.parent.iterdir()) == before
    return str(error.value)


def test_all_of_a_root_is_written(mode: str, place: Path, tmp_path: Path) -> None:
    disk = full_disk(tmp_path)
    expected = on_disk(disk)
    devices = {path: expected.pop(path) for path in ("/dev/console", "/dev/disk", "/dev/null")}
    record, found = run(mode, unpacked, give(disk.rename(place / "disk.raw"), mode), place / "root")
    assert found == expected
    assert found["/deep"]["mtime"] == expected["/deep"]["mtime"] > NANOSECONDS + (1 << 32) * 10**9
    result = UnpackedRoot.from_json(record)
    assert result.flags == {"/flagged": 0xD0}
    assert result.dropped == {"trusted.overlay.opaque": 1, "user.overlay.opaque": 1}
    assert [device.path for device in result.devices] == list(devices)
    assert result.devices[1] == DeviceNode("/dev/disk", "b", 259, 300000, 0, 0, 6, 1234567890 * 10**9)
    assert (result.devices[2].major, result.devices[2].minor, result.devices[2].mode) == (1, 3, 0o666)
    assert run(mode, removed, place / "root")


def test_holes_stay_holes(mode: str, place: Path, tmp_path: Path) -> None:
    disk = full_disk(tmp_path)
    run(mode, unpacked, give(disk.rename(place / "disk.raw"), mode), place / "root")
    blocks = run(mode, allocated, place / "root")
    assert blocks["large"] <= 64 * 1024
    assert blocks["hole"] == 0


def allocated(folder: str) -> dict[str, int]:
    """Return how many bytes files take."""
    names = ("large", "hole")
    found = run_with_all_ids(lambda: json.dumps({name: (Path(folder) / name).stat().st_blocks for name in names}))
    return {name: blocks * 512 for name, blocks in json.loads(found).items()}


def test_what_is_unpacked_is_a_new_folder(mode: str, place: Path) -> None:
    disk = give(small(place), mode)
    (place / "root").mkdir()
    give(place / "root", mode)
    (place / "root" / "precious").touch()
    with pytest.raises(Exception, match="root: File exists"):
        run(mode, unpacked, disk, place / "root")
    assert (place / "root" / "precious").exists()


def test_other_file_systems_are_refused(mode: str, place: Path) -> None:
    disk = partitioned(place / "disk.raw", f"label: gpt\nstart=2048, size=8192, type={LINUX_ROOT}\n")
    with disk.open("r+b") as file:
        file.seek(MIB)
        file.write(b"XFSB")
    assert refuse(mode, disk, place / "root").endswith(
        "its root, partition 1, is xfs; only ext4 can be read; write engine: vm"
    )


def test_a_journal_that_waits_is_refused(mode: str, place: Path) -> None:
    disk = small(place)
    changed(disk, "feature needs_recovery\n")
    assert "its journal waits" in refuse(mode, disk, place / "root")


@pytest.mark.parametrize(
    ("requests", "complaint"),
    [
        ("ln <2> etc/again\n", "in two places"),
        ("ln usr usr/lib/again\n", "in two places"),
        ("ln etc/os-release etc/lost\nset_inode_field etc/os-release links_count 0\n", "not in use"),
        ("set_inode_field usr/bin/python3 size 0\n", "link of 0 bytes"),
        ("set_inode_field usr/lib/os-release block[0] 99999999\n", "damaged"),
    ],
)
def test_damage_is_told_and_leaves_nothing(mode: str, place: Path, requests: str, complaint: str) -> None:
    disk = small(place)
    changed(disk, requests)
    assert complaint in refuse(mode, disk, place / "root")


@pytest.mark.parametrize("name", [b"../../../escaped", b"/tmp/escaped", b"..", b".", b""])
def test_names_lead_nowhere_else(mode: str, place: Path, name: bytes) -> None:
    """A name of the same length is put into the folder's block; `.` and `..` are no names, and are passed over."""
    tree = os_tree(place / "tree")
    stand_in = b"a" * max(len(name), 1) + b"-stand-in"
    (tree / os.fsdecode(stand_in)).write_text("contents")
    disk = rooted(place / "disk.raw", tree, 8 * MIB)
    data = disk.read_bytes()
    at = data.index(struct.pack("<B", len(stand_in)) + b"\x01" + stand_in)
    with disk.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack("<B", len(name)) + b"\x01" + name)
    give(disk, mode)
    before = {*place.iterdir()}
    if name in (b".", b".."):
        run(mode, unpacked, disk, place / "root")
        before.add(place / "root")
    else:
        assert "has a folder with the name" in refuse(mode, disk, place / "root")
    assert {*place.iterdir()} == before
    assert [path for path in (Path("/tmp"), place, *place.parents) if os.path.lexists(path / "escaped")] == []


def test_a_link_is_never_followed(mode: str, place: Path) -> None:
    """A folder with the inode of a link to the outside, and a file in what the link names: both are no folders."""
    tree = os_tree(place / "tree")
    outside = place / "outside"
    outside.mkdir()
    (tree / "a-link").symlink_to(outside)
    (tree / "b-folder").mkdir()
    (tree / "b-folder" / "file").write_text("contents")
    disk = rooted(place / "disk.raw", tree, 8 * MIB)
    data = disk.read_bytes()
    at = data.index(b"\x08\x02b-folder")
    with disk.open("r+b") as file:
        file.seek(at)
        file.write(b"\x06\x02a-link")  # now two entries of the root have one name
    assert "twice" in refuse(mode, disk, place / "root")
    assert not list(outside.iterdir())


def test_deep_folders_need_no_descriptors(mode: str, place: Path) -> None:
    tree = place / "tree"
    deep = "d/" * 100
    (tree / deep).mkdir(parents=True)
    disk = give(rooted(place / "disk.raw", tree, 8 * MIB), mode)
    assert f"/{deep}".rstrip("/") in run(mode, unpacked_with_few_descriptors, disk, place / "root")[1]


def unpacked_with_few_descriptors(disk: str, folder: str) -> Any:
    resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
    return unpacked(disk, folder)


def test_owners_beyond_the_range_need_root(mode: str, place: Path) -> None:
    disk = small(place)
    changed(disk, "set_inode_field usr/bin/python3.11 uid 65536\nset_inode_field usr/bin/python3.11 gid 70000\n")
    if mode == "root":
        _, found = run(mode, unpacked, disk, place / "root")
        assert found["/usr/bin/python3.11"]["owner"] == [65536, 70000]
    else:
        assert "'/usr/bin/python3.11' belongs to 65536:70000" in refuse(mode, disk, place / "root")


def test_a_full_file_system_is_told(mode: str, place: Path) -> None:
    tree = place / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"x" * MIB)
    disk = give(rooted(place / "disk.raw", tree, 8 * MIB), mode)
    with pytest.raises(NoSpace, match="the file system is full"):
        run(mode, unpacked_in_little_room, disk, place / "root")


def unpacked_in_little_room(disk: str, folder: str) -> None:
    """Unpack in a file system of 64 KiB, which a namespace may mount."""
    run_with_all_ids(lambda: _in_little_room(Path(disk), Path(folder)))


def _in_little_room(disk: Path, folder: Path) -> str:
    library = ctypes.CDLL(None, use_errno=True)
    folder.mkdir()
    assert library.unshare(0x00020000) == 0  # CLONE_NEWNS
    assert library.mount(None, b"/", None, 1 << 18 | 1 << 14, None) == 0  # MS_PRIVATE | MS_REC
    assert library.mount(b"none", os.fsencode(folder), b"tmpfs", 0, b"size=64k") == 0
    unpack_root(disk, folder / "root")
    return ""


def test_damage_of_a_disk_is_an_error_of_input(place: Path, mode: str) -> None:
    disk = place / "disk.raw"
    disk.write_bytes(b"no disk")
    with pytest.raises(ImageFileError):
        run(mode, unpacked, give(disk, mode), place / "root")
