"""The formats of image files, by their names in specs and on the command line: what each is of, and how its file ends.

Two that end alike, such as qcow2 and qcow2-compressed, cannot be in one folder. A tree is the files of the root file
system alone: its archives end in `.rootfs.tar`, `.rootfs.tar.gz` and so on, since NAME.tar.gz is Compute Engine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import InputError

GCE = "gce"
CHECKSUM = ".sha256"  # the ending of the file beside each, as sha256sum writes it


@dataclass(frozen=True)
class ExportFormat:
    """One format: the whole disk as an archive or as a disk file, or the files of the root file system."""

    name: str
    ending: str
    of: Literal["archive", "disk", "tree"]


EXPORT_FORMATS: Mapping[str, ExportFormat] = {
    known.name: known
    for known in (
        ExportFormat(GCE, ".tar.gz", "archive"),
        ExportFormat("raw", ".raw", "disk"),
        ExportFormat("qcow2", ".qcow2", "disk"),
        ExportFormat("qcow2-compressed", ".qcow2", "disk"),
        ExportFormat("vmdk", ".vmdk", "disk"),
        ExportFormat("vhd", ".vhd", "disk"),
        ExportFormat("tar", ".rootfs.tar", "tree"),
        ExportFormat("tar.gz", ".rootfs.tar.gz", "tree"),
        ExportFormat("tar.zst", ".rootfs.tar.zst", "tree"),
        ExportFormat("squashfs", ".squashfs", "tree"),
        ExportFormat("oci", ".oci.tar", "tree"),
    )
}


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


def checksum_line(sha256: str, name: str) -> bytes:
    """Return the content of the file beside an exported one, for `sha256sum --check`."""
    return f"{sha256}  {name}\n".encode()
