"""Where the partitions of Container-Optimized OS shall lie, and what OEM's file system needs once they lie there.

    before    ... OEM (8) 16 MB ... ROOT-A (3) 2 GB ........ STATE (1) ............
    OEM       ..................... ROOT-A (3) 2 GB ........ OEM (8) ..... STATE (1) ............
    reclaim   ... OEM (8) 16 MB ... (3) STATE (1) ............
    both      ..................... (3) OEM (8) ..... STATE (1) ............

Arithmetic in sectors of 512 bytes; relocation.py moves the data. STATE keeps its size: the system itself lets it fill
the disk when it boots next. Starts are multiples of 4 KiB.
"""

from __future__ import annotations

from typing import NamedTuple

from .disk_file import DiskFile
from .partition_table import SECTOR, PartitionTableError, last_usable, relaid
from .process import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from .partition_table import Partition, Table
    from .protocol import DiskLayout

STATE, ROOT_A, OEM = 1, 3, 8  # numbers of the partitions
RECLAIMED_SIZE = 8  # sectors that are left of ROOT-A, so that its number and PARTUUID stay known
RECLAIMED_ROOM = 4096  # sectors from ROOT-A's start to what follows it once it is reclaimed
ALIGNMENT = 8  # sectors
SHORTEST_MOVE = 2048  # sectors: what moves less far than it is long moves in steps no longer than its way
BLOCK = 4096  # bytes, in OEM's file system
CHECKED = (0, 1)  # exit statuses of e2fsck: nothing was wrong, or it was and is right now


class DiskLayoutError(Exception):
    """A disk that cannot be laid out as asked, or is not what it was; the text says why, and what would do."""


class Placement(NamedTuple):
    """Where a partition lies and where it shall lie, in sectors. Its data are the first `size` sectors."""

    number: int
    name: str
    start: int
    size: int
    new_start: int
    new_size: int


class Targets(NamedTuple):
    """What has to change, in this order, and what people should know about it. No placements: nothing has to."""

    placements: tuple[Placement, ...]
    warnings: tuple[str, ...] = ()


def wanted_layout(table: Table, layout: DiskLayout, disk_sectors: int) -> Targets:
    """Say what has to move on a disk of that size. DiskLayoutError where it does not fit, or is no disk of this system.

    Asked again about the disk that results, nothing has to.
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
    """Check the ext4 in a partition, and make it `blocks` of 4 KiB large, or as large as the partition.

    `path` is a block device; resize2fs would cut a file off behind the file system. Gives the tools' words.
    DiskLayoutError when it cannot be done.
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
    """Give where OEM, or STATE if OEM stays as it is, shall start."""
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
    """Tell whether OEM was moved and extended before."""
    state, oem = table.partitions[STATE], table.partitions[OEM]
    if layout.reclaim and (table.partitions[ROOT_A].size > RECLAIMED_SIZE or oem.start != first):
        return False
    return wanted > 0 and oem.end == state.start == (oem.start + wanted) // ALIGNMENT * ALIGNMENT


def _with_larger_oem(table: Table, first: int, wanted: int, disk_sectors: int) -> dict[int, tuple[int, int]]:
    """Let OEM begin at `first`, and STATE behind it; OEM then reaches to STATE."""
    state = table.partitions[STATE]
    start = (first + wanted) // ALIGNMENT * ALIGNMENT
    if 0 < state.start - start < SHORTEST_MOVE:  # OEM gets what is left rather than that all of STATE moves
        start = state.start
    longer = state.start + SHORTEST_MOVE
    if 0 < start - state.start < SHORTEST_MOVE and longer + state.size - 1 <= last_usable(disk_sectors, table):
        start = longer
    return {STATE: (start, state.size), OEM: (first, start - first)}


def _with_same_oem(table: Table, layout: DiskLayout, first: int) -> dict[int, tuple[int, int]]:
    """Let STATE begin at `first`; behind OEM where that was moved there in the making of the source image."""
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
    """Order them so that no partition is moved onto another's data: OEM goes where STATE was."""
    wanted = [
        Placement(number, table.partitions[number].name, *table.partitions[number][1:3], *places[number])
        for number in (ROOT_A, STATE, OEM)
        if number in places
    ]
    return tuple(place for place in wanted if (place.start, place.size) != (place.new_start, place.new_size))


def _run(argv: list[str], fine: tuple[int, ...]) -> str:
    import subprocess  # 30 ms on an emulated CPU, and only a disk that was laid out anew needs it

    program = find_program(argv[0])
    if not program:
        raise DiskLayoutError(f"this image has no {argv[0]}")
    done = subprocess.run([program, *argv[1:]], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode not in fine:
        raise DiskLayoutError(f"{' '.join(argv)} ended with status {done.returncode}: {said.strip()[-1000:]}")
    return said
