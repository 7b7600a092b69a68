"""The store on this machine: the documents that Firestore would hold, in SQLite."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..build import Build, ImageDocument
from ..damage import Damaged, refuse_unfinished
from ..errors import AlreadyExists, Conflict, DamagedDocument, NameTaken, NotFound, StoreError
from ..events import Event, read_build, read_event_of, read_image_document, to_json
from ..ports import Stored
from .database import Database

LOG = logging.getLogger(__name__)

_LIST = """
    SELECT id, document, last_seen FROM builds
    WHERE (:all OR state <> 'finished') AND (:last IS NULL OR (created, id) < (:last, :id))
    ORDER BY created DESC, id DESC LIMIT :limit
"""


class LocalStore:
    """Builds and their events. Thread-safe; any number of processes may use the same database at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

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

    def save(self, build: Build, expected: str, event: Event | None = None, image: ImageDocument | None = None) -> str:
        """Write build and event in one step if the build's version is still `expected`; give the new version.

        NotFound, AlreadyExists (the event, whatever the version: a duplicate stays one) or Conflict, in this order;
        nothing is written then.

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
                raise Conflict(f"build {build.id} was written by somebody else; load it again")
            connection.execute(
                "UPDATE builds SET version = ?, state = ?, created = ?, updated = ?, wake_at = ?,"
                " last_seen = max(last_seen, ?), document = ? WHERE id = ?",
                (
                    *(row[0] + 1, build.state, build.created, build.updated, build.wake_at),
                    *(build.last_seen, document, build.id),
                ),
            )
            if image is not None:
                _write_image(connection, image)
            return str(row[0] + 1)

    def image(self, project: str, name: str) -> ImageDocument | None:
        """Read what is known of an image."""
        rows = self._database.read("SELECT document FROM images WHERE project = ? AND name = ?", (project, name))
        return next(_images(rows), None)

    def kept_images(self, before: float) -> Sequence[ImageDocument]:
        """List the images that are kept until a time that is past."""
        return list(_images(self._database.read("SELECT document FROM images WHERE until BETWEEN 1 AND ?", (before,))))

    def forget_image(self, image: ImageDocument) -> None:
        """Delete an image's document, if it is still the same."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM images WHERE project = ? AND name = ? AND document = ?",
                (image.project, image.name, _text(image)),
            )

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

    def events(self, build_id: str) -> Sequence[Event | Damaged]:
        """List a build's recorded events in the order they were applied; none for an unknown build."""
        rows = self._database.read(
            "SELECT event_id, document FROM events WHERE build_id = ? ORDER BY position", (build_id,)
        )
        return [self._event_or_damage(build_id, *row) for row in rows]

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
            build = read_build(document)
        except StoreError as error:
            raise _damage(what, str(error), remedy) from error
        if build.id != build_id:
            raise _damage(what, f"it is that of build {build.id}", remedy)
        if not isinstance(last_seen, float):  # SQLite keeps whatever it is given, for all that a column declares
            raise _damage(what, f"its column last_seen holds {last_seen!r:.80}", remedy)
        return replace(build, last_seen=max(build.last_seen, last_seen))

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


def _images(rows: Iterable[Any]) -> Iterator[ImageDocument]:
    for (document,) in rows:
        try:
            yield read_image_document(document)
        except StoreError as error:  # an image without a readable document does not count as ours, and is left alone
            LOG.warning("%s", error)


def _write_image(connection: sqlite3.Connection, image: ImageDocument, replaces: str = "") -> bool:
    """Write an image's document; False, and nothing is written, when it belongs to yet another build."""
    key = (image.project, image.name)
    row = connection.execute("SELECT build_id FROM images WHERE project = ? AND name = ?", key).fetchone()
    if row is not None and row[0] not in (image.build_id, replaces):
        return False
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
            "INSERT INTO events (build_id, event_id, document) VALUES (?, ?, ?)",
            (build_id, event.event_id, _text(event)),
        )
    except sqlite3.IntegrityError as error:
        raise AlreadyExists(f"build {build_id} has event {event.event_id} already") from error


def _text(document: Build | Event | ImageDocument) -> str:
    # ASCII: what a guest printed may hold halves of characters, which only JSON's escapes can carry.
    return json.dumps(to_json(document), separators=(",", ":"), ensure_ascii=True)


def _unknown(build_id: str) -> NotFound:
    return NotFound(f"there is no build {build_id}; `goldsmith builds list` shows them all")
