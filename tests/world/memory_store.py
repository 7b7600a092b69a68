"""The store in memory: builds and events as the documents that the real ones keep, one of which may be damaged."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from shared.build.build import Build, ImageDocument, Unfinished, unfinished_of
from shared.build.damage import Damaged, along_with, forget_image, refuse_readable, refuse_unfinished
from shared.build.events import Event, kind_of, read_build, read_event_of, read_image_of, to_json
from shared.build.image.approval import AskedPromotion, read_promotion_of, write_promotion
from shared.build.trigger import Trigger, read_trigger_of, write_trigger
from shared.build_search import BuildFilter, FoundBuilds
from shared.errors import AlreadyExists, Conflict, DamagedDocument, NameTaken, NotFound, StoreError
from shared.person_requests import PersonRequest, read_person_request_of, write_person_request
from shared.ports import PAGE, Stored
from tests.world.fuse import Fuse


@dataclass
class _Document:
    id: str
    text: str
    finished: bool
    created: float
    version: int
    last_seen: float
    events: dict[str, str]
    kinds: dict[str, str]  # of events, by their ids


class MemoryStore:
    """Builds and events as JSON, under one lock."""

    def __init__(self, fuse: Fuse | None = None) -> None:
        self.fuse = fuse or Fuse()
        self._lock = threading.Lock()
        self._documents: dict[str, _Document] = {}
        self.images: dict[tuple[str, str], str] = {}
        self.publishers: dict[tuple[str, str], str] = {}
        self.trigger_texts: dict[str, str] = {}
        self.promotion_texts: dict[str, str] = {}
        self.person_request_texts: dict[str, str] = {}
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
                {event.event_id: kind_of(event)},
            )
        self.fuse.touch()

    def load(self, build_id: str) -> Stored:
        self.fuse.touch()
        with self._lock:
            document = self._find(build_id)
            return Stored(_build(document), str(document.version))

    def save(
        self,
        build: Build,
        expected: str,
        event: Event | None = None,
        image: ImageDocument | None = None,
        replaces: str | None = None,
    ) -> str:
        self.fuse.touch()
        with self._lock:
            document = self._find(build.id)
            if event is not None and event.event_id in document.events:
                raise AlreadyExists(f"build {build.id} has event {event.event_id} already")
            if str(document.version) != expected:
                raise Conflict(f"build {build.id} was written by another process")
            with along_with(build, replaces):
                if image is not None and not self._write_image(image, replaces or "") and replaces is not None:
                    raise NameTaken(f"image {image.name} is another build's")
            document.text, document.finished, document.created = _text(build), build.finished, build.created
            document.version += 1
            document.last_seen = max(document.last_seen, build.last_seen)
            if event is not None:
                document.events[event.event_id] = _text(event)
                document.kinds[event.event_id] = kind_of(event)
            version = str(document.version)
        self.fuse.touch()
        return version

    def image(self, project: str, name: str) -> ImageDocument | None:
        self.fuse.touch()
        with self._lock:
            text = self.images.get((project, name))
            return None if text is None else _image(project, name, text)

    def known_images(self, project: str, names: Sequence[str]) -> Mapping[str, ImageDocument | Damaged]:
        self.fuse.touch()
        with self._lock:
            known = {name: self.images[project, name] for name in names if (project, name) in self.images}
            return {name: _image_or_damage(project, name, text) for name, text in known.items()}

    def image_documents(self, project: str) -> Iterator[ImageDocument | Damaged]:
        self.fuse.touch()
        with self._lock:
            found = [_image_or_damage(*key, text) for key, text in sorted(self.images.items()) if key[0] == project]
        yield from found

    def kept_images(self, before: float) -> Sequence[ImageDocument | Damaged]:
        self.fuse.touch()
        with self._lock:
            found = [_image_or_damage(*key, text) for key, text in self.images.items()]
            return [
                image
                for image in found
                if isinstance(image, Damaged) or (image.state in ("kept", "held") and image.until <= before)
            ]

    def save_image(self, image: ImageDocument, expected: ImageDocument | None) -> bool:
        self.fuse.touch()
        with self._lock:
            same = self.images.get((image.project, image.name)) == (None if expected is None else _text(expected))
            written = same and self._write_image(image, "" if expected is None else expected.build_id)
        self.fuse.touch()
        return written

    def set_image_aside(self, project: str, name: str) -> None:
        self.fuse.touch()
        with self._lock:
            if (project, name) not in self.images:
                raise NotFound(f"nothing is known of image {name}")
            refuse_readable(_image_or_damage(project, name, self.images[project, name]))
            del self.images[project, name]

    def publisher(self, project: str, family: str) -> str:
        self.fuse.touch()
        with self._lock:
            return self.publishers.get((project, family), "")

    def pass_turn(self, project: str, family: str, build_id: str, expected: str) -> bool:
        self.fuse.touch()
        with self._lock:
            if self.publishers.get((project, family), "") != expected:
                return False
            self.publishers[project, family] = build_id
        self.fuse.touch()
        return True

    def triggers(self) -> Sequence[Trigger | Damaged]:
        self.fuse.touch()
        with self._lock:
            found = [_trigger_or_damage(key, text) for key, text in sorted(self.trigger_texts.items())]
        return [each for each in found if isinstance(each, Damaged) or each.is_active]

    def trigger(self, key: str) -> Trigger | None:
        self.fuse.touch()
        with self._lock:
            text = self.trigger_texts.get(key)
        return None if text is None else _trigger(key, text)

    def save_trigger(self, trigger: Trigger, expected: Trigger | None) -> bool:
        self.fuse.touch()
        with self._lock:
            text = self.trigger_texts.get(trigger.id)
            same = (None if text is None else _trigger(trigger.id, text)) == expected
            if same:
                self.trigger_texts[trigger.id] = write_trigger(trigger)
        self.fuse.touch()
        return same

    def promotions(self) -> Sequence[AskedPromotion | Damaged]:
        self.fuse.touch()
        with self._lock:
            found = [_promotion_or_damage(key, text) for key, text in sorted(self.promotion_texts.items())]
        return [each for each in found if isinstance(each, Damaged) or each.is_open]

    def promotion(self, key: str) -> AskedPromotion | None:
        self.fuse.touch()
        with self._lock:
            text = self.promotion_texts.get(key)
        return None if text is None else _promotion(key, text)

    def save_promotion(self, asked: AskedPromotion, expected: AskedPromotion | None) -> bool:
        self.fuse.touch()
        with self._lock:
            text = self.promotion_texts.get(asked.id)
            same = (None if text is None else _promotion(asked.id, text)) == expected
            if same:
                self.promotion_texts[asked.id] = write_promotion(asked)
        self.fuse.touch()
        return same

    def person_request(self, key: str) -> PersonRequest | None:
        self.fuse.touch()
        with self._lock:
            text = self.person_request_texts.get(key)
        return None if text is None else _person_request(key, text)

    def person_requests(self, target: str) -> Sequence[PersonRequest | Damaged]:
        self.fuse.touch()
        with self._lock:
            found = [_person_request_or_damage(key, text) for key, text in self.person_request_texts.items()]
        of_target = [each for each in found if isinstance(each, Damaged) or each.target == target]
        return sorted(of_target, key=lambda each: (getattr(each, "asked", 0.0), each.id))

    def save_person_request(self, asked: PersonRequest, expected: PersonRequest | None) -> bool:
        self.fuse.touch()
        with self._lock:
            text = self.person_request_texts.get(asked.id)
            same = (None if text is None else _person_request(asked.id, text)) == expected
            if same:
                self.person_request_texts[asked.id] = write_person_request(asked)
        self.fuse.touch()
        return same

    def _write_image(self, image: ImageDocument, replaces: str = "") -> bool:
        key = image.project, image.name
        found = _image(*key, self.images[key]) if key in self.images else None
        if (found.build_id if found is not None else "") not in (image.build_id, replaces):
            return False
        image = image.beside(found)
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

    def find_builds(self, wanted: BuildFilter, *, limit: int, before: str = "") -> FoundBuilds:
        matching = [each for each in self.builds(before=before) if isinstance(each, Build) and wanted.matches(each)]
        after = matching[limit - 1].id if matching[limit:] else ""
        return FoundBuilds(tuple(matching[:limit]), after)

    def line(self) -> Sequence[Unfinished | Damaged]:
        self.fuse.touch()
        with self._lock:
            found = [_listed(document) for document in self._documents.values() if not document.finished]
            return [unfinished_of(each) if isinstance(each, Build) else each for each in found]

    def events(
        self,
        build_id: str,
        *,
        kinds: Sequence[str] = (),
        after: str = "",
        limit: int = PAGE,
    ) -> Sequence[Event | Damaged]:
        self.fuse.touch()
        with self._lock:
            document = self._documents.get(build_id)
            found = list(document.events) if document else []
            if after:
                if after not in found:
                    raise NotFound(f"build {build_id} has no event {after}")
                found = found[found.index(after) + 1 :]
            if not document:
                return []
            wanted = [event_id for event_id in found if not kinds or document.kinds[event_id] in kinds]
            return [_event(build_id, event_id, document.events[event_id]) for event_id in wanted[:limit]]

    def newest_events(self, build_id: str, limit: int = PAGE) -> Sequence[Event | Damaged]:
        self.fuse.touch()
        with self._lock:
            document = self._documents.get(build_id)
            found = list(document.events.items())[::-1][:limit] if document else []
            return [_event(build_id, *item) for item in found]

    def recorded(self, build_id: str, event_ids: Collection[str]) -> frozenset[str]:
        self.fuse.touch()
        with self._lock:
            document = self._documents.get(build_id)
            return frozenset(event_ids) & frozenset(document.events if document else ())

    def set_aside(self, build_id: str) -> Any:
        self.fuse.touch()
        with self._lock:
            document = self._find(build_id)
            refuse_unfinished(_listed(document))
            self.forgotten.append(self._documents.pop(build_id))
        return document.text

    def damage(
        self,
        build_id: str,
        text: str,
        event_id: str = "",
        image: tuple[str, str] | None = None,
        trigger: str = "",
        promotion: str = "",
        person_request: str = "",
    ) -> None:
        """Put another text in the place of a document: of a build, one of its events, an image and others."""
        with self._lock:
            if promotion:
                self.promotion_texts[promotion] = text
            elif person_request:
                self.person_request_texts[person_request] = text
            elif trigger:
                self.trigger_texts[trigger] = text
            elif image is not None:
                self.images[image] = text
            elif event_id:
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
        build = _read_build(document.text)
    except StoreError as error:
        remedy = f"set it aside with: goldsmith builds forget {document.id}"
        raise DamagedDocument(f"the document of build {document.id} is damaged: {error}; {remedy}") from error
    if build.id != document.id:
        raise DamagedDocument(f"the document of build {document.id} is damaged: it is that of build {build.id}")
    return build if document.last_seen <= build.last_seen else replace(build, last_seen=document.last_seen)


@lru_cache(maxsize=1024)
def _read_build(text: str) -> Build:
    """Read each document once: simulations look at one thousands of times, and a build is a value."""
    return read_build(text)


def _listed(document: _Document) -> Build | Damaged:
    try:
        return _build(document)
    except DamagedDocument as error:
        return Damaged(document.id, str(error))


def _image(project: str, name: str, text: str) -> ImageDocument:
    try:
        return read_image_of(project, name, text)
    except StoreError as error:
        remedy = forget_image(project, name)
        raise DamagedDocument(f"the document of image {name} is damaged: {error}; {remedy}") from error


def _image_or_damage(project: str, name: str, text: str) -> ImageDocument | Damaged:
    try:
        return _image(project, name, text)
    except DamagedDocument as error:
        return Damaged(f"{project}/{name}", str(error))


def _event(build_id: str, event_id: str, text: str) -> Event | Damaged:
    try:
        return read_event_of(build_id, event_id, text)
    except StoreError as error:
        return Damaged(event_id, f"event {event_id} of build {build_id} is damaged: {error}")


def _trigger(key: str, text: str) -> Trigger:
    try:
        return read_trigger_of(key, text)
    except StoreError as error:
        raise DamagedDocument(f"the document of trigger {key} is damaged: {error}") from error


def _trigger_or_damage(key: str, text: str) -> Trigger | Damaged:
    try:
        return _trigger(key, text)
    except DamagedDocument as error:
        return Damaged(key, str(error))


def _person_request(key: str, text: str) -> PersonRequest:
    try:
        return read_person_request_of(key, text)
    except StoreError as error:
        raise DamagedDocument(f"the document of request {key} is damaged: {error}") from error


def _person_request_or_damage(key: str, text: str) -> PersonRequest | Damaged:
    try:
        return _person_request(key, text)
    except DamagedDocument as error:
        return Damaged(key, str(error))


def _promotion(key: str, text: str) -> AskedPromotion:
    try:
        return read_promotion_of(key, text)
    except StoreError as error:
        raise DamagedDocument(f"the document of promotion {key} is damaged: {error}") from error


def _promotion_or_damage(key: str, text: str) -> AskedPromotion | Damaged:
    try:
        return _promotion(key, text)
    except DamagedDocument as error:
        return Damaged(key, str(error))
