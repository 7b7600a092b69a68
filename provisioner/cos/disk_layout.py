"""The places that a layout gives to the partitions of Container-Optimized OS, and the size of OEM's file system.

    before    ... OEM (8) 16 MB ... ROOT-A (3) 2 GB ........ STATE (1) ............
    OEM       ..................... ROOT-A (3) 2 GB ........ OEM (8) ..... STATE (1) ............
    reclaim   ... OEM (8) 16 MB ... (3) STATE (1) ............
    both      ..................... (3) OEM (8) ..... STATE (1) ............

This is arithmetic in sectors of 512 bytes; relocation.py moves the data. STATE keeps its size: the system itself makes
it fill the disk at the next boot. Starts are multiples of 4 KiB.
"""

from __future__ import annotations

from typing import NamedTuple

from ..system.disk_file import DiskFile
from ..system.partition_table import SECTOR, PartitionTableError, last_usable, relaid
from .cos import OEM, ROOT_A, STATE, call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from ..protocol import DiskLayout
    from ..system.partition_table import Partition, Table

RECLAIMED_SIZE = 8  # sectors that remain of ROOT-A, so that its number and PARTUUID stay known
RECLAIMED_ROOM = 4096  # sectors from ROOT-A's start to the next partition once it is reclaimed
ALIGNMENT = 8  # sectors
SHORTEST_MOVE = 2048  # sectors: a partition that moves less than its length moves in steps of the distance
BLOCK = 4096  # bytes, in OEM's file system
CHECKED = (0, 1)  # exit statuses of e2fsck: no errors, or all are corrected


class DiskLayoutError(Exception):
    """The disk cannot be laid out as asked, or is not what it was; the text says why, and what to do."""


class Placement(NamedTuple):
    """The present and the wanted place of a partition, in sectors. Its data are the first `size` sectors."""

    number: int
    name: str
    start: int
    size: int
    new_start: int
    new_size: int


class Targets(NamedTuple):
    """The changes, in their order, and warnings for people. Without placements there is nothing to change."""

    placements: tuple[Placement, ...]
    warnings: tuple[str, ...] = ()


def wanted_layout(table: Table, layout: DiskLayout, disk_sectors: int) -> Targets:
    """Return what has to move on a disk of that size. DiskLayoutError where it does not fit, or the disk is another's.

    For the resulting disk it returns no placements.
    """
    oem = _partition(table, OEM)
    wanted = (layout.oem_size or 0) // SECTOR
    first = _first_free(table, layout)
    if _is_done(table, layout, first, wanted):
        return Targets(())
    warnings: tuple[str, ...] = ()
    if wanted > oem.size:
        places = _with_larger_oem(table, first, wanted, disk_sectors)
    else:
        places = _with_same_oem(table, layout, first)
        if layout.oem_size is not None:
            warnings = (f"OEM has {oem.size * SECTOR} bytes, no less than the {layout.oem_size} asked for, and stays",)
    if layout.reclaim:
        root = _partition(table, ROOT_A)
        places[ROOT_A] = (root.start, min(root.size, RECLAIMED_SIZE))
    _refuse_small(table, places[STATE][0], disk_sectors)
    try:
        relaid(table._replace(disk_sectors=disk_sectors), places)
    except PartitionTableError as error:
        raise DiskLayoutError(f"this is not the disk of a Container-Optimized OS: {error}") from error
    return Targets(_placements(table, places), warnings)


def fit_oem(path: str, blocks: Optional[int] = None) -> str:
    """Check the ext4 in a partition and resize it to `blocks` of 4 KiB, or to the size of the partition.

    `path` is a block device: resize2fs would truncate a file after the file system. Returns the tools' output.
    DiskLayoutError; CosError where the image lacks the tools.
    """
    with DiskFile(path) as partition:
        room = partition.size // BLOCK
    blocks = room if blocks is None else blocks
    if blocks > room:
        raise DiskLayoutError(f"{path} has room for {room} blocks of 4 KiB, not for a file system of {blocks}")
    said = _run(["e2fsck", "-f", "-y", path], CHECKED)
    return said + _run(["resize2fs", path, f"{blocks * (BLOCK >> 10)}K"], (0,))


def _partition(table: Table, number: int) -> Partition:
    if number not in table.partitions:
        raise DiskLayoutError(f"there is no partition {number}: this is not the disk of a Container-Optimized OS")
    return table.partitions[number]


def _round_up(sector: int) -> int:
    return -(-sector // ALIGNMENT) * ALIGNMENT


def _first_free(table: Table, layout: DiskLayout) -> int:
    """Return the sector where OEM, or STATE if OEM keeps its place, has to start. DiskLayoutError."""
    state = _partition(table, STATE)
    if any(partition.start > state.start for partition in table.partitions.values()):
        raise DiskLayoutError("STATE (partition 1) is not the last on the disk: nothing can be moved behind it")
    if not layout.reclaim:
        return _round_up(state.start)
    root = _partition(table, ROOT_A)
    for partition in table.partitions.values():
        if root.start < partition.start < state.start and partition.number != OEM:
            raise DiskLayoutError(
                f"{partition.name} (partition {partition.number}) lies between ROOT-A (3) and STATE (1): "
                "this is not the disk of a Container-Optimized OS"
            )
    return _round_up(root.start + RECLAIMED_ROOM)


def _is_done(table: Table, layout: DiskLayout, first: int, wanted: int) -> bool:
    """Return whether OEM has been moved and extended before."""
    state, oem = table.partitions[STATE], table.partitions[OEM]
    if layout.reclaim and (table.partitions[ROOT_A].size > RECLAIMED_SIZE or oem.start != first):
        return False
    return wanted > 0 and oem.end == state.start == (oem.start + wanted) // ALIGNMENT * ALIGNMENT


def _with_larger_oem(table: Table, first: int, wanted: int, disk_sectors: int) -> dict[int, tuple[int, int]]:
    """Return the places where OEM begins at `first`, and STATE directly behind OEM."""
    state = table.partitions[STATE]
    start = (first + wanted) // ALIGNMENT * ALIGNMENT
    if 0 < state.start - start < SHORTEST_MOVE:  # STATE stays, and OEM gets the rest
        start = state.start
    longer = state.start + SHORTEST_MOVE
    if 0 < start - state.start < SHORTEST_MOVE and longer + state.size - 1 <= last_usable(disk_sectors, table):
        start = longer
    return {STATE: (start, state.size), OEM: (first, start - first)}


def _with_same_oem(table: Table, layout: DiskLayout, first: int) -> dict[int, tuple[int, int]]:
    """Return the place where STATE begins at `first`, or behind OEM where the source image has OEM there."""
    state, oem = table.partitions[STATE], table.partitions[OEM]
    if not layout.reclaim:
        return {STATE: (state.start, state.size)}
    if first < oem.end <= state.start:
        first = _round_up(oem.end)
    return {STATE: (min(first, state.start), state.size)}


def _refuse_small(table: Table, state_start: int, disk_sectors: int) -> None:
    end = state_start + table.partitions[STATE].size
    missing = end - 1 - last_usable(disk_sectors, table)
    if missing > 0:
        needed = (disk_sectors + missing) * SECTOR
        raise DiskLayoutError(
            f"the disk has {disk_sectors * SECTOR} bytes, and {needed} are needed for STATE behind such an OEM; "
            "ask for a larger disk or a smaller OEM"
        )


def _placements(table: Table, places: dict[int, tuple[int, int]]) -> tuple[Placement, ...]:
    """Return the changes, ordered so that no partition overwrites another's data: OEM goes where STATE was."""
    wanted = [
        Placement(number, table.partitions[number].name, *table.partitions[number][1:3], *places[number])
        for number in (ROOT_A, STATE, OEM)
        if number in places
    ]
    return tuple(place for place in wanted if (place.start, place.size) != (place.new_start, place.new_size))


def _run(argv: list[str], fine: tuple[int, ...]) -> str:
    status, said = call(argv)
    if status not in fine:
        raise DiskLayoutError(f"{' '.join(argv)} ended with status {status}: {said[-1000:]}")
    return said
