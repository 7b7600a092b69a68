"""Where the parts of a described disk lie on a disk of a given size, and the least size on which all fits. Arithmetic.

All places are in bytes from the start of the disk. Logical partitions of an MBR begin one alignment behind their
record in the extended partition, which takes all that follows the last primary one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...errors import InputError
from ...quantities import GIB, MIB
from .description import WHOLE_DISK, DiskDescription, NewPartition, NewVolumeGroup

SECTOR_BYTES = 512
EXTENT = 4 * MIB  # of a volume group
EXTENTS_AT = MIB  # of a physical volume: where its first extent is
MOST_DISK = 64 << 40  # bytes: Compute Engine's largest disk
MOST_MBR = 1 << 41  # bytes that the 32 bits of an MBR's sectors reach
_TABLE_END = MIB  # for the second copy of a GPT, at the end of the disk


@dataclass(frozen=True)
class Area:
    """A part of the disk, in bytes."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.start + self.size


@dataclass(frozen=True)
class PlacedPartition:
    """A partition at its place. A logical one has a number from 5."""

    number: int
    partition: NewPartition
    area: Area


@dataclass(frozen=True)
class VolumeSegment:
    """Extents of a logical volume that lie together: in the group's physical volume of that index."""

    volume: int
    first: int
    count: int


@dataclass(frozen=True)
class PlacedVolume:
    """A logical volume in its group."""

    name: str
    segments: tuple[VolumeSegment, ...]


@dataclass(frozen=True)
class PlacedGroup:
    """A volume group: the areas of its physical volumes, and its logical volumes."""

    group: NewVolumeGroup
    areas: tuple[Area, ...]
    volumes: tuple[PlacedVolume, ...]

    def places(self, volume: PlacedVolume) -> tuple[Area, ...]:
        """Return where a logical volume lies on the disk."""
        return tuple(
            Area(self.areas[each.volume].start + EXTENTS_AT + each.first * EXTENT, each.count * EXTENT)
            for each in volume.segments
        )


@dataclass(frozen=True)
class PlacedDisk:
    """All parts of a disk of `size` bytes. `areas` has those of each name; a volume may lie in several."""

    size: int
    partitions: tuple[PlacedPartition, ...]
    extended: Area | None
    groups: tuple[PlacedGroup, ...]
    areas: Mapping[str, tuple[Area, ...]]

    def room(self, name: str) -> int:
        """Return the bytes of a partition, a volume or the disk."""
        return sum(area.size for area in self.areas[name])


class DoesNotFit(InputError):
    """A disk is too small for what is described; `part` is the name of the first part that has no place."""

    def __init__(self, part: str, text: str) -> None:
        super().__init__(text)
        self.part = part


def place_disk(description: DiskDescription, size: int) -> PlacedDisk:
    """Place all parts on a disk of `size` bytes. Raises DoesNotFit."""
    areas: dict[str, tuple[Area, ...]] = {WHOLE_DISK: (Area(0, size),)}
    for each in description.file_systems:
        if description.table is None:
            areas[each.base] = (Area(0, size),)
    partitions, extended = _place_partitions(description, size) if description.table else ((), None)
    areas.update({placed.partition.name: (placed.area,) for placed in partitions})
    groups = tuple(_place_group(group, areas) for group in description.groups)
    for placed_group in groups:
        areas.update({volume.name: placed_group.places(volume) for volume in placed_group.volumes})
    return PlacedDisk(size, partitions, extended, groups, areas)


def least_disk(description: DiskDescription, needs: Mapping[str, int], step: int = GIB) -> int:
    """Return the least multiple of `step` bytes on which each part of `needs` has as many bytes. Raises DoesNotFit."""
    limit = MOST_MBR - step if description.table == "mbr" else MOST_DISK
    most = limit // step
    if (reason := _lacking(description, needs, most * step)) is not None:
        raise reason
    least = 0  # does not fit; most does
    while most - least > 1:
        middle = (least + most) // 2
        if _lacking(description, needs, middle * step) is None:
            most = middle
        else:
            least = middle
    return most * step


def check_room(description: DiskDescription, needs: Mapping[str, int], size: int) -> None:
    """Raise DoesNotFit where a part of a disk of `size` bytes has fewer bytes than it needs."""
    if (reason := _lacking(description, needs, size)) is not None:
        raise reason


def _lacking(description: DiskDescription, needs: Mapping[str, int], size: int) -> DoesNotFit | None:
    try:
        placed = place_disk(description, size)
    except DoesNotFit as error:
        return error
    for name, needed in needs.items():
        if placed.room(name) < needed:
            return DoesNotFit(
                name,
                f"{name}: {_megabytes(needed)} are needed for its files, and it has {_megabytes(placed.room(name))} on "
                f"a disk of {_megabytes(size)}; give it a larger size, or the disk (output.disk_size_gb)",
            )
    return None


def _megabytes(count: int) -> str:
    return f"{-(-count // MIB)} MiB"


def _place_partitions(description: DiskDescription, size: int) -> tuple[tuple[PlacedPartition, ...], Area | None]:
    align = description.align
    at = max(align, MIB if description.table == "gpt" else align)
    end = (size - (_TABLE_END if description.table == "gpt" else 0)) // align * align
    if description.table == "mbr":
        end = min(end, MOST_MBR // align * align)
    numbers = _numbers(description)
    placed: list[PlacedPartition] = []
    extended_at: int | None = None
    for partition, number in zip(description.partitions, numbers, strict=True):
        is_logical = description.table == "mbr" and number > 4
        if is_logical:
            extended_at = at if extended_at is None else extended_at
            at += align
        free = end - at
        wanted = int(free * (partition.percent or 0) / 100) if partition.size is None else partition.size
        length = wanted // align * align if partition.size is None else -(-wanted // align) * align
        if length <= 0 or length > free:
            raise DoesNotFit(
                partition.name,
                f"{partition.name}: {_megabytes(wanted)} do not fit into the {_megabytes(max(free, 0))} that are left "
                f"of a disk of {_megabytes(size)}; make it or those before it smaller, or the disk larger",
            )
        placed.append(PlacedPartition(number, partition, Area(at, length)))
        at += length
    extended = None if extended_at is None else Area(extended_at, end - extended_at)
    return tuple(placed), extended


def _numbers(description: DiskDescription) -> Iterator[int]:
    """Yield the partitions' numbers: logical ones count from 5."""
    following, logical = 1, 5
    for partition in description.partitions:
        if partition.number is not None:
            yield partition.number
        elif description.table == "gpt" or partition.primary:
            yield following
            following += 1
        else:
            yield logical
            logical += 1


def _place_group(group: NewVolumeGroup, areas: Mapping[str, tuple[Area, ...]]) -> PlacedGroup:
    own = tuple(areas[name][0] for name in group.partitions)
    counts = [max(0, (area.size - EXTENTS_AT) // EXTENT) for area in own]
    used = [0] * len(own)
    placed = []
    for volume in group.volumes:
        total, free = sum(counts), sum(counts) - sum(used)
        if volume.size is not None:
            wanted = -(-volume.size // EXTENT)
        elif volume.extents is not None:
            wanted = volume.extents
        else:
            wanted = int((free if volume.of_free else total) * (volume.percent or 0) / 100)
        if not 0 < wanted <= free:
            raise DoesNotFit(
                volume.name,
                f"{volume.name}: {wanted} extents of 4 MiB do not fit into the {free} that are left of the volume "
                f"group {group.name}; make it or those before it smaller, or the partitions larger",
            )
        segments = []
        for index, count in enumerate(counts):
            taken = min(wanted, count - used[index])
            if taken:
                segments.append(VolumeSegment(index, used[index], taken))
                used[index] += taken
                wanted -= taken
        placed.append(PlacedVolume(volume.name, tuple(segments)))
    return PlacedGroup(group, own, tuple(placed))
