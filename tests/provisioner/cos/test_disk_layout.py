"""The wanted places of partitions, from the sizes and places of Container-Optimized OS, for all kinds of layouts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.cos.disk_layout import DiskLayoutError, Placement, Targets, fit_oem, wanted_layout
from provisioner.protocol import DiskLayout
from provisioner.system.partition_table import GptHeader, Partition, Table, relaid
from tests.provisioner.cos.disk import FIXED, ROOT_B_START, tool

MIB = 1 << 20
GIB = 1 << 30
ROOT_A, STATE = 4509696, 8704000  # where they start on the real disk, in sectors
STATE_SIZE = 12267480


def table(disk: int = 10 * GIB, **starts: tuple[int, int]) -> Table:
    """Return the table of a real disk, made at 10 GB, that has `disk` bytes now; `places` changes (start, size)."""
    places = {name: (start, size) for _, name, _, start, size, _ in FIXED}
    places |= {"ROOT-B": (ROOT_B_START, 4194304), "ROOT-A": (ROOT_A, 4194304), "STATE": (STATE, STATE_SIZE)}
    places |= {name.replace("_", "-"): place for name, place in starts.items()}
    numbers = {name: number for number, name, *_ in FIXED} | {"ROOT-B": 5, "ROOT-A": 3, "STATE": 1}
    partitions = {
        numbers[name]: Partition(numbers[name], start, size, "", "", name, 0)
        for name, (start, size) in places.items()
        if size
    }
    usable = (64, 20971486)
    header = GptHeader(b"EFI PART", 0x10000, 92, 0, 0, 1, 20971519, *usable, bytes(16), 2, 128, 128, 0)
    return Table(header, bytes(128 * 128), partitions, disk // 512)


def laid_out(before: Table, layout: DiskLayout) -> tuple[Table, Targets]:
    """Lay out a disk; return the resulting table."""
    targets = wanted_layout(before, layout, before.disk_sectors)
    return relaid(before, {place.number: place[4:] for place in targets.placements}), targets


def place(of: Table, number: int) -> tuple[int, int]:
    return of.partitions[number].start, of.partitions[number].size


def test_oem_takes_the_place_of_state() -> None:
    """-oem-size: OEM starts where STATE began, and STATE right behind it; both keep to 4 KiB; STATE keeps its size."""
    after, targets = laid_out(table(11 * GIB), DiskLayout(oem_size=500 * MIB))
    assert place(after, 8) == (STATE, 500 * 2048)
    assert place(after, 1) == (STATE + 500 * 2048, STATE_SIZE)
    assert place(after, 3) == (ROOT_A, 4194304)
    assert targets == Targets(
        (
            Placement(1, "STATE", STATE, STATE_SIZE, STATE + 500 * 2048, STATE_SIZE),
            Placement(8, "OEM", 86016, 32768, STATE, 500 * 2048),
        )
    )


def test_reclaiming_gives_2046_mb_to_state() -> None:
    """Reclaiming sda3 frees 2046 MB: 8 sectors of it stay, and STATE begins 4096 sectors behind its start."""
    after, targets = laid_out(table(), DiskLayout(reclaim=True))
    assert place(after, 3) == (ROOT_A, 8)
    assert place(after, 1) == (ROOT_A + 4096, STATE_SIZE)
    assert STATE - (ROOT_A + 4096) == 2046 * 2048
    assert place(after, 8) == (86016, 32768)
    assert targets.warnings == ()


@pytest.mark.parametrize(("size", "disk"), [(32 * MIB, 10), (2046 * MIB, 10), (2047 * MIB, 11), (3 * GIB, 12)])
def test_reclaimed_room_goes_to_oem_first(size: int, disk: int) -> None:
    """seal-oem implies reclaiming sda3: OEM starts 4096 sectors after the start of 3, and extends to STATE."""
    after, _ = laid_out(table(disk * GIB), DiskLayout(reclaim=True, oem_size=size))
    assert place(after, 3) == (ROOT_A, 8)
    assert place(after, 8) == (ROOT_A + 4096, size // 512)
    assert place(after, 1) == (ROOT_A + 4096 + size // 512, STATE_SIZE)


@pytest.mark.parametrize("size", [1, 5 * MIB, 16 * MIB])
def test_oem_that_is_no_larger_stays(size: int) -> None:
    """An OEM size not above the old one is a warning, nothing is done for OEM."""
    targets = wanted_layout(table(), DiskLayout(oem_size=size), 20971520)
    assert targets == Targets((), (f"OEM has 16777216 bytes, no less than the {size} asked for, and stays",))
    after, targets = laid_out(table(), DiskLayout(reclaim=True, oem_size=size))
    assert place(after, 8) == (86016, 32768)
    assert place(after, 1) == (ROOT_A + 4096, STATE_SIZE)
    assert len(targets.warnings) == 1


@pytest.mark.parametrize(
    ("layout", "disk"),
    [
        (DiskLayout(oem_size=1023 * MIB), 11),
        (DiskLayout(oem_size=5 * GIB - MIB), 15),
        (DiskLayout(reclaim=True, oem_size=2046 * MIB + 1023 * MIB), 11),
        (DiskLayout(reclaim=True, oem_size=2 * (2 * GIB) - MIB), 13),
    ],
)
def test_disk_that_is_exactly_large_enough_works(layout: DiskLayout, disk: int) -> None:
    """The partition is asked for 1 MB smaller (whole MB) so that a disk that is exactly large enough works."""
    after, _ = laid_out(table(disk * GIB), layout)
    assert after.partitions[1].end - 1 <= after.header.last_usable == disk * GIB // 512 - 34


def test_disk_that_is_too_small_is_refused() -> None:
    with pytest.raises(DiskLayoutError) as caught:
        wanted_layout(table(11 * GIB), DiskLayout(oem_size=1025 * MIB), 11 * GIB // 512)
    missing = STATE + 1025 * 2048 + STATE_SIZE - 1 - (11 * GIB // 512 - 34)
    assert str(caught.value) == (
        f"the disk has {11 * GIB} bytes, and {11 * GIB + missing * 512} are needed for STATE behind such an OEM; "
        "ask for a larger disk or a smaller OEM"
    )
    wanted_layout(table(), DiskLayout(oem_size=1025 * MIB), 11 * GIB // 512 + missing)


def test_starts_are_multiples_of_4_kib() -> None:
    """Starts are 4 KiB-aligned, whatever the size is; OEM loses less than 4 KiB by it."""
    after, _ = laid_out(table(11 * GIB), DiskLayout(oem_size=20 * MIB + 4095))
    assert place(after, 8) == (STATE, 20 * 2048)
    odd = table(11 * GIB, STATE=(STATE + 3, STATE_SIZE - 3))
    after, _ = laid_out(odd, DiskLayout(oem_size=20 * MIB))
    assert place(after, 8) == (STATE + 8, 20 * 2048)


def test_state_does_not_move_by_less_than_1_mib() -> None:
    """A partition of many GB that moves by 4 KiB would move in steps of 4 KiB."""
    almost = DiskLayout(reclaim=True, oem_size=2046 * MIB - 4096)
    assert [place.number for place in wanted_layout(table(), almost, 20971520).placements] == [3, 8]
    little = DiskLayout(reclaim=True, oem_size=2046 * MIB + 4096)
    assert place(laid_out(table(11 * GIB), little)[0], 1)[0] == STATE + 2048
    with pytest.raises(DiskLayoutError, match="larger disk"):
        wanted_layout(table(), little, 20971520)


@pytest.mark.parametrize(
    ("before", "layout", "reason"),
    [
        (table(OEM=(86016, 0)), DiskLayout(oem_size=GIB), "there is no partition 8"),
        (table(STATE=(STATE, 0)), DiskLayout(oem_size=GIB), "there is no partition 1"),
        (table(ROOT_A=(ROOT_A, 0)), DiskLayout(reclaim=True), "there is no partition 3"),
        (table(ROOT_A=(20971000, 100)), DiskLayout(oem_size=GIB), "STATE .partition 1. is not the last on the disk"),
        (table(RWFW=(STATE - 8, 8), ROOT_A=(ROOT_A, 4096)), DiskLayout(reclaim=True), "RWFW .partition 11. lies betw"),
    ],
)
def test_other_disks_are_refused(before: Table, layout: DiskLayout, reason: str) -> None:
    with pytest.raises(DiskLayoutError, match=reason):
        wanted_layout(before, layout, 11 * GIB // 512)


@given(
    reclaim=st.booleans(),
    size=st.none() | st.integers(1, 9 * GIB) | st.integers(1, 9 * 1024).map(lambda size: size * MIB),
    disk=st.integers(10 * GIB // 512, 20 * GIB // 512),
    state=st.integers(STATE, STATE + 100),
)
def test_any_layout_holds_together(reclaim: bool, size: int | None, disk: int, state: int) -> None:
    """Resumable: asked of the disk that results, nothing has to move any more; nothing is lost, nothing overlaps."""
    before = table(disk * 512, STATE=(state, STATE_SIZE - 100))
    layout = DiskLayout(reclaim=reclaim, oem_size=size)
    try:
        after, targets = laid_out(before, layout)
    except DiskLayoutError as error:
        assert "are needed for STATE" in str(error)  # noqa: PT017 - not all are refused
        return
    state_after, oem = after.partitions[1], after.partitions[8]
    assert state_after.size == before.partitions[1].size
    if size is not None and size // 512 > 32768:
        assert oem.end == state_after.start
        assert oem.start % 8 == state_after.start % 8 == 0
        assert size // 512 - 8 < oem.size < size // 512 + 2048 + 8
    moved = [place for place in targets.placements if place.number == 1]
    assert all(abs(place.new_start - place.start) > 1000 for place in moved)
    assert wanted_layout(after, layout, disk).placements == ()


def test_a_disk_that_was_laid_out_before_can_be_again() -> None:
    """An image that was built from an image: OEM lies before STATE, and partition 3 is reclaimed."""
    first, _ = laid_out(table(12 * GIB), DiskLayout(reclaim=True, oem_size=GIB))
    second, targets = laid_out(first, DiskLayout(reclaim=True, oem_size=2 * GIB))
    assert place(second, 8) == (ROOT_A + 4096, 2 * GIB // 512)
    assert [(place.number, place.new_start - place.start) for place in targets.placements] == [(1, 2097152), (8, 0)]
    assert wanted_layout(second, DiskLayout(reclaim=True), second.disk_sectors).placements == ()
    moved, _ = laid_out(table(12 * GIB), DiskLayout(oem_size=GIB))
    reclaimed, _ = laid_out(moved, DiskLayout(reclaim=True))
    assert place(reclaimed, 8) == (STATE, 2097152)
    assert place(reclaimed, 3) == (ROOT_A, 8)


def ext4(path: Path, blocks: int) -> str:
    """Make a partition of 40 MiB, as a file, with an ext4 of `blocks` blocks of 4 KiB."""
    tree = path.parent / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(random.Random(1).randbytes(3 * MIB))
    path.write_bytes(bytes(40 * MIB))
    tool("mke2fs", "-q", "-F", "-t", "ext4", "-b", 4096, "-d", tree, path, blocks)
    return str(path)


def blocks_of(path: str) -> int:
    said = tool("dumpe2fs", "-h", path)
    return int(next(line.split()[-1] for line in said.splitlines() if line.startswith("Block count:")))


def test_oem_file_system_fills_its_partition(tmp_path: Path) -> None:
    """e2fsck and resize2fs of the OEM file system, which then takes the whole partition and holds the same."""
    partition = ext4(tmp_path / "partition", 4096)
    assert "Pass 5" in fit_oem(partition)
    assert blocks_of(partition) == 10240
    assert "Nothing to do" in fit_oem(partition)
    tool("e2fsck", "-f", "-n", partition)
    tool("debugfs", "-R", f"dump /file {tmp_path}/dumped", partition)
    assert (tmp_path / "dumped").read_bytes() == (tmp_path / "tree" / "file").read_bytes()


def test_oem_file_system_gets_the_blocks_asked_for(tmp_path: Path) -> None:
    """e2fsck and resize2fs of the OEM file system, to the given block count when sealing: here it becomes smaller."""
    partition = ext4(tmp_path / "partition", 8192)
    fit_oem(partition, 5120)
    assert blocks_of(partition) == 5120


def test_oem_file_system_is_repaired_first(tmp_path: Path) -> None:
    """e2fsck: what it could repair is fine (exit status 1)."""
    partition = ext4(tmp_path / "partition", 4096)
    tool("debugfs", "-w", "-R", "set_super_value free_blocks_count 5", partition)
    assert "Free blocks count wrong" in fit_oem(partition)


def test_oem_file_system_that_cannot_be_is_told(tmp_path: Path) -> None:
    partition = ext4(tmp_path / "partition", 4096)
    with pytest.raises(DiskLayoutError, match="has room for 10240 blocks of 4 KiB, not for a file system of 10241"):
        fit_oem(partition, 10241)
    with pytest.raises(DiskLayoutError, match=r"resize2fs .* ended with status 1: "):
        fit_oem(partition, 300)
    (tmp_path / "empty").write_bytes(bytes(4 * MIB))
    with pytest.raises(DiskLayoutError, match=r"e2fsck .* ended with status 8: (?s:.*)[Bb]ad magic number"):
        fit_oem(str(tmp_path / "empty"))
