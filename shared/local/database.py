"""The one SQLite database of this machine: builds and events (store.py), messages and announcements (bus.py).

All of SQLite is met here: how the file is opened and migrated, how a transaction begins and ends, what each of its
errors means to us. store.py and bus.py hold statements and nothing else.

Several processes use the file at once, and each may be killed at any moment: the journal is a write-ahead log, and
every write is one IMMEDIATE transaction, so that it waits for its turn at the start and cannot fail halfway for a
lock. Within a process all threads share one connection behind a mutex: they would take turns in SQLite anyway, and a
mutex passes the turn on at once, where SQLite's lock is asked again after 1, 2, 5 ... 100 ms.

A Database must not be carried over a fork; open one in the child.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from ..errors import EnvironmentFault, GoldsmithError, NoSpace, StoreError, Transient
from ..host.private_folder import barred, private_folder

APPLICATION_ID = 0x474F4C44  # "GOLD", in the file's header: tells this database from any other

Migrations: TypeAlias = tuple[tuple[str, ...], ...]


def _facts(row: str, where: str) -> str:
    """Return the statement that notes what a build is found by, from a row of `builds`."""

    def of(path: str) -> str:
        return f"json_extract({row}.document, '{path}')"

    searched = (
        f"coalesce({of(path)}, '')" for path in ("$.name", "$.plan.image.name", "$.plan.image.family", "$.reason")
    )
    words = " || char(10) || ".join([f"{row}.id", *searched])
    outcome, name, family = of("$.outcome"), of("$.name"), of("$.plan.image.family")
    return (
        "INSERT OR REPLACE INTO build_facts"
        f" SELECT {row}.id, {row}.created, {row}.state, {outcome}, {name}, {family}, lower({words}) {where}"
    )


_IF_JSON = "WHERE json_valid(new.document)"
_FORGET_FACTS = "DELETE FROM build_facts WHERE id ="

MIGRATIONS: Migrations = (
    (
        # `version` counts the writes of a document: what a conditional write compares. `last_seen` moves between
        # them (heartbeats) and is not part of what it compares. The other columns repeat the document, to be searched.
        "CREATE TABLE builds (id TEXT PRIMARY KEY, version INTEGER NOT NULL, state TEXT NOT NULL,"
        " created REAL NOT NULL, updated REAL NOT NULL, wake_at REAL NOT NULL, last_seen REAL NOT NULL,"
        " document TEXT NOT NULL)",
        "CREATE INDEX builds_unfinished ON builds (created) WHERE state <> 'finished'",
        "CREATE TABLE events (position INTEGER PRIMARY KEY AUTOINCREMENT, build_id TEXT NOT NULL,"
        " event_id TEXT NOT NULL, document TEXT NOT NULL, UNIQUE (build_id, event_id))",
        # `holder` is the bus that a message is delivered to; `not_before` is Unix seconds.
        "CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, build_id TEXT NOT NULL, topic TEXT NOT NULL,"
        " attributes TEXT NOT NULL, data BLOB NOT NULL, not_before REAL NOT NULL DEFAULT 0, holder TEXT,"
        " deliveries INTEGER NOT NULL DEFAULT 0)",
        "CREATE INDEX messages_of_build ON messages (build_id, id)",
        "CREATE TABLE announcements (id INTEGER PRIMARY KEY AUTOINCREMENT, build_id TEXT NOT NULL,"
        " attributes TEXT NOT NULL, data BLOB NOT NULL)",
    ),
    (
        # What people have set aside, as it stood; `position` tells apart what had the same id.
        "CREATE TABLE forgotten (position INTEGER PRIMARY KEY AUTOINCREMENT, id, version, state, created, updated,"
        " wake_at, last_seen, document)",
        "CREATE TABLE forgotten_events (forgotten INTEGER NOT NULL, event_id, document)",
    ),
    (
        # `until` repeats the document of an image that is kept, to be searched; it is 0 for all others.
        "CREATE TABLE images (project TEXT NOT NULL, name TEXT NOT NULL, build_id TEXT NOT NULL, until REAL NOT NULL,"
        " document TEXT NOT NULL, PRIMARY KEY (project, name))",
    ),
    (
        # `kind` is kind_of() the document, to be searched; what is damaged has none. Each index ends with `position`.
        "ALTER TABLE events ADD COLUMN kind TEXT NOT NULL DEFAULT ''",
        "UPDATE events SET kind = CASE WHEN json_valid(document) THEN"
        " coalesce(json_extract(document, '$.report.kind'), json_extract(document, '$.kind'), '') ELSE '' END",
        "CREATE INDEX events_of_build ON events (build_id)",
        "CREATE INDEX events_of_kind ON events (build_id, kind)",
        "CREATE TABLE forgotten_images (project, name, build_id, until, document)",
    ),
    (
        # `active` repeats the document: whether it is not removed.
        "CREATE TABLE triggers (id TEXT PRIMARY KEY, active INTEGER NOT NULL, document TEXT NOT NULL)",
    ),
    (
        # `open` repeats the document: whether it has not ended.
        "CREATE TABLE promotions (id TEXT PRIMARY KEY, open INTEGER NOT NULL, document TEXT NOT NULL)",
    ),
    ("CREATE TABLE publishers (project TEXT, family TEXT, build_id TEXT NOT NULL, PRIMARY KEY (project, family))",),
    (
        # `target` repeats the document: what a person's request is about.
        "CREATE TABLE person_requests (id TEXT PRIMARY KEY, target TEXT NOT NULL, document TEXT NOT NULL)",
        "CREATE INDEX person_requests_of ON person_requests (target)",
    ),
    (
        # What a search compares of each build: short columns, where a document has kilobytes. Triggers keep them as the
        # document is, whatever writes it; one that is no JSON is found by nothing.
        "CREATE TABLE build_facts (id TEXT PRIMARY KEY, created, state, outcome, name, family, words)",
        "CREATE INDEX build_facts_by_age ON build_facts (created, id)",
        "CREATE INDEX builds_by_age ON builds (created, id)",  # for pages of the list
        _facts("builds", "FROM builds WHERE json_valid(builds.document)"),
        f"CREATE TRIGGER build_facts_new AFTER INSERT ON builds BEGIN {_facts('new', _IF_JSON)}; END",
        "CREATE TRIGGER build_facts_changed AFTER UPDATE OF document, state, created ON builds BEGIN"
        f" {_FORGET_FACTS} old.id; {_facts('new', _IF_JSON)}; END",
        f"CREATE TRIGGER build_facts_gone AFTER DELETE ON builds BEGIN {_FORGET_FACTS} old.id; END",
    ),
)
"""The statements that lead from each version of the schema to the next. Only ever add to the end."""

PATIENCE = 10.0  # seconds that a write waits for other processes' writes, each of which takes milliseconds

_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_BARRED = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR}


class Database:
    """An open state.db. Thread-safe; `path` is made, with its folder, where it does not exist."""

    def __init__(self, path: Path, *, patience: float = PATIENCE, migrations: Migrations = MIGRATIONS) -> None:
        self.path = path
        self._migrations = migrations
        self._turn = threading.RLock()
        _make_private(path)
        with _mapped(path):
            # Autocommit: sqlite3 of the standard library begins no transaction by itself; transaction() does.
            self._connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
            self._connection.text_factory = _text  # str would refuse a whole SELECT for one text that is no UTF-8
        try:
            with _alone(path.parent):
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the last one to do so, of all processes, folds the write-ahead log into it."""
        with self._turn, _mapped(self.path):
            self._connection.close()

    def read(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of one SELECT. It waits for no writer, and sees one moment's state."""
        with self._turn, _mapped(self.path):
            return self._connection.execute(statement, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the database's only write transaction: committed when the block ends, undone when it raises."""
        with self._turn, _mapped(self.path):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite has rolled back by itself after some errors
                    self._connection.execute("ROLLBACK")
                raise

    def _prepare(self) -> None:
        # NORMAL: a commit is in the kernel's hands when it returns, so that it outlives any process, kill -9 too; the
        # disk is synced at checkpoints. FULL would sync each commit: 50 to 116 ms for the 30 saves of a build, measured
        # (NORMAL: 1.3 ms), and seconds while a machine's disk is being written. What it would protect from is a power
        # cut, which ends the build's machine as well, and leaves the state of some seconds before it, consistent.
        self._pragma("synchronous = NORMAL")
        if self._pragma("user_version") == len(self._migrations) and self._pragma("application_id") == APPLICATION_ID:
            return
        self._refuse_strangers()
        if self._pragma("journal_mode = WAL") != "wal":
            raise EnvironmentFault(
                f"{self.path}: this file system cannot hold a shared database (no write-ahead log); "
                "set GOLDSMITH_HOME to a folder on a local disk"
            )
        self._migrate()

    def _refuse_strangers(self) -> None:
        version, owner = self._pragma("user_version"), self._pragma("application_id")
        if owner != APPLICATION_ID and (version or self.read("SELECT name FROM sqlite_schema")):
            raise StoreError(f"{self.path} is not Goldsmith's database; move it away, or set GOLDSMITH_HOME elsewhere")
        if version > len(self._migrations):
            raise StoreError(
                f"{self.path} was written by a newer Goldsmith (schema {version}, ours is {len(self._migrations)}); "
                "upgrade this one, or choose another GOLDSMITH_HOME"
            )

    def _migrate(self) -> None:
        with self.transaction() as connection:
            self._refuse_strangers()  # another process may have been first
            for statements in self._migrations[self._pragma("user_version") :]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(self._migrations)}")

    def _pragma(self, text: str) -> Any:
        rows = self.read(f"PRAGMA {text}")
        return rows[0][0] if rows else None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _make_private(path: Path) -> None:
    """Make the file, which SQLite gives its side files' modes from, readable by its owner alone."""
    private_folder(path.parent)
    try:
        # Only where it is new: to open and close a file that is in use here would drop SQLite's locks on it.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise barred(path.parent, error) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Open databases one after the other: SQLite's own locks fail at once where two turn one new file to WAL mode.

    The lock is on the folder, whose descriptor can be closed without harm, unlike one of the database.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise barred(folder, error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # ends with the descriptor, and so with the process
        yield
    finally:
        os.close(fd)


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _fault(path, error) from error


def _fault(path: Path, error: sqlite3.Error) -> GoldsmithError:
    extended = getattr(error, "sqlite_errorcode", 0)  # absent when Python itself refused the call
    code = extended & 0xFF
    if extended in _FULL or code in _FULL:
        return NoSpace(f"{path}: {error}; free some space on its file system")
    if code in _BUSY:
        return Transient(f"{path}: {error}: another process has been writing for too long; try again")
    if code in _BARRED and path.exists() and not path.is_file():
        return EnvironmentFault(f"{path} is not a file; move it away, or set GOLDSMITH_HOME elsewhere")
    if code in _BARRED:
        return EnvironmentFault(f"{path}: {error}; check that you may write to the file and its folder")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreError(f"{path} is damaged ({error}); move it away to start anew, or restore a copy")
    return StoreError(f"{path}: {error}")
