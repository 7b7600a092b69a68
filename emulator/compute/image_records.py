"""Images as documents: what the local catalogue knows of one, and beside it what only Compute Engine's API keeps.

HOME/images/NAME/               the catalogue's: disk, family, labels, licences, deprecation
HOME/compute/images/NAME.json   the rest, under the catalogue's id of the image it belongs to; URLs as paths
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from shared.images.catalogue import Catalogue
from shared.ports import Image

from .rest.calls import labelled, timestamp
from .rest.links import Links
from .rest.refusals import Document

GIB = 1 << 30
_KEPT = (
    "id",
    "creationTimestamp",
    "description",
    "guestOsFeatures",
    "shieldedInstanceInitialState",
    "rawDisk",
    "storageLocations",
    "imageEncryptionKey",
    "deprecated",
    "sourceDiskId",
    "sourceImageId",
)
_LINKED = ("sourceDisk", "sourceImage")


class ImageRecords:
    """The images of a catalogue, as documents of whatever project is asked for."""

    def __init__(self, catalogue: Catalogue, folder: Path, links: Links) -> None:
        self._catalogue = catalogue
        self._folder = folder
        self._links = links
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, project: str, name: str) -> Document | None:
        """Return an image's document; None when there is none of that name."""
        image = self._catalogue.get(name)
        return None if image is None else self._document(project, image)

    def all(self, project: str) -> list[Document]:
        """Return the documents of all images."""
        return [self._document(project, image) for image in self._catalogue.list()]

    def keep(self, document: Document) -> None:
        """Write down what the catalogue has no place for; the image is in the catalogue."""
        image = self._catalogue.get(document["name"])
        assert image is not None, document["name"]
        kept = {key: document[key] for key in _KEPT if key in document}
        kept |= {key: document[key].removeprefix(self._links.base) for key in _LINKED if key in document}
        path = self._folder / f"{image.name}.json"
        staged = path.with_suffix(".new")
        staged.write_text(json.dumps({"catalogue": image.id, "document": kept}, indent=2))
        staged.replace(path)

    def forget(self, name: str) -> None:
        """Remove what keep() wrote."""
        (self._folder / f"{name}.json").unlink(missing_ok=True)

    def _kept(self, image: Image) -> Document:
        try:
            found = json.loads((self._folder / f"{image.name}.json").read_text())
        except FileNotFoundError:
            return {}
        if found["catalogue"] != image.id:  # of an image of that name that is gone
            return {}
        kept: Document = found["document"]
        return kept | {key: self._links.url(kept[key]) for key in _LINKED if key in kept}

    def _document(self, project: str, image: Image) -> Document:
        document: Document = {
            "kind": "compute#image",
            "id": image.id,
            "name": image.name,
            "creationTimestamp": timestamp(image.created),
            "selfLink": self._links.url(f"projects/{project}/global/images/{image.name}"),
            "status": "READY",
            "sourceType": "RAW",
            "architecture": image.architecture.upper(),
            "diskSizeGb": str(image.disk_size_gb),
            "archiveSizeBytes": str(image.archive_bytes),
            "storageLocations": ["us"],
            **labelled(image.labels),
        }
        if image.licenses:
            document["licenses"] = [self._links.url(path) for path in image.licenses]
        if image.family:
            document["family"] = image.family
        if image.description:
            document["description"] = image.description
        return document | self._deprecation(project, image) | self._kept(image)

    def _deprecation(self, project: str, image: Image) -> Document:
        if image.deprecated is None:
            return {}
        status: Document = {"state": image.deprecated}
        if image.replacement:
            status["replacement"] = self._links.url(f"projects/{project}/global/images/{image.replacement}")
        if image.deletes_at is not None:
            status["deleted"] = timestamp(image.deletes_at)
        return {"deprecated": status}


def unix_seconds(text: str | None) -> float | None:
    """Read a time of RFC 3339. ValueError."""
    return None if text is None else datetime.fromisoformat(text).timestamp()
