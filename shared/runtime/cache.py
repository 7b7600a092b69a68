"""The cache of this machine's builds: what it holds, and what is thrown away."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..cache.layer_store import LayerRecord, LayerStore, folder_of_layers
from ..cache.packages import PackageCache, folder_of_packages
from ..errors import EnvironmentFault, InputError
from ..host.scratch import faults
from ..machines.start_sandbox import remove_folder, work_on_files
from ..origins.kept_files import KeptFiles
from ..sandbox.supervisor import EXPORT, IMPORT, VERIFY


class BuildCache:
    """The cache below a home."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._folder = folder_of_layers(home)
        self._store = LayerStore(self._folder, remove_folder)

    def layers(self) -> Sequence[LayerRecord]:
        """Return the layers, the one that was used last first."""
        return sorted(self._store.records(), key=lambda record: (-record.used, record.key))

    def prune(self, most: int) -> Sequence[LayerRecord]:
        """Remove the layers that were used longest ago, until the rest take at most `most` bytes; return those."""
        return self._store.prune(most)

    def packages(self) -> tuple[int, int]:
        """Return how many files of package mirrors there are, and their bytes."""
        if not folder_of_packages(self._home).exists():
            return 0, 0
        with PackageCache(self._home) as packages:
            sizes = {entry.sha256: entry.bytes for entry in packages.entries()}
        return len(sizes), sum(sizes.values())

    def prune_packages(self, most: int) -> int:
        """Remove the files of mirrors that were used longest ago, until `most` bytes stay; return the bytes removed."""
        if not folder_of_packages(self._home).exists():
            return 0
        with PackageCache(self._home) as packages, faults(self._home):
            return packages.prune(most)

    def kept_files(self) -> tuple[int, int]:
        """Return for how many lists of elements files are kept, and their bytes."""
        entries = KeptFiles(self._home).entries()
        return len(entries), sum(entry.bytes for entry in entries)

    def prune_kept_files(self, most: int) -> int:
        """Remove what elements have kept and used longest ago, until `most` bytes stay; return the bytes removed."""
        return KeptFiles(self._home).prune(most)

    def verify(self) -> Sequence[str]:
        """Read all layers; remove those that are damaged, and return their keys."""
        return work_on_files(VERIFY, self._folder).split()

    def export(self, archive: Path) -> int:
        """Write all layers into an archive; return their number. EnvironmentFault."""
        if not archive.parent.is_dir():
            raise EnvironmentFault(f"{archive.parent}: is no folder; make it, or choose another place")
        self._check_access(archive.parent, os.W_OK | os.X_OK)
        return int(work_on_files(EXPORT, self._folder, archive.absolute()))

    def add(self, archive: Path) -> int:
        """Add the layers of an archive that are not there; return their number. InputError, EnvironmentFault."""
        if not archive.is_file():
            raise InputError(f"{archive}: is no file; write one with: goldsmith cache export {archive.name}")
        self._check_access(archive, os.R_OK)
        return int(work_on_files(IMPORT, self._folder, archive.absolute()))

    @staticmethod
    def _check_access(path: Path, mode: int) -> None:
        if not os.access(path, mode):
            raise EnvironmentFault(f"{path}: you may not use it; choose another place")
