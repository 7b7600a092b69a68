"""GPT disks in sectors of 4096 bytes: made by hand, since sfdisk only writes them on devices, and read by sfdisk."""

import json
import struct
import uuid
import zlib
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.disks.partition_table import read_disk_table
from shared.disks.sector_size import count_small_sectors, has_large_sectors
from shared.errors import ImageFileError
from shared.images.catalogue import Catalogue
from shared.images.file import as_raw, import_image
from tests.shared.disks.small_disks import EFI, LINUX_ROOT, MIB, os_tree, rooted, tool

LARGE = 4096
IDENTITY = uuid.UUID("11111111-2222-4333-8444-555555555555")
ROOT = uuid.UUID("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")


def header(own: int, other: int, at: int, last: int, entries: bytes, crc: int = 0) -> bytes:
    fields = (own, other, 6, last, IDENTITY.bytes_le, at, 128, 128, zlib.crc32(entries))
    packed = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, crc, 0, *fields)
    return packed if crc else header(own, other, at, last, entries, zlib.crc32(packed))


def with_large_sectors(disk: Path, partitions: list[tuple[int, str, uuid.UUID, int, int]]) -> Path:
    """Write a GPT in large sectors over the one of a disk: (number, type, uuid, start and size in bytes)."""
    size = disk.stat().st_size
    table = bytearray(128 * 128)
    for number, kind, own, start, length in partitions:
        entry = struct.pack("<16s16sQQQ", uuid.UUID(kind).bytes_le, own.bytes_le, start // LARGE, 0, 1 << 2)
        entry = entry[:40] + struct.pack("<Q", (start + length) // LARGE - 1) + entry[48:] + "root".encode("utf-16-le")
        table[(number - 1) * 128 : (number - 1) * 128 + len(entry)] = entry
    entries, last = bytes(table), size // LARGE - 1
    with disk.open("r+b") as file:
        file.seek(512)
        file.write(bytes(34 * 512))
        file.seek(size - 33 * 512)
        file.write(bytes(33 * 512))
        for sector, twin, at in ((1, last, 2), (last, 1, last - 4)):
            file.seek(sector * LARGE)
            file.write(header(sector, twin, at, last - 5, entries))
            file.seek(at * LARGE)
            file.write(entries)
    return disk


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    raw = rooted(tmp_path / "disk.raw", os_tree(tmp_path / "tree"), 16 * MIB)
    own = uuid.UUID("99999999-2222-4333-8444-555555555555")
    return with_large_sectors(raw, [(1, LINUX_ROOT, ROOT, 2 * MIB, 13 * MIB), (15, EFI, own, MIB, MIB)])


def test_the_table_is_written_anew_and_the_partitions_stay(disk: Path, tmp_path: Path) -> None:
    before = disk.read_bytes()
    assert has_large_sectors(disk)
    catalogue = Catalogue(tmp_path / "home", SystemClock())
    import_image(disk, "one", catalogue)
    assert disk.read_bytes() == before  # the file itself is left as it is
    imported = catalogue.disk("one")
    assert not has_large_sectors(imported)
    assert imported.read_bytes()[MIB : 15 * MIB] == before[MIB : 15 * MIB]
    found = json.loads(tool("sfdisk", "--json", imported))["partitiontable"]
    assert (found["sectorsize"], found["id"]) == (512, str(IDENTITY).upper())
    assert [(part["start"], part["size"], part["type"]) for part in found["partitions"]] == [
        (2 * MIB // 512, 13 * MIB // 512, LINUX_ROOT),
        (MIB // 512, MIB // 512, EFI),
    ]
    root = found["partitions"][0]
    assert (root["uuid"], root["name"], root["attrs"]) == (str(ROOT).upper(), "root", "LegacyBIOSBootable")
    assert "No errors detected" in tool("sfdisk", "--verify", imported)
    assert [partition.number for partition in read_disk_table(imported).partitions] == [1, 15]


def test_a_comparison_reads_a_rewritten_copy(disk: Path, tmp_path: Path) -> None:
    copy = as_raw(disk, tmp_path / "copy.raw")
    assert copy == tmp_path / "copy.raw"
    assert has_large_sectors(disk)
    assert [partition.number for partition in read_disk_table(copy).partitions] == [1, 15]


@pytest.mark.parametrize(
    ("at", "value", "what"),
    [
        (LARGE + 40, b"\xff", "byte 4112: the checksum of the GPT header"),
        (2 * LARGE + 32, b"\xff", "byte 8192: the checksum of the partition entries"),
    ],
)
def test_a_damaged_table_is_refused(disk: Path, at: int, value: bytes, what: str) -> None:
    with disk.open("r+b") as file:
        file.seek(at)
        file.write(value)
    with pytest.raises(ImageFileError, match=what):
        count_small_sectors(disk)


@pytest.mark.parametrize(("start", "length"), [(4 * LARGE, MIB), (15 * MIB, MIB), (MIB, 16 * MIB)])
def test_a_partition_outside_of_the_disk_is_refused(disk: Path, start: int, length: int) -> None:
    with_large_sectors(disk, [(1, LINUX_ROOT, ROOT, start, length)])
    with pytest.raises(ImageFileError, match="partition 1 lies outside of the disk"):
        count_small_sectors(disk)


@pytest.mark.parametrize("size", [LARGE + 8, LARGE + 92, 8 * MIB])
def test_a_disk_that_is_cut_short_is_refused(disk: Path, size: int) -> None:
    with disk.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(ImageFileError, match=r"ends here|truncated"):
        count_small_sectors(disk)
