"""seal-oem: protect the OEM partition from changes by dm-verity; the kernel then checks it at each read.

The whole file system is sealed: fitting it, by Job.layout, has left room for the hash tree behind it. The salt is
derived from the partition, so that the same OEM gives the same image, and a second try the same tree.
"""

from __future__ import annotations

import hashlib
import os

from ..cos.cos import OEM, UPDATE_ENGINE, BootDisk, CosError, EfiSystem, must_call, require_cos
from ..cos.grub_config import GrubConfigError, with_masked, with_oem_verity
from ..cos.verity import BLOCK, Seal, VerityError, seal
from ..protocol import SealOem
from ..system.file_system import FILE_SYSTEM_HEAD, file_system_size
from ..system.partition_table import PartitionTableError, read_table
from .step_context import StepContext, StepError

MASKED = (UPDATE_ENGINE, "usr-share-oem.mount")  # an update would change OEM; this mount would not be checked


def act(inputs: SealOem, context: StepContext) -> int:
    """Seal it; return 0. StepError where that cannot be done."""
    root = context.root
    try:
        require_cos(root, "seal-oem")
        disk = BootDisk(root)
        for mount_point in disk.mount_points(OEM):
            must_call(["umount", mount_point], root)
        uuid = read_table(disk.path).partitions[OEM].uuid
        blocks = _blocks(disk.partition(OEM))
        context.output.say(f"sealing {blocks} blocks of {BLOCK} bytes")
        sealed = seal(disk.partition(OEM), 0, blocks, hashlib.sha256(uuid.encode()).digest())
        with EfiSystem(disk, root) as efi:
            efi.edit_boot_configuration(lambda text: _with_sealed(text, uuid, sealed))
    except (CosError, GrubConfigError, PartitionTableError, VerityError) as error:
        raise StepError(str(error)) from error
    context.output.say(f"the root of the hash tree is {sealed.root_hash}")
    return 0


def _with_sealed(text: str, uuid: str, sealed: Seal) -> str:
    text = with_oem_verity(text, uuid, sealed.sectors, sealed.root_hash, sealed.salt)
    for unit in MASKED:
        text = with_masked(text, unit)
    return text


def _blocks(device: str) -> int:
    """Return the size of OEM's file system in blocks of the hash tree. StepError."""
    with open(device, "rb") as file:
        size = file_system_size(file.read(FILE_SYSTEM_HEAD))
        end = file.seek(0, os.SEEK_END)
    if size is None:
        raise StepError("the OEM partition has no ext4 file system; dm-verity would seal nothing of use")
    if size % BLOCK or size >= end:
        raise StepError(
            f"the OEM file system's {size} bytes leave no room for a hash tree in the {end} bytes of its partition; "
            "a spec with seal-oem makes that room before its first step"
        )
    return size // BLOCK
