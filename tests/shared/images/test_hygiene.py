"""The host's look into a finished disk: every ext4 file system of it, each where it is mounted."""

from __future__ import annotations

import base64
import shutil
import struct
import tracemalloc
import urllib.parse
from pathlib import Path

import pytest

from provisioner.hygiene.hygiene import HEAD, WHOLE
from shared.disks.disk import Disk
from shared.disks.ext4.reader import Ext4
from shared.disks.reader import DiskReader
from shared.errors import ImageFileError
from shared.images.hygiene import can_look_into, find_values, look_into, was_cut_off
from shared.sandbox.roots.unpack_root import unpack_root
from shared.sandbox.roots.write_root import write_dated_root
from shared.sandbox.user_namespace import run_with_all_ids
from tests.shared.disks.small_disks import LINUX_ROOT, MIB, add_ext4, os_tree, partitioned, rooted, tool

TIME = 1_700_000_000
COS_ROOT = "3CB8E202-3B7E-47DD-8A3C-7FF2A13CFCEC"
LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
PEM = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" * 4 + "\n-----END PRIVATE KEY-----\n"


def write(tree: Path, *names: str, text: str = PEM) -> None:
    """Put files into a tree."""
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)


def paths(disk: Path, source: Path | None = None) -> list[str]:
    """Return where something is found."""
    return [finding.path for finding in look_into(Disk(disk), None if source is None else Disk(source))]


def test_the_root_is_looked_into(tmp_path: Path) -> None:
    tree = os_tree(tmp_path / "tree")
    write(tree, "etc/key.pem", "usr/lib/python3/key.pem", "usr/local/key.pem", "var/log/syslog", "tmp/x", "root/.x/a")
    write(tree, "etc/machine-id", "var/log/empty", text="")
    (tree / "link").symlink_to("etc/key.pem")
    disk = rooted(tmp_path / "disk.raw", tree)
    assert can_look_into(Disk(disk))
    assert paths(disk) == ["/etc/key.pem", "/root/.x/a", "/tmp/x", "/usr/local/key.pem", "/var/log/syslog"]
    assert str(look_into(Disk(disk), None)[0]) == (
        "/etc/key.pem holds a private key; remove it in the last step; "
        "what needs a secret can fetch it at boot, from Secret Manager for instance"
    )


def test_partitions_of_one_number_are_each_looked_into(tmp_path: Path) -> None:
    """An MBR may have two extended partitions; the logical ones of both begin with number 5 then."""
    size, gap = 4 * MIB, 1 * MIB
    root, first, second = gap, gap + size, 2 * (gap + size)
    disk = bytearray(second + gap + size + gap)

    def entry(at: int, kind: int, start: int, length: int) -> None:
        disk[at : at + 16] = struct.pack("<B3xB3xII", 0, kind, start // 512, length // 512)

    entry(446, 0x83, root, size)
    entry(462, 5, first, gap + size)
    entry(478, 5, second, gap + size)
    for extended in (first, second):
        entry(extended + 446, 0x83, gap, size)
        disk[extended + 510 : extended + 512] = b"\x55\xaa"
    disk[510:512] = b"\x55\xaa"
    (tmp_path / "disk.raw").write_bytes(disk)
    trees = [os_tree(tmp_path / "root"), tmp_path / "fine", tmp_path / "secret"]
    write(trees[1], "data/fine", text="x")
    write(trees[2], "root/.ssh/id_rsa")
    for start, tree in zip((root, first + gap, second + gap), trees, strict=True):
        add_ext4(tmp_path / "disk.raw", start, size, tree)
    assert paths(tmp_path / "disk.raw") == ["/partition-5/root/.ssh/id_rsa"]


def test_a_root_with_another_magic_is_no_root_that_can_be_read(tmp_path: Path) -> None:
    """A boot sector of FAT that was left behind, and that no file system stands behind."""
    disk = partitioned(tmp_path / "disk.raw", f"label: gpt\nstart=2048, size=8192, type={LINUX_ROOT}\n")
    with disk.open("r+b") as file:
        file.seek(MIB + 54)
        file.write(b"FAT16   ")
    assert not can_look_into(Disk(disk))


def test_what_the_source_had_is_none_of_the_build_s_secrets(tmp_path: Path) -> None:
    """The clock tells nothing: a step may set it. What is in the source's inode, with its times and blocks, is told.

    So is a file of the source's contents and time of change of these, wherever it lies on the disk.
    """
    tree = os_tree(tmp_path / "tree")
    write(tree, "etc/key.pem", "etc/other.pem", "etc/third.pem", "var/log/syslog")
    source = rooted(tmp_path / "source.raw", tree)
    disk = tmp_path / "disk.raw"
    shutil.copyfile(source, disk)
    assert paths(disk, source) == ["/var/log/syslog"]
    place = f"{disk}?offset={2 * MIB}"
    tool("debugfs", "-w", "-R", f"write {tree / 'etc/key.pem'} etc/new.pem", place)
    tool("debugfs", "-w", "-R", "set_inode_field /etc/new.pem ctime @0", place)  # long before all else
    tool("debugfs", "-w", "-R", "set_inode_field /etc/other.pem mtime @4102444800", place)
    tool("debugfs", "-w", "-R", "set_inode_field /etc/third.pem ctime @4102444800", place)
    assert paths(disk, source) == ["/etc/new.pem", "/etc/other.pem", "/var/log/syslog"]


def test_without_its_source_s_disk_all_of_an_image_counts(tmp_path: Path) -> None:
    """When the source was deleted meanwhile, or has no such file system."""
    tree = os_tree(tmp_path / "tree")
    write(tree, "etc/key.pem")
    disk = rooted(tmp_path / "disk.raw", tree)
    other = partitioned(tmp_path / "other.raw", f"label: gpt\nsize=24M, type={LINUX_ROOT}\n")
    assert paths(disk, None) == paths(disk, other) == ["/etc/key.pem"]
    assert paths(disk, disk) == []


def test_other_file_systems_are_looked_into_where_fstab_mounts_them(tmp_path: Path) -> None:
    tree, var, other = os_tree(tmp_path / "tree"), tmp_path / "var", tmp_path / "other"
    write(tree, "etc/fstab", text="# <file system>\nLABEL=state /var ext4 defaults 0 2\n/dev/sda9 none swap\n\n")
    write(var, "log/syslog", "lib/app/key.pem")
    write(other, "key.pem")
    table = f"label: gpt\nsize=24M, type={LINUX_ROOT}\nsize=16M, type={LINUX}\nsize=16M, type={LINUX}\nsize=1M\n"
    disk = partitioned(tmp_path / "disk.raw", table, 64 * MIB)
    for start, size, folder in ((1, 24, tree), (25, 16, var), (41, 16, other)):
        add_ext4(disk, start * MIB, size * MIB, folder)
    with disk.open("r+b") as file:
        file.seek(25 * MIB + 1024 + 0x78)
        file.write(b"state\0")
    assert paths(disk) == ["/partition-3/key.pem", "/var/lib/app/key.pem", "/var/log/syslog"]


def cos_disk(path: Path, state: Path, oem: Path, root: Path) -> Path:
    """A disk with those partitions of Container-Optimized OS that hold file systems."""
    rows = [f'1: start=82M, size=32M, type={LINUX}, name="STATE"', f"3: start=2M, size=32M, type={COS_ROOT}"]
    rows += [f"5: start=34M, size=32M, type={COS_ROOT}", f'8: start=66M, size=16M, type={LINUX}, name="OEM"']
    rows = [row.replace("M,", "MiB,") for row in rows]
    disk = partitioned(path, "\n".join(["label: gpt", *rows]) + "\n", 116 * MIB)
    for start, size, folder in ((82, 32, state), (2, 32, root), (66, 16, oem)):
        add_ext4(disk, start * MIB, size * MIB, folder)
    return disk


def test_state_and_oem_of_container_optimized_os_are_looked_into(tmp_path: Path) -> None:
    """Clean-up of machine state, COS: STATE is mounted at /mnt/stateful_partition, and is /var and /home."""
    root, state, oem = os_tree(tmp_path / "root"), tmp_path / "state", tmp_path / "oem"
    (root / "usr/lib/os-release").write_text("ID=cos\nVERSION_ID=113\n")
    write(state, "var/lib/app/key.pem", "var/lib/metrics/db", "home/ann/.bash_history", "etc/machine-id", "dev_image/x")
    write(state, "var/lib/docker/overlay2/0a/diff/etc/key.pem", "var/lib/toolbox/README", text="x")
    write(oem, "key.pem")
    disk = cos_disk(tmp_path / "disk.raw", state, oem, root)
    assert not was_cut_off(Disk(disk))
    assert paths(disk) == [
        "/home/ann/.bash_history",
        "/mnt/stateful_partition/dev_image/x",
        "/mnt/stateful_partition/etc/machine-id",
        "/usr/share/oem/key.pem",
        "/var/lib/app/key.pem",
        "/var/lib/metrics/db",
    ]
    tool("debugfs", "-w", "-R", "feature needs_recovery", f"{disk}?offset={82 * MIB}")
    assert was_cut_off(Disk(disk))


def test_a_root_of_another_kind_is_its_machines_to_look_into(tmp_path: Path) -> None:
    disk = partitioned(tmp_path / "disk.raw", f"label: gpt\nsize=24M, type={LINUX_ROOT}\n")
    with disk.open("r+b") as file:
        file.seek(MIB)
        file.write(b"XFSB")
    assert not can_look_into(Disk(disk))
    assert paths(disk) == []


def test_a_damaged_disk_is_an_error_that_says_so(tmp_path: Path) -> None:
    tree = os_tree(tmp_path / "tree")
    write(tree, "var/lib/x")
    disk = rooted(tmp_path / "disk.raw", tree)
    with disk.open("r+b") as file:  # the table of block groups
        file.seek(2 * MIB + 4096)
        file.write(struct.pack("<III", 9**9, 9**9, 9**9))
    with pytest.raises(ImageFileError, match=str(disk)):
        look_into(Disk(disk), None)


def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    tree = os_tree(tmp_path / "tree")
    write(tree, "opt/large.bin", text="x" * (WHOLE + 1) + PEM)
    write(tree, *(f"opt/{number}" for number in range(300)), text="x" * HEAD)
    disk = rooted(tmp_path / "disk.raw", tree, 48 * MIB)
    tracemalloc.start()
    assert paths(disk) == []
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 * MIB


def swap(path: Path, size: int, *, held: bytes) -> Path:
    """Make a swap area on what held memory before."""
    path.write_bytes(held * (size // len(held)) if held else bytes(size))
    tool("mkswap", str(path))
    return path


def test_swap_that_holds_memory_is_found(tmp_path: Path) -> None:
    """What swap held: mkswap leaves all but the first page as it was."""
    tree = os_tree(tmp_path / "tree")
    swap(tree / "swapfile", 2 * MIB, held=b"SECRET-IN-MEMORY")
    swap(tree / "blank", 2 * MIB, held=b"")
    disk = rooted(tmp_path / "disk.raw", tree)
    [finding] = look_into(Disk(disk), None)
    assert str(finding) == (
        "/swapfile is swap that holds memory of the build machine; "
        "leave it on, and it is emptied after the last step, or remove it"
    )
    assert paths(disk, disk) == []


def test_swap_in_blocks_that_were_only_reserved_is_found(tmp_path: Path) -> None:
    """fallocate, mkswap, swapon: the file reads as zeros, and the disk holds memory below it."""
    tree = os_tree(tmp_path / "tree")
    swap(tree / "swapfile", 2 * MIB, held=b"SECRET-IN-MEMORY")
    disk = rooted(tmp_path / "disk.raw", tree)
    with DiskReader(disk) as reader:
        file_system = Ext4(reader, 2 * MIB, 29 * MIB)
        number = file_system.entries(file_system.root)["swapfile"]
        inode, record = file_system.inode(number), file_system.record(number)
        [(_, place, length)] = file_system.extents(inode)
    block = (place or 0) - 2 * MIB >> 12
    head = inode.block_map[:2] + struct.pack("<H", 2) + inode.block_map[4:12]
    leaves = struct.pack("<IHHI", 0, 1, 0, block)  # what mkswap has written
    leaves += struct.pack("<IHHI", 1, 32768 + length // 4096 - 1, 0, block + 1)  # reserved, which is +32768
    data = disk.read_bytes()
    assert data.count(record) == 1
    changed = record.replace(inode.block_map, head + leaves + inode.block_map[36:])
    disk.write_bytes(data.replace(record, changed))
    with DiskReader(disk) as reader:
        file_system = Ext4(reader, 2 * MIB, 29 * MIB)
        assert not any(file_system.read(file_system.inode(number))[4096:])
    assert paths(disk) == ["/swapfile"]


def test_a_swap_partition_that_holds_memory_is_found(tmp_path: Path) -> None:
    tree = os_tree(tmp_path / "tree")
    table = f"label: gpt\nsize=24M, type={LINUX_ROOT}\nsize=8M, type={LINUX}\n"
    area = swap(tmp_path / "area", 8 * MIB, held=b"")
    source = partitioned(tmp_path / "source.raw", table, 40 * MIB)
    add_ext4(source, 1 * MIB, 24 * MIB, tree)
    with source.open("r+b") as file:
        file.seek(25 * MIB)
        file.write(area.read_bytes())
    disk = tmp_path / "disk.raw"
    shutil.copyfile(source, disk)
    assert paths(disk, source) == paths(disk, None) == []
    with disk.open("r+b") as file:
        file.seek(30 * MIB)
        file.write(b"SECRET-IN-MEMORY")
    assert paths(disk, source) == ["/partition-2"]
    assert paths(disk, disk) == []  # the source's


def test_what_was_written_anew_is_still_the_sources(tmp_path: Path) -> None:
    """As a sandbox of an ordinary user, or a reproducible image, writes it: other inodes, the same files.

    That an inode of its number, size, time and blocks was in the source, for another file, tells nothing then.
    """
    tree = os_tree(tmp_path / "tree")
    write(tree, "etc/a.pem", "etc/b.pem", "etc/c.pem")
    source = rooted(tmp_path / "source.raw", tree)
    kept = unpack_root(source, tmp_path / "unpacked")
    first, second = (Path(shutil.copy(source, tmp_path / name)) for name in ("first.raw", "second.raw"))
    write_dated_root(tmp_path / "unpacked", first, kept, TIME)
    run_with_all_ids(lambda: change(tmp_path / "unpacked"))
    write_dated_root(tmp_path / "unpacked", second, kept, TIME)
    assert paths(first, source) == ["/etc/a.pem", "/etc/b.pem", "/etc/c.pem"]  # all of later times than the date
    assert paths(second, first) == ["/etc/b.pem", "/etc/d.pem"]


def change(tree: Path) -> str:
    write(tree, "etc/b.pem", text=PEM.replace("ASC", "ASD"))
    (tree / "etc/c.pem").rename(tree / "etc/d.pem")
    return ""


VALUE = b"tok/3n+0123456789"


def holding(disk: Path, source: Path | None = None, values: dict[str, bytes] | None = None) -> list[str]:
    """Return where values are found in a disk."""
    values = values or {"a.TOKEN": VALUE}
    told = find_values(Disk(disk), None if source is None else Disk(source), values)
    assert not any(value.decode() in str(finding) for finding in told for value in values.values())
    return [f"{finding.path} {finding.what}" for finding in told]


def test_values_are_found_in_files_of_the_build_in_any_form(tmp_path: Path) -> None:
    tree = os_tree(tmp_path / "tree")
    source = rooted(tmp_path / "source.raw", tree)
    assert holding(source) == []
    large = b"x" * (3 << 20)
    for name, data in {
        "usr/lib/python3/plain": large + VALUE + large,
        "etc/in-base64": base64.encodebytes(b"user:" + VALUE * 9),
        "etc/in-url": urllib.parse.quote(VALUE, safe="").encode(),
        f"etc/{VALUE.decode().replace('/', '%2F').replace('+', '%2B')}": VALUE,
    }.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
        disk = rooted(tmp_path / "disk.raw", tree)
        place = "/etc/(hidden)" if "%" in name else f"/{name}"
        assert holding(disk, source) == [f"{place} holds the value of a.TOKEN"]
        assert holding(disk, disk) == []
        (tree / name).unlink()


def test_the_disk_is_read_once_for_all_values(tmp_path: Path) -> None:
    """Twelve searches of a disk of some GB would take more than a damaged one may take."""
    disk = rooted(tmp_path / "disk.raw", os_tree(tmp_path / "tree"))
    read = []
    for count in (1, 12):
        opened = Disk(disk)
        assert find_values(opened, None, {f"s.T{each}": b"secret number %d" % each for each in range(count)}) == []
        read.append(opened.reader.budget.bytes_read)
    assert read[0] == read[1] > 0


def test_values_are_found_outside_of_files(tmp_path: Path) -> None:
    """In a deleted file, and on a partition that no reader knows; not what the source's disk has as well."""
    tree = os_tree(tmp_path / "tree")
    write(tree, "etc/gone", text=VALUE.decode())
    disk = rooted(tmp_path / "disk.raw", tree)
    tool("debugfs", "-w", "-R", "rm /etc/gone", f"{disk}?offset={2 * MIB}")
    source = rooted(tmp_path / "source.raw", os_tree(tmp_path / "other"))
    found = ["the disk, outside of its files, holds the value of a.TOKEN"]
    assert holding(disk, source) == holding(disk) == found
    assert holding(disk, disk) == []
    with source.open("r+b") as file:
        file.seek(MIB + 4096)
        file.write(b"\n".join([VALUE[:9], VALUE[9:]]))
    assert holding(source) == found
    assert holding(source, values={"a.ONE": b"0123456789-", "b.TWO": VALUE}) == [found[0].replace("a.TOKEN", "b.TWO")]
