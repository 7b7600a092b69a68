"""Partition tables of new disks, written by sfdisk into a file: GPT, or MBR with logical partitions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..build.block_devices.description import DiskDescription
from ..build.block_devices.layout import SECTOR_BYTES, Area, PlacedDisk
from ..host.programs import run_tool
from .identity import DiskIdentity


def write_partitions(description: DiskDescription, placed: PlacedDisk, disk: Path, identity: DiskIdentity) -> None:
    """Write the table of a described disk into its file, which has its size."""
    lines = "\n".join(_script(description, placed, identity)) + "\n"
    run_tool(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe=never", disk], stdin=lines)


def _script(description: DiskDescription, placed: PlacedDisk, identity: DiskIdentity) -> Iterator[str]:
    if description.table == "gpt":
        yield f"label: gpt\nlabel-id: {identity.uuid('disk')}\nfirst-lba: 2048"
        for each in placed.partitions:
            own = identity.uuid(f"partition/{each.partition.name}")
            bootable = ', attrs="LegacyBIOSBootable"' if each.partition.boot else ""
            name = each.partition.name[:36]
            yield f'{each.number}: {_lies(each.area)}, type={each.partition.type}, uuid={own}, name="{name}"{bootable}'
        return
    yield f"label: dos\nlabel-id: {identity.number('disk'):#010x}"
    extended = placed.extended
    for each in placed.partitions:
        if extended is not None and each.number >= 5:
            yield f"{sum(other.number < 5 for other in placed.partitions) + 1}: {_lies(extended)}, type=f"
            extended = None
        bootable = ", bootable" if each.partition.boot else ""
        yield f"{each.number}: {_lies(each.area)}, type={each.partition.type}{bootable}"


def _lies(area: Area) -> str:
    return f"start={area.start // SECTOR_BYTES}, size={area.size // SECTOR_BYTES}"
