"""Partition tables: read as sfdisk and cgpt read them, written as sfdisk writes them, whole at any power cut."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.system.disk_file import DiskFile
from provisioner.system.partition_table import (
    SECTOR,
    PartitionTableError,
    Table,
    read_open_table,
    read_table,
    relaid,
    write_table,
)
from tests.provisioner.cos.disk import CosDisk, make_cos_disk, tool
from tests.provisioner.power_cut import MemoryDisk, Power, PowerCut

MIB = 1 << 20


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> CosDisk:
    """Make a small disk of twelve partitions, to be copied and not to be changed."""
    return make_cos_disk(tmp_path_factory.mktemp("disk") / "disk.raw", size=256 * MIB, root_sectors=32768)


def sectors(path: Path, first: int, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(first * SECTOR)
        return file.read(count * SECTOR)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def changed(path: Path, places: dict[int, tuple[int, int]]) -> Table:
    """Change a disk's table."""
    with DiskFile(str(path), writable=True) as file:
        table = relaid(read_open_table(file), places)
        write_table(file, table)
    return table


def test_table_is_read_as_sfdisk_reads_it(disk: CosDisk) -> None:
    table = read_table(str(disk.path))
    assert {number: tuple(place)[1:6] for number, place in table.partitions.items()} == {
        number: (place.start, place.size, place.type, place.uuid, place.name) for number, place in disk.table().items()
    }
    assert len(table.partitions) == 12
    assert (table.header.first_usable, table.header.last_usable) == (64, 256 * MIB // SECTOR - 34)
    assert not table.from_backup


def test_attributes_are_read_as_cgpt_reads_them(disk: CosDisk) -> None:
    for number, priority, booted in ((2, 2, 1), (4, 1, 1), (6, 0, 0)):
        attributes = read_table(str(disk.path)).partitions[number].attributes
        assert attributes >> 48 & 15 == priority == int(tool("cgpt", "show", "-i", number, "-P", disk.path))
        assert attributes >> 56 & 1 == booted == int(tool("cgpt", "show", "-i", number, "-S", disk.path))


@pytest.mark.parametrize("damaged", [SECTOR, SECTOR + 40, 2 * SECTOR + 5, 5 * SECTOR])
def test_backup_is_read_when_the_primary_is_damaged(disk: CosDisk, tmp_path: Path, damaged: int) -> None:
    whole = read_table(str(disk.path))
    copy = disk.copy(tmp_path / "disk")
    overwrite(copy.path, damaged, b"\xa5\x5a\xa5")
    table = read_table(str(copy.path))
    assert table.from_backup
    assert table.partitions == whole.partitions
    changed(copy.path, {})
    assert sectors(copy.path, 0, 34) == sectors(disk.path, 0, 34)


def test_disk_without_a_table_is_refused(tmp_path: Path, disk: CosDisk) -> None:
    copy = disk.copy(tmp_path / "disk").path
    overwrite(copy, SECTOR, bytes(SECTOR))
    overwrite(copy, copy.stat().st_size - SECTOR, bytes(SECTOR))
    with pytest.raises(PartitionTableError, match=r"disk: sector 1: no partition table \(GPT\) begins here; and the b"):
        read_table(str(copy))
    (tmp_path / "empty").touch()
    for path, reason in ((tmp_path / "empty", "sector 1: no"), (tmp_path / "none", "No such file")):
        with pytest.raises(PartitionTableError, match=reason):
            read_table(str(path))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Make a disk of 1 MiB with two partitions."""
    path = tmp_path_factory.mktemp("tiny") / "disk.raw"
    path.write_bytes(bytes(MIB))
    tool("sfdisk", "-q", "--no-reread", "--no-tell-kernel", path, stdin="label:gpt\nfirst-lba:64\n64,100\n200,1000\n")
    return path.read_bytes()


@given(seed=st.integers(0, 1 << 32))
def test_damaged_primary_is_read_right_or_not_at_all(tiny: bytes, seed: int) -> None:
    data, chance = bytearray(tiny), random.Random(seed)
    for _ in range(chance.randrange(1, 5)):
        data[SECTOR + chance.randrange(33 * SECTOR)] ^= 1 << chance.randrange(8)
    whole = read_open_table(MemoryDisk("whole", tiny, Power()))
    assert read_open_table(MemoryDisk("damaged", bytes(data), Power())).partitions == whole.partitions
    data[-33 * SECTOR + chance.randrange(32 * SECTOR)] ^= 1
    damaged = MemoryDisk("damaged", bytes(data), Power())
    try:
        assert read_open_table(damaged).partitions == whole.partitions  # the damaged byte has no meaning
    except PartitionTableError as error:
        assert "checksum" in str(error) or "no partition table" in str(error)  # noqa: PT017 - not all are refused


@pytest.mark.parametrize("grown", [0, 5 * MIB])
def test_table_is_written_as_sfdisk_writes_it(disk: CosDisk, tmp_path: Path, grown: int) -> None:
    """Relocate: partitions, and the backup at the new end of a disk that has grown, byte for byte as sfdisk does it."""
    state, root, oem = (disk.table()[number] for number in (1, 3, 8))
    places = {3: (root.start, 8), 1: (root.start + 8192, state.size - 800), 8: (root.start + 4096, 4096)}
    ours, theirs = disk.copy(tmp_path / "ours", grown), disk.copy(tmp_path / "theirs", grown)
    table = changed(ours.path, places)
    for number, (start, size) in places.items():
        tool("sfdisk", "-q", "--no-reread", "--no-tell-kernel", "-N", number, theirs.path, stdin=f"{start},{size}")
    end = (256 * MIB + grown) // SECTOR
    for first, count in ((0, 34), (end - 33, 33)):
        assert sectors(ours.path, first, count) == sectors(theirs.path, first, count)
    assert sectors(ours.path, 0, 1)[:440] == sectors(disk.path, 0, 1)[:440]  # the boot code
    assert read_table(str(ours.path)).partitions == table.partitions
    after = ours.table()
    assert {number: (place.type, place.uuid, place.name, place.attributes) for number, place in after.items()} == {
        number: (place.type, place.uuid, place.name, place.attributes) for number, place in disk.table().items()
    }
    assert (after[8].start, after[8].size) == places[8] != (oem.start, oem.size)


def test_same_table_changes_nothing(disk: CosDisk, tmp_path: Path) -> None:
    copy = disk.copy(tmp_path / "disk")
    changed(copy.path, {})
    assert copy.fingerprint(0, 256 * MIB // SECTOR) == disk.fingerprint(0, 256 * MIB // SECTOR)


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ({8: (380920, 16)}, r"partition 8 \(OEM\) cannot lie at sectors 380920 to 380935: sectors 380928 to 524254"),
        ({8: (0, 8)}, "cannot lie at sectors 0 to 7: sectors 64 to "),
        ({1: (380928, 1 << 20)}, "sectors 380928 to 524254 are free there"),
        ({1: (380928, 0)}, r"partition 1 \(STATE\) cannot lie"),
    ],
)
def test_table_that_cannot_be_is_refused(disk: CosDisk, places: dict[int, tuple[int, int]], reason: str) -> None:
    with pytest.raises(PartitionTableError, match=reason):
        relaid(read_table(str(disk.path)), places)


def test_one_copy_is_whole_at_any_power_cut(tiny: bytes) -> None:
    """Resumable: whatever of the table has reached the disk, it is read as the old one or as the new one."""
    data = tiny + bytes(64 * SECTOR)  # it has grown
    seen = []
    for cut in range(10):
        for seed in range(20):
            disk = MemoryDisk("disk", data, Power(cut, seed))
            old = read_open_table(MemoryDisk("disk", tiny, Power()))
            new = relaid(read_open_table(disk), {1: (64, 8), 2: (72, 1500)})
            try:
                write_table(disk, new)
            except PowerCut:
                disk.lose()
            found = read_open_table(MemoryDisk("disk", bytes(disk.durable), Power())).partitions
            assert found in (old.partitions, new.partitions)
            seen.append(found == new.partitions)
    assert not all(seen[:20])
    assert all(seen[-20:])
