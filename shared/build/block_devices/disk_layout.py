"""The size of Container-Optimized OS's OEM partition, and of the disk that holds it. Pure arithmetic.

Units are binary. Such an image has a disk of 10 GB whose last partition, STATE, takes all that is left. What OEM gains
is what the disk has to grow by, unless the second root partition, which only updates use, is given up for it. A sealed
OEM is twice as large as its file system: the second half has room for dm-verity's hash tree.
"""

from __future__ import annotations

from collections.abc import Iterable

from provisioner.protocol import DiskLayout

from ...quantities import GIB, MIB

BLOCK = 4096  # bytes, of OEM's file system and of dm-verity

SEAL = "seal-oem"
RECLAIMING = (SEAL, "disable-auto-update")
"""Actions after which nothing updates the system, so that the second root partition (2 GB) goes to OEM."""

COS_DISK_GB = 10  # of every image of Container-Optimized OS
LARGEST_DISK_GB = 65536  # Compute Engine's
SMALLEST_OEM = 16 * MIB  # as it is in every image
RECLAIMED = 2046 * MIB  # 2 GB without the 8 sectors that stay of it and what alignment takes
SEALED_PARTITION = 2 * SMALLEST_OEM  # of a sealed OEM without oem_size


def partition_size(oem_size: int, *, sealed: bool) -> int:
    """Return the bytes asked for: whole MiB, and one less, so that a disk that is exactly large enough works."""
    return ((2 * oem_size if sealed else oem_size) // MIB - 1) * MIB


def needed_disk_gb(oem_size: int | None, *, sealed: bool, reclaim: bool, image_gb: int = COS_DISK_GB) -> int:
    """Return the least GB of disk that hold an OEM of `oem_size` bytes, made from an image of `image_gb`."""
    if oem_size is None:  # a sealed one of the usual size lies in what is reclaimed
        return image_gb
    grown = (2 * oem_size if sealed else oem_size) - (RECLAIMED if reclaim else 0)
    return image_gb + max(0, -(-grown // GIB))


def disk_layout(
    oem_size: int | None, actions: Iterable[str], *, image_gb: int = COS_DISK_GB, disk_gb: int = COS_DISK_GB
) -> DiskLayout | None:
    """Return the layout that a build of these actions needs, on a disk of `disk_gb`; None for the disk as it is.

    With a layout the disk is made at the image's own size, and `disk_size` tells what it becomes before OEM grows:
    a larger disk would let the system's first boot take all of it for STATE.
    """
    actions = frozenset(actions)
    sealed, reclaim = SEAL in actions, not actions.isdisjoint(RECLAIMING)
    if oem_size is None and not reclaim:
        return None
    size, blocks = (SEALED_PARTITION, SMALLEST_OEM // BLOCK) if sealed else (None, None)
    if oem_size is not None:
        size, blocks = partition_size(oem_size, sealed=sealed), oem_size // BLOCK if sealed else None
    grown = disk_gb * GIB if disk_gb > image_gb else None
    return DiskLayout(reclaim=reclaim, oem_size=size, oem_blocks=blocks, disk_size=grown)
