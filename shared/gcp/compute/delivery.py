"""Delivery of a build VM's files on Compute Engine: an archive that it downloads, or a disk.

download    cidata/MACHINE.tar in the bucket, and the packed context where it is; the VM gets a signed URL of each in
            its metadata. Nothing is copied and nothing imported.
disk        an ISO 9660 image labelled cidata, imported as the image MACHINE-ci, of which the VM gets a disk of its
            own: for VMs that reach nothing but Pub/Sub, or nothing at all.

The metadata starts provisioner/start.sh both ways, by cloud-init and by the guest agent; the first one does it.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from google.cloud import compute_v1

from ...archives import sparse_tar
from ...build.plan import Context
from ...delivery.cidata import (
    CIDATA_ATTRIBUTE,
    CONTEXT,
    CONTEXT_ATTRIBUTE,
    LABEL,
    PATIENCE_ATTRIBUTE,
    instance_metadata,
    small_files,
)
from ...delivery.iso9660 import Content, FileStream, image_size, iso_image
from ...errors import InputError, NotFound
from ...names import is_own
from ...ports import MachineRequest, StoredObject
from ...topology import CIDATA
from ..settings import Settings
from .images import Images
from .instance import customer_key, data_disk

DISK_CONTEXT_LIMIT = 2 << 30  # bytes; a function compresses about 30 MB in a second, and has 540 s
_LONGEST_URL = 12 * 3600.0  # seconds; one that IAM signs (signBlob) holds no longer, whatever it says
_LONGEST_PATIENCE = 300.0  # seconds
_GB = 1 << 30
_MEMBER = "disk.raw"  # what Compute Engine looks for in the archive of an image


class CidataObjects(Protocol):
    """The part of Cloud Storage that a delivery needs; shared/gcp/storage.py implements it."""

    def write(self, uri: str, data: bytes) -> None:
        """Write an object."""
        ...

    def write_parts(self, uri: str, parts: Iterable[bytes]) -> None:
        """Write an object that is too large to be held."""
        ...

    def stat(self, uri: str) -> StoredObject | None:
        """Look an object up."""
        ...

    def parts(self, found: StoredObject) -> Iterator[bytes]:
        """Read an object that is too large to be held."""
        ...

    def delete(self, uri: str) -> None:
        """Delete an object; absent is fine."""
        ...

    def signed_url(self, uri: str, seconds: float) -> str:
        """Return a URL that reads the object for so long."""
        ...


@dataclass(frozen=True)
class Cargo:
    """The metadata and disks of a machine, beside its boot disk."""

    metadata: Mapping[str, str]
    image: str | None = None  # of the CIDATA disk

    def disks(self, request: MachineRequest, zone: str) -> Sequence[compute_v1.AttachedDisk]:
        """Describe the CIDATA disk, where there is one."""
        return [data_disk(request, zone, self.image, self.image)] if self.image else []


class Delivery:
    """The ways of one deployment."""

    def __init__(self, settings: Settings, images: Images, objects: CidataObjects) -> None:
        self._settings = settings
        self._images = images
        self._objects = objects

    def prepare(self, request: MachineRequest, until: float) -> Cargo:
        """Put the machine's files where it finds them; give what it is made with."""
        started = {
            **instance_metadata(),
            PATIENCE_ATTRIBUTE: str(_patience(request.silence)),
            "block-project-ssh-keys": "TRUE",  # the guest agent would make users of them, in the image too
            "cos-update-strategy": "update_disabled",  # an update would change the system while it is being built
        }
        if self._settings.delivery == "disk":
            return Cargo(started, self._import_disk(request, until))
        archive = self._archive(request.name)
        self._objects.write(archive, _tar(request))
        seconds = min(request.max_seconds, _LONGEST_URL)
        urls = {CIDATA_ATTRIBUTE: self._objects.signed_url(archive, seconds)}
        if request.context is not None:
            urls[CONTEXT_ATTRIBUTE] = self._objects.signed_url(request.context.uri, seconds)
        return Cargo({**started, **urls})

    def remove(self, project: str, machine: str) -> None:
        """Delete what was made for a machine that is gone, whichever way it was."""
        self._objects.delete(self._archive(machine))
        self._objects.delete(self._packed_disk(machine))
        image = self._images.get(project, _image_name(machine))
        if image is not None and is_own(image.name, image.labels):
            self._images.delete(project, image.name)

    def _archive(self, machine: str) -> str:
        return f"gs://{self._settings.bucket}/{CIDATA}{machine}.tar"

    def _packed_disk(self, machine: str) -> str:
        return f"gs://{self._settings.bucket}/{CIDATA}{machine}.tar.gz"

    def _import_disk(self, request: MachineRequest, until: float) -> str:
        """Make the image of the CIDATA disk unless it is there; give its name."""
        project, name = request.plan.project, _image_name(request.name)
        uri = self._packed_disk(request.name)
        if self._images.get(project, name) is None and self._objects.stat(uri) is None:
            self._objects.write_parts(uri, packed_disk(self._files(request)))
        source = uri.replace("gs://", "https://storage.googleapis.com/", 1)
        image = compute_v1.Image(
            name=name,
            raw_disk=compute_v1.RawDisk(source=source),
            labels=dict(request.labels),
            description=f"Files for {request.name}",
            image_encryption_key=customer_key(request.plan.kms_key),
        )
        self._images.ensure(project, image, until)
        return name

    def _files(self, request: MachineRequest) -> Mapping[str, Content]:
        files: dict[str, Content] = dict(small_files(request.job))
        if request.context is not None:
            check_context_size(request.context)
            found = self._objects.stat(request.context.uri)
            if found is None:
                raise NotFound(f"{request.context.uri}: the packed context is gone; submit the spec again")
            files[CONTEXT] = FileStream(found.size, self._objects.parts(found))
        return files


def _patience(silence: float) -> int:
    """Return for how many seconds after its boot a machine tries to get its files: its silence ends later.

    What it says when it gives up is read before that, whenever the minute's look comes.
    """
    return int(min(_LONGEST_PATIENCE, max(silence / 2, silence - 60.0)))


def check_context_size(context: Context) -> None:
    """Raises InputError for a context that is too large for delivery by disk."""
    if context.size > DISK_CONTEXT_LIMIT:
        raise InputError(
            f"context: it has {context.size >> 20} MiB, and a disk that a function makes takes "
            f"{DISK_CONTEXT_LIMIT >> 20} at most; make it smaller, or deploy with delivery by download"
        )


def packed_disk(files: Mapping[str, Content]) -> Iterator[bytes]:
    """Return the tar.gz of a disk with these files, as Compute Engine imports it: whole gigabytes, the rest a hole."""
    used = image_size(files)
    size = -(-used // _GB) * _GB
    compressor = zlib.compressobj(1, wbits=31)
    extents = sparse_tar.whole_blocks([(0, used)], size)
    head = sparse_tar.header(_MEMBER, size, extents)
    yield compressor.compress(head)
    for part in iso_image(files, LABEL):
        yield compressor.compress(part)
    yield compressor.compress(sparse_tar.trailer(len(head) + used)) + compressor.flush()


def _image_name(machine: str) -> str:
    """Name what is made for a machine; 62 characters at most, since machines' names have 59."""
    return f"{machine}-ci"


def _tar(request: MachineRequest) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(small_files(request.job).items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o400
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()
