import json
import os
import re
import shutil
import stat
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.block_devices.helper_machine import prepare_helper
from shared.block_devices.write_disk import write_disk
from shared.build.block_devices.description import (
    DiskDescription,
    FstabEntry,
    NewFileSystem,
    NewPartition,
    NewVolume,
    NewVolumeGroup,
    default_disk,
    file_system_disk,
)
from shared.disks.disk import Disk
from shared.disks.ext4.reader import Ext4
from shared.disks.extents import copy_sparse
from shared.disks.reader import DiskReader
from shared.errors import InputError, NoSpace
from shared.sandbox.roots.unpack_root import UnpackedRoot, unpack_root
from shared.sandbox.system_calls import BIND, attach_loop, mount_file_system
from shared.sandbox.user_namespace import run_with_all_ids
from tests.shared.disks.small_disks import MIB, rooted, tool
from tests.shared.sandbox.ordinary_user import AS_ROOT, AS_USER, MODES, give, place_for, run
from tests.shared.sandbox.trees import full_disk, in_folder, on_disk

pytestmark = pytest.mark.slow

TIME = 1_700_000_000
GIB = 1 << 30
FSTAB = FstabEntry()
ROOT = NewFileSystem("r", "root", label="top", mount_point="/", fstab=FstabEntry(check=1))
OURS = ("/etc", "/etc/fstab", "/boot", "/boot/grub", "/boot/grub/grub.cfg", "/boot/efi", "/lost+found")


def write(
    source: str, folder: str, target: str, description: str, size: str = "0", kernel: str = "", seed: str = "seed"
) -> int:
    """Unpack a disk's root, and write another disk with its files."""
    kept = unpack_root(Path(source), Path(folder))
    described = DiskDescription.from_json(json.loads(description))
    kernels = [Path(kernel)] if kernel else []
    size_wanted = int(size) or None
    return write_disk(
        described, Path(folder), kept, Path(target), seed=seed, time=TIME, size=size_wanted, kernels=kernels
    )


def made(
    mode: str, place: Path, source: Path, description: DiskDescription, size: int = 0, kernel: Path | None = None
) -> Path:
    copy = give(Path(shutil.copy(source, place / "source.raw")), mode)
    target = place / "made.raw"
    text = json.dumps(description.to_json())
    further = [] if kernel is None else [kernel]
    assert run(mode, write, copy, place / "tree", target, text, str(size), *further) == target.stat().st_size
    names = {"made.raw", "source.raw", "tree", *(each.name for each in further)}
    assert {path.name for path in place.iterdir()} == names
    return target


def small(folder: Path, *files: str) -> Path:
    """Make a disk with a few files in it, some of which have owners and attributes."""
    tree = folder / "small"
    for name in (
        "etc/name",
        "boot/vmlinuz-1",
        "boot/efi/EFI/BOOT/KEPT.EFI",
        "var/log/messages",
        "usr/bin/true",
        *files,
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / "etc/fstab").write_text("LABEL=old / ext4\n")
    (tree / "usr/bin/false").hardlink_to(tree / "usr/bin/true")
    (tree / "link").symlink_to("usr/bin")
    disk = rooted(folder / "small.raw", tree)
    requests = (
        "set_inode_field var/log uid 12\nset_inode_field var/log mode 041777\nset_inode_field var/log mtime @99\n"
    )
    requests += "ea_set usr/bin/true user.note 1\nset_inode_field usr/bin/true gid 7\nset_inode_field / uid 9\n"
    tool("debugfs", "-w", "-f", "-", f"{disk}?offset={2 * MIB}", stdin=requests)
    return disk


def table(disk: Path) -> Any:
    return json.loads(tool("sfdisk", "-J", disk))["partitiontable"]


def cut(disk: Path, number: int, target: Path) -> Path:
    """Copy a partition, which sfdisk finds, into a file of its own."""
    found = next(each for each in table(disk)["partitions"] if each["node"] == f"{disk}{number}")
    tool("dd", f"if={disk}", f"of={target}", "bs=1M", "iflag=skip_bytes,count_bytes", "conv=sparse",
         f"skip={found['start'] * 512}", f"count={found['size'] * 512}")  # fmt: skip
    os.truncate(target, found["size"] * 512)
    return target


def blkid(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", tool("blkid", "-p", "-o", "export", path), re.MULTILINE))


def beginning(disk: Path) -> bytes:
    with disk.open("rb") as file:
        return file.read(2 * MIB)


def paths(file: Path) -> dict[str, tuple[int, int, int]]:
    """Return mode, user and time of all files of an ext4 file system in a file."""
    with DiskReader(file) as reader:
        files = Ext4(reader, 0, file.stat().st_size)
        return {path: (each.mode, each.user, each.mtime_ns // 10**9) for path, each in files.walk()}


def text_in(file: Path, path: str) -> str:
    return tool("debugfs", "-R", f"cat {path}", file)


def read_by_grub(disk: Path, file_system: str, path: str) -> str:
    """Read a file of a disk as the boot loader does."""
    return tool("grub-fstest", disk, "cat", f"({file_system}){path}")


def test_the_default_disk_holds_the_tree_and_boots_both_ways(mode: str, place: Path, tmp_path: Path) -> None:
    source = full_disk(tmp_path)
    disk = made(mode, place, source, default_disk())
    found = table(disk)
    assert disk.stat().st_size == GIB
    assert disk.stat().st_blocks * 512 < 24 * MIB
    assert [(each["node"][-2:], each["type"][:8]) for each in found["partitions"]] == [
        ("w1", "4F68BCE3"),
        ("14", "21686148"),
        ("15", "C12A7328"),
    ]
    root = cut(disk, 1, tmp_path / "root")
    tool("e2fsck", "-fn", root)
    assert blkid(root)["LABEL"] == "cloudimg-rootfs"
    esp = cut(disk, 15, tmp_path / "esp")
    tool("fsck.vfat", "-n", esp)
    assert "BOOTX64" in tool("mdir", "-i", esp, "::/EFI/BOOT")
    before, after = on_disk(source), on_disk(disk)
    assert [path for path in before if before[path] != after.get(path)] == []
    assert set(after) - set(before) == {"/boot", "/boot/grub", "/boot/grub/grub.cfg", "/etc", "/etc/fstab"}
    start = beginning(disk)
    assert start[510:512] == b"\x55\xaa"
    core = struct.unpack_from("<Q", start, 0x5C)[0] * 512
    assert core == MIB
    assert start[core : core + 512].count(0) < 256
    tool("mcopy", "-i", esp, "::/EFI/BOOT/BOOTX64.EFI", tmp_path / "program")
    assert blkid(root)["UUID"].encode() in (tmp_path / "program").read_bytes()
    assert blkid(root)["UUID"] in text_in(root, "/boot/grub/grub.cfg")
    assert text_in(root, "/etc/fstab") == "LABEL=cloudimg-rootfs / ext4 defaults,x-systemd.growfs 0 1\n"
    assert read_by_grub(disk, "loop0,gpt1", "/etc/fstab") == text_in(root, "/etc/fstab")


def test_the_same_tree_gives_the_same_bytes_for_root_and_for_users(tmp_path: Path) -> None:
    source = small(tmp_path)
    description = replace(
        default_disk(),
        file_systems=(
            replace(default_disk().file_systems[0], mount_point="/boot/efi"),
            replace(default_disk().root),
        ),
        size=192 * MIB,
    )
    found = []
    for mode in (*MODES, MODES[-1]):
        with place_for(mode) as place:
            found.append(made(mode, place, source, description).read_bytes())
    assert found.count(found[0]) == len(found)


def test_another_seed_is_another_disk(tmp_path: Path) -> None:
    source, disks = small(tmp_path), []
    for seed in ("one", "two"):
        (tmp_path / seed).mkdir()
        disk = tmp_path / seed / "disk.raw"
        write(str(source), f"{tmp_path}/{seed}/tree", str(disk), json.dumps(default_disk().to_json()), seed=seed)
        disks.append(disk)
    identifiers = [
        {table(disk)["id"], blkid(cut(disk, 1, disk.with_name("r")))["UUID"]}
        | {each["uuid"] for each in table(disk)["partitions"]}
        for disk in disks
    ]
    assert not identifiers[0] & identifiers[1]


def test_a_file_system_alone_is_just_large_enough_and_can_grow(mode: str, place: Path, tmp_path: Path) -> None:
    disk = made(mode, place, small(tmp_path), file_system_disk())
    assert 64 * MIB < disk.stat().st_size < 80 * MIB
    tool("e2fsck", "-fn", disk)
    assert blkid(disk)["LABEL"] == "cloudimg-rootfs"
    assert text_in(disk, "/etc/fstab") == "LABEL=cloudimg-rootfs / ext4 defaults 0 1\n"
    assert "/boot/grub/grub.cfg" not in paths(disk)
    large = Path(shutil.copy(disk, tmp_path / "large"))
    os.truncate(large, 1 << 40)  # 1024 times its size is the most by default
    tool("resize2fs", large)
    assert int(re.findall(r"Block count: +(\d+)", tool("dumpe2fs", "-h", large))[0]) == 1 << 28
    tool("e2fsck", "-fn", large)


def test_room_for_what_is_added_later_is_as_large_as_was_said(tmp_path: Path) -> None:
    """Room that is filled to three fifths, too, would be 100 MiB here: it is hashed with each raw file."""
    kept, sizes = UnpackedRoot((), {}, {}), []
    for growth in (0, 60 * MIB):
        tree = tmp_path / f"tree{growth}"
        (tree / "etc").mkdir(parents=True)
        disk = tmp_path / f"disk{growth}"
        sizes.append(write_disk(file_system_disk(), tree, kept, disk, seed="s", time=TIME, growth=growth))
    assert sizes[1] - sizes[0] == 60 * MIB


MBR = DiskDescription(
    (
        ROOT,
        NewFileSystem("b", "boot", mount_point="/boot", fstab=FSTAB),
        NewFileSystem("e", "esp", "vfat", "ESP", "1A2B-3C4D", mount_point="/boot/efi", fstab=FSTAB),
        NewFileSystem("s", "swap", "swap", "paged", fstab=FstabEntry("sw", check=0)),
        NewFileSystem("l", "log", options=("-b", "1024", "-O", "^has_journal"), mount_point="/var/log", fstab=FSTAB),
        NewFileSystem("d", "data", label="empty"),
    ),
    "mbr",
    (
        NewPartition("boot", 16 * MIB, type="83", boot=True, primary=True),
        NewPartition("esp", 8 * MIB, type="ef", primary=True),
        NewPartition("root", 48 * MIB, type="83"),
        NewPartition("swap", 4 * MIB, type="82"),
        NewPartition("log", 9 * MIB, type="83"),
        NewPartition("data", percent=100.0, type="83"),
    ),
    size=128 * MIB,
)


def test_an_mbr_splits_the_tree_over_its_mount_points(mode: str, place: Path, tmp_path: Path) -> None:
    disk = made(mode, place, small(tmp_path), MBR)
    found = table(disk)
    assert found["label"] == "dos"
    assert [(each["node"][-1], each["type"], each.get("bootable")) for each in found["partitions"]] == [
        ("1", "83", True),
        ("2", "ef", None),
        ("3", "f", None),
        ("5", "83", None),
        ("6", "82", None),
        ("7", "83", None),
        ("8", "83", None),
    ]
    boot, esp, root, swap, log, data = (cut(disk, number, tmp_path / f"p{number}") for number in (1, 2, 5, 6, 7, 8))
    for each in (boot, root, log, data):
        tool("e2fsck", "-fn", each)
    in_root = paths(root)
    assert not [path for path in in_root if path.startswith(("/boot/", "/var/log/"))]
    assert in_root["/var/log"] == (0o041777, 12, 99)
    assert in_root["/"][1] == 9
    assert sorted(paths(boot)) == ["/", "/efi", "/grub", "/grub/grub.cfg", "/vmlinuz-1"]
    assert paths(log)["/"] == (0o041777, 12, 99)
    assert sorted(paths(log)) == ["/", "/messages"]
    assert paths(data) == {"/": (0o040755, 0, TIME)}
    tool("fsck.vfat", "-n", esp)
    assert tool("mdir", "-b", "-i", esp, "::/EFI/BOOT").split() == ["::/EFI/BOOT/KEPT.EFI", "::/EFI/BOOT/BOOTX64.EFI"]
    assert tool("mtype", "-i", esp, "::/EFI/BOOT/KEPT.EFI") == "boot/efi/EFI/BOOT/KEPT.EFI"
    known = {name: blkid(each) for name, each in {"b": boot, "e": esp, "r": root, "s": swap, "l": log}.items()}
    assert (known["s"]["TYPE"], known["s"]["LABEL"], known["e"]["UUID"]) == ("swap", "paged", "1A2B-3C4D")
    assert known["l"]["BLOCK_SIZE"] == "1024"
    assert text_in(root, "/etc/fstab").splitlines() == [
        "LABEL=top / ext4 defaults 0 1",
        f"UUID={known['b']['UUID']} /boot ext4 defaults 0 2",
        "LABEL=ESP /boot/efi vfat defaults 0 2",
        f"UUID={known['l']['UUID']} /var/log ext4 defaults 0 2",
        "LABEL=paged none swap sw 0 0",
    ]
    configuration = text_in(boot, "/grub/grub.cfg")
    assert f"root=UUID={known['r']['UUID']} " in configuration
    assert "set boot=\n" in configuration
    start = beginning(disk)
    assert struct.unpack_from("<Q", start, 0x5C)[0] == 1
    assert start[512:1024].count(0) < 256


LVM = DiskDescription(
    (
        replace(ROOT, base="lv-root"),
        NewFileSystem("v", "spread", mount_point="/var", fstab=FSTAB),
    ),
    "gpt",
    (
        NewPartition("bios", MIB, type="21686148-6449-6e6f-744e-656564454649"),
        NewPartition("one", 64 * MIB, type="e6d6d379-f507-44c2-a23c-238f2a3df928"),
        NewPartition("two", 24 * MIB, type="e6d6d379-f507-44c2-a23c-238f2a3df928"),
        NewPartition("three", 24 * MIB, type="e6d6d379-f507-44c2-a23c-238f2a3df928"),
    ),
    (
        NewVolumeGroup("vg", ("one",), (NewVolume("lv-root", 40 * MIB), NewVolume("spare", extents=2))),
        NewVolumeGroup("data", ("two", "three"), (NewVolume("spread", percent=100.0),)),
    ),
    size=128 * MIB,
)


def test_volume_groups_are_those_that_lvm_reads(mode: str, place: Path, tmp_path: Path) -> None:
    disk = made(mode, place, small(tmp_path), LVM)
    for number, name in ((2, "vg"), (3, "data"), (4, "data")):
        volume = cut(disk, number, tmp_path / f"p{number}")
        text = tool("pvck", "--dump", "headers", volume)
        assert f"vgname {name} seqno 1" in text
        assert "CHECK" not in text
        assert tool("pvck", "--dump", "metadata", volume).count("id = ") == {"vg": 4, "data": 4}[name]
        assert blkid(volume)["TYPE"] == "LVM2_member"
    root = (tmp_path / "p2").read_bytes()[MIB : 41 * MIB]
    (tmp_path / "root").write_bytes(root)
    tool("e2fsck", "-fn", tmp_path / "root")
    assert "/usr/bin/true" in paths(tmp_path / "root")
    assert "root=/dev/mapper/vg-lv--root " in text_in(tmp_path / "root", "/boot/grub/grub.cfg")
    spread = b"".join((tmp_path / f"p{number}").read_bytes()[MIB : 21 * MIB] for number in (3, 4))
    (tmp_path / "spread").write_bytes(spread)
    tool("e2fsck", "-fn", tmp_path / "spread")
    assert "/log/messages" in paths(tmp_path / "spread")
    assert "root=/dev/mapper/vg-lv--root " in read_by_grub(disk, "lvm/vg-lv--root", "/boot/grub/grub.cfg")
    assert read_by_grub(disk, "lvm/data-spread", "/log/messages") == "var/log/messages"
    if mode == AS_ROOT:
        assert listed(disk) == [
            ("lv-root", "vg", "41943040", "linear"),
            ("spare", "vg", "8388608", "linear"),
            ("spread", "data", "41943040", "linear"),
        ]


def listed(disk: Path) -> list[tuple[str, ...]]:
    """List the logical volumes of a disk as lvs does, which looks at nothing but this disk."""
    loops = [attach_loop(disk, each["start"] * 512, each["size"] * 512) for each in table(disk)["partitions"][1:]]
    try:
        devices = ",".join(path for _, path in loops)
        columns = ("-o", "lv_name,vg_name,lv_size,segtype", "--units", "b", "--nosuffix", "--noheadings")
        lines = tool("lvs", "--devices", devices, "--nolocking", "--readonly", "--segments", *columns).splitlines()
        return sorted({tuple(line.split()[:4]) for line in lines})
    finally:
        for descriptor, _ in loops:
            os.close(descriptor)


def of_kind(kind: Any, size: int) -> DiskDescription:
    return DiskDescription(
        (replace(ROOT, kind=kind),), "mbr", (NewPartition("root", percent=100.0, type="83", primary=True),), size=size
    )


def seen(device: str, start: str, size: str, kind: str, folder: str) -> str:
    """Mount a file system for this process alone, and describe its files and the devices and flags among them."""

    def look() -> str:
        descriptor, path = attach_loop(device, int(start), int(size))
        mount_file_system(path, folder, kind)
        os.close(descriptor)
        null = os.lstat(f"{folder}/dev/null")
        flags = tool("lsattr", "-d", f"{folder}/flagged").split()[0]
        return json.dumps([in_folder(Path(folder)), [null.st_mode, null.st_rdev], sorted(set(flags) - {"-"})])

    return run_with_all_ids(look, own_mounts=True)


CHECKS = {"btrfs": ("btrfs", "check"), "xfs": ("xfs_repair", "-n", "-f")}


def various(folder: Path) -> Path:
    """Make a disk with something of everything, but for a device whose numbers are too large for xfs."""
    source = full_disk(folder)
    tool("debugfs", "-w", "-R", "rm /dev/disk", f"{source}?offset={2 * MIB}")
    return source


def check_files(disk: Path, source: Path, kind: str, folder: Path) -> None:
    """Compare the files of a disk's first partition, as the kernel shows them, with those of another disk."""
    part = cut(disk, 1, folder / "part")
    tool(*CHECKS[kind], part)
    assert (blkid(part)["TYPE"], blkid(part)["LABEL"]) == (kind, "top")
    assert f"root=UUID={blkid(part)['UUID']} " in read_by_grub(disk, "loop0,msdos1", "/boot/grub/grub.cfg")
    if os.geteuid():
        return
    (folder / "mounted").mkdir()
    start, size = table(disk)["partitions"][0]["start"] * 512, part.stat().st_size
    found, null, flags = json.loads(seen(str(disk), str(start), str(size), kind, str(folder / "mounted")))
    expected = on_disk(source)
    for each in (*found.values(), *expected.values()):
        each.pop("device", None)  # which is told of files on disks alone
        for name in [name for name in each["attributes"] if name.startswith("trusted.SGI_ACL_")]:
            del each["attributes"][name]  # as xfs shows access control lists once more
    assert {path for path in found if found[path] != expected.get(path)} == set(OURS) - {"/lost+found", "/boot/efi"}
    assert set(expected) <= set(found)
    assert null == [stat.S_IFCHR | 0o666, os.makedev(1, 3)]
    assert flags == ["A", "d", "i"]


@pytest.mark.parametrize(("kind", "size"), [("btrfs", 160), ("xfs", 310)])
@pytest.mark.parametrize("mode", [AS_ROOT] if os.geteuid() == 0 else [])
def test_other_file_systems_hold_the_same_files(mode: str, place: Path, tmp_path: Path, kind: str, size: int) -> None:
    source = various(tmp_path)
    check_files(made(mode, place, source, of_kind(kind, size * MIB)), source, kind, tmp_path)


@pytest.mark.vm
@pytest.mark.parametrize("mode", [AS_USER])
def test_a_machine_fills_them_for_users(mode: str, place: Path, tmp_path: Path, debian_disk: Path) -> None:
    source = various(tmp_path)
    kernel = place / "kernel.raw"
    copy_sparse(debian_disk, kernel)
    disk = made(mode, place, source, of_kind("xfs", 310 * MIB), kernel=give(kernel, mode))
    check_files(disk, source, "xfs", tmp_path)


@pytest.mark.parametrize("mode", [AS_USER])
def test_a_machine_needs_a_kernel(mode: str, place: Path, tmp_path: Path) -> None:
    message = r"xfs: without root.*the tree of files: its kernel is damaged|xfs: without root.*not a Linux kernel"
    with pytest.raises(InputError, match=message):
        made(mode, place, small(tmp_path), of_kind("xfs", 310 * MIB))
    assert not (place / "made.raw").exists()


def write_without_loops(*arguments: str) -> str:
    """Do as write(), as in a container: with no loop devices."""

    def work() -> str:
        mount_file_system("/dev/null", "/dev/loop-control", flags=BIND)
        return str(write(*arguments))

    return run_with_all_ids(work, own_mounts=True)


@pytest.mark.parametrize("mode", [AS_ROOT] if os.geteuid() == 0 else [])
def test_root_without_loop_devices_has_a_machine_as_well(mode: str, place: Path, tmp_path: Path) -> None:
    arguments = (small(tmp_path), place / "tree", place / "made.raw", json.dumps(of_kind("xfs", 310 * MIB).to_json()))
    with pytest.raises(InputError, match=r"xfs: without root and loop devices, a machine"):
        run(mode, write_without_loops, *arguments)
    assert not (place / "made.raw").exists()


@pytest.mark.parametrize("mode", MODES)
def test_a_device_that_xfs_does_not_hold_is_named(mode: str, place: Path, tmp_path: Path, debian_disk: Path) -> None:
    kernel = place / "kernel.raw"
    copy_sparse(debian_disk, kernel)
    message = "r: xfs does not hold /dev/disk, a device with the numbers 259, 300000; leave it out"
    with pytest.raises(InputError, match=message):
        made(mode, place, full_disk(tmp_path), of_kind("xfs", 310 * MIB), kernel=give(kernel, mode))
    assert not (place / "made.raw").exists()


@pytest.mark.parametrize("odd", ["link", "pipe"])
def test_a_kernel_outside_of_the_tree_is_none_of_it(tmp_path: Path, odd: str) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    outside.mkdir()
    (outside / "vmlinuz-1").write_bytes(b"a kernel")
    tree.mkdir()
    if odd == "link":
        (tree / "boot").symlink_to(outside)
    else:
        (tree / "boot").mkdir()
        os.mkfifo(tree / "boot/vmlinuz-1")
    with pytest.raises(InputError, match="the tree of files: there is no kernel in /boot"):
        prepare_helper(tree, [], ["xfs"], tmp_path)


SMALL = (*MBR.partitions[:2], NewPartition("root", 2 * MIB, type="83"), *MBR.partitions[3:])


def test_a_tree_whose_folders_are_links_is_refused(mode: str, place: Path, tmp_path: Path) -> None:
    outside = place / "outside"
    outside.mkdir()
    give(outside, mode)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "etc").symlink_to(outside)
    source = rooted(tmp_path / "odd.raw", tree)
    with pytest.raises(InputError, match="/etc is no folder in the tree of files"):
        made(mode, place, source, default_disk())
    assert list(outside.iterdir()) == []
    assert not (place / "made.raw").exists()


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (replace(MBR, partitions=SMALL), r"root: .* are needed"),
        (replace(MBR, align=4096), r"boot loader has .* write align: 1MiB"),
        (replace(MBR, size=64 * MIB), r"root: 48 MiB do not fit"),
    ],
)
def test_a_disk_on_which_something_does_not_fit_is_not_made(
    mode: str, place: Path, tmp_path: Path, description: DiskDescription, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        made(mode, place, small(tmp_path), description)
    assert not (place / "made.raw").exists()


def test_a_full_file_system_is_no_disk(mode: str, place: Path, tmp_path: Path) -> None:
    tree = tmp_path / "many"
    tree.mkdir()
    for number in range(1500):
        (tree / f"{number}").touch()
    description = replace(of_kind("ext4", 40 * MIB), file_systems=(replace(ROOT, options=("-N", "64")),))
    with pytest.raises(NoSpace):
        made(mode, place, rooted(tmp_path / "many.raw", tree), description)
    assert not (place / "made.raw").exists()


@pytest.mark.parametrize(
    ("name", "message"), [("boot/efi/a:b", "vfat cannot hold this name"), ("boot/efi/efi/x", "vfat cannot")]
)
def test_files_that_vfat_cannot_hold_are_named(place: Path, mode: str, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=f"/boot/efi.*: {message}"):
        made(mode, place, small(tmp_path, name), MBR)


def test_a_link_on_vfat_is_named(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "boot/efi").mkdir(parents=True)
    (tree / "boot/efi/l").symlink_to("x")
    nothing = UnpackedRoot((), {}, {})
    with pytest.raises(InputError, match="/boot/efi/l: vfat holds files and folders alone"):
        write_disk(MBR, tree, nothing, tmp_path / "disk.raw", seed="s", time=TIME)
    assert not (tmp_path / "disk.raw").exists()


def test_the_root_is_found_again(tmp_path: Path) -> None:
    write(str(small(tmp_path)), f"{tmp_path}/tree", f"{tmp_path}/d.raw", json.dumps(MBR.to_json()))
    with Disk(tmp_path / "d.raw") as disk:
        assert disk.root.partition.number == 5
        assert disk.root.read("/etc/name") == b"etc/name"
