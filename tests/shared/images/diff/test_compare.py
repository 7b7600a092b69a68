import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.disks.partition_table import DiskPartition, PartitionTable, read_disk_table
from shared.disks.reader import DiskReader
from shared.errors import ImageFileError
from shared.images.diff.compare import compare_disks, pair_partitions
from shared.images.diff.contents import ContentComparison, Segment, pair
from shared.images.diff.result import ImageDiff, PackageChange, PartitionFiles
from tests.shared.disks.small_disks import EFI, LINUX_ROOT, MIB, add_ext4, os_tree, partitioned, tool

BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
TABLE = f"""label: gpt
label-id: 00000000-0000-4000-8000-000000000001
1: start=2048, size=16384, type=linux, name=STATE, uuid=00000000-0000-4000-8000-000000000011
3: start=20480, size=32768, type={LINUX_ROOT}, name=ROOT-A, uuid=00000000-0000-4000-8000-000000000013
8: start=55296, size=8192, type=linux, name=OEM, uuid=00000000-0000-4000-8000-000000000018
11: start=65536, size=2048, type={BIOS_BOOT}, name=RWFW, uuid=00000000-0000-4000-8000-00000000001b
12: start=69632, size=8192, type={EFI}, name=EFI-SYSTEM, uuid=00000000-0000-4000-8000-00000000001c
"""
EXT4 = {1: (MIB, 8 * MIB), 3: (10 * MIB, 16 * MIB), 8: (27 * MIB, 4 * MIB)}
RWFW, ESP = 32 * MIB, 34 * MIB
GRUB = 'menuentry "A" {\n  linux /vmlinuz init=/x root=PARTUUID=1 cros_efi%s dm="1 vroot none ro 1,0 8 verity"\n}\n'


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    """What the partitions of an image hold, below their numbers."""
    trees = tmp_path / "trees"
    root = os_tree(trees / "3")
    (root / "etc/sysctl.d").mkdir()
    (root / "usr/lib/sysctl.d").mkdir()
    (root / "usr/lib/sysctl.d/10-a.conf").write_text("net.ipv4.ip_forward = 0\nkernel.panic=1\n")
    (root / "big").write_bytes(bytes(range(251)) * 9000)
    os.link(root / "big", root / "also big")
    (trees / "1/home/chronos").mkdir(parents=True)
    (trees / "1/home/chronos/file").write_text("state")
    (trees / "8").mkdir()
    (trees / "8/oem-release").write_text("one")
    (trees / "12/efi/boot").mkdir(parents=True)
    (trees / "12/efi/boot/grub.cfg").write_text(GRUB % "")
    for path in trees.rglob("*"):
        os.utime(path, (1, 1_700_000_000), follow_symlinks=False)
    return trees


def make(disk: Path, trees: Path, table: str = TABLE) -> Path:
    partitioned(disk, table, 40 * MIB)
    for number, (start, size) in EXT4.items():
        add_ext4(disk, start, size, trees / str(number))
        tool("tune2fs", "-U", f"00000000-0000-4000-8000-00000000002{number}", f"{disk}?offset={start}")
    tool("mkfs.vfat", "-i", "12345678", "--offset", str(ESP // 512), disk, str(4 * MIB // 1024))
    tool("mcopy", "-s", "-i", f"{disk}@@{ESP}", trees / "12/efi", "::/")
    return disk


Change = Callable[[Path], object]


def changed(tmp_path: Path, trees: Path, change: Change, table: str = TABLE) -> ImageDiff:
    """Make a disk, change what is in it, make another, and compare them."""
    before = make(tmp_path / "before.raw", trees)
    change(trees)
    return compare_disks(before, make(tmp_path / "after.raw", trees, table))


def inside(found: ImageDiff) -> Mapping[int, PartitionFiles]:
    return {contents.number: contents for contents in found.contents}


def files(found: ImageDiff, number: int = 3) -> dict[str, tuple[object, ...]]:
    return {
        change.path: (change.change, change.type, change.size, change.contents, change.differences or change.target)
        for change in inside(found)[number].files
    }


def test_the_same_files_made_twice_are_the_same(tmp_path: Path, trees: Path) -> None:
    """Times alone are no change, nor is where on the disk a file lies."""

    def touch(trees: Path) -> None:
        for path in trees.rglob("*"):
            os.utime(path, (5, 5), follow_symlinks=False)
        (trees / "3" / "0-first").write_bytes(bytes(500_000))
        make(tmp_path / "other.raw", trees)
        (trees / "3" / "0-first").unlink()

    found = changed(tmp_path, trees, touch)
    assert found.same
    assert {partition.change for partition in found.partitions} == {"same"}
    assert found.notes == []
    assert [contents.number for contents in found.contents] == [1, 3, 8, 11, 12]


def change_files(trees: Path) -> None:
    root = trees / "3"
    (root / "opt/app").mkdir(parents=True)
    (root / "opt/app/program").write_bytes(b"p" * 5000)
    (root / "opt/link").symlink_to("app")
    (root / "boot/vmlinuz-6.1.0-9-cloud-amd64").unlink()
    (root / "usr/bin/python3.11").chmod(0o755)
    os.chown(root / "usr/bin/python3.11", 0, 7)
    (root / "usr/bin/python3").unlink()
    (root / "usr/bin/python3").symlink_to("python3.12")
    with (root / "big").open("r+b") as big:
        big.seek(1_500_000)
        big.write(b"!")
    (root / "vmlinuz").unlink()
    (root / "vmlinuz").mkdir()
    (trees / "1/home/chronos/file").write_text("STATE")
    (trees / "8/oem-release").write_text("other")


def test_files_that_were_added_removed_and_changed(tmp_path: Path, trees: Path) -> None:
    found = changed(tmp_path, trees, change_files)
    size = 251 * 9000
    assert files(found) == {
        "/also big": ("changed", "file", size, True, None),
        "/big": ("changed", "file", size, True, None),
        "/boot/vmlinuz-6.1.0-9-cloud-amd64": ("removed", "file", 9, False, None),
        "/opt": ("added", "folder", 0, False, None),
        "/opt/app": ("added", "folder", 0, False, None),
        "/opt/app/program": ("added", "file", 5000, False, None),
        "/opt/link": ("added", "link", 0, False, "app"),
        "/usr/bin/python3": ("changed", "link", 0, False, {"target": ("python3.11", "python3.12")}),
        "/usr/bin/python3.11": (
            "changed",
            "file",
            4,
            False,
            {"mode": ("0644", "0755"), "owner": ("0:0", "0:7")},
        ),
        "/vmlinuz": ("added", "folder", 0, False, None),
    }
    assert [change.change for change in inside(found)[3].files if change.path == "/vmlinuz"] == ["removed", "added"]
    assert files(found, 1) == {"/home/chronos/file": ("changed", "file", 5, True, None)}
    assert files(found, 8) == {"/oem-release": ("changed", "file", 5, True, {"size": (3, 5)})}
    assert not found.same


def test_attributes_flags_and_devices(tmp_path: Path, trees: Path) -> None:
    before, after = make(tmp_path / "before.raw", trees), make(tmp_path / "after.raw", trees)
    requests = [
        "ea_set /big security.capability x",
        "set_inode_field /usr flags 0x80010",
        "mknod console c 5 1",
    ]
    tool("debugfs", "-w", "-f", "-", f"{before}?offset={10 * MIB}", stdin="mknod console c 5 2\n")
    tool("debugfs", "-w", "-f", "-", f"{after}?offset={10 * MIB}", stdin="\n".join(requests) + "\n")
    assert {path: entry[4] for path, entry in files(compare_disks(before, after)).items()} == {
        "/also big": {"attribute security.capability": (None, "78")},
        "/big": {"attribute security.capability": (None, "78")},
        "/console": {"device": (0x0502, 0x0501)},
        "/usr": {"flags": ("0x0", "0x10")},
    }


def test_system_packages_and_sysctl(tmp_path: Path, trees: Path) -> None:
    def change(trees: Path) -> None:
        root = trees / "3"
        release = root / "usr/lib/os-release"
        release.write_text(release.read_text().replace("ID=debian", 'ID="other"') + "VERSION_ID=12\n")
        status = root / "var/lib/dpkg/status"
        status.write_text(
            status.read_text().replace("Version: 3.134", "Version: 3.135")
            + "\nPackage: nginx\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.22\n"
        )
        (root / "etc/sysctl.d/10-a.conf").write_text("net/ipv4/ip_forward = 1\n# kernel.panic = 5\n")
        (root / "etc/sysctl.d/90-b.conf").write_text("-vm.swappiness =  10\nnet.ipv4.tcp_rmem = 4096  87380 1\n")
        (root / "etc/sysctl.conf").write_text("vm.swappiness=60\nnonsense\n")

    found = changed(tmp_path, trees, change)
    assert found.os_release == {"ID": ("debian", "other"), "VERSION_ID": (None, "12")}
    assert found.packages == [
        PackageChange("adduser", "all", "3.134", "3.135"),
        PackageChange("nginx", "amd64", None, "1.22"),
    ]
    assert found.sysctl == {
        "kernel.panic": ("1", None),
        "net.ipv4.ip_forward": ("0", "1"),
        "net.ipv4.tcp_rmem": (None, "4096 87380 1"),
        "vm.swappiness": (None, "60"),
    }


def test_a_sysctl_file_that_is_hidden_by_a_link_to_nothing(tmp_path: Path, trees: Path) -> None:
    found = changed(tmp_path, trees, lambda trees: (trees / "3/etc/sysctl.d/10-a.conf").symlink_to("/dev/null"))
    assert found.sysctl == {"kernel.panic": ("1", None), "net.ipv4.ip_forward": ("0", None)}


def test_kernel_command_lines_of_all_boot_loaders(tmp_path: Path, trees: Path) -> None:
    (trees / "3/boot/grub").mkdir()
    (trees / "3/boot/grub/grub.cfg").write_text("\tlinux\t/vmlinuz-1 ro quiet\n\tlinux\t/vmlinuz-2 ro\n")
    (trees / "3/boot/loader/entries").mkdir(parents=True)
    (trees / "3/boot/loader/entries/one.conf").write_text("title One\nlinux /vmlinuz\noptions root=/dev/sda1 ro\n")

    def change(trees: Path) -> None:
        mask = " systemd.mask=update-engine.service"
        (trees / "12/efi/boot/grub.cfg").write_text((GRUB % mask).replace('dm="1 vroot', 'dm="2 vroot'))
        grub, entry = trees / "3/boot/grub/grub.cfg", trees / "3/boot/loader/entries/one.conf"
        grub.write_text(grub.read_text().replace("quiet", "audit=1"))
        entry.write_text(entry.read_text() + " nosmt\noptions debug\n".replace(" nosmt\n", ""))

    found = [dataclasses.astuple(kernel) for kernel in changed(tmp_path, trees, change).kernels]
    assert found == [
        (3, "/boot/grub/grub.cfg /vmlinuz-1 (1)", ["quiet"], ["audit=1"]),
        (3, "/boot/loader/entries/one.conf", ["root=/dev/sda1", "ro"], []),
        (3, "/boot/loader/entries/one.conf (1)", [], ["root=/dev/sda1", "ro"]),
        (3, "/boot/loader/entries/one.conf (2)", [], ["debug"]),
        (
            12,
            "/efi/boot/grub.cfg /vmlinuz",
            ['dm="1 vroot none ro 1,0 8 verity"'],
            ["systemd.mask=update-engine.service", 'dm="2 vroot none ro 1,0 8 verity"'],
        ),
    ]


def test_partitions_that_moved_grew_came_and_went(tmp_path: Path, trees: Path) -> None:
    table = TABLE.replace("size=8192, type=linux, name=OEM", "size=9216, type=linux, name=OEM")
    table = table.replace("11: start=65536", "10: start=65536").replace("name=RWFW", "name=MINE")
    found = changed(tmp_path, trees, lambda trees: None, table)
    assert [
        (one.number, one.name, one.change, list(one.fields)) for one in found.partitions if one.change != "same"
    ] == [
        (8, "OEM", "changed", ["size"]),
        (10, "MINE", "added", []),
        (11, "RWFW", "removed", []),
    ]
    assert [contents.number for contents in found.contents] == [1, 3, 8, 12]


def test_what_cannot_be_read_is_compared_by_its_bytes(tmp_path: Path, trees: Path) -> None:
    before, after = make(tmp_path / "before.raw", trees), make(tmp_path / "after.raw", trees)
    for disk, data in ((before, b"1"), (after, b"2")):
        with disk.open("r+b") as file:
            file.seek(27 * MIB)
            file.write(b"XFSB" + bytes(4 * MIB - 4))
            file.seek(27 * MIB + 3_000_000)
            file.write(data)
            file.seek(100)
            file.write(data)
            file.seek(RWFW + 70_000)
            file.write(data)
    found = compare_disks(before, after)
    oem, rwfw = inside(found)[8], inside(found)[11]
    assert (oem.different_bytes, oem.compared_bytes, oem.files) == (65536, 4 * MIB, ())
    assert oem.note == "it is xfs: its bytes are compared, and no files"
    assert (rwfw.different_bytes, rwfw.note) == (
        65536,
        "it is of no known file system: its bytes are compared, and no files",
    )
    assert found.boot_code
    assert not found.same


def test_a_file_system_that_was_cut_off_is_said(tmp_path: Path, trees: Path) -> None:
    before, after = make(tmp_path / "before.raw", trees), make(tmp_path / "after.raw", trees)
    tool("debugfs", "-w", "-R", "feature needs_recovery", f"{after}?offset={MIB}")
    [note] = compare_disks(before, after).notes
    assert note.startswith(f"{after}: partition 1 was cut off in its work")


def test_a_root_that_cannot_be_read_is_said(tmp_path: Path, trees: Path) -> None:
    before, after = make(tmp_path / "before.raw", trees), make(tmp_path / "after.raw", trees)
    with after.open("r+b") as file:
        file.seek(10 * MIB)
        file.write(b"XFSB" + bytes(2000))
    found = compare_disks(before, after)
    assert any(f"not compared: {after}: its root, partition 3, is xfs" in note for note in found.notes)
    assert inside(found)[3].note == "it is ext4 and xfs: its bytes are compared, and no files"


def test_damage_is_an_error_that_names_disk_and_inode(tmp_path: Path, trees: Path) -> None:
    before, after = make(tmp_path / "before.raw", trees), make(tmp_path / "after.raw", trees)
    tool("debugfs", "-w", "-R", "clri /home/chronos/file", f"{after}?offset={MIB}")
    with pytest.raises(ImageFileError, match=r"after\.raw: .* inode \d+ is named in a folder and not in use"):
        compare_disks(before, after)


def test_partitions_are_paired_by_name_and_then_by_number() -> None:
    def table(*partitions: tuple[int, str]) -> PartitionTable:
        made = tuple(DiskPartition(number, 0, 1, "x", name=name) for number, name in partitions)
        return PartitionTable("gpt", made, 0, False)

    a = table((1, "STATE"), (2, "data"), (3, "data"), (5, ""))
    b = table((1, "new"), (3, "data"), (4, "data"), (5, "five"), (7, "STATE"))
    assert [(one and one.number, other and other.number) for one, other in pair_partitions(a, b)] == [
        (1, 7),
        (None, 1),
        (2, None),
        (3, 3),
        (None, 4),
        (5, 5),
    ]


def cut(at: int | None, length: int, places: set[int]) -> list[tuple[int, int | None, int]]:
    ends = sorted({place for place in places if 0 < place < length} | {length})
    starts = [0, *ends[:-1]]
    return [(s, None if at is None else at + s, e - s) for s, e in zip(starts, ends, strict=True)]


@settings(max_examples=80)
@given(
    files=st.lists(
        st.tuples(
            st.binary(min_size=1, max_size=50_000),
            st.sampled_from(["same", "other", "zeros"]),
            st.sets(st.integers(1, 50_000), max_size=3),
            st.sets(st.integers(1, 50_000), max_size=3),
            st.integers(0, 200_000),
        ),
        max_size=12,
    ),
    flip=st.integers(0, 49_999),
)
def test_contents_are_compared_wherever_they_are(
    tmp_path: Path,
    files: list[tuple[bytes, str, set[int], set[int], int]],
    flip: int,
) -> None:
    """Files at any distance, cut into any extents, some of them holes on one side: those that differ are found."""
    disks = [bytearray(), bytearray()]
    segments: list[Segment] = []
    expected = set()
    for owner, (data, kind, cuts_a, cuts_b, gap) in enumerate(files):
        other = bytearray(data)
        if kind == "other":
            other[flip % len(data)] ^= 1
            expected.add(owner)
        elif kind == "zeros" and any(data):
            expected.add(owner)
        disks[1] += os.urandom(gap)
        places = len(disks[0]), None if kind == "zeros" else len(disks[1])
        segments += pair(cut(places[0], len(data), cuts_a), cut(places[1], len(data), cuts_b), owner)
        disks[0] += data
        disks[1] += other
    for name, content in zip("ab", disks, strict=True):
        (tmp_path / name).write_bytes(content)
    with ContentComparison(DiskReader(tmp_path / "a"), DiskReader(tmp_path / "b")) as contents:
        assert set(contents.different(segments)) == expected


def test_the_disks_are_not_written_to_and_nothing_is_left(tmp_path: Path, trees: Path) -> None:
    disk = make(tmp_path / "before.raw", trees)
    shutil.rmtree(trees)
    disk.chmod(0o444)
    before = tool("sha256sum", disk)
    assert compare_disks(disk, disk).same
    assert tool("sha256sum", disk) == before
    assert [path.name for path in tmp_path.iterdir()] == ["before.raw"]
    assert len(read_disk_table(disk).partitions) == 5
