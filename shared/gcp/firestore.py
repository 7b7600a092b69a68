"""The store in Firestore. Each write is one atomic batch under a precondition: no transactions, which wait for each
other.

    process A   load (v7) ── decide ── commit[create event, update build if still v7] → v8
    process B      load (v7) ── decide ───────── commit[create event, update build if still v7] → refused
                                                 └─ look why: no build? event there? another writer?
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import google.api_core.exceptions as api
from google.api_core.datetime_helpers import DatetimeWithNanoseconds
from google.api_core.retry import Retry, if_exception_type

from ..build.build import Build, ImageDocument, State, Unfinished, unfinished_of
from ..build.damage import Damaged, along_with, refuse_readable, refuse_unfinished
from ..build.events import Event
from ..build_search import BuildFilter, FoundBuilds
from ..errors import AlreadyExists, Conflict, DamagedDocument, NameTaken, NotFound, StoreError
from ..ports import PAGE, Stored
from .documents import (
    BEGINS_WITHIN,
    BUILDS,
    DELETE_AFTER,
    EVENTS,
    FAMILY,
    FORGOTTEN,
    IMAGES,
    IN_LINE,
    KEPT_FOR,
    LIVES,
    PERSON_REQUESTS,
    PROMOTIONS,
    TRIGGERS,
    WRITES,
    Index,
    build_fields,
    build_of,
    build_or_damage,
    document_of,
    event_fields,
    event_or_damage,
    image_fields,
    image_of,
    image_or_damage,
    in_line,
    life_fields,
)
from .errors import mapped
from .family_turns import FamilyTurns
from .kept import KeptCollections

if TYPE_CHECKING:
    from google.cloud import firestore


INDEXES = (
    # For find_builds(), which merges those of its fields, and builds(unfinished=True) of the release before.
    Index(BUILDS, (("state", "ASCENDING"), ("created", "DESCENDING"))),
    Index(EVENTS, (("kind", "ASCENDING"), ("time", "ASCENDING"))),  # for events() of some kinds
    *(Index(BUILDS, ((field, "ASCENDING"), ("created", "DESCENDING"))) for field in ("outcome", "name", FAMILY)),
)

UNINDEXED = (
    (BUILDS, "document"),
    (EVENTS, "document"),
    (FORGOTTEN, "document"),
    (IMAGES, "document"),
    (TRIGGERS, "document"),
    (PROMOTIONS, "document"),
    (PERSON_REQUESTS, "document"),
)  # no query needs them, and they are long
_DELETED = (BUILDS, EVENTS, LIVES, FORGOTTEN, IMAGES, TRIGGERS, PROMOTIONS, PERSON_REQUESTS)
TTL = tuple((collection, DELETE_AFTER) for collection in _DELETED)
"""What Firestore has to be told once, for each collection: indexes, fields without an index, fields of deletion."""

FINISHED = str(State.FINISHED)
SEARCHED = 500  # documents that one search for a text reads
IMAGES_AT_ONCE = 200  # documents of images in one answer

_REFUSALS = (api.FailedPrecondition, api.AlreadyExists, api.Aborted, api.NotFound)  # of a conditional write


class GoogleStore(FamilyTurns, KeptCollections):
    """Builds and their events in a project's default database. Thread-safe.

    `host` is an emulator's HOST:PORT. `patience` is how long, in seconds, a call that cannot reach Firestore is tried
    again, and how long one waits for an answer, before it is Transient.
    """

    def __init__(self, project: str, host: str | None = None, *, patience: float = 20.0) -> None:
        self._project = project
        self._host = host
        self._last: Any = None  # document of the newest page of events: who reads on need not read it again
        again = if_exception_type(api.ServiceUnavailable)
        self._patience: Mapping[str, Any] = {
            "retry": Retry(again, initial=0.1, maximum=2.0, timeout=patience),
            "timeout": patience,
        }

    @cached_property
    def _client(self) -> firestore.Client:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import firestore  # 0.2 s, not before a build is read

        if self._host is None:
            with mapped("Firestore"):
                return firestore.Client(self._project)
        client = firestore.Client(self._project, credentials=AnonymousCredentials())
        client._emulator_host = self._host  # which it looks for in os.environ only, once and for all its users
        return client

    def create(self, build: Build, event: Event, image: ImageDocument | None = None, replaces: str = "") -> None:
        """Write a new build, its first event and its image's document, atomically.

        AlreadyExists, NameTaken, TooLarge; Conflict when the image's document was written meanwhile.
        """
        batch = self._client.batch()
        batch.create(self._build(build.id), build_fields(build, BEGINS_WITHIN))
        batch.create(self._event(build.id, event.event_id), event_fields(event))
        batch.set(self._life(build.id), life_fields(build))
        with mapped(f"build {build.id}"):
            try:
                free = image is None or self._write_image(batch, image, replaces)
            except DamagedDocument:
                self._refuse_second(build.id)
                raise
            if image is not None and not free:
                self._refuse_second(build.id)
                raise NameTaken(f"image {image.name} of project {image.project} belongs to another build")
            try:
                batch.commit(**self._patience)
            except (api.AlreadyExists, api.FailedPrecondition, api.Aborted) as error:
                self._refuse_second(build.id, error)
                raise Conflict(f"image of build {build.id}: its document was written by another process") from error

    def _refuse_second(self, build_id: str, cause: BaseException | None = None) -> None:
        """Raise AlreadyExists where there is such a build, whatever else kept it from being written."""
        if self._build(build_id).get(["updated"], **self._patience).exists:
            raise AlreadyExists(f"build {build_id} exists already") from cause

    def load(self, build_id: str) -> Stored:
        """Read a build and its version, which is its document's update time. NotFound, DamagedDocument."""
        found = self._get([self._build(build_id), self._life(build_id)], f"build {build_id}")
        build = found.get(BUILDS)
        if build is None:
            raise _unknown(build_id)
        return Stored(build_of(build_id, _fields(build), _last_seen(found.get(LIVES))), _version(build.update_time))

    def save(
        self,
        build: Build,
        expected: str,
        event: Event | None = None,
        image: ImageDocument | None = None,
        replaces: str | None = None,
    ) -> str:
        """Write build and event in one step if the build's version is still `expected`; give the new version.

        NotFound, AlreadyExists (the event, whatever the version: a duplicate stays one), Conflict or NameTaken; nothing
        is written then. StoreError when it is too large.
        """
        from google.cloud.firestore import Increment

        batch = self._client.batch()
        if event is not None:
            batch.create(self._event(build.id, event.event_id), event_fields(event))
        with mapped(f"build {build.id}"):
            try:
                option = self._client.write_option(last_update_time=DatetimeWithNanoseconds.from_rfc3339(expected))
                # A write that changes nothing does not move the update time, and so would not be seen by the next one.
                fields = {**build_fields(build), WRITES: Increment(1)}
                batch.update(self._build(build.id), fields, option)
                place = len(batch) - 1
                with along_with(build, replaces):
                    if (
                        image is not None
                        and not self._write_image(batch, image, replaces or "")
                        and replaces is not None
                    ):
                        raise NameTaken(f"image {image.name} of project {image.project} belongs to another build")
                results = batch.commit(**self._patience)
            except (*_REFUSALS, ValueError) as error:  # the latter for what is no version of ours
                raise self._why_refused(build.id, event) from error
        return _version(results[place].update_time)

    def image(self, project: str, name: str) -> ImageDocument | None:
        """Read what is known of an image."""
        with mapped(f"image {name}"):
            found = self._image(project, name).get(**self._patience)
        return image_of(project, name, _fields(found)) if found.exists else None

    def known_images(self, project: str, names: Sequence[str]) -> Mapping[str, ImageDocument | Damaged]:
        """Read what is known of so many images of a project at once."""
        found: dict[str, ImageDocument | Damaged] = {}
        with mapped("images"):
            for first in range(0, len(names), IMAGES_AT_ONCE):
                asked = [self._image(project, name) for name in names[first : first + IMAGES_AT_ONCE]]
                for document in self._client.get_all(asked, **self._patience):
                    image = image_or_damage(document.id, _fields(document)) if document.exists else None
                    if image is not None:
                        found[document.id.partition("~")[2]] = image
        return found

    def image_documents(self, project: str) -> Iterator[ImageDocument | Damaged]:
        """List what is known of the images of a project, by their names."""
        images = self._client.collection(IMAGES)
        last = images.document(f"{project}~")
        while True:
            query = images.order_by("__name__").start_after({"__name__": last}).limit(IMAGES_AT_ONCE)
            with mapped("images"):
                found = list(query.stream(**self._patience))
            for document in found:
                if not document.id.startswith(f"{project}~"):
                    return
                if (image := image_or_damage(document.id, _fields(document))) is not None:
                    yield image
            if len(found) < IMAGES_AT_ONCE:
                return
            last = found[-1].reference

    def kept_images(self, before: float) -> Sequence[ImageDocument | Damaged]:
        """List the images that are kept until a time that is past."""
        from google.cloud.firestore import FieldFilter

        with mapped("images"):
            query = self._client.collection(IMAGES).where(filter=FieldFilter("until", "<=", before))
            found = [image_or_damage(document.id, _fields(document)) for document in query.stream(**self._patience)]
        kept = ("kept", "held")  # documents of all other states have until 0
        return [image for image in found if isinstance(image, Damaged) or (image is not None and image.state in kept)]

    def save_image(self, image: ImageDocument, expected: ImageDocument | None) -> bool:
        """Write an image's document if it is still as expected; return whether it was."""
        batch = self._client.batch()
        with mapped(f"image {image.name}"):
            found = self._image(image.project, image.name).get(**self._patience)
            if (image_or_damage(found.id, _fields(found)) if found.exists else None) != expected:
                return False
            if found.exists:  # or is that of an image that is gone
                option = self._client.write_option(last_update_time=found.update_time)
                batch.update(found.reference, image_fields(image), option)
            else:
                batch.create(found.reference, image_fields(image))
            try:
                batch.commit(**self._patience)
            except _REFUSALS:
                return False
        return True

    def set_image_aside(self, project: str, name: str) -> None:
        """Move an image's document that cannot be read to forgotten/. InputError, NotFound, Conflict."""
        with mapped(f"image {name}"):
            found = self._image(project, name).get(**self._patience)
            image = image_or_damage(found.id, _fields(found)) if found.exists else None
            if image is None:
                raise NotFound(f"nothing is known of an image {name} of project {project}")
            refuse_readable(image)
            self._move(found)

    def _write_image(self, batch: Any, image: ImageDocument, replaces: str = "") -> bool:
        """Add an image's document to a batch, on condition that it stays as it is now; False for another build's.

        DamagedDocument when what is there cannot be read.
        """
        reference = self._image(image.project, image.name)
        found = reference.get(**self._patience)
        known = image_of(image.project, image.name, _fields(found)) if found.exists else None
        if (known.build_id if known is not None else "") not in (image.build_id, replaces):
            return False
        image = image.beside(known)
        if found.exists:
            option = self._client.write_option(last_update_time=found.update_time)
            batch.update(reference, image_fields(image), option)
        elif image.state != "gone":
            batch.create(reference, image_fields(image))
        return True

    def touch(self, build_id: str, seen: float) -> None:
        """Move last_seen on to `seen` (Unix seconds; never back). An unknown build is ignored."""
        from google.cloud.firestore import Maximum

        again = if_exception_type(api.ServiceUnavailable, api.Aborted)  # the latter when it meets another one
        with mapped(f"build {build_id}"):
            try:
                patience = {**self._patience, "retry": self._patience["retry"].with_predicate(again)}
                self._life(build_id).update({"last_seen": Maximum(seen)}, **patience)
            except api.NotFound:
                return

    def builds(
        self, *, unfinished: bool = False, limit: int | None = None, before: str = ""
    ) -> Sequence[Build | Damaged]:
        """List builds, newest first: at most `limit`, those that follow the build `before`. NotFound for that."""
        with mapped("builds"):
            last = self._existing(before) if before else None
            found = self._page(limit, last) if limit and not unfinished else self._all(unfinished, limit, last)
        seen = self._last_seen_of(document.id for document in found if _fields(document).get("state") != FINISHED)
        return [build_or_damage(each.id, _fields(each), seen.get(each.id, 0.0)) for each in found]

    def _page(self, limit: int, last: Any) -> list[Any]:
        """Return some documents in Firestore's own order, which leaves out those that have no `created` at all."""
        query = self._client.collection(BUILDS).order_by("created", direction="DESCENDING").limit(limit)
        if last is not None and "created" in _fields(last):
            query = query.start_after(last)
        return list(query.stream(**self._patience))

    def _all(self, unfinished: bool, limit: int | None, last: Any) -> list[Any]:
        """Return all documents in the order that we give them, those without `created` too.

        Unfinished are all states but one: a newer release may know more of them than we do.
        """
        from google.cloud.firestore import FieldFilter

        builds = self._client.collection(BUILDS)
        query = builds.where(filter=FieldFilter("state", "!=", FINISHED)) if unfinished else builds
        found = sorted(query.stream(**self._patience), key=_age, reverse=True)
        return [document for document in found if last is None or _age(document) < _age(last)][:limit]

    def find_builds(self, wanted: BuildFilter, *, limit: int, before: str = "") -> FoundBuilds:
        """List builds that match, newest first; of a text, those among the next SEARCHED documents."""
        most = SEARCHED if wanted.text else limit + 1
        with mapped("builds"):
            query = _compared(self._client.collection(BUILDS), wanted).order_by("created", direction="DESCENDING")
            if before:
                query = query.start_after(self._existing(before))
            documents = list(query.limit(most).stream(**self._patience))
        found: list[Build] = []
        for number, document in enumerate(documents):
            build = build_or_damage(document.id, document.to_dict() or {}, 0.0)
            if isinstance(build, Build) and wanted.matches(build):
                found.append(build)
            if len(found) == limit:
                return FoundBuilds(tuple(found), document.id if documents[number + 1 :] else "")
        return FoundBuilds(tuple(found), documents[-1].id if len(documents) == most else "")

    def line(self) -> Sequence[Unfinished | Damaged]:
        """List the unfinished builds in the order of the commits that have created them, by Firestore's own clock.

        Documents that the release before has written last, which do not say what the line knows, are read one by one.
        """
        from google.cloud.firestore import FieldFilter

        builds = self._client.collection(BUILDS)
        query = builds.where(filter=FieldFilter("state", "!=", FINISHED)).select(IN_LINE)
        with mapped("builds"):
            found = sorted(query.stream(**self._patience), key=lambda document: (document.create_time, document.id))
        line = (in_line(each.id, _fields(each)) or self._in_line(each.id) for each in found)
        return [each for each in line if each is not None]

    def _in_line(self, build_id: str) -> Unfinished | Damaged | None:
        with mapped(f"build {build_id}"):
            found = self._build(build_id).get(**self._patience)
        build = build_or_damage(build_id, _fields(found), 0.0) if found.exists else None
        if not isinstance(build, Build):
            return build
        return None if build.finished else unfinished_of(build)

    def _existing(self, build_id: str) -> Any:
        found = self._build(build_id).get(**self._patience)
        if not found.exists:
            raise _unknown(build_id)
        return found

    def set_aside(self, build_id: str) -> Any:
        """Move a build with its events to forgotten/, where all is kept as long as a finished build.

            copy the events ── commit[create the copy, delete the build if still as it was read] ── delete the events

        A process that dies in between is followed by one that does the same again, and finds less to do.
        """
        document = None
        self._last = None
        with mapped(f"build {build_id}"):
            build = self._build(build_id).get(**self._patience)
            if not build.exists and not any(self._all_events(self._build(build_id), 1)):
                raise _unknown(build_id)
            if build.exists:
                refuse_unfinished(build_or_damage(build_id, _fields(build), 0.0))
                self._move(build, self._life(build_id))
                with suppress(StoreError):
                    document = document_of(_fields(build))
            for event in self._all_events(self._build(build_id), PAGE, []):
                event.reference.delete(**self._patience)
        return document

    def _all_events(self, of: Any, page: int, fields: list[str] | None = None) -> Iterator[Any]:
        """Read all documents of events below another one, a page at a time, in the order of their ids.

        `fields` are those that are wanted: all, or none.
        """
        query = of.collection(EVENTS).order_by("__name__").limit(page)
        query = query if fields is None else query.select(fields)
        found = list(query.stream(**self._patience))
        while found:
            yield from found
            found = list(query.start_after(found[-1]).stream(**self._patience))

    def _move(self, found: Any, *along: Any) -> None:
        """Move a document, with its events, to forgotten/ in one conditional write, and delete others along with it."""
        version = _version(found.update_time)
        copy = self._client.collection(FORGOTTEN).document(f"{found.id}~{version}")
        until = {DELETE_AFTER: datetime.now(UTC) + KEPT_FOR}
        for event in self._all_events(found.reference, PAGE):
            copy.collection(EVENTS).document(event.id).set({**_fields(event), **until}, **self._patience)
        batch = self._client.batch()
        batch.set(copy, {**_fields(found), **until})
        option = self._client.write_option(last_update_time=DatetimeWithNanoseconds.from_rfc3339(version))
        batch.delete(found.reference, option)
        for other in along:
            batch.delete(other)
        try:
            batch.commit(**self._patience)
        except (api.FailedPrecondition, api.NotFound, api.Aborted) as error:
            raise Conflict(f"{found.id} was written by another process meanwhile; look at it again") from error

    def events(
        self,
        build_id: str,
        *,
        kinds: Sequence[str] = (),
        after: str = "",
        limit: int = PAGE,
    ) -> Sequence[Event | Damaged]:
        """List at most `limit` of a build's recorded events in the order they were applied. NotFound for `after`.

        That is the order of the commits that created them: those of one build follow each other.
        """
        from google.cloud.firestore import FieldFilter

        query = self._build(build_id).collection(EVENTS)
        with mapped(f"events of build {build_id}"):
            if kinds:
                query = query.where(filter=FieldFilter("kind", "in", list(kinds)))
            query = query.order_by("time").limit(limit)
            if after:
                query = query.start_after(self._recorded_event(build_id, after))
            found = list(query.stream(**self._patience))
        if found:
            self._last = found[-1]
        return [event_or_damage(build_id, document.id, _fields(document)) for document in found]

    def _recorded_event(self, build_id: str, event_id: str) -> Any:
        """Return the document of an event, which never changes: that of the last page without a read. NotFound."""
        last, wanted = self._last, self._event(build_id, event_id)
        if last is not None and last.reference == wanted:
            return last
        found = wanted.get(["time"], **self._patience)
        if not found.exists:
            raise NotFound(f"build {build_id} has no event {event_id}")
        self._last = found
        return found

    def newest_events(self, build_id: str, limit: int = PAGE) -> Sequence[Event | Damaged]:
        """List at most `limit` of a build's recorded events, the last one first."""
        query = self._build(build_id).collection(EVENTS).order_by("time", direction="DESCENDING").limit(limit)
        with mapped(f"events of build {build_id}"):
            found = list(query.stream(**self._patience))
        return [event_or_damage(build_id, document.id, _fields(document)) for document in found]

    def recorded(self, build_id: str, event_ids: Collection[str]) -> frozenset[str]:
        """Return which of these events of a build are recorded."""
        found: set[str] = set()
        with mapped(f"events of build {build_id}"):
            asked = sorted(event_ids)
            for first in range(0, len(asked), PAGE):
                wanted = [self._event(build_id, event_id) for event_id in asked[first : first + PAGE]]
                documents = self._client.get_all(wanted, ["kind"], **self._patience)
                found.update(document.id for document in documents if document.exists)
        return frozenset(found)

    def _why_refused(self, build_id: str, event: Event | None) -> StoreError:
        """Look which condition did not hold. Firestore names one of several, and its emulator another."""
        wanted = [self._build(build_id)]
        if event is not None:
            wanted.append(self._event(build_id, event.event_id))
        found = self._get(wanted, f"build {build_id}", ["updated", "kind"])
        if BUILDS not in found:
            return _unknown(build_id)
        if event is not None and EVENTS in found:
            return AlreadyExists(f"build {build_id} has event {event.event_id} already")
        return Conflict(f"build {build_id} was written by another process; load it again")

    def _get(self, wanted: list[Any], what: str, fields: list[str] | None = None) -> dict[str, Any]:
        """Read documents of different collections in one call; give those that exist by their collection."""
        with mapped(what):
            found = list(self._client.get_all(wanted, fields, **self._patience))
        return {snapshot.reference.parent.id: snapshot for snapshot in found if snapshot.exists}

    def _last_seen_of(self, build_ids: Iterable[str]) -> dict[str, float]:
        wanted = [self._life(build_id) for build_id in build_ids]
        if not wanted:
            return {}
        with mapped("lives of builds"):
            found = list(self._client.get_all(wanted, **self._patience))
        return {snapshot.id: _last_seen(snapshot) for snapshot in found if snapshot.exists}

    def _build(self, build_id: str) -> Any:
        return self._client.collection(BUILDS).document(build_id)

    def _image(self, project: str, name: str) -> Any:
        return self._client.collection(IMAGES).document(f"{project}~{name}")

    def _life(self, build_id: str) -> Any:
        return self._client.collection(LIVES).document(build_id)

    def _event(self, build_id: str, event_id: str) -> Any:
        return self._build(build_id).collection(EVENTS).document(event_id)


def _fields(snapshot: Any) -> Mapping[str, Any]:
    return snapshot.to_dict() or {}


def _age(snapshot: Any) -> tuple[bool, float, str]:
    """Return what sorts documents as `created` does in Firestore: what is no number comes after all numbers."""
    created = _fields(snapshot).get("created")
    if isinstance(created, int | float) and math.isfinite(created):
        return False, created, str(snapshot.id)
    return True, 0.0, str(snapshot.id)


def _last_seen(snapshot: Any) -> float:
    seen = _fields(snapshot).get("last_seen") if snapshot is not None else None
    return float(seen) if isinstance(seen, int | float) else 0.0  # what is damaged there says nothing


def _version(time: Any) -> str:
    return str(time.rfc3339())


def _unknown(build_id: str) -> NotFound:
    return NotFound(f"there is no build {build_id}; `goldsmith builds list` shows them all")


def _compared(builds: Any, wanted: BuildFilter) -> Any:
    from google.cloud.firestore import FieldFilter

    fields = (("outcome", wanted.outcome), ("name", wanted.name), (FAMILY, wanted.family))
    for field, value in fields:
        builds = builds.where(filter=FieldFilter(field, "==", value)) if value else builds
    if wanted.states:
        builds = builds.where(filter=FieldFilter("state", "in", list(wanted.states)))
    if wanted.since:
        builds = builds.where(filter=FieldFilter("created", ">=", wanted.since))
    return builds.where(filter=FieldFilter("created", "<", wanted.until)) if wanted.until else builds
