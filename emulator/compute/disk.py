"""One disk: its document, and its sparse raw file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from shared.disks.extents import copy_sparse
from shared.disks.partition_table import grow_disk_file
from shared.errors import ImageFileError

from .image_records import GIB
from .rest.refusals import Document


@dataclass
class Disk:
    """A disk: its document, its file and, while an instance runs with it, the path of that instance."""

    path: str
    document: Document
    file: Path
    source: Path | None = None  # an image's disk, until it is copied
    running: str = ""
    users: list[str] = field(default_factory=list)  # paths of the instances that it is attached to
    is_being_attached: bool = False

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return int(self.document["sizeGb"]) * GIB

    def update(self, **fields: object) -> None:
        """Replace its document, so that readers always see a whole one."""
        self.document = {**self.document, **fields}

    def write(self) -> None:
        """Make the file. NoSpace, EnvironmentFault."""
        if self.source is None:
            with self.file.open("wb") as file:
                file.truncate(self.size)
        else:
            copy_sparse(self.source, self.file)
            self.file.chmod(0o600)
            if self.size > self.file.stat().st_size:
                _grow(self.file, self.size)
        self.update(status="READY")


def _grow(file: Path, size: int) -> None:
    """Enlarge a disk, and its last partition too, as the image's first boot in the cloud would do."""
    try:
        grow_disk_file(file, size)
    except ImageFileError:  # no partitions: a file system of its own, or something else
        os.truncate(file, size)
