"""Builds and events as Firestore's documents: the fields that queries look at, and the whole as one text.

    builds/{build id}                     name family state outcome created updated wake_at writes
                                          line                                             delete_after  document
    builds/{build id}/events/{event id}   kind time                                        delete_after  document
    lives/{build id}                      last_seen                                        delete_after
    images/{project}~{name}               build_id until                                   delete_after  document
    triggers/{id}                         active                                           delete_after  document
    promotions/{project}~{image}~{channel}  open                                           delete_after  document
    person_requests/{id}                  target                                           delete_after  document
    publishers/{project}~{family}         build: whose turn it is, or was last, to publish in a family
    forgotten/{build id}~{update time}    a build, with its events, as it stood when it was set aside

`document` is the JSON that SQLite keeps too. What is long is compressed, since a document takes 1 MiB at most; what is
too long even so loses output of steps, which the events keep, then the ends of reasons and findings. A build that
begins must leave room for all that: its plan takes most of the room, and never becomes shorter. Heartbeats write lives/
alone: they come each minute from every VM, and must neither move the build's version nor wait for its writers.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ..build.build import Build, ImageDocument, StepRecord, Unfinished, unfinished_of
from ..build.damage import Damaged, forget_image
from ..build.events import (
    BuildRejected,
    Event,
    OrderFailed,
    kind_of,
    read_build,
    read_event_of,
    read_image_of,
    read_unfinished,
    to_json,
)
from ..build.image.approval import AskedPromotion, read_promotion_of, write_promotion
from ..build.trigger import Trigger, read_trigger_of, write_trigger
from ..errors import DamagedDocument, StoreError, TooLarge
from ..person_requests import PersonRequest, read_person_request_of, write_person_request

BUILDS, EVENTS, LIVES, FORGOTTEN, IMAGES = "builds", "events", "lives", "forgotten", "images"
TRIGGERS, PROMOTIONS, PUBLISHERS, PERSON_REQUESTS = "triggers", "promotions", "publishers", "person_requests"

FAMILY = "family"  # of the image; documents of the release before lack it until their build is written again
WRITES = "writes"  # how often a build has been saved
LINE = "line"  # what the line knows of an unfinished build
IN_LINE = (LINE, "state", "updated")  # the fields that are read for the line
TARGET = "target"  # what a person's request is about
DELETE_AFTER = "delete_after"  # Firestore deletes a document some time after this; None is never
KEPT_FOR = timedelta(days=90)  # what is finished

MOST_UNPACKED = 16 << 20  # bytes; Firestore's documents have 1 MiB at most, and text becomes a tenth
PLAIN_LIMIT = 128 * 1024  # characters; a longer text is compressed, and the console shows it no more
DOCUMENT_LIMIT = 900_000  # bytes: Firestore's 1 MiB, less what the other fields and the indexes may take
BEGINS_WITHIN = 700_000  # bytes of that, for a build that has said nothing yet
OUTPUTS = (1000, 100, 0)  # characters of output that a step of a build that is too large keeps
REASON = 10_000  # characters of a reason, and of all findings, that are kept in the end


@dataclass(frozen=True)
class Index:
    """A composite index: Firestore refuses a query that needs one and has none. Its emulator refuses nothing."""

    collection: str
    fields: tuple[tuple[str, str], ...]  # name, and ASCENDING or DESCENDING


def build_fields(build: Build, limit: int = DOCUMENT_LIMIT) -> dict[str, Any]:
    """Return the fields of builds/{id}. TooLarge for a document of more than `limit` bytes."""
    return {
        "name": build.name,
        FAMILY: build.plan.image.family if build.plan is not None else None,
        "state": str(build.state),
        "outcome": str(build.outcome) if build.outcome else None,
        "created": build.created,
        "updated": build.updated,
        "wake_at": build.wake_at,
        DELETE_AFTER: _time(build.updated) + KEPT_FOR if build.finished else None,
        LINE: None if build.finished else json.dumps(to_json(unfinished_of(build)), separators=(",", ":")),
        "document": _build_document(build, limit),
    }


def in_line(build_id: str, fields: Mapping[str, Any]) -> Unfinished | None:
    """Read what the line knows of an unfinished build from the fields IN_LINE.

    None where they do not say it: the release before has written the document, or written it last.
    """
    try:
        known = read_unfinished(fields.get(LINE))
    except StoreError:
        return None
    same = (known.id, known.state, known.updated) == (build_id, fields.get("state"), fields.get("updated"))
    return known if same else None


def event_fields(event: Event) -> dict[str, Any]:
    """Return the fields of builds/{id}/events/{event id}, a long reason cut where it must be. TooLarge.

    `time` is that of the commit, by which lists are ordered. In those of the release before it is a number, the
    engine's time; Firestore puts all numbers before all times.
    """
    from google.cloud.firestore import SERVER_TIMESTAMP

    document = _packed(_text(event))
    if len(document) > DOCUMENT_LIMIT and isinstance(event, BuildRejected | OrderFailed):
        document = _packed(_text(replace(event, reason=event.reason[:REASON])))
    fields = {
        "kind": kind_of(event),
        DELETE_AFTER: _time(event.time) + KEPT_FOR,
        "document": _within(f"event {event.event_id} of build {event.build_id}", document),
    }
    return {**fields, "time": SERVER_TIMESTAMP}


def image_fields(image: ImageDocument) -> dict[str, Any]:
    """Return the fields of images/{project}~{name}. One that is gone stays a moment: none but people may delete."""
    gone = image.state == "gone"
    return {
        "build_id": image.build_id,
        "until": image.until or None,
        DELETE_AFTER: datetime.fromtimestamp(0, UTC) if gone else None,
        "document": _text(image),
    }


def image_of(project: str, name: str, fields: Mapping[str, Any]) -> ImageDocument | None:
    """Read images/{project}~{name}; None for one that is gone. DamagedDocument."""
    try:
        image = read_image_of(project, name, fields.get("document"))
    except StoreError as error:
        raise _damage(f"image {name}", str(error), forget_image(project, name)) from error
    return None if image.state == "gone" else image


def image_or_damage(key: str, fields: Mapping[str, Any]) -> ImageDocument | Damaged | None:
    """Read images/{key} for a list."""
    project, _, name = key.partition("~")
    try:
        return image_of(project, name, fields)
    except DamagedDocument as error:
        return Damaged(f"{project}/{name}", str(error))


def trigger_fields(trigger: Trigger) -> dict[str, Any]:
    """Return the fields of triggers/{id}. One that is removed is kept as long as its builds. TooLarge."""
    return {
        "active": trigger.is_active,
        DELETE_AFTER: _time(trigger.removed) + KEPT_FOR if trigger.removed else None,
        "document": _within(f"trigger {trigger.id}", _packed(write_trigger(trigger))),
    }


def trigger_of(key: str, fields: Mapping[str, Any]) -> Trigger:
    """Read triggers/{id}. DamagedDocument."""
    try:
        return read_trigger_of(key, document_of(fields))
    except StoreError as error:
        remedy = f"delete the document triggers/{key}, and upload the spec again"
        raise _damage(f"trigger {key}", str(error), remedy) from error


def trigger_or_damage(key: str, fields: Mapping[str, Any]) -> Trigger | Damaged:
    """Read triggers/{id} for a list."""
    try:
        return trigger_of(key, fields)
    except DamagedDocument as error:
        return Damaged(key, str(error))


def promotion_fields(asked: AskedPromotion) -> dict[str, Any]:
    """Return the fields of promotions/{id}. One that has ended is kept as long as builds are. TooLarge."""
    return {
        "open": asked.is_open,
        DELETE_AFTER: None if asked.is_open else _time(asked.ended) + KEPT_FOR,
        "document": _within(f"promotion {asked.id}", _packed(write_promotion(asked))),
    }


def promotion_of(key: str, fields: Mapping[str, Any]) -> AskedPromotion:
    """Read promotions/{id}. DamagedDocument."""
    try:
        return read_promotion_of(key, document_of(fields))
    except StoreError as error:
        remedy = f"delete the document promotions/{key}, and ask for the promotion again"
        raise _damage(f"promotion {key}", str(error), remedy) from error


def promotion_or_damage(key: str, fields: Mapping[str, Any]) -> AskedPromotion | Damaged:
    """Read promotions/{id} for a list."""
    try:
        return promotion_of(key, fields)
    except DamagedDocument as error:
        return Damaged(key, str(error))


def person_request_fields(asked: PersonRequest) -> dict[str, Any]:
    """Return the fields of person_requests/{id}. It is kept as long as builds are. TooLarge."""
    return {
        TARGET: asked.target,
        DELETE_AFTER: _time(asked.asked) + KEPT_FOR,
        "document": _within(f"request {asked.id}", _packed(write_person_request(asked))),
    }


def person_request_of(key: str, fields: Mapping[str, Any]) -> PersonRequest:
    """Read person_requests/{id}. DamagedDocument."""
    try:
        return read_person_request_of(key, document_of(fields))
    except StoreError as error:
        raise _damage(f"request {key}", str(error), f"delete the document person_requests/{key}") from error


def person_request_or_damage(key: str, fields: Mapping[str, Any]) -> PersonRequest | Damaged:
    """Read person_requests/{id} for a list."""
    try:
        return person_request_of(key, fields)
    except DamagedDocument as error:
        return Damaged(key, str(error))


def life_fields(build: Build) -> dict[str, Any]:
    """Return the fields of lives/{id}, of a build that begins."""
    return {"last_seen": build.last_seen, DELETE_AFTER: _time(build.created) + KEPT_FOR}


def build_of(build_id: str, fields: Mapping[str, Any], last_seen: float) -> Build:
    """Read builds/{id}; `last_seen` is that of lives/{id}. DamagedDocument."""
    remedy = f"set it aside with: goldsmith builds forget {build_id} --project PROJECT"
    try:
        build = read_build(document_of(fields))
    except StoreError as error:
        raise _damage(f"build {build_id}", str(error), remedy) from error
    if build.id != build_id:
        raise _damage(f"build {build_id}", f"it is that of build {build.id}", remedy)
    return replace(build, last_seen=max(build.last_seen, last_seen))


def build_or_damage(build_id: str, fields: Mapping[str, Any], last_seen: float) -> Build | Damaged:
    """Read builds/{id} for a list."""
    try:
        return build_of(build_id, fields, last_seen)
    except DamagedDocument as error:
        return Damaged(build_id, str(error))


def event_or_damage(build_id: str, event_id: str, fields: Mapping[str, Any]) -> Event | Damaged:
    """Read builds/{id}/events/{event id} for a list."""
    try:
        return read_event_of(build_id, event_id, document_of(fields))
    except StoreError as error:
        return Damaged(
            event_id, str(_damage(f"event {event_id} of build {build_id}", str(error), "do without what it tells"))
        )


def _build_document(build: Build, limit: int) -> str | bytes:
    """Return the text of a build, with as much as there is room for of what was said about it.

    Without this, a guest that says too much could keep its own build from ever being written again, clean-up included.
    """
    document = _packed(_text(build))
    for most in OUTPUTS:
        if len(document) <= limit:
            return document
        document = _packed(_text(_shortened(build, most)))
    return _within(f"build {build.id}", document, limit)


def _shortened(build: Build, most: int) -> Build:
    """Cut steps' outputs to `most` characters; where nothing of them is left, notes, reason and findings as well."""
    verifiers = tuple(replace(each, steps=_shortened_steps(each.steps, most)) for each in build.verifiers)
    steps, verify_steps = (_shortened_steps(table, most) for table in (build.steps, build.verify_steps))
    build = replace(build, steps=steps, verify_steps=verify_steps, verifiers=verifiers)
    if most:
        return build
    image = build.image
    if image is not None:
        image = replace(image, findings=tuple("\n".join(image.findings)[:REASON].splitlines()))
    return replace(build, reason=build.reason[:REASON], image=image)


def _shortened_steps(steps: Iterable[StepRecord], most: int) -> tuple[StepRecord, ...]:
    return tuple(
        replace(step, output=step.output[max(0, len(step.output) - most) :], note=step.note if most else "")
        for step in steps
    )


def _within(what: str, document: str | bytes, limit: int = DOCUMENT_LIMIT) -> str | bytes:
    """Return a document that Firestore takes. TooLarge."""
    if len(document) > limit:
        remedy = "move data from the spec into its context"
        raise TooLarge(f"{what}: its document has {len(document)} bytes, and Firestore takes {limit}; {remedy}")
    return document


def _text(document: Build | Event | ImageDocument) -> str:
    # ASCII: what a guest printed may hold halves of characters, which only JSON's escapes can carry.
    return json.dumps(to_json(document), separators=(",", ":"), ensure_ascii=True)


def _packed(text: str) -> str | bytes:
    return text if len(text) <= PLAIN_LIMIT else zlib.compress(text.encode("ascii"))


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(data, MOST_UNPACKED)
    if not unpacker.eof:
        raise zlib.error(f"it does not end within {MOST_UNPACKED} bytes")
    return text


def document_of(fields: Mapping[str, Any]) -> Any:
    """Return the text of a document's field `document`. StoreError where it has none."""
    document = fields.get("document")
    try:
        return _unpacked(document) if isinstance(document, bytes) else document
    except zlib.error as error:
        raise StoreError(f"its field `document` cannot be decompressed: {error}") from error


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _damage(what: str, why: str, remedy: str) -> DamagedDocument:
    return DamagedDocument(
        f"the document of {what} is damaged, or of another version of Goldsmith: {why}; "
        f"deploy that version if it is a newer one, or {remedy}"
    )
