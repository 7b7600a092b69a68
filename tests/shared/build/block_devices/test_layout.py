from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.build.block_devices.description import (
    DiskDescription,
    NewFileSystem,
    NewPartition,
    NewVolume,
    NewVolumeGroup,
    default_disk,
    file_system_disk,
)
from shared.build.block_devices.layout import Area, DoesNotFit, check_room, least_disk, place_disk

MIB, GIB = 1 << 20, 1 << 30
ROOT = NewFileSystem("r", "root", mount_point="/")


def mbr(*partitions: NewPartition, **further: Any) -> DiskDescription:
    return DiskDescription((ROOT,), "mbr", partitions, **further)


def test_the_default_disk_ends_with_its_root() -> None:
    placed = place_disk(default_disk(), GIB)
    found = [(each.number, each.area) for each in placed.partitions]
    assert found == [
        (14, Area(MIB, MIB)),
        (15, Area(2 * MIB, 64 * MIB)),
        (1, Area(66 * MIB, GIB - 67 * MIB)),
    ]
    assert placed.room("root") == GIB - 67 * MIB


def test_a_disk_without_a_table_is_its_file_system() -> None:
    assert place_disk(file_system_disk(), 5 * MIB).areas["disk"] == (Area(0, 5 * MIB),)
    assert least_disk(file_system_disk(), {"disk": 5 * MIB + 1}, MIB) == 6 * MIB


def test_percents_are_of_what_is_left() -> None:
    parts = (NewPartition("a", percent=50.0, primary=True), NewPartition("root", percent=50.0, primary=True))
    placed = place_disk(mbr(*parts, NewPartition("c", percent=100.0, primary=True)), 101 * MIB)
    assert [each.area for each in placed.partitions] == [
        Area(MIB, 50 * MIB),
        Area(51 * MIB, 25 * MIB),
        Area(76 * MIB, 25 * MIB),
    ]


def test_logical_partitions_lie_behind_their_records() -> None:
    parts = (
        NewPartition("boot", 10 * MIB, primary=True),
        NewPartition("root", 10 * MIB),
        NewPartition("c", percent=100.0),
    )
    placed = place_disk(mbr(*parts), 64 * MIB)
    assert [(each.number, each.area) for each in placed.partitions] == [
        (1, Area(MIB, 10 * MIB)),
        (5, Area(12 * MIB, 10 * MIB)),
        (6, Area(23 * MIB, 41 * MIB)),
    ]
    assert placed.extended == Area(11 * MIB, 53 * MIB)


def test_a_volume_may_lie_on_two_partitions() -> None:
    group = NewVolumeGroup(
        "vg", ("a", "b"), (NewVolume("root", 12 * MIB), NewVolume("rest", percent=100.0, of_free=True))
    )
    placed = place_disk(
        mbr(NewPartition("a", 10 * MIB, primary=True), NewPartition("b", 21 * MIB, primary=True), groups=(group,)), GIB
    )
    assert placed.areas["root"] == (Area(2 * MIB, 8 * MIB), Area(12 * MIB, 4 * MIB))
    assert placed.areas["rest"] == (Area(16 * MIB, 16 * MIB),)


@pytest.mark.parametrize(
    ("description", "part"),
    [
        (mbr(NewPartition("root", 2 * GIB)), "root"),
        (mbr(NewPartition("a", percent=100.0), NewPartition("root", MIB)), "root"),
        (
            mbr(
                NewPartition("pv", 9 * MIB),
                groups=(NewVolumeGroup("g", ("pv",), (NewVolume("x", extents=1), NewVolume("root", extents=2))),),
            ),
            "root",
        ),
    ],
)
def test_what_does_not_fit_is_named(description: DiskDescription, part: str) -> None:
    with pytest.raises(DoesNotFit) as raised:
        place_disk(description, GIB)
    assert raised.value.part == part


def test_a_part_of_a_given_size_that_is_too_small_is_named() -> None:
    description = mbr(NewPartition("root", 10 * MIB, primary=True))
    with pytest.raises(DoesNotFit, match=r"root: 11 MiB are needed for its files, and it has 10 MiB"):
        least_disk(description, {"root": 11 * MIB})
    with pytest.raises(DoesNotFit, match=r"give it a larger size"):
        check_room(description, {"root": 11 * MIB}, GIB)


@given(
    percents=st.lists(st.integers(1, 100), min_size=1, max_size=4),
    needs=st.lists(st.integers(1, 20 * GIB), min_size=4, max_size=4),
    table=st.sampled_from(["gpt", "mbr"]),
)
def test_the_least_disk_holds_all_and_a_smaller_one_does_not(percents: list[int], needs: list[int], table: Any) -> None:
    parts = tuple(NewPartition(f"p{n}", percent=float(percent), primary=True) for n, percent in enumerate(percents))
    description = replace(mbr(*parts), table=table)
    wanted = {part.name: need for part, need in zip(parts, needs, strict=False)}
    try:
        size = least_disk(description, wanted)
    except DoesNotFit:
        assert 100 in percents[:-1] or table == "mbr"
        return
    check_room(description, wanted, size)
    placed = place_disk(description, size)
    ends = [(each.area.start, each.area.end) for each in placed.partitions]
    assert all(end <= start for (_, end), (start, _) in pairwise(ends))
    assert ends[-1][1] <= size - (MIB if table == "gpt" else 0)
    if size > GIB:
        with pytest.raises(DoesNotFit):
            check_room(description, wanted, size - GIB)
