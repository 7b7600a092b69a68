"""The formats of image files, by their names in specs and on the command line: what each is of, and how its file ends.

Two that end alike, such as qcow2 and qcow2-compressed, cannot be in one folder. A tree is the files of the root file
system alone: its archives end in `.rootfs.tar`, `.rootfs.tar.gz` and so on, since NAME.tar.gz is Compute Engine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from provisioner.protocol import GCE_FORMAT, QEMU_FORMATS, RAW_FORMAT

from ..errors import InputError

GCE = GCE_FORMAT
CHECKSUM = ".sha256"  # the ending of the file beside each, as sha256sum writes it
CLOUD_FORMATS = (GCE, RAW_FORMAT, *QEMU_FORMATS)
"""What a VM of Google Cloud writes; others are written on one machine alone."""
NO_EXPORT = "are those of the files of output.export; write export: {to: gs://bucket/object.tar.gz}, or leave it out"


@dataclass(frozen=True)
class ExportFormat:
    """One format: the whole disk as an archive or as a disk file, or the files of the root file system."""

    name: str
    ending: str
    of: Literal["archive", "disk", "tree"]
    programs: tuple[str, ...] = ()  # that write it, and read it back
    packed: bool = True


_TREE = ("tar",)
EXPORT_FORMATS: Mapping[str, ExportFormat] = {
    known.name: known
    for known in (
        ExportFormat(GCE, ".tar.gz", "archive"),
        ExportFormat("raw", ".raw", "disk", ("qemu-img",), packed=False),
        ExportFormat("qcow2", ".qcow2", "disk", ("qemu-img",), packed=False),
        ExportFormat("qcow2-compressed", ".qcow2", "disk", ("qemu-img",)),
        ExportFormat("vmdk", ".vmdk", "disk", ("qemu-img",)),
        ExportFormat("vhd", ".vhd", "disk", ("qemu-img",), packed=False),
        ExportFormat("tar", ".rootfs.tar", "tree", _TREE, packed=False),
        ExportFormat("tar.gz", ".rootfs.tar.gz", "tree", (*_TREE, "gzip")),
        ExportFormat("tar.zst", ".rootfs.tar.zst", "tree", (*_TREE, "zstd")),
        ExportFormat("squashfs", ".squashfs", "tree", (*_TREE, "tar2sqfs", "sqfs2tar", "unsquashfs")),
        ExportFormat("oci", ".oci.tar", "tree", (*_TREE, "gzip")),
    )
}
_PACKED = 0.6  # the size of a compressed file against its contents, at the most that is usual


def chosen_formats(names: Iterable[str]) -> tuple[ExportFormat, ...]:
    """Return the formats of these names, each once, in the order given. InputError names the formats that there are."""
    found: dict[str, ExportFormat] = {}
    for name in names:
        known = EXPORT_FORMATS.get(name)
        if known is None:
            raise InputError(f"there is no format {name!r}; choose of {', '.join(EXPORT_FORMATS)}")
        other = found.setdefault(known.ending, known)
        if other is not known:
            raise InputError(f"formats {other.name} and {name} both write NAME{known.ending}; choose one of them")
    return tuple(found.values())


def refused_in_cloud(names: Iterable[str]) -> str:
    """Return why some formats are refused on Google Cloud, and what to do instead; "" where none is."""
    refused = [name for name in names if name not in CLOUD_FORMATS]
    if not refused:
        return ""
    return (
        f"{', '.join(refused)} cannot be written on Google Cloud; choose of {', '.join(CLOUD_FORMATS)}, or build on "
        "one machine with: goldsmith build SPEC --output FOLDER"
    )


def checksum_line(sha256: str, name: str) -> bytes:
    """Return the content of the file beside an exported one, for `sha256sum --check`."""
    return f"{sha256}  {name}\n".encode()


def space_needed(name: str, data: int) -> int:
    """Return the bytes that a file may need in a format, of a disk with so much data."""
    return int(data * _PACKED) if EXPORT_FORMATS[name].packed else data
