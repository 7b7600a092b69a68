"""A disk around a tree of files that archives are unpacked to, or packages installed in.

The tree is made in a scratch folder: in memory where there is room and the file system keeps every attribute. A process
without root works on it in a user namespace (user_namespace.py).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..architectures import X86_64, Architecture
from ..block_devices.write_disk import write_disk
from ..build.block_devices.description import DiskDescription
from ..disks.extents import need_space
from ..errors import EnvironmentFault, InputError
from ..host.scratch import Scratch, memory_folder, own_folder, passage, scratch_folder
from ..ports import Notify
from ..sandbox.roots.unpack_root import UnpackedRoot, remove_unpacked
from ..sandbox.user_namespace import run_with_all_ids
from .machine_of import machine_of

_LATEST = (1 << 32) - 1  # Unix seconds that a superblock of ext4 tells


@dataclass(frozen=True)
class FilledTree:
    """What a folder cannot hold of a root, and when anything in it was changed last, in Unix seconds."""

    kept: UnpackedRoot
    newest: int


Fill = Callable[[Path], FilledTree]
"""Makes all files of a root in a folder, which it makes; in the user namespace."""

Make = Callable[[Scratch, Path], FilledTree]
"""Makes all files of a root in such a folder below a scratch folder, by programs with a user namespace of their own."""


@dataclass(frozen=True)
class TreeOrder:
    """The order of a disk: its description, what errors call the source, the key of all identifiers, its time.

    `epoch` is what tells a time in the file systems beside the files' own: when the tree was changed last, for None.
    `estimate` is how many bytes the files may have; `kernels` are disks of images, and
    `growth` how many bytes a build will add, as write_disk() takes them.
    """

    description: DiskDescription
    subject: str
    key: str
    epoch: int | None
    estimate: int
    kernels: tuple[Path, ...] = ()
    growth: int = 0
    architecture: Architecture = X86_64


def write_tree_disk(order: TreeOrder, fill: Fill, disk: Path, progress: Notify, *, in_memory: bool = True) -> None:
    """Write a disk of what `fill` makes. The same order and tree give the same bytes, by any user.

    The tree is beside the disk where it may not be in memory, or has no room there. Raises as `fill` and write_disk()
    do; InputError for another machine's programs.
    """

    def make(scratch: Scratch, tree: Path) -> FilledTree:
        return _from_json(run_with_all_ids(lambda: _to_json(fill(tree))))

    beside = disk.parent / "trees"  # not the folder itself, whose lock its maker may hold
    beside.mkdir(exist_ok=True)
    parent = _parent(beside, order.estimate) if in_memory else beside
    with scratch_folder(parent, remove=remove_unpacked) as scratch:
        _write(order, make, disk, scratch, progress)


def write_made_disk(order: TreeOrder, make: Make, disk: Path, progress: Notify) -> None:
    """Write a disk of what `make` makes, in the same way. This user's other ids may pass through the scratch folder."""
    parent = _parent(own_folder(Path(tempfile.gettempdir())), order.estimate)
    with scratch_folder(parent, mode=passage(), remove=remove_unpacked) as scratch:
        _write(order, make, disk, scratch, progress)


def _write(order: TreeOrder, make: Make, disk: Path, scratch: Scratch, progress: Notify) -> None:
    tree = scratch.path / "tree"
    made = make(scratch, tree)
    machine, program = json.loads(run_with_all_ids(lambda: _look(tree)))
    wanted = order.architecture.name
    if machine not in (None, wanted):
        raise InputError(
            f"{order.subject}: {program} in it is a program for {machine}, and this machine builds images for "
            f"{wanted}; give one for {wanted}"
        )
    progress("writing the disk")
    time = min(max(made.newest, 1), _LATEST) if order.epoch is None else order.epoch
    write_disk(
        order.description,
        tree,
        made.kept,
        disk,
        seed=order.key,
        time=time,
        kernels=order.kernels,
        growth=order.growth,
        architecture=order.architecture,
    )


def _to_json(filled: FilledTree) -> str:
    return json.dumps([filled.kept.to_json(), filled.newest])


def _from_json(text: str) -> FilledTree:
    kept, newest = json.loads(text)
    return FilledTree(UnpackedRoot.from_json(kept), newest)


def _look(tree: Path) -> str:
    try:
        return json.dumps(machine_of(tree))
    except OSError as error:
        raise EnvironmentFault(f"{tree}: {error.strerror}") from error


def _parent(other: Path, estimate: int) -> Path:
    """Return a folder with room for a tree, where any attribute can be set: in memory, else the other one."""
    folder = memory_folder(2 * estimate)
    if folder is not None and _keeps_attributes(folder):
        return folder
    need_space(other, estimate)
    return other


def _keeps_attributes(folder: Path) -> bool:
    """Return whether a file system keeps attributes of users, which Linux before 6.6 does not in memory."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        try:
            os.setxattr(file.name, "user.probe", b"1")
        except OSError:
            return False
    return True
