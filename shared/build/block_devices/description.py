"""The description of a disk that is made from a tree of files: pure values, with a form in JSON.

A spec says it in diskimage-builder's words (shared/spec/disk/ reads them). Names are those of the spec; a file system
lies on a partition, on a logical volume, or on the whole disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ...architectures import ARM64, X86_64, Architecture
from ...json_values import reader, to_document
from ...quantities import MIB

FileSystemKind = Literal["ext4", "xfs", "btrfs", "vfat", "swap"]
ROOT_LABEL = "cloudimg-rootfs"
WHOLE_DISK = "disk"
"""The name of the disk, where the spec gives it none."""

LINUX_ROOT = X86_64.root_type
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
EFI_SYSTEM = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
EFI_IN_MBR = "ef"


@dataclass(frozen=True)
class FstabEntry:
    """What /etc/fstab says of a file system, beside where it is."""

    options: str = "defaults"
    dump: int = 0
    check: int = 2


@dataclass(frozen=True)
class NewFileSystem:
    """A file system to be made. `base` is the name of the partition, the volume or the disk that it fills."""

    name: str
    base: str
    kind: FileSystemKind = "ext4"
    label: str | None = None
    uuid: str | None = None  # None: one that follows from the disk's seed
    options: tuple[str, ...] = ()  # of its mkfs program, checked
    mount_point: str | None = None  # absolute
    fstab: FstabEntry | None = None


@dataclass(frozen=True)
class NewPartition:
    """A partition to be made: of `size` bytes, or of `percent` of what is free where its turn comes."""

    name: str
    size: int | None = None
    percent: float | None = None
    type: str = ""  # a GUID, or two hex digits in an MBR
    boot: bool = False
    primary: bool = False  # in an MBR; else in its extended partition
    number: int | None = None  # None: the next one


@dataclass(frozen=True)
class NewVolume:
    """A logical volume to be made: of `size` bytes, of `extents`, or of `percent` of all or of the free extents."""

    name: str
    size: int | None = None
    extents: int | None = None
    percent: float | None = None
    of_free: bool = False


@dataclass(frozen=True)
class NewVolumeGroup:
    """A volume group to be made on partitions, in their order."""

    name: str
    partitions: tuple[str, ...]
    volumes: tuple[NewVolume, ...]


@dataclass(frozen=True)
class DiskDescription:
    """A disk to be made. Without a partition table, it is one file system."""

    file_systems: tuple[NewFileSystem, ...]
    table: Literal["gpt", "mbr"] | None = None
    partitions: tuple[NewPartition, ...] = ()
    groups: tuple[NewVolumeGroup, ...] = ()
    size: int | None = None  # bytes; None: the least that fits
    align: int = MIB  # bytes; of partitions

    @property
    def root(self) -> NewFileSystem:
        """The root file system."""
        return next(each for each in self.file_systems if each.mount_point == "/")

    @property
    def boot(self) -> NewFileSystem:
        """The file system that has /boot."""
        return next((each for each in self.file_systems if each.mount_point == "/boot"), self.root)

    @property
    def efi(self) -> NewPartition | None:
        """The EFI system partition."""
        return next((each for each in self.partitions if each.type in (EFI_SYSTEM, EFI_IN_MBR)), None)

    @property
    def has_bios_place(self) -> bool:
        """Whether there is a place for what a BIOS starts: behind an MBR, or a partition of a GPT."""
        return self.table == "mbr" or any(each.type == BIOS_BOOT for each in self.partitions)

    def volume_group(self, base: str) -> NewVolumeGroup | None:
        """Return the volume group that has a file system's volume; None for a partition or the disk."""
        return next((group for group in self.groups if any(each.name == base for each in group.volumes)), None)

    def mounted(self) -> tuple[NewFileSystem, ...]:
        """Return the file systems that hold files of the tree, in the order in which a machine mounts them."""
        with_files = [each for each in self.file_systems if each.mount_point is not None and each.kind != "swap"]
        return tuple(sorted(with_files, key=lambda each: _parts(each.mount_point or "/")))

    @property
    def needs_vm(self) -> str | None:
        """Why only a machine that runs from the disk can change its files; None where the chroot engine can."""
        root = self.root
        if root.kind != "ext4":
            return f"the root is {root.kind}"
        if self.volume_group(root.base) is not None:
            return "the root is on LVM"
        apart = [each.mount_point for each in self.mounted() if each.mount_point not in ("/", "/boot/efi", "/efi")]
        return f"{apart[0]} is a file system of its own" if apart else None

    def warnings(self) -> Iterator[str]:
        """Yield what a person should know of a disk that can be made."""
        if self.volume_group(self.root.base) is not None:
            yield (
                f"the root file system is on LVM ({self.root.base}): Compute Engine's guest agent does not grow it "
                "when the disk is larger; write a partition for it, or grow it with lvextend"
            )
        if self.table == "gpt" and self.efi is None and not self.has_bios_place:
            yield (
                "no firmware starts this disk: a GPT needs a partition of type EF02 (BIOS) or EF00 (EFI); "
                "add one, or boot its kernel directly"
            )

    def to_json(self) -> Any:
        """Return it as JSON's own types, as from_json() reads it."""
        return to_document(self)

    @classmethod
    def from_json(cls, document: Any) -> DiskDescription:
        """Read what to_json() has written. Raises shared.json_values.Unreadable."""
        shape: Any = cls
        found: DiskDescription = reader(shape)(document)
        return found


def default_disk(architecture: Architecture = X86_64) -> DiskDescription:
    """Return the disk of a spec that describes none: GPT, for BIOS and EFI, an ext4 root that grows with the disk.

    Machines of arm64 boot by EFI alone.
    """
    bios = () if architecture == ARM64 else (NewPartition("bios", MIB, type=BIOS_BOOT, number=14),)
    return DiskDescription(
        file_systems=(
            NewFileSystem("mkfs_esp", "esp", "vfat", "ESP"),
            NewFileSystem(
                "mkfs_root",
                "root",
                label=ROOT_LABEL,
                mount_point="/",
                fstab=FstabEntry("defaults,x-systemd.growfs", check=1),
            ),
        ),
        table="gpt",
        partitions=(
            *bios,
            NewPartition("esp", 64 * MIB, type=EFI_SYSTEM, number=15),
            NewPartition("root", percent=100.0, type=architecture.root_type, number=1),
        ),
    )


def file_system_disk() -> DiskDescription:
    """Return the disk of `disk: filesystem`: one file system, just large enough, that can grow very large."""
    root = NewFileSystem(
        "mkfs_root",
        WHOLE_DISK,
        label=ROOT_LABEL,
        options=("-i", "4096"),
        mount_point="/",
        fstab=FstabEntry(check=1),
    )
    return DiskDescription((root,))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
