"""The store on this machine: the documents that Firestore would hold, in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..build.build import Build, ImageDocument, Unfinished, unfinished_of
from ..build.damage import Damaged, along_with, forget_image, refuse_readable, refuse_unfinished
from ..build.events import Event, kind_of, read_build, read_event_of, read_image_of, to_json
from ..build.image.approval import AskedPromotion, read_promotion_of, write_promotion
from ..build.trigger import Trigger, read_trigger_of, write_trigger
from ..build_search import BuildFilter, FoundBuilds
from ..errors import AlreadyExists, Conflict, DamagedDocument, NameTaken, NotFound, StoreError
from ..person_requests import PersonRequest, read_person_request_of, write_person_request
from ..ports import PAGE, Stored
from .database import Database

_LIST = """
    SELECT id, document, last_seen FROM builds
    WHERE (:all OR state <> 'finished') AND (:last IS NULL OR (created, id) < (:last, :id))
    ORDER BY created DESC, id DESC LIMIT :limit
"""

_FIND = """
    SELECT builds.id, builds.document, builds.last_seen
    FROM build_facts AS facts JOIN builds ON builds.id = facts.id
    WHERE (:outcome = '' OR facts.outcome = :outcome) AND (:name = '' OR facts.name = :name)
    AND (:family = '' OR facts.family = :family)
    AND (:states = '[]' OR facts.state IN (SELECT value FROM json_each(:states)))
    AND facts.created >= :since AND (:until = 0 OR facts.created < :until)
    AND (:words = '' OR instr(facts.words, :words) > 0)
    AND (:last IS NULL OR (facts.created, facts.id) < (:last, :id))
    ORDER BY facts.created DESC, facts.id DESC LIMIT :limit
"""

_EVENTS = """
    SELECT event_id, document FROM events
    WHERE build_id = :build AND (:all OR kind IN (SELECT value FROM json_each(:kinds)))
    AND (:after IS NULL OR position > :after) ORDER BY position LIMIT :limit
"""

_IMAGES = 500  # documents of images that are read at once
FINISHED_KEPT = 200  # finished builds, the newest, whose events are kept
EVENTS_KEPT = 100_000  # of all of these together; those of one honest build are some dozens


class LocalStore:
    """Builds and their events. Thread-safe; any number of processes may use the same database at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last: tuple[Any, Build] | None = None  # the document that was read last, and what it says

    def create(self, build: Build, event: Event, image: ImageDocument | None = None, replaces: str = "") -> None:
        """Write a new build, its first event and its image's document, atomically. AlreadyExists, NameTaken."""
        document = _text(build)
        with self._database.transaction() as connection:
            try:
                connection.execute(
                    "INSERT INTO builds (id, version, state, created, updated, wake_at, last_seen, document)"
                    " VALUES (?, 1, ?, ?, ?, ?, ?, ?)",
                    (build.id, build.state, build.created, build.updated, build.wake_at, build.last_seen, document),
                )
            except sqlite3.IntegrityError as error:
                raise AlreadyExists(f"build {build.id} exists already") from error
            _record(connection, build.id, event)
            if image is not None and not _write_image(connection, image, replaces):
                raise NameTaken(f"image {image.name} of project {image.project} belongs to another build")

    def load(self, build_id: str) -> Stored:
        """Read a build and its version. NotFound, DamagedDocument."""
        rows = self._database.read("SELECT version, document, last_seen FROM builds WHERE id = ?", (build_id,))
        if not rows:
            raise _unknown(build_id)
        version, document, last_seen = rows[0]
        return Stored(self._build(build_id, document, last_seen), str(version))

    def save(
        self,
        build: Build,
        expected: str,
        event: Event | None = None,
        image: ImageDocument | None = None,
        replaces: str | None = None,
    ) -> str:
        """Write build and event in one step if the build's version is still `expected`; give the new version.

        NotFound, AlreadyExists (the event, whatever the version: a duplicate stays one), Conflict or NameTaken, in this
        order; nothing is written then.

            process A   load (7) ── decide ── save(7) → 8
            process B      load (7) ── decide ────────── save(7) → Conflict; load (8), decide again
        """
        document = _text(build)
        with self._database.transaction() as connection:
            row = connection.execute("SELECT version FROM builds WHERE id = ?", (build.id,)).fetchone()
            if row is None:
                raise _unknown(build.id)
            if event is not None:
                _record(connection, build.id, event)
            if str(row[0]) != expected:
                raise Conflict(f"build {build.id} was written by another process; load it again")
            connection.execute(
                "UPDATE builds SET version = ?, state = ?, created = ?, updated = ?, wake_at = ?,"
                " last_seen = max(last_seen, ?), document = ? WHERE id = ?",
                (
                    *(row[0] + 1, build.state, build.created, build.updated, build.wake_at),
                    *(build.last_seen, document, build.id),
                ),
            )
            with along_with(build, replaces):
                if image is not None and not _write_image(connection, image, replaces or "") and replaces is not None:
                    raise NameTaken(f"image {image.name} of project {image.project} belongs to another build")
            return str(row[0] + 1)

    def image(self, project: str, name: str) -> ImageDocument | None:
        """Read what is known of an image."""
        rows = self._database.read("SELECT document FROM images WHERE project = ? AND name = ?", (project, name))
        return _image(project, name, rows[0][0]) if rows else None

    def known_images(self, project: str, names: Sequence[str]) -> Mapping[str, ImageDocument | Damaged]:
        """Read what is known of so many images of a project at once."""
        found: dict[str, ImageDocument | Damaged] = {}
        for first in range(0, len(names), _IMAGES):
            asked = names[first : first + _IMAGES]
            marks = ", ".join("?" * len(asked))
            query = f"SELECT name, document FROM images WHERE project = ? AND name IN ({marks})"  # noqa: S608 - marks
            rows = self._database.read(query, (project, *asked))
            found.update({name: _image_or_damage(project, name, document) for name, document in rows})
        return found

    def image_documents(self, project: str) -> Iterator[ImageDocument | Damaged]:
        """List what is known of the images of a project, by their names."""
        query = "SELECT name, document FROM images WHERE project = ? AND name > ? ORDER BY name LIMIT ?"
        last = ""
        while rows := self._database.read(query, (project, last, _IMAGES)):
            for name, document in rows:
                yield _image_or_damage(project, name, document)
            last = rows[-1][0]

    def kept_images(self, before: float) -> Sequence[ImageDocument | Damaged]:
        """List the images that are kept until a time that is past."""
        query = "SELECT project, name, document FROM images WHERE until BETWEEN 1 AND ?"
        return [_image_or_damage(*row) for row in self._database.read(query, (before,))]

    def save_image(self, image: ImageDocument, expected: ImageDocument | None) -> bool:
        """Write an image's document if it is still as expected; return whether it was."""
        key = (image.project, image.name)
        with self._database.transaction() as connection:
            query = "SELECT document FROM images WHERE project = ? AND name = ?"
            row = connection.execute(query, key).fetchone()
            if (None if row is None else _image_or_damage(*key, row[0])) != expected:
                return False
            return _write_image(connection, image, "" if expected is None else expected.build_id)

    def set_image_aside(self, project: str, name: str) -> None:
        """Move an image's document that cannot be read to the table `forgotten_images`. InputError, NotFound."""
        with self._database.transaction() as connection:
            key = (project, name)
            query = "SELECT document FROM images WHERE project = ? AND name = ?"
            row = connection.execute(query, key).fetchone()
            if row is None:
                raise NotFound(f"nothing is known of an image {name} of project {project}")
            refuse_readable(_image_or_damage(*key, row[0]))
            connection.execute("INSERT INTO forgotten_images SELECT * FROM images WHERE project = ? AND name = ?", key)
            connection.execute("DELETE FROM images WHERE project = ? AND name = ?", key)

    def publisher(self, project: str, family: str) -> str:
        """Return the build whose turn it is, or was last, to publish in a family; "" where there is none."""
        query = "SELECT build_id FROM publishers WHERE project = ? AND family = ?"
        rows = self._database.read(query, (project, family))
        return str(rows[0][0]) if rows else ""

    def pass_turn(self, project: str, family: str, build_id: str, expected: str) -> bool:
        """Pass that turn on if it is still that of the build `expected`; return whether it was."""
        with self._database.transaction() as connection:
            query = "SELECT build_id FROM publishers WHERE project = ? AND family = ?"
            row = connection.execute(query, (project, family)).fetchone()
            if ("" if row is None else row[0]) != expected:
                return False
            connection.execute("INSERT OR REPLACE INTO publishers VALUES (?, ?, ?)", (project, family, build_id))
        return True

    def triggers(self) -> Sequence[Trigger | Damaged]:
        """List the specs with triggers by their ids, without those that are removed."""
        rows = self._database.read("SELECT id, document FROM triggers WHERE active ORDER BY id")
        return [self._trigger_or_damage(*row) for row in rows]

    def trigger(self, key: str) -> Trigger | None:
        """Read one trigger by its id. DamagedDocument."""
        rows = self._database.read("SELECT document FROM triggers WHERE id = ?", (key,))
        return self._trigger(key, rows[0][0]) if rows else None

    def save_trigger(self, trigger: Trigger, expected: Trigger | None) -> bool:
        """Write a trigger if it is still as expected, or absent for None; return whether it was. DamagedDocument."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT document FROM triggers WHERE id = ?", (trigger.id,)).fetchone()
            if (None if row is None else self._trigger(trigger.id, row[0])) != expected:
                return False
            connection.execute(
                "INSERT OR REPLACE INTO triggers VALUES (?, ?, ?)",
                (trigger.id, trigger.is_active, write_trigger(trigger)),
            )
        return True

    def _trigger(self, key: str, document: Any) -> Trigger:
        try:
            return read_trigger_of(key, document)
        except StoreError as error:
            remedy = "delete its row from the table `triggers`, then: goldsmith triggers add SPEC"
            raise _damage(f"{self._database.path}: the document of trigger {key}", str(error), remedy) from error

    def _trigger_or_damage(self, key: str, document: Any) -> Trigger | Damaged:
        try:
            return self._trigger(key, document)
        except DamagedDocument as error:
            return Damaged(key, str(error))

    def promotions(self) -> Sequence[AskedPromotion | Damaged]:
        """List the promotions that have not ended, by their ids."""
        rows = self._database.read("SELECT id, document FROM promotions WHERE open ORDER BY id")
        return [self._promotion_or_damage(*row) for row in rows]

    def promotion(self, key: str) -> AskedPromotion | None:
        """Read one promotion by its id. DamagedDocument."""
        rows = self._database.read("SELECT document FROM promotions WHERE id = ?", (key,))
        return self._promotion(key, rows[0][0]) if rows else None

    def save_promotion(self, asked: AskedPromotion, expected: AskedPromotion | None) -> bool:
        """Write a promotion if it is still as expected; return whether it was. DamagedDocument."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT document FROM promotions WHERE id = ?", (asked.id,)).fetchone()
            if (None if row is None else self._promotion(asked.id, row[0])) != expected:
                return False
            connection.execute(
                "INSERT OR REPLACE INTO promotions VALUES (?, ?, ?)", (asked.id, asked.is_open, write_promotion(asked))
            )
        return True

    def _promotion(self, key: str, document: Any) -> AskedPromotion:
        try:
            return read_promotion_of(key, document)
        except StoreError as error:
            remedy = "delete its row from the table `promotions`, and promote the image again"
            raise _damage(f"{self._database.path}: the document of promotion {key}", str(error), remedy) from error

    def _promotion_or_damage(self, key: str, document: Any) -> AskedPromotion | Damaged:
        try:
            return self._promotion(key, document)
        except DamagedDocument as error:
            return Damaged(key, str(error))

    def person_request(self, key: str) -> PersonRequest | None:
        """Read one request by its id. DamagedDocument."""
        rows = self._database.read("SELECT document FROM person_requests WHERE id = ?", (key,))
        return self._person_request(key, rows[0][0]) if rows else None

    def person_requests(self, target: str) -> Sequence[PersonRequest | Damaged]:
        """List the requests about a target, the oldest first."""
        rows = self._database.read("SELECT id, document FROM person_requests WHERE target = ?", (target,))
        found = [self._person_request_or_damage(*row) for row in rows]
        return sorted(found, key=lambda each: (getattr(each, "asked", 0.0), each.id))

    def save_person_request(self, asked: PersonRequest, expected: PersonRequest | None) -> bool:
        """Write a request if it is still as expected; return whether it was. DamagedDocument."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT document FROM person_requests WHERE id = ?", (asked.id,)).fetchone()
            if (None if row is None else self._person_request(asked.id, row[0])) != expected:
                return False
            connection.execute(
                "INSERT OR REPLACE INTO person_requests VALUES (?, ?, ?)",
                (asked.id, asked.target, write_person_request(asked)),
            )
        return True

    def _person_request(self, key: str, document: Any) -> PersonRequest:
        try:
            return read_person_request_of(key, document)
        except StoreError as error:
            remedy = "delete its row from the table `person_requests`"
            raise _damage(f"{self._database.path}: the document of request {key}", str(error), remedy) from error

    def _person_request_or_damage(self, key: str, document: Any) -> PersonRequest | Damaged:
        try:
            return self._person_request(key, document)
        except DamagedDocument as error:
            return Damaged(key, str(error))

    def touch(self, build_id: str, seen: float) -> None:
        """Move last_seen on to `seen` (Unix seconds; never back). An unknown build is ignored."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE builds SET last_seen = max(last_seen, ?) WHERE id = ?", (seen, build_id))

    def builds(
        self, *, unfinished: bool = False, limit: int | None = None, before: str = ""
    ) -> Sequence[Build | Damaged]:
        """List builds, newest first: at most `limit`, those that follow the build `before`. NotFound for that."""
        last = self._created(before) if before else None
        rows = self._database.read(
            _LIST, {"all": not unfinished, "limit": -1 if limit is None else limit, "last": last, "id": before}
        )
        return [self._build_or_damage(*row) for row in rows]

    def find_builds(self, wanted: BuildFilter, *, limit: int, before: str = "") -> FoundBuilds:
        """List at most `limit` of the builds that match, newest first, of those that follow `before`. NotFound."""
        asked = {name: getattr(wanted, name) for name in ("outcome", "name", "family", "since", "until")}
        asked |= {"states": json.dumps(wanted.states), "words": wanted.wanted_words, "limit": limit + 1}
        asked |= {"last": self._created(before) if before else None, "id": before}
        rows = self._database.read(_FIND, asked)
        found = (self._build_or_damage(*row) for row in rows[:limit])
        after = rows[limit - 1][0] if rows[limit:] else ""
        return FoundBuilds(tuple(build for build in found if isinstance(build, Build)), after)

    def line(self) -> Sequence[Unfinished | Damaged]:
        """List the unfinished builds in the order of their rows: each write waits for the one before.

        Which they are is one moment's state; each of them is then as it is when it is read, or finished by then.
        """
        ids = self._database.read("SELECT id FROM builds WHERE state <> 'finished' ORDER BY rowid")
        found = (self._in_line(build_id) for (build_id,) in ids)
        return [each for each in found if each is not None]

    def _in_line(self, build_id: str) -> Unfinished | Damaged | None:
        query = "SELECT id, document, last_seen FROM builds WHERE id = ? AND state <> 'finished'"
        rows = self._database.read(query, (build_id,))
        build = self._build_or_damage(*rows[0]) if rows else None
        return unfinished_of(build) if isinstance(build, Build) else build

    def set_aside(self, build_id: str) -> Any:
        """Move a build and its events to the tables `forgotten` and `forgotten_events`. InputError, NotFound."""
        with self._database.transaction() as connection:
            query = "SELECT id, document, last_seen FROM builds WHERE id = ?"
            row = connection.execute(query, (build_id,)).fetchone()
            if row is None:
                raise _unknown(build_id)
            refuse_unfinished(self._build_or_damage(*row))
            columns = "id, version, state, created, updated, wake_at, last_seen, document"
            moved = connection.execute(
                f"INSERT INTO forgotten ({columns}) SELECT {columns} FROM builds WHERE id = ?",  # noqa: S608 - ours
                (build_id,),
            )
            connection.execute(
                "INSERT INTO forgotten_events SELECT ?, event_id, document FROM events WHERE build_id = ?"
                " ORDER BY position",
                (moved.lastrowid, build_id),
            )
            connection.execute("DELETE FROM events WHERE build_id = ?", (build_id,))
            connection.execute("DELETE FROM builds WHERE id = ?", (build_id,))
            return row[1]

    def events(
        self,
        build_id: str,
        *,
        kinds: Sequence[str] = (),
        after: str = "",
        limit: int = PAGE,
    ) -> Sequence[Event | Damaged]:
        """List at most `limit` of a build's recorded events in the order they were applied. NotFound for `after`."""
        place = self._position(build_id, after) if after else None
        rows = self._database.read(
            _EVENTS,
            {"build": build_id, "all": not kinds, "kinds": json.dumps(kinds), "after": place, "limit": limit},
        )
        return [self._event_or_damage(build_id, *row) for row in rows]

    def newest_events(self, build_id: str, limit: int = PAGE) -> Sequence[Event | Damaged]:
        """List at most `limit` of a build's recorded events, the last one first."""
        rows = self._database.read(
            "SELECT event_id, document FROM events WHERE build_id = ? ORDER BY position DESC LIMIT ?", (build_id, limit)
        )
        return [self._event_or_damage(build_id, *row) for row in rows]

    def forget_events(self, builds: int = FINISHED_KEPT, events: int = EVENTS_KEPT) -> None:
        """Delete the events of finished builds, but for those of the newest: so many builds, and so many events.

        Documents of builds stay. One build is one write: a process that dies in between leaves the rest to the next.
        """
        found = self._database.read(
            "SELECT id, (SELECT count(*) FROM events WHERE build_id = builds.id) AS told FROM builds"
            " WHERE state = 'finished' AND told > 0 ORDER BY updated DESC, id DESC"
        )
        kept = 0
        for number, (build_id, told) in enumerate(found):
            kept += told
            if number < builds and kept <= events:
                continue
            with self._database.transaction() as connection:  # the id may be another build's by now
                connection.execute(
                    "DELETE FROM events WHERE build_id = :id"
                    " AND EXISTS (SELECT 1 FROM builds WHERE id = :id AND state = 'finished')",
                    {"id": build_id},
                )

    def recorded(self, build_id: str, event_ids: Collection[str]) -> frozenset[str]:
        """Return which of these events of a build are recorded."""
        rows = self._database.read(
            "SELECT event_id FROM events WHERE build_id = ? AND event_id IN (SELECT value FROM json_each(?))",
            (build_id, json.dumps(sorted(event_ids))),
        )
        return frozenset(event_id for (event_id,) in rows)

    def _position(self, build_id: str, event_id: str) -> Any:
        query = "SELECT position FROM events WHERE build_id = ? AND event_id = ?"
        rows = self._database.read(query, (build_id, event_id))
        if not rows:
            raise NotFound(f"build {build_id} has no event {event_id}")
        return rows[0][0]

    def _created(self, build_id: str) -> Any:
        rows = self._database.read("SELECT created FROM builds WHERE id = ?", (build_id,))
        if not rows:
            raise _unknown(build_id)
        return rows[0][0]

    def _build_or_damage(self, build_id: str, document: Any, last_seen: Any) -> Build | Damaged:
        try:
            return self._build(build_id, document, last_seen)
        except DamagedDocument as error:
            return Damaged(build_id, str(error))

    def _build(self, build_id: str, document: Any, last_seen: Any) -> Build:
        what = f"{self._database.path}: the document of build {build_id}"
        remedy = f"set it aside with: goldsmith builds forget {build_id}"
        try:
            build = self._read_build(document)
        except StoreError as error:
            raise _damage(what, str(error), remedy) from error
        if build.id != build_id:
            raise _damage(what, f"it is that of build {build.id}", remedy)
        if not isinstance(last_seen, float):  # SQLite keeps whatever it is given, for all that a column declares
            raise _damage(what, f"its column last_seen holds {last_seen!r:.80}", remedy)
        return replace(build, last_seen=max(build.last_seen, last_seen))

    def _read_build(self, document: Any) -> Build:
        """Parse a build's document unless it is the one that was parsed last: a running build is read all the time."""
        last = self._last
        if last is not None and last[0] == document:
            return last[1]
        build = read_build(document)
        self._last = document, build
        return build

    def _event_or_damage(self, build_id: str, event_id: str, document: Any) -> Event | Damaged:
        try:
            return read_event_of(build_id, event_id, document)
        except StoreError as error:
            what = f"{self._database.path}: event {event_id} of build {build_id}"
            return Damaged(event_id, str(_damage(what, str(error), "do without what it tells")))


def _damage(what: str, why: str, remedy: str) -> DamagedDocument:
    return DamagedDocument(
        f"{what} is damaged, or of another version of Goldsmith: {why}; "
        f"update Goldsmith if a newer one has written it, or {remedy}"
    )


def _image(project: str, name: str, document: Any) -> ImageDocument:
    try:
        return read_image_of(project, name, document)
    except StoreError as error:
        raise _damage(f"the document of image {name}", str(error), forget_image(project, name)) from error


def _image_or_damage(project: str, name: str, document: Any) -> ImageDocument | Damaged:
    try:
        return _image(project, name, document)
    except DamagedDocument as error:
        return Damaged(f"{project}/{name}", str(error))


def _write_image(connection: sqlite3.Connection, image: ImageDocument, replaces: str = "") -> bool:
    """Write an image's document; False, and nothing is written, when it is not that of `replaces`. DamagedDocument."""
    key = (image.project, image.name)
    row = connection.execute("SELECT document FROM images WHERE project = ? AND name = ?", key).fetchone()
    known = _image(*key, row[0]) if row is not None else None
    if (known.build_id if known is not None else "") not in (image.build_id, replaces):
        return False
    image = image.beside(known)
    if image.state == "gone":
        connection.execute("DELETE FROM images WHERE project = ? AND name = ?", key)
    else:
        connection.execute(
            "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?)", (*key, image.build_id, image.until, _text(image))
        )
    return True


def _record(connection: sqlite3.Connection, build_id: str, event: Event) -> None:
    try:
        connection.execute(
            "INSERT INTO events (build_id, event_id, kind, document) VALUES (?, ?, ?, ?)",
            (build_id, event.event_id, kind_of(event), _text(event)),
        )
    except sqlite3.IntegrityError as error:
        raise AlreadyExists(f"build {build_id} has event {event.event_id} already") from error


def _text(document: Build | Event | ImageDocument) -> str:
    # ASCII: what a guest printed may hold halves of characters, which only JSON's escapes can carry.
    return json.dumps(to_json(document), separators=(",", ":"), ensure_ascii=True)


def _unknown(build_id: str) -> NotFound:
    return NotFound(f"there is no build {build_id}; `goldsmith builds list` shows them all")
