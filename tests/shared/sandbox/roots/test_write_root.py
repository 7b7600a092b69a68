import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.disks.disk import Disk
from shared.errors import InputError, NoSpace
from shared.images.diff.compare import compare_disks
from shared.sandbox.roots.unpack_root import UnpackedRoot, unpack_root
from shared.sandbox.roots.write_root import write_root
from shared.sandbox.user_namespace import run_with_all_ids
from tests.shared.disks.small_disks import LINUX_ROOT, MIB, os_tree, partitioned, rooted, tool
from tests.shared.sandbox.ordinary_user import MODES, give, place_for, run
from tests.shared.sandbox.trees import ROOT_START, full_disk, on_disk

pytestmark = pytest.mark.slow

TIME = 1_700_000_000
SETTINGS = (
    "Filesystem volume name|Filesystem UUID|Filesystem features|Filesystem flags|Default mount options|Errors behavior|"
    "Inode count|Block count|Reserved block count|First block|Block size|Reserved GDT blocks|Blocks per group|"
    "Inodes per group|Flex block group size|Inode size|Required extra isize|Desired extra isize|Default directory hash|"
    "Directory Hash Seed|Checksum type|Total journal size|Group descriptor size"
)


def round_trip(disk: str, folder: str) -> str:
    """Unpack a disk's root, and write it back."""
    kept = unpack_root(Path(disk), Path(folder))
    write_root(Path(folder), Path(disk), kept, TIME)
    return kept.to_json()


def written(disk: str, folder: str, kept: str) -> None:
    write_root(Path(folder), Path(disk), UnpackedRoot.from_json(kept), TIME)


def check(disk: Path) -> None:
    """Check the file system with e2fsprogs, inodes' checksums included."""
    with Disk(disk) as opened:
        part = opened.root.partition
    tool("e2fsck", "-f", "-n", f"{disk}?offset={part.start}")


def settings(disk: Path) -> dict[str, str]:
    """Return what a root file system was made with, as dumpe2fs shows it."""
    with Disk(disk) as opened:
        start = opened.root.partition.start
    text = tool("dumpe2fs", "-h", f"{disk}?offset={start}")
    found = dict(re.findall(rf"^({SETTINGS}): +(.*)$", text, re.MULTILINE))
    assert len(found) > 15, text
    return found


def differences(before: Path, after: Path) -> list[str]:
    result = compare_disks(before, after)
    return [] if result.same else [change.path for inside in result.contents for change in inside.files] + ["other"]


def test_what_was_read_is_written_again(mode: str, place: Path, tmp_path: Path) -> None:
    before = full_disk(tmp_path)
    after = give(Path(shutil.copy(before, place / "disk.raw")), mode)
    run(mode, round_trip, after, place / "root")
    expected, found = on_disk(before), on_disk(after)
    assert found == expected
    assert found["/dev/disk"]["device"] == (300000 & 0xFF) | 259 << 8 | (300000 & 0xFFF00) << 12
    check(after)
    assert settings(after) == settings(before)
    with Disk(before) as one, Disk(after) as other:
        files = one.root.file_system, other.root.file_system
        flags = [each.find("/flagged").flags & 0xF0 for each in files]  # type: ignore[union-attr]
        assert flags == [0xD0, 0xD0]
        dropped = {name for each in files[:1] for _, inode in each.walk() for name in each.attributes(inode)}
        kept = {name for _, inode in files[1].walk() for name in files[1].attributes(inode)}
        assert dropped - kept == {"trusted.overlay.opaque", "user.overlay.opaque"}
    assert differences(before, after) == ["/noted", "other"]
    assert after.stat().st_blocks * 512 < 12 * MIB


def test_the_same_tree_gives_the_same_bytes_for_root_and_for_users(tmp_path: Path) -> None:
    original = full_disk(tmp_path)
    found = []
    for mode in (*MODES, MODES[-1]):
        with place_for(mode) as place:
            disk = give(Path(shutil.copy(original, place / "disk.raw")), mode)
            run(mode, round_trip, disk, place / "root")
            found.append(disk.read_bytes())
    assert found.count(found[0]) == len(found)


@pytest.mark.parametrize(
    "options",
    [
        ("-t", "ext4", "-b", "1024", "-I", "128", "-L", "größe", "-m", "0.7", "-O", "^metadata_csum,^64bit"),
        ("-t", "ext2", "-b", "2048", "-N", "700", "-e", "panic", "-m", "0"),
        ("-t", "ext3", "-b", "4096", "-m", "13", "-J", "size=8", "-E", "resize=4000000"),
        (
            "-t",
            "ext4",
            "-b",
            "1024",
            "-g",
            "1024",
            "-G",
            "4",
            "-I",
            "512",
            "-O",
            "inline_data,orphan_file,^resize_inode",
        ),
        ("-t", "ext4", "-b", "4096", "-O", "metadata_csum_seed,sparse_super2,^has_journal,project,large_dir"),
    ],
)
def test_file_systems_stay_of_their_kind(mode: str, place: Path, options: tuple[str, ...]) -> None:
    size = 40 * MIB
    tree = os_tree(place / "tree")
    before = partitioned(
        place / "before.raw", f"label: gpt\nstart=4096, size={size // 512}, type={LINUX_ROOT}\n", 48 * MIB
    )
    block = int(options[options.index("-b") + 1])
    arguments = (
        [*options[:-1], f"{options[-1]},offset={ROOT_START}"]
        if options[-2] == "-E"
        else [*options, "-E", f"offset={ROOT_START}"]
    )
    tool("mke2fs", "-q", "-F", *arguments, "-d", tree, before, str(size // block))
    tool("tune2fs", "-o", "acl,^user_xattr,discard,journal_data_ordered", f"{before}?offset={ROOT_START}")
    after = give(Path(shutil.copy(before, place / "after.raw")), mode)
    run(mode, round_trip, after, place / "root")
    check(after)
    assert settings(after) == settings(before)
    assert differences(before, after) == []


def changed(folder: str, disk: str) -> None:
    """Unpack, and work on the tree as a step would: as root of all ids."""
    kept = unpack_root(Path(disk), Path(folder))

    def work() -> str:
        root = Path(folder)
        shutil.rmtree(root / "dev")
        (root / "dev").symlink_to("usr")
        (root / "console").write_text("a file now")
        (root / "lost+found").rmdir()
        (root / "usr/bin/python3.11").unlink()
        (root / "usr/new").write_text("new")
        os.chown(root / "usr/new", 65534, 12)
        os.chown(root, 5, 6)
        root.chmod(0o1777)
        os.utime(root, ns=(1, 3_000_000_000_123_456_789))
        return ""

    run_with_all_ids(work)
    more = [
        replace(device, path=f"/{name}") for device in kept.devices[:1] for name in ("console", 'an "odd" <2> name')
    ]
    write_root(Path(folder), Path(disk), replace(kept, devices=(*kept.devices, *more)), TIME)


def test_what_steps_have_changed_is_written(mode: str, place: Path) -> None:
    tree = os_tree(place / "tree")
    disk = give(rooted(place / "disk.raw", tree, 24 * MIB), mode)
    tool(
        *("debugfs", "-w", "-f", "-", f"{disk}?offset={ROOT_START}"),
        stdin="mkdir dev\ncd dev\nmknod null c 1 3\nmknod zero c 1 5\n",
    )
    run(mode, changed, place / "root", disk)
    check(disk)
    found = on_disk(disk)
    assert "/lost+found" not in found
    assert found["/dev"]["target"] == "usr"
    assert found['/an "odd" <2> name']["device"] == 0x103
    assert found["/console"]["size"] == 10
    assert "/usr/null" not in found
    assert "/usr/bin/python3.11" not in found
    assert found["/usr/new"]["owner"] == [65534, 12]
    assert found["/"] | {"attributes": {}} == {
        "mode": 0o41777,
        "owner": [5, 6],
        "mtime": 3_000_000_000_123_456_789,
        "attributes": {},
        "same as": "/",
    }


def test_a_root_grows_with_its_partition(mode: str, place: Path) -> None:
    tree = os_tree(place / "tree")
    (tree / "large").write_bytes(os.urandom(10 * MIB))
    disk = rooted(place / "disk.raw", os_tree(place / "small"), 16 * MIB)
    grown = Path(shutil.copy(disk, place / "grown.raw"))
    with grown.open("r+b") as file:
        file.truncate(48 * MIB)
    tool("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--relocate", "gpt-bak-std", grown)
    tool("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "-N", "1", grown, stdin=",+\n")
    empty = UnpackedRoot((), {}, {}).to_json()
    with pytest.raises(NoSpace, match=r"no space: the image's disk is too small: 1\d MB of files, 14 MB; write output"):
        run(mode, written, give(disk, mode), give_all(tree, mode), empty)
    run(mode, written, give(grown, mode), tree, empty)
    check(grown)
    assert int(settings(grown)["Block count"]) == (46 * MIB - 33 * 512) // 4096  # up to the backup of the table


def give_all(tree: Path, mode: str) -> Path:
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            give(path, mode)
    return tree


def test_other_file_systems_are_left_alone(mode: str, place: Path) -> None:
    disk = partitioned(place / "disk.raw", f"label: gpt\nstart=2048, size=8192, type={LINUX_ROOT}\n")
    with disk.open("r+b") as file:
        file.seek(MIB)
        file.write(b"XFSB")
    before = disk.read_bytes()
    with pytest.raises(InputError, match="is xfs; only ext4 can be read; write engine: vm"):
        run(
            mode, written, give(disk, mode), give_all(os_tree(place / "tree"), mode), UnpackedRoot((), {}, {}).to_json()
        )
    assert disk.read_bytes() == before


def test_features_that_cannot_be_given_leave_the_disk_alone(mode: str, place: Path) -> None:
    disk = rooted(place / "disk.raw", os_tree(place / "tree"))
    tool("debugfs", "-w", "-f", "-", f"{disk}?offset={ROOT_START}", stdin="feature FEATURE_C20\n")
    before = disk.read_bytes()
    with pytest.raises(InputError, match="has the feature 0x100000, which a new one cannot be given"):
        run(mode, written, give(disk, mode), give_all(place / "tree", mode), UnpackedRoot((), {}, {}).to_json())
    assert disk.read_bytes() == before


def test_what_is_kept_beside_a_tree_is_text(mode: str, place: Path, tmp_path: Path) -> None:
    disk = give(Path(shutil.copy(full_disk(tmp_path), place / "disk.raw")), mode)
    text: Any = run(mode, round_trip, disk, place / "root")
    assert UnpackedRoot.from_json(text).to_json() == text
    assert [device["kind"] for device in json.loads(text)["devices"]] == ["c", "b", "c"]
