"""Look into the disk of a stopped machine, before it becomes an image: what provisioner/hygiene.py finds in there.

All ext4 file systems are looked into, each below the folder that it is mounted on: the root's fstab says where, and for
Container-Optimized OS the names of its partitions. A disk whose root is of another kind cannot be looked into: its
machine does it itself, as in the cloud.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from provisioner.hygiene import STATEFUL, File, Finding, check, is_published

from .disk import Partition, read_table
from .ext4 import Ext4, FileSystemUnreadable
from .ext4_inode import Inode
from .root_files import RootFiles, RootUnreadable

COS = "cos"  # ID in os-release of Container-Optimized OS
COS_MOUNT_POINTS = {"STATE": STATEFUL, "OEM": "/usr/share/oem"}
_LABEL_AT, _LABEL_BYTES = 1024 + 0x78, 16  # of ext4's superblock
_NANOSECONDS = 1e9


def can_look_into(disk: Path) -> bool:
    """Tell whether the root file system can be read from here. Raises ImageFileError."""
    try:
        RootFiles(disk)
    except RootUnreadable:
        return False
    return True


def was_cut_off(disk: Path) -> bool:
    """Tell whether a file system was cut off in its work, so that a mount would replay its journal first.

    Raises ImageFileError when the disk is damaged.
    """
    for partition in _partitions(disk):
        try:
            with Ext4(disk, partition.start, partition.size) as file_system:
                if file_system.needs_recovery:
                    return True
        except FileSystemUnreadable:
            continue
    return False


def look_into(disk: Path, since: float) -> list[Finding]:
    """Give what must not be in an image, of a build that began at `since` (Unix seconds), by path.

    Nothing where can_look_into() is false. Raises ImageFileError when the disk is damaged.
    """
    try:
        root = RootFiles(disk)
    except RootUnreadable:
        return []
    return check(_files(disk, root), since, root.os_release().get("ID", ""))


class _DiskFile(File):
    def __init__(self, file_system: Ext4, path: str, inode: Inode) -> None:
        super().__init__(path, inode.mode, inode.size, inode.ctime_ns / _NANOSECONDS)
        self._file_system = file_system
        self._inode = inode

    def read(self, limit: int) -> bytes:
        """Give the first bytes."""
        return self._file_system.read(self._inode, limit)


def _partitions(disk: Path) -> list[Partition]:
    return [partition for partition in read_table(disk).partitions if partition.file_system == "ext4"]


def _files(disk: Path, root: RootFiles) -> Iterator[File]:
    yield from _files_of(root.file_system, "")
    known = _mount_points(root)
    for partition in _partitions(disk):
        if partition == root.partition:
            continue
        try:
            with Ext4(disk, partition.start, partition.size) as file_system:
                names = (*_names(disk, partition, file_system), f"PARTITION={partition.number}")
                places = [known[name] for name in names if name in known]
                yield from _files_of(file_system, places[0] if places else f"/partition-{partition.number}")
        except FileSystemUnreadable:
            continue


def _files_of(file_system: Ext4, mount_point: str) -> Iterator[File]:
    seen: set[int] = set()  # on a damaged disk, a folder may be in itself
    waiting = [(mount_point, file_system.root)]
    while waiting:
        folder, inode = waiting.pop()
        for name, number in file_system.entries(inode).items():
            path, found = f"{folder}/{name}", file_system.inode(number)
            if found.is_file:
                yield _DiskFile(file_system, path, found)
            elif found.is_folder and number not in seen and not is_published(path + "/"):
                seen.add(number)
                waiting.append((path, found))


def _mount_points(root: RootFiles) -> Mapping[str, str]:
    """Give where file systems are mounted, by each name that fstab(5) may use, and by COS's names of partitions."""
    if root.os_release().get("ID") == COS:
        return {f"PARTLABEL={name}": path for name, path in COS_MOUNT_POINTS.items()}
    lines = root.read_all(["/etc/fstab"]).get("/etc/fstab", b"").decode("utf-8", "replace").splitlines()
    fields = [line.split() for line in lines if not line.lstrip().startswith("#")]
    return {words[0].replace('"', ""): words[1].rstrip("/") for words in fields if len(words) > 1}


def _names(disk: Path, partition: Partition, file_system: Ext4) -> Iterator[str]:
    yield f"UUID={file_system.uuid}"
    yield f"PARTUUID={partition.uuid}"
    yield f"PARTLABEL={partition.name}"
    with disk.open("rb") as file:
        file.seek(partition.start + _LABEL_AT)
        yield f"LABEL={file.read(_LABEL_BYTES).rstrip(bytes(1)).decode('utf-8', 'replace')}"
