"""The store in memory: builds and events as the documents that the real ones keep, one of which may be damaged."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from shared.build import Build, ImageDocument
from shared.damage import Damaged, refuse_unfinished
from shared.errors import AlreadyExists, Conflict, DamagedDocument, NameTaken, NotFound, StoreError
from shared.events import Event, read_build, read_event_of, read_image_document, to_json
from shared.ports import Stored
from tests.fuse import Fuse


@dataclass
class _Document:
    id: str
    text: str
    finished: bool
    created: float
    version: int
    last_seen: float
    events: dict[str, str]


class MemoryStore:
    """Builds and events as JSON, under one lock."""

    def __init__(self, fuse: Fuse | None = None) -> None:
        self.fuse = fuse or Fuse()
        self._lock = threading.Lock()
        self._documents: dict[str, _Document] = {}
        self.images: dict[tuple[str, str], str] = {}
        self.forgotten: list[_Document] = []

    def create(self, build: Build, event: Event, image: ImageDocument | None = None, replaces: str = "") -> None:
        self.fuse.touch()
        with self._lock:
            if build.id in self._documents:
                raise AlreadyExists(f"there is a build {build.id}")
            if image is not None and not self._write_image(image, replaces):
                raise NameTaken(f"image {image.name} is another build's")
            self._documents[build.id] = _Document(
                *(build.id, _text(build), build.finished, build.created, 1, build.last_seen),
                {event.event_id: _text(event)},
            )
        self.fuse.touch()

    def load(self, build_id: str) -> Stored:
        self.fuse.touch()
        with self._lock:
            document = self._find(build_id)
            return Stored(_build(document), str(document.version))

    def save(self, build: Build, expected: str, event: Event | None = None, image: ImageDocument | None = None) -> str:
        self.fuse.touch()
        with self._lock:
            document = self._find(build.id)
            if event is not None and event.event_id in document.events:
                raise AlreadyExists(f"build {build.id} has event {event.event_id} already")
            if str(document.version) != expected:
                raise Conflict(f"build {build.id} was written by somebody else")
            document.text, document.finished, document.created = _text(build), build.finished, build.created
            document.version += 1
            document.last_seen = max(document.last_seen, build.last_seen)
            if event is not None:
                document.events[event.event_id] = _text(event)
            if image is not None:
                self._write_image(image)
            version = str(document.version)
        self.fuse.touch()
        return version

    def image(self, project: str, name: str) -> ImageDocument | None:
        self.fuse.touch()
        with self._lock:
            text = self.images.get((project, name))
            return None if text is None else read_image_document(text)

    def kept_images(self, before: float) -> Sequence[ImageDocument]:
        self.fuse.touch()
        with self._lock:
            found = [read_image_document(text) for text in self.images.values()]
            return [image for image in found if image.state == "kept" and image.until <= before]

    def forget_image(self, image: ImageDocument) -> None:
        self.fuse.touch()
        with self._lock:
            if self.images.get((image.project, image.name)) == _text(image):
                del self.images[image.project, image.name]
        self.fuse.touch()

    def _write_image(self, image: ImageDocument, replaces: str = "") -> bool:
        key = image.project, image.name
        found = read_image_document(self.images[key]) if key in self.images else None
        if found is not None and found.build_id not in (image.build_id, replaces):
            return False
        self.images[key] = _text(image)
        if image.state == "gone":
            del self.images[key]
        return True

    def touch(self, build_id: str, seen: float) -> None:
        self.fuse.touch()
        with self._lock:
            if build_id in self._documents:
                self._documents[build_id].last_seen = max(self._documents[build_id].last_seen, seen)

    def builds(
        self, *, unfinished: bool = False, limit: int | None = None, before: str = ""
    ) -> Sequence[Build | Damaged]:
        self.fuse.touch()
        with self._lock:
            last = _age(self._find(before)) if before else None
            found = sorted(self._documents.values(), key=_age, reverse=True)
            following = [document for document in found if last is None or _age(document) < last]
            return [_listed(document) for document in following if not (unfinished and document.finished)][:limit]

    def events(self, build_id: str) -> Sequence[Event | Damaged]:
        self.fuse.touch()
        with self._lock:
            document = self._documents.get(build_id)
            return [_event(build_id, *item) for item in document.events.items()] if document else []

    def set_aside(self, build_id: str) -> Any:
        self.fuse.touch()
        with self._lock:
            document = self._find(build_id)
            refuse_unfinished(_listed(document))
            self.forgotten.append(self._documents.pop(build_id))
        return document.text

    def damage(self, build_id: str, text: str, event_id: str = "") -> None:
        """Put another text in the place of a document: a build's, or that of one of its events."""
        with self._lock:
            if event_id:
                self._documents[build_id].events[event_id] = text
            else:
                self._documents[build_id].text = text

    def _find(self, build_id: str) -> _Document:
        if build_id not in self._documents:
            raise NotFound(f"there is no build {build_id}")
        return self._documents[build_id]


def _age(document: _Document) -> tuple[float, str]:
    return document.created, document.id


def _text(document: Build | Event | ImageDocument) -> str:
    return json.dumps(to_json(document))


def _build(document: _Document) -> Build:
    try:
        build = read_build(document.text)
    except StoreError as error:
        raise DamagedDocument(f"the document of build {document.id} is damaged: {error}") from error
    if build.id != document.id:
        raise DamagedDocument(f"the document of build {document.id} is damaged: it is that of build {build.id}")
    return replace(build, last_seen=max(build.last_seen, document.last_seen))


def _listed(document: _Document) -> Build | Damaged:
    try:
        return _build(document)
    except DamagedDocument as error:
        return Damaged(document.id, str(error))


def _event(build_id: str, event_id: str, text: str) -> Event | Damaged:
    try:
        return read_event_of(build_id, event_id, text)
    except StoreError as error:
        return Damaged(event_id, f"event {event_id} of build {build_id} is damaged: {error}")
