"""What the files of an image take on Google Cloud: parts of the ports Compute and Bucket.

One machine writes its images' files itself, and its adapters refuse most of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class DiskRequest:
    """A disk of an image, to be attached to a machine that runs, for reading alone."""

    name: str
    machine: str
    project: str
    zone: str
    source_project: str
    source_image: str
    device: str  # the name by which the machine finds it
    disk_type: str
    labels: Mapping[str, str]
    kms_key: str | None = None  # None: Google's own


class DiskAttachment(Protocol):
    """Disks for machines that run."""

    def attach_disk(self, request: DiskRequest) -> None:
        """Attach a disk to a machine that runs, and make it before if it is not there; it may be attached already.

        NotFound for a machine that is not there; Permanent, Transient.
        """
        ...


@dataclass(frozen=True)
class ObjectSum:
    """What an object is checked by, without reading it."""

    size: int  # bytes
    md5: str  # in hex


class SessionUploads(Protocol):
    """Objects that others write."""

    def upload_session(self, uri: str) -> str:
        """Return the URL by which a VM, without credentials, can write an object that is not there.

        Conflict where there is one; Permanent.
        """
        ...

    def checksum(self, uri: str) -> ObjectSum | None:
        """Look up how large an object is, and its digest; None where there is none."""
        ...
