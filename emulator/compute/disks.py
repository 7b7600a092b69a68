"""Disks: sparse raw files, empty or copies of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .disk import Disk
from .image_records import GIB
from .images import Images
from .rest.calls import Call, labelled, new_document, relabelled
from .rest.faults import Faults
from .rest.links import Links, check_name, last, path_of
from .rest.listing import aggregated, list_document
from .rest.operations import Operations
from .rest.refusals import Document, Refusal, already_exists, failing, in_use, invalid, not_found

_GIVEN = ("description", "guestOsFeatures", "architecture", "diskEncryptionKey")
_FROM_IMAGE = ("architecture", "guestOsFeatures", "licenses")
_DEFAULT_GB = 500  # of an empty disk when the request has no size


class Disks:
    """The disks of all projects. Their files are in `folder`; `grow` makes one larger, also while it is attached."""

    def __init__(
        self,
        folder: Path,
        links: Links,
        zones: Sequence[str],
        operations: Operations,
        images: Images,
        grow: Callable[[Path, int], None],
        faults: Faults,
    ) -> None:
        self._folder = folder
        self._links = links
        self._zones = zones
        self._operations = operations
        self._images = images
        self._grow = grow
        self._faults = faults
        self._disks: dict[str, Disk] = {}

    def find(self, path: str) -> Disk | None:
        """Return the disk with a path; None when there is none."""
        return self._disks.get(path)

    def named(self, path: str) -> Disk:
        """Return the disk with a path. Raises Refusal."""
        disk = self._disks.get(path)
        if disk is None:
            raise not_found(path)
        return disk

    def get(self, call: Call) -> Document:
        """Return a disk."""
        return self._document(self.named(call.path))

    def list(self, call: Call) -> Document:
        """List a zone's disks."""
        here = self._below(f"{call.parent}/disks/")
        return list_document("compute#disk", self._links.url(call.path), here, call.query, call.path)

    def aggregated(self, call: Call) -> Document:
        """List the disks of all zones."""
        link = self._links.url(f"projects/{call.project}/aggregated/disks")
        here = self._below(f"projects/{call.project}/zones/")
        return aggregated("compute#disk", link, here, call.query, "disks", self._zones)

    def insert(self, call: Call) -> Document:
        """Make a disk, of an image or empty."""
        body = dict(call.body)
        body.setdefault("sourceImage", call.query.get("sourceImage", ""))
        disk = self.begin(call, body)
        return self._operations.begin(call, "insert", disk.path, disk.document["id"], lambda: self.make(disk))

    def begin(self, call: Call, body: Document) -> Disk:
        """Note a disk that is to be made in the zone of a call. Raises Refusal."""
        path = f"{call.parent}/disks/{check_name(body.get('name', ''))}"
        if path in self._disks:
            raise already_exists(path)
        self._faults.check_key(body.get("diskEncryptionKey", {}))
        document = new_document("disk", path, self._links) | labelled(body.get("labels", {}))
        kind = last(body.get("type", "pd-standard"))
        document |= {
            "zone": self._links.url(call.parent),
            "type": self._links.url(f"{call.parent}/diskTypes/{kind}"),
            "status": "CREATING",
            "physicalBlockSizeBytes": "4096",
        }
        source, least = None, 1
        if body.get("sourceImage"):
            image, source = self._images.resolve(body["sourceImage"], call.project, "resource.sourceImage")
            document |= {key: image[key] for key in _FROM_IMAGE if key in image}
            document |= {"sourceImage": image["selfLink"], "sourceImageId": image["id"]}
            least = int(image["diskSizeGb"])
        document |= {key: body[key] for key in _GIVEN if key in body}
        document["sizeGb"] = body.get("sizeGb", str(least if source else _DEFAULT_GB))
        if int(document["sizeGb"]) < least:
            why = f"Requested disk size cannot be smaller than the image size ({least} GB)."
            raise invalid("resource.sizeGb", document["sizeGb"], why)
        disk = self._disks[path] = Disk(path, document, self._folder / f"{document['id']}.raw", source)
        return disk

    def make(self, disk: Disk) -> None:
        """Make a disk that was noted; when that fails, it is forgotten."""
        try:
            disk.write()
        except BaseException:
            self.remove(disk)
            raise

    def remove(self, disk: Disk) -> None:
        """Forget a disk and delete its file."""
        self._disks.pop(disk.path, None)
        disk.file.unlink(missing_ok=True)

    def delete(self, call: Call) -> Document:
        """Delete a disk that is attached to nothing."""
        disk = self.named(call.path)
        if disk.users:
            raise in_use(disk.path, disk.users[0])
        if disk.document["status"] != "READY":
            raise Refusal(400, "resourceNotReady", f"The resource '{disk.path}' is not ready")
        disk.update(status="DELETING")
        return self._operations.begin(call, "delete", disk.path, disk.document["id"], lambda: self.remove(disk))

    def resize(self, call: Call) -> Document:
        """Make a disk larger, attached or not."""
        disk = self.named(call.path)
        wanted, present = int(call.body.get("sizeGb", "0")), int(disk.document["sizeGb"])
        if disk.document["status"] != "READY":
            raise Refusal(400, "resourceNotReady", f"The resource '{disk.path}' is not ready")
        if wanted <= present:
            why = f"New disk size '{wanted}' GB must be larger than existing size '{present}' GB."
            raise invalid("sizeGb", str(wanted), why)

        def work() -> None:
            with failing():
                self._grow(disk.file, wanted * GIB)
            disk.update(sizeGb=str(wanted))

        return self._operations.begin(call, "resizeDisk", disk.path, disk.document["id"], work)

    def set_labels(self, call: Call) -> Document:
        """Replace a disk's labels."""
        disk = self.named(call.path)
        document = relabelled(disk.document, call.body)

        def work() -> None:
            disk.document = document

        return self._operations.begin(call, "setLabels", disk.path, disk.document["id"], work)

    def attached(self, text: str, call: Call) -> Disk:
        """Find the disk that an instance is to have. Raises Refusal."""
        return self.named(path_of(text, call.project, "resource.disks.source"))

    def _document(self, disk: Disk) -> Document:
        users = [self._links.url(path) for path in disk.users]
        return disk.document | ({"users": users} if users else {})

    def _below(self, prefix: str) -> Sequence[Document]:
        return [self._document(disk) for path, disk in list(self._disks.items()) if path.startswith(prefix)]
