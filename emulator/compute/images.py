"""Images: made of disks, archives or other images; families; labels; deprecation."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from shared.disks.unpack import unpack_disk
from shared.errors import AlreadyExists, GoldsmithError, ImageFileError, NotFound
from shared.images.catalogue import Transfer

from .image_records import GIB, ImageSet, ImageSets, unix_seconds
from .rest.calls import Call, labelled, new_document, relabelled
from .rest.faults import Faults
from .rest.links import Links, check_name, last, path_of
from .rest.listing import list_document
from .rest.operations import Operations
from .rest.refusals import Document, Failure, Refusal, already_exists, in_use, invalid, not_found

if TYPE_CHECKING:
    from .disk import Disk

Storage = Callable[[str], BinaryIO]
"""Opens gs://BUCKET/OBJECT for reading. Raises NotFound."""

_OBJECT = re.compile(r"(?:gs://|https?://storage\.googleapis\.com/|https?://www\.googleapis\.com/storage/v1/b/)(.+)")
_NO_POLICY = "ACAB"  # the etag of an image whose policy has no bindings
_SOURCES = ("sourceDisk", "sourceImage", "rawDisk")
_STATES = ("ACTIVE", "DEPRECATED", "OBSOLETE", "DELETED")
_GIVEN = ("description", "family", "shieldedInstanceInitialState", "rawDisk", "storageLocations", "imageEncryptionKey")
_FROM_DISK = ("guestOsFeatures", "architecture", "licenses", "shieldedInstanceInitialState")


class Images:
    """The images of the local catalogue, which every project shows, and those that are made here for one."""

    def __init__(
        self,
        sets: ImageSets,
        links: Links,
        operations: Operations,
        storage: Storage,
        find_disk: Callable[[str], Disk | None],
        faults: Faults,
    ) -> None:
        self._sets = sets
        self._links = links
        self._operations = operations
        self._storage = storage
        self._find_disk = find_disk
        self._faults = faults
        self._pending: dict[str, Document] = {}  # by path
        self._policies: dict[str, Document] = {}  # by the image's id; as long as the endpoint lives
        self._changes = threading.Lock()

    def get(self, call: Call) -> Document:
        """Return an image, also one that is not ready yet."""
        return self._known(call.path)

    def from_family(self, call: Call) -> Document:
        """Return the newest image of a family that is not deprecated."""
        found = [
            image
            for image in self._sets.all(call.project)
            if image.get("family") == call.name and image.get("deprecated", {}).get("state", "ACTIVE") == "ACTIVE"
        ]
        if not found:
            raise not_found(f"{call.parent}/images/family/{call.name}")
        return max(found, key=lambda image: (image["creationTimestamp"], image["name"]))

    def list(self, call: Call) -> Document:
        """List images; deprecated ones too."""
        pending = [image for path, image in self._pending.items() if path.startswith(f"{call.parent}/")]
        images = [*self._sets.all(call.project), *pending]
        return list_document("compute#image", self._links.url(call.path), images, call.query, call.path)

    def resolve(self, text: str, project: str, field: str) -> tuple[Document, Path]:
        """Find the image that a request names, by its family perhaps; return it and its disk. Raises Refusal."""
        path = path_of(text, project, field)
        owner = path.split("/")[1]
        if "/images/family/" in path:
            image = self.from_family(Call(owner, "global", "images", last(path)))
        else:
            image = self._known(path)
        if image["status"] != "READY":
            raise Refusal(400, "resourceNotReady", f"The resource '{path}' is not ready")
        state = image.get("deprecated", {}).get("state")
        if state in ("OBSOLETE", "DELETED"):  # nothing new can be made of these
            raise invalid(field, text, f"The referenced image resource is {state}.")
        return image, self._set_of(path_of(image["selfLink"], project, field)).catalogue.disk(image["name"])

    def insert(self, call: Call) -> Document:
        """Make an image of a disk, of an archive in Cloud Storage, or of another image."""
        body = call.body
        path = f"{call.path}/{check_name(body.get('name', ''))}"
        into = self._set_of(path)
        if path in self._pending or into.catalogue.get(body["name"]) is not None:
            raise already_exists(path)
        sources = [source for source in _SOURCES if body.get(source)]
        if len(sources) != 1:
            raise invalid("resource", "", f"Exactly one of {', '.join(_SOURCES)} must be specified.")
        self._faults.check_key(body.get("imageEncryptionKey", {}))
        if len(body.get("storageLocations", ())) > 1:
            raise invalid("resource.storageLocations", "", "At most one storage location can be specified.")
        image = new_document("image", path, self._links) | labelled(body.get("labels", {}))
        image |= {"status": "PENDING", "sourceType": "RAW", "storageLocations": ["us"]}
        image |= {key: body[key] for key in _GIVEN if key in body}
        disk = self._source(call, image)
        features = [*image.get("guestOsFeatures", ()), *body.get("guestOsFeatures", ())]
        image["guestOsFeatures"] = [{"type": name} for name in dict.fromkeys(one["type"] for one in features)]
        given = [path_of(text, call.project, "resource.licenses") for text in body.get("licenses", ())]
        licenses = [*image.get("licenses", ()), *map(self._links.url, given)]
        image["licenses"] = [*dict.fromkeys(licenses)]
        image["architecture"] = body.get("architecture") or image.get("architecture", "X86_64")
        self._pending[path] = image
        return self._operations.begin(call, "insert", path, image["id"], lambda: self._make(path, into, image, disk))

    def delete(self, call: Call) -> Document:
        """Delete an image."""
        image = self._ready(call.path)

        def work() -> None:
            held = self._set_of(call.path)
            held.catalogue.delete(image["name"])
            held.records.forget(image["name"])

        return self._operations.begin(call, "delete", call.path, image["id"], work)

    def set_labels(self, call: Call) -> Document:
        """Replace an image's labels."""
        image = relabelled(self._ready(call.path), call.body)
        return self._change(call, "setLabels", image)

    def patch(self, call: Call) -> Document:
        """Change an image's family, description or labels. It leaves its family only for another one."""
        image = self._ready(call.path)
        if call.body.get("family") == "":
            raise invalid("resource.family", "", "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'")
        image |= {key: call.body[key] for key in ("family", "description") if call.body.get(key) is not None}
        if "labels" in call.body:
            image = relabelled(image, {"labelFingerprint": image["labelFingerprint"], **call.body})
        return self._change(call, "patch", image)

    def deprecate(self, call: Call) -> Document:
        """Set an image's state of deprecation; ACTIVE takes it away."""
        image = self._ready(call.path)
        status = dict(call.body)
        if status.get("state") not in _STATES:
            raise invalid("resource.state", status.get("state", ""), f"Must be one of {', '.join(_STATES)}.")
        if "replacement" in status:
            replacement = path_of(status["replacement"], call.project, "resource.replacement")
            status["replacement"] = self._links.url(replacement)
        try:
            deleted = unix_seconds(status.get("deleted"))
        except ValueError as error:
            raise invalid("resource.deleted", status["deleted"], "Must be a time of RFC 3339.") from error
        active = status["state"] == "ACTIVE"
        replaced_by = None if active or "replacement" not in status else last(status["replacement"])

        def work() -> None:
            state = None if active else str(status["state"])
            held = self._set_of(call.path)
            held.catalogue.deprecate(image["name"], replaced_by, None if active else deleted, state)
            kept = {key: value for key, value in image.items() if key != "deprecated"}
            held.records.keep(kept if active else kept | {"deprecated": status})

        return self._operations.begin(call, "deprecate", call.path, image["id"], work)

    def get_policy(self, call: Call) -> Document:
        """Return who may do what with an image."""
        return self._policies.get(self._known(call.path)["id"], {"version": 1, "etag": _NO_POLICY})

    def set_policy(self, call: Call) -> Document:
        """Replace an image's policy; one that was read before another was written is refused."""
        image, wanted = self._known(call.path), dict(call.body.get("policy", {}))
        with self._changes:
            now = self._policies.get(image["id"], {"version": 1, "etag": _NO_POLICY})
            if wanted.get("etag", now["etag"]) != now["etag"]:
                raise Refusal(412, "conditionNotMet", "There were concurrent policy changes. Please retry.")
            wanted["bindings"] = [each for each in wanted.get("bindings", ()) if each.get("members")]
            etag = base64.b64encode(hashlib.sha256(f"{now['etag']}{wanted}".encode()).digest()[:8]).decode()
            self._policies[image["id"]] = {**wanted, "etag": etag}
            return self._policies[image["id"]]

    def _set_of(self, path: str) -> ImageSet:
        return self._sets.holding(path.split("/")[1], last(path))

    def _change(self, call: Call, kind: str, image: Document) -> Document:
        def work() -> None:
            held = self._set_of(call.path)
            with self._changes:
                held.catalogue.set_labels(image["name"], image.get("labels", {}))
                held.catalogue.set_family(image["name"], image.get("family"))
                held.records.keep(image)

        return self._operations.begin(call, kind, call.path, image["id"], work)

    def _known(self, path: str) -> Document:
        found = self._pending.get(path) or self._set_of(path).records.get(path.split("/")[1], last(path))
        if found is None:
            raise not_found(path)
        return found

    def _ready(self, path: str) -> Document:
        image = self._known(path)
        if image["status"] != "READY":
            raise Refusal(400, "resourceNotReady", f"The resource '{path}' is not ready")
        return image

    def _source(self, call: Call, image: Document) -> Callable[[Path], Path]:
        """Note in the document what the image is made of; give what finds its disk, which may use a scratch folder."""
        body = call.body
        if body.get("rawDisk"):
            return self._archive(str(body["rawDisk"].get("source", "")))
        if body.get("sourceImage"):
            source, file = self.resolve(body["sourceImage"], call.project, "resource.sourceImage")
            image |= {"sourceImage": source["selfLink"], "sourceImageId": source["id"]}
            image |= {key: source[key] for key in _FROM_DISK if key in source} | image
            return lambda scratch: file
        path = path_of(body["sourceDisk"], call.project, "resource.sourceDisk")
        disk = self._find_disk(path)
        if disk is None:
            raise not_found(path)
        if disk.running and call.query.get("forceCreate") != "true":
            raise in_use(path, disk.running)
        image |= {"sourceDisk": disk.document["selfLink"], "sourceDiskId": disk.document["id"]}
        image |= {key: disk.document[key] for key in _FROM_DISK if key in disk.document} | image
        return lambda scratch: disk.file

    def _archive(self, source: str) -> Callable[[Path], Path]:
        found = _OBJECT.fullmatch(source)
        if found is None:
            raise invalid(
                "resource.rawDisk.source", source, "The provided source is not a supported Cloud Storage URL."
            )
        uri = f"gs://{found[1].replace('/o/', '/', 1) if '/storage/v1/b/' in source else found[1]}"

        def unpacked(scratch: Path) -> Path:
            archive, disk = scratch / "archive.tar.gz", scratch / "disk.raw"
            try:
                with self._storage(uri) as opened, archive.open("wb") as file:
                    shutil.copyfileobj(opened, file, 1 << 20)
                unpack_disk(archive, disk)
            except NotFound as error:
                raise Failure("RESOURCE_NOT_FOUND", f"The resource '{source}' was not found", 404) from error
            except ImageFileError as error:
                raise Failure("INVALID_USAGE", f"The tar archive '{source}' is not a valid image: {error}") from error
            if disk.stat().st_size % GIB:
                raise Failure("INVALID_USAGE", f"The size of disk.raw in '{source}' is not a multiple of 1 GB.")
            return disk

        return unpacked

    def _make(self, path: str, into: ImageSet, image: Document, find: Callable[[Path], Path]) -> None:
        try:
            with _failing(image), into.catalogue.staging() as scratch:
                disk = find(scratch.path)
                transfer: Transfer = "move" if disk.is_relative_to(scratch.path) else "copy"
                into.catalogue.add(
                    disk,
                    image["name"],
                    transfer=transfer,
                    family=image.get("family"),
                    labels=image.get("labels", {}),
                    licenses=[url.removeprefix(self._links.base) for url in image["licenses"]],
                    architecture=image["architecture"].lower(),
                    source_disk=last(image["sourceDisk"]) if "sourceDisk" in image else None,
                )
                into.records.keep(image, path.split("/")[1])
        finally:
            del self._pending[path]


@contextmanager
def _failing(image: Document) -> Iterator[None]:
    """Turn what the catalogue says into an operation's failure."""
    try:
        yield
    except AlreadyExists as error:
        raise Failure("RESOURCE_ALREADY_EXISTS", f"The resource '{image['name']}' already exists", 409) from error
    except GoldsmithError as error:
        raise Failure("INTERNAL_ERROR", str(error), 500) from error
