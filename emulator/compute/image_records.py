"""Images as documents: what the local catalogue knows of one, and beside it what only Compute Engine's API keeps.

HOME/images/NAME/               the catalogue's: disk, family, labels, licences, deprecation
HOME/compute/images/NAME.json   the rest, under the catalogue's id of the image it belongs to; URLs as paths
HOME/compute/projects/PROJECT/  both once more, of images whose name another project has
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from shared.clock import SystemClock
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
        return None if image is None or not self.shows(project, image) else self._document(project, image)

    def shows(self, project: str, image: Image) -> bool:
        """Return whether a project has an image: all have those that were not made by this API, for one project."""
        owner: str = self._found(image).get("project", project)
        return owner == project

    def all(self, project: str) -> list[Document]:
        """Return the documents of all images."""
        return [self._document(project, image) for image in self._catalogue.list() if self.shows(project, image)]

    def keep(self, document: Document, project: str = "") -> None:
        """Write down what the catalogue has no place for, and whose a new image is; the image is in the catalogue."""
        image = self._catalogue.get(document["name"])
        assert image is not None, document["name"]
        kept = {key: document[key] for key in _KEPT if key in document}
        kept |= {key: document[key].removeprefix(self._links.base) for key in _LINKED if key in document}
        path = self._folder / f"{image.name}.json"
        staged = path.with_suffix(".new")
        owner = {"project": project} if project else {k: v for k, v in self._found(image).items() if k == "project"}
        staged.write_text(json.dumps({"catalogue": image.id, "document": kept, **owner}, indent=2))
        staged.replace(path)

    def forget(self, name: str) -> None:
        """Remove what keep() wrote."""
        (self._folder / f"{name}.json").unlink(missing_ok=True)

    def _found(self, image: Image) -> Document:
        """Return the record of an image; empty for one without, and that of an image that is gone is another's."""
        try:
            found: Document = json.loads((self._folder / f"{image.name}.json").read_text())
        except FileNotFoundError:
            return {}
        return found if found["catalogue"] == image.id else {}

    def _kept(self, image: Image) -> Document:
        kept: Document = self._found(image).get("document", {})
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


@dataclass(frozen=True)
class ImageSet:
    """A catalogue and its records."""

    catalogue: Catalogue
    records: ImageRecords


class ImageSets:
    """The images of all projects, and those of one project whose name another one has."""

    def __init__(self, shared: ImageSet, folder: Path, links: Links) -> None:
        self.shared = shared
        self._folder = folder
        self._links = links

    def own(self, project: str) -> ImageSet:
        """Return those that a project has under names of others."""
        home = self._home(project)
        home.mkdir(parents=True, exist_ok=True)
        catalogue = Catalogue(home, SystemClock())
        return ImageSet(catalogue, ImageRecords(catalogue, home / "records", self._links))

    def holding(self, project: str, name: str) -> ImageSet:
        """Return where an image of a project is, or would be."""
        if self._home(project).exists():
            own = self.own(project)
            if own.catalogue.get(name) is not None:
                return own
        found = self.shared.catalogue.get(name)
        return self.shared if found is None or self.shared.records.shows(project, found) else self.own(project)

    def all(self, project: str) -> list[Document]:
        """Return the documents of all images that a project shows."""
        own = self.own(project).records.all(project) if self._home(project).exists() else []
        names = {image["name"] for image in own}
        return [*own, *(image for image in self.shared.records.all(project) if image["name"] not in names)]

    def _home(self, project: str) -> Path:
        return self._folder / f"of-{quote(project, safe='')}"


def unix_seconds(text: str | None) -> float | None:
    """Read a time of RFC 3339. ValueError."""
    return None if text is None else datetime.fromisoformat(text).timestamp()
