"""What an image of this machine becomes on Compute Engine, when its disk is brought there as an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..build.image.archived import ArchivedImage
from ..build.image.guest_features import GUEST_FEATURES
from ..build.machine_types import GVNIC
from ..build.plan import ImagePlan
from ..disks.disk import Disk
from ..disks.root_files import RootUnreadable
from ..errors import InputError
from ..names import COPY_LABEL, LABEL_COUNT, output_name
from ..ports import Image
from .contents import describe_image

_UEFI, _SCSI = "UEFI_COMPATIBLE", "VIRTIO_SCSI_MULTIQUEUE"
_GVNIC_MODULE = "/lib/modules/{release}/kernel/drivers/net/ethernet/google/gve/gve.ko{ending}"
_MODULE_ENDINGS = ("", ".xz", ".zst", ".gz")


@dataclass(frozen=True)
class ArchivedAs:
    """What a person asks for of an image that is brought to a project."""

    project: str
    name: str
    features: tuple[str, ...] = ()  # beside those that its disk and its spec tell


def archived_image(image: Image, disk: Path, plan: ImagePlan | None, asked: ArchivedAs, archive: str) -> ArchivedImage:
    """Return what is to be made of an image of this machine. InputError.

    `plan` is what its build was to make, for what only Google Cloud can give an image; None for one without a build.
    """
    try:
        output_name(asked.name)
    except ValueError as error:
        raise InputError(str(error)) from error
    unknown = [name for name in asked.features if name not in GUEST_FEATURES]
    if unknown:
        raise InputError(f"--guest-os-feature {unknown[0]}: choose from {', '.join(GUEST_FEATURES)}")
    if len(image.labels) >= LABEL_COUNT:
        raise InputError(
            f"image {image.name} has {len(image.labels)} labels, and its copy needs room for {COPY_LABEL}; remove one"
        )
    own = () if plan is None else plan.guest_os_features
    return ArchivedImage(
        project=asked.project,
        name=asked.name,
        archive=archive,
        copy_of=image.id,
        description=image.description,
        labels=image.labels,
        licenses=image.licenses,
        architecture=image.architecture,
        guest_os_features=tuple(dict.fromkeys((*guest_features(disk), *own, *asked.features))),
        storage_locations=() if plan is None else plan.storage_locations,
        kms_key=None if plan is None else plan.kms_key,
        secure_boot_keys=None if plan is None else plan.secure_boot_keys,
    )


def guest_features(disk: Path) -> tuple[str, ...]:
    """Return what the system of a raw disk can do, as far as the disk tells: what UEFI finds, and modules."""
    contents = describe_image(disk)
    found = [_SCSI]
    if contents.efi:
        found.append(_UEFI)
    if contents.kernel is not None and _has_gvnic(disk, contents.kernel):
        found.append(GVNIC)
    return tuple(found)


def _has_gvnic(disk: Path, release: str) -> bool:
    with Disk(disk) as opened:
        try:
            root = opened.root
        except RootUnreadable:
            return False
        return any(root.exists(_GVNIC_MODULE.format(release=release, ending=ending)) for ending in _MODULE_ENDINGS)
