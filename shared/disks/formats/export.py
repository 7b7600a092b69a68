"""Export one disk in several formats at once, each in threads and programs of its own, and read each back.

    disk ──┬── write_archive ──► NAME.tar.gz                        read back by archive_reader.py
           ├── qemu-img convert ──► NAME.qcow2, .vmdk, .vhd, .raw   qemu-img check, qemu-img compare with the disk
           ├── SHA-256 of the disk: that of .raw, and how that of .vhd begins
           └── root file system ──► tar stream ──┬── NAME.rootfs.tar, .tar.gz, .tar.zst   gzip, zstd
                                                 ├── tar2sqfs ──► NAME.squashfs           unsquashfs, sqfs2tar
                                                 ├── NAME.oci.tar                         GNU tar and gzip
                                                 └── GNU tar: the proof of the stream itself

All read the disk at the same time, so that what one has read comes to the others from the kernel's memory, and the
tree's formats share one reading by our own code. The first that fails ends all; then no file is left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from ...archives.gzip_stream import Level
from ...build.build import ArchiveRecord, ExportedImage
from ...build.export_formats import ExportFormat, space_needed
from ...host.programs import find_tool
from ...quantities import GIB, MIB
from ..archive import ByteProgress, write_archive
from ..archive_reader import verify_archive
from ..extents import copy_sparse, data_bytes, need_space, open_file
from ..partition_table import extend_disk
from .disk_files import FOOTER, check_disk_file, identify_vhd, identify_vmdk, write_disk_file
from .tree_export import TreeExport
from .tree_files import file_digest, hash_file
from .work import ExportOrigin, ExportWork, Jobs

_UNITS = {"gce": GIB, "vhd": MIB}  # whole numbers of which Compute Engine and Azure take; others take any size
_WHOLE = {"raw", "vhd"}  # the disk itself, whose digest is known without reading the file


def export_formats(
    disk: Path,
    targets: Mapping[ExportFormat, Path],
    scratch: Path,
    origin: ExportOrigin,
    *,
    level: Level,
    progress: ByteProgress,
) -> ExportedImage:
    """Write a disk that is not written to in some formats, each to a file of the caller's own, and read each back.

    A file that a killed export has left there is replaced; on failure none is left. `scratch` is a folder for copies of
    the disk that are extended; `progress` gets bytes of the disk's data, and may raise to end it. Faults: InputError
    (the tree is not of a kind that a format can hold), RootUnreadable, ImageFileError, NoSpace, ProgramFailed.
    """
    with open_file(disk) as file:
        data = data_bytes(file.fileno(), disk.stat().st_size)
    for program in dict.fromkeys(program for known in targets for program in known.programs):
        find_tool(program)
    trees = tuple(known for known in targets if known.of == "tree")
    tree = TreeExport.of(disk, trees, origin) if trees else None
    work = ExportWork(targets, level)
    work.remove()
    for folder in {target.parent for target in targets.values()}:
        need_space(folder, sum(space_needed(known.name, data) for known in targets))
    sources = {known: _extended(disk, known, scratch) for known in targets if known.of != "tree"}
    export = _Disks(work, sources, origin.created)

    def start(jobs: Jobs) -> None:
        export.start(jobs)
        if tree is not None:
            tree.start(work, jobs)

    work.run(start, lambda: progress(int(work.progress * data), data))
    return ExportedImage(tuple(work.done[known.name] for known in targets), export.archive)


class _Disks:
    """The jobs of the formats that have the whole disk, each with the disk that it is made of."""

    def __init__(self, work: ExportWork, sources: Mapping[ExportFormat, Path], created: float) -> None:
        self._work = work
        self._created = created
        self._sources = sources
        self.archive: ArchiveRecord | None = None

    def start(self, jobs: Jobs) -> None:
        """Start a thread for each format, and one for the digest of each disk that is in a file as it is."""
        whole = {source for known, source in self._sources.items() if known.name in _WHOLE}
        digests = {source: jobs.start(partial(hash_file, source, self._work.halt)) for source in sorted(whole)}
        for known, source in self._sources.items():
            if known.of == "archive":
                jobs.start(partial(self._write_archive, known, source))
            else:
                jobs.start(partial(self._write, known, source, digests.get(source)))

    def _write_archive(self, known: ExportFormat, source: Path) -> None:
        work, target = self._work, self._work.targets[known]
        fraction = work.fraction(known.name)
        written = write_archive(
            source, target, level=work.level, progress=lambda done, total: fraction(done / max(1, total))
        )
        tar_sha256 = verify_archive(target, written, progress=lambda _done, _total: work.halt.look())
        self.archive = ArchiveRecord(
            bytes=written.bytes,
            sha256=written.sha256,
            tar_sha256=tar_sha256,
            crc32=written.crc32,
            disk_bytes=written.disk_bytes,
            data_bytes=written.data_bytes,
        )
        work.end(known, written.sha256)

    def _write(self, known: ExportFormat, source: Path, digest: Future[hashlib._Hash] | None) -> None:
        work, target = self._work, self._work.targets[known]
        write_disk_file(source, target, known.name, work.halt, work.fraction(known.name))
        if known.name == "vmdk":
            identify_vmdk(target, work.halt)
        check_disk_file(source, target, known.name, work.halt)
        if known.name not in _WHOLE or digest is None:
            work.end(known, file_digest(target, work.halt))
            return
        whole = digest.result().copy()  # qemu-img has just compared the file with the disk
        if known.name == "vhd":
            identify_vhd(target, whole.digest(), self._created)
            with target.open("rb") as file:
                file.seek(-FOOTER, 2)
                whole.update(file.read())
        work.end(known, whole.hexdigest())


def _extended(disk: Path, known: ExportFormat, scratch: Path) -> Path:
    """Return the disk, or a copy of it that has a whole number of the units of a format."""
    unit = _UNITS.get(known.name, 1)
    size = disk.stat().st_size
    if size % unit == 0:
        return disk
    copy = scratch / f"{known.name}.raw"
    copy_sparse(disk, copy)
    extend_disk(copy, -(-size // unit) * unit)
    return copy
