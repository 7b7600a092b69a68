"""seal-oem: make the OEM partition one that cannot be changed, by dm-verity, and let the kernel check it at each read.

The file system's own size says what is sealed: fitting it, by Job.layout, has left room for the hash tree behind it.
The salt follows from the partition, so that the same OEM gives the same image, and a second try the same tree.
"""

from __future__ import annotations

import hashlib
import os

from ..cos import OEM, BootDisk, CosError, EfiSystem, must_call, require_cos
from ..grub_config import GrubConfigError, with_masked, with_oem_verity
from ..partition_table import PartitionTableError, read_table
from ..protocol import SealOem
from ..root_disk import HEAD, file_system_size
from ..verity import BLOCK, Seal, VerityError, seal
from . import StepError, Workshop
from .disable_auto_update import UPDATE_ENGINE

MASKED = (UPDATE_ENGINE, "usr-share-oem.mount")  # an update would change OEM; a mount of it would not be checked


def act(inputs: SealOem, workshop: Workshop) -> int:
    """Give 0; what cannot be done is a StepError."""
    root = workshop.root
    try:
        require_cos(root, "seal-oem")
        disk = BootDisk(root)
        for mount_point in disk.mount_points(OEM):
            must_call(["umount", mount_point], root)
        uuid = read_table(disk.path).partitions[OEM].uuid
        blocks = _blocks(disk.partition(OEM))
        workshop.output.say(f"sealing {blocks} blocks of {BLOCK} bytes")
        sealed = seal(disk.partition(OEM), 0, blocks, hashlib.sha256(uuid.encode()).digest())
        with EfiSystem(disk, root) as efi:
            efi.edit_boot_configuration(lambda text: _with_sealed(text, uuid, sealed))
    except (CosError, GrubConfigError, PartitionTableError, VerityError) as error:
        raise StepError(str(error)) from error
    workshop.output.say(f"the root of the hash tree is {sealed.root_hash}")
    return 0


def _with_sealed(text: str, uuid: str, sealed: Seal) -> str:
    text = with_oem_verity(text, uuid, sealed.sectors, sealed.root_hash, sealed.salt)
    for unit in MASKED:
        text = with_masked(text, unit)
    return text


def _blocks(device: str) -> int:
    """Give the size of OEM's file system in blocks of the hash tree."""
    with open(device, "rb") as file:
        size = file_system_size(file.read(HEAD))
        end = file.seek(0, os.SEEK_END)
    if size is None:
        raise StepError("the OEM partition has no ext4 file system; dm-verity would seal nothing of use")
    if size % BLOCK or size >= end:
        raise StepError(
            f"the OEM file system's {size} bytes leave no room for a hash tree in the {end} bytes of its partition; "
            "a spec with seal-oem makes that room before its first step"
        )
    return size // BLOCK
