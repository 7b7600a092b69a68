import re
import struct
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.disks.disk import Disk
from shared.disks.partition_table import find_root, grow_disk_file, read_disk_table
from shared.errors import ImageFileError
from tests.shared.disks.small_disks import EFI, LINUX_ROOT, MIB, add_ext4, partitioned, rooted, tool

COS_ROOT = "3CB8E202-3B7E-47DD-8A3C-7FF2A13CFCEC"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return rooted(tmp_path / "disk.raw", tmp_path / "tree")


def test_gpt_is_read_as_sfdisk_wrote_it(disk: Path) -> None:
    table = read_disk_table(disk)
    assert (table.kind, table.needs, table.bios_code) == ("gpt", 32 * MIB, False)
    root, efi = table.partitions
    assert (root.number, root.start, root.size, root.type) == (1, 2 * MIB, 29 * MIB, LINUX_ROOT.lower())
    assert root.file_system == "ext4"
    assert (efi.number, efi.start, efi.size, efi.type, efi.file_system) == (15, MIB, MIB, EFI.lower(), None)
    assert root.uuid is not None
    assert root.uuid.upper() in tool("sfdisk", "--dump", disk)
    assert find_root(table) == root


def test_mbr_with_logical_partitions_is_read_as_sfdisk_wrote_it(tmp_path: Path) -> None:
    lines = ["label: dos", "start=2048, size=4096, type=82", "start=8192, type=5"]
    lines += ["5: start=10240, size=6144, type=83", "6: start=18432, size=8192, type=83"]
    table = read_disk_table(partitioned(tmp_path / "disk.raw", "\n".join(lines) + "\n"))
    assert table.kind == "mbr"
    found = [(part.number, part.start // 512, part.size // 512, part.type) for part in table.partitions]
    assert found == [(1, 2048, 4096, "0x82"), (5, 10240, 6144, "0x83"), (6, 18432, 8192, "0x83")]
    root = find_root(table)
    assert root is not None
    assert root.number == 6


def test_the_root_is_the_largest_linux_partition_where_no_type_says_so(tmp_path: Path) -> None:
    lines = ["label: gpt", "size=4M, type=linux", "size=8M, type=linux", f"size=16M, type={EFI}"]
    root = find_root(read_disk_table(partitioned(tmp_path / "disk.raw", "\n".join(lines) + "\n")))
    assert root is not None
    assert root.number == 2


def test_a_file_system_alone_is_a_disk_without_a_table(tmp_path: Path) -> None:
    (tmp_path / "tree/etc").mkdir(parents=True)
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(8 * MIB + 100))
    tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", tmp_path / "tree", disk)
    table = read_disk_table(disk)
    (whole,) = table.partitions
    assert (table.kind, table.boots_by_bios, find_root(table)) == ("none", False, whole)
    assert (whole.number, whole.start, whole.size, whole.file_system) == (0, 0, 8 * MIB, "ext4")
    with Disk(disk) as opened:
        assert opened.root.names("/") == ["etc", "lost+found"]
    grow_disk_file(disk, 1024 * MIB)
    assert read_disk_table(disk).partitions[0].size == 8 * MIB
    grow_disk_file(disk, 2048 * MIB)
    assert read_disk_table(disk).partitions[0].size == 2048 * MIB


def test_of_several_linux_partitions_the_root_has_etc(tmp_path: Path) -> None:
    lines = ["label: dos", "start=2048, size=8192, type=83", "start=10240, size=16384, type=83", "start=26624, type=83"]
    disk = partitioned(tmp_path / "disk.raw", "\n".join(lines) + "\n")
    for number, (start, size, name) in enumerate([(1, 4, "grub"), (5, 8, "etc"), (13, 16, "lib")]):
        (tmp_path / f"{number}" / name).mkdir(parents=True)
        add_ext4(disk, start * MIB, size * MIB, tmp_path / f"{number}")
    with Disk(disk) as opened:
        assert opened.root.partition.number == 2
    found = find_root(read_disk_table(disk))
    assert found is not None
    assert found.number == 3


@pytest.mark.parametrize(("first", "number"), [(8192, 3), (8, 5)], ids=["both roots", "the first one reclaimed"])
def test_the_root_of_container_optimized_os(tmp_path: Path, first: int, number: int) -> None:
    lines = [
        "label: gpt",
        f"3: start=4096, size={first}, type={COS_ROOT}",
        f"5: start=12288, size=8192, type={COS_ROOT}",
    ]
    lines += [f"7: start=2048, size=1, type={COS_ROOT}", "1: start=20480, size=16384, type=linux"]
    root = find_root(read_disk_table(partitioned(tmp_path / "disk.raw", "\n".join(lines) + "\n")))
    assert root is not None
    assert root.number == number


@pytest.mark.parametrize(
    ("lines", "bios"),
    [
        (["label: dos", "size=4M, type=83"], True),
        (["label: gpt", "size=1M, type=21686148-6449-6E6F-744E-656564454649", f"size=4M, type={EFI}"], True),
        (["label: gpt", "size=4M, type=linux"], True),
        (["label: gpt", f"size=4M, type={EFI}", "size=4M, type=linux"], False),
    ],
    ids=["MBR", "GRUB for both", "no EFI", "syslinux beside EFI, as Container-Optimized OS has"],
)
def test_code_for_a_bios_is_not_always_what_a_bios_should_start(tmp_path: Path, lines: list[str], bios: bool) -> None:
    disk = partitioned(tmp_path / "disk.raw", "\n".join(lines) + "\n")
    assert not read_disk_table(disk).boots_by_bios
    with disk.open("r+b") as file:
        file.write(b"\xeb\x3c\x90")
    assert read_disk_table(disk).boots_by_bios == bios


def test_no_root(tmp_path: Path) -> None:
    assert find_root(read_disk_table(partitioned(tmp_path / "disk.raw", f"label: gpt\nsize=4M, type={EFI}\n"))) is None


@pytest.mark.parametrize(
    ("at", "what"),
    [
        (510, "no partition table"),
        (512, "no GPT header"),
        (512 + 56, "checksum of the GPT header"),
        (1024 + 33, "checksum of the partition entries"),
        (32 * MIB - 512, "no GPT header"),
        (32 * MIB - 512 + 40, "checksum of the GPT header"),
    ],
)
def test_damage_is_named_with_file_and_byte(disk: Path, at: int, what: str) -> None:
    with disk.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0xFF]))
    with pytest.raises(ImageFileError, match=re.escape(str(disk)) + r": byte \d+: .*" + what):
        read_disk_table(disk)


def test_a_truncated_disk_is_refused(disk: Path) -> None:
    with disk.open("r+b") as file:
        file.truncate(20 * MIB)
    with pytest.raises(ImageFileError, match=r"truncated: .* 33554432 bytes and the file has 20971520"):
        read_disk_table(disk)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 1024, MIB])
def test_files_without_a_table_are_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "zeros").write_bytes(bytes(size))
    with pytest.raises(ImageFileError, match="zeros: byte"):
        read_disk_table(tmp_path / "zeros")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match="nothing: No such file"):
        read_disk_table(tmp_path / "nothing")


def test_a_logical_chain_that_turns_back_ends(tmp_path: Path) -> None:
    data = bytearray(MIB)
    data[446:462] = struct.pack("<B3xB3xII", 0, 5, 100, 1000)
    data[510:512] = data[51710:51712] = b"\x55\xaa"
    data[51200 + 462 : 51200 + 478] = struct.pack("<B3xB3xII", 0, 5, 0, 1000)
    path = tmp_path / "loop"
    path.write_bytes(data)
    assert read_disk_table(path).partitions == ()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return partitioned(tmp_path_factory.mktemp("pristine") / "disk", "label: gpt\ntype=linux\n", 4 * MIB)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=92), at=st.integers(0, 91), fix=st.booleans())
def test_no_header_is_read_in_any_other_way_than_as_one_or_refused(
    pristine: Path, data: bytes, at: int, fix: bool
) -> None:
    disk = bytearray(pristine.read_bytes())
    end = min(92, at + len(data))
    disk[512 + at : 512 + end] = data[: end - at]
    if fix:  # so that what is behind the checksum is reached
        disk[528:532] = bytes(4)
        disk[528:532] = struct.pack("<I", zlib.crc32(disk[512:604]))
    with tempfile.NamedTemporaryFile() as file:
        file.write(disk)
        file.flush()
        with suppress(ImageFileError):
            assert read_disk_table(Path(file.name)).kind == "gpt"


def test_growing_moves_the_backup_and_the_root_and_nothing_else(disk: Path) -> None:
    before = read_disk_table(disk).partitions
    with disk.open("rb") as file:
        file.seek(2 * MIB)
        root = file.read(29 * MIB)
    grow_disk_file(disk, 64 * MIB + 1)
    assert disk.stat().st_size == 65 * MIB
    table = read_disk_table(disk)
    assert table.needs == 65 * MIB
    assert table.partitions[1] == before[1]
    grown = table.partitions[0]
    assert (grown.start, grown.uuid, grown.type) == (2 * MIB, before[0].uuid, before[0].type)
    assert 62 * MIB <= grown.size <= 63 * MIB
    assert "No errors detected" in tool("sfdisk", "--verify", disk)
    with disk.open("rb") as file:
        file.seek(2 * MIB)
        assert file.read(29 * MIB) == root


def test_growing_an_mbr_disk(tmp_path: Path) -> None:
    disk = partitioned(tmp_path / "disk.raw", "label: dos\nstart=2048, type=83\n")
    grow_disk_file(disk, 64 * MIB)
    assert read_disk_table(disk).partitions[0].size == 63 * MIB


def test_a_root_that_is_not_last_is_left_alone(tmp_path: Path) -> None:
    table = f"label: gpt\nsize=8M, type={LINUX_ROOT}\nsize=8M, type=linux\n"
    disk = partitioned(tmp_path / "disk.raw", table)
    before = read_disk_table(disk).partitions
    grow_disk_file(disk, 64 * MIB)
    assert read_disk_table(disk).partitions == before
    assert read_disk_table(disk).needs == 64 * MIB


def test_the_room_behind_the_root_stays_free_where_the_machine_is_to_take_it(disk: Path) -> None:
    before = read_disk_table(disk).partitions
    grow_disk_file(disk, 64 * MIB, free=True)
    assert read_disk_table(disk).partitions == before
    assert read_disk_table(disk).needs == 64 * MIB


def test_a_disk_is_never_shrunk(disk: Path) -> None:
    with pytest.raises(ImageFileError, match="cannot be shrunk"):
        grow_disk_file(disk, 16 * MIB)
    assert disk.stat().st_size == 32 * MIB
