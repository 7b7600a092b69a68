"""How the database is opened, migrated, shared and refused."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import pytest

from shared.errors import EnvironmentFault, NoSpace, StoreError, Transient
from shared.local.database import MIGRATIONS, Database


def announce(database: Database, text: str) -> None:
    with database.transaction() as connection:
        insert(connection, text)


def insert(connection: sqlite3.Connection, text: str) -> None:
    connection.execute("INSERT INTO announcements (build_id, attributes, data) VALUES (?, '', '')", (text,))


def announced(database: Database) -> list[str]:
    return [text for (text,) in database.read("SELECT build_id FROM announcements ORDER BY id")]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_only_its_owner_may_read_it(database: Database, path: Path) -> None:
    announce(database, "one")
    assert mode(path.parent) == 0o700
    assert {file.name: mode(file) for file in path.parent.iterdir()} == {
        "state.db": 0o600,
        "state.db-shm": 0o600,
        "state.db-wal": 0o600,
    }


def test_what_is_committed_is_there_when_it_is_opened_again(path: Path) -> None:
    with Database(path) as database:
        announce(database, "one")
    assert [file.name for file in path.parent.iterdir()] == ["state.db"]
    with Database(path) as database:
        assert announced(database) == ["one"]


def test_a_transaction_that_raises_is_undone(database: Database) -> None:
    def interrupted() -> None:
        with database.transaction() as connection:
            insert(connection, "never")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    announce(database, "one")
    assert announced(database) == ["one"]


def test_another_opening_sees_only_what_is_committed(database: Database, path: Path) -> None:
    with Database(path) as other:
        with database.transaction() as connection:
            insert(connection, "one")
            assert announced(other) == []
        assert announced(other) == ["one"]


def test_many_open_a_new_one_at_once(path: Path) -> None:
    barrier = threading.Barrier(8)

    def open_and_announce(number: int) -> None:
        barrier.wait(60)
        with Database(path) as database:
            announce(database, str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(open_and_announce, range(8)))
    with Database(path) as database:
        assert sorted(announced(database)) == [str(number) for number in range(8)]


def test_databases_of_a_folder_are_opened_one_after_the_other(path: Path) -> None:
    """Without it, one in 30 times that several processes make the file at once, some are told that it is locked."""
    path.parent.mkdir()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(Database, path)
            assert not wait([opening], timeout=0.1).done
            fcntl.flock(folder, fcntl.LOCK_UN)
            opening.result(60).close()
    finally:
        os.close(folder)


def test_a_writer_waits_for_its_turn_and_then_says_so(database: Database, path: Path) -> None:
    with Database(path, patience=0.05) as other:
        with database.transaction(), pytest.raises(Transient, match=r"state\.db: database is locked.*try again"):
            announce(other, "late")
        announce(other, "in time")
        assert announced(other) == ["in time"]


def test_a_full_disk_is_said_and_what_is_there_stays(database: Database) -> None:
    announce(database, "one")
    pages = database.read("PRAGMA page_count")[0][0]
    database.read(f"PRAGMA max_page_count = {pages}")  # no page more: what SQLite meets on a full disk
    with pytest.raises(NoSpace, match=r"state\.db: database or disk is full; free some space"):
        announce(database, "x" * 100_000)
    assert announced(database) == ["one"]
    database.read(f"PRAGMA max_page_count = {pages + 1000}")
    announce(database, "two")
    assert announced(database) == ["one", "two"]


def test_an_older_schema_is_brought_up_to_date(path: Path) -> None:
    with Database(path) as database:
        announce(database, "one")
    newer = (*MIGRATIONS, ("ALTER TABLE announcements ADD COLUMN mood TEXT NOT NULL DEFAULT 'glad'",))
    for _ in range(2):
        with Database(path, migrations=newer) as database:
            assert database.read("SELECT build_id, mood FROM announcements") == [("one", "glad")]
    with pytest.raises(StoreError, match="newer Goldsmith"):
        Database(path)


def test_events_of_an_older_schema_get_their_kinds(path: Path) -> None:
    rows = {
        "r": ('{"kind": "Reported", "report": {"kind": "completed"}}', "completed"),
        "s": ('{"kind": "MachineStarted"}', "MachineStarted"),
        "damaged": ("{", ""),
        "another": ("[]", ""),
        "none": (b"\xff", ""),
    }
    with Database(path, migrations=MIGRATIONS[:3]) as older, older.transaction() as connection:
        for event_id, (document, _kind) in rows.items():
            connection.execute(
                "INSERT INTO events (build_id, event_id, document) VALUES ('b', ?, ?)", (event_id, document)
            )
    with Database(path) as newer:
        assert newer.read("SELECT event_id, kind FROM events ORDER BY position") == [
            (event_id, kind) for event_id, (_document, kind) in rows.items()
        ]


def test_a_migration_is_made_whole_or_not_at_all(path: Path) -> None:
    with Database(path) as database:
        announce(database, "one")
    broken = (*MIGRATIONS, ("DROP TABLE announcements", "ALTER nothing"))
    with pytest.raises(StoreError, match=r'state\.db: near "nothing"'):
        Database(path, migrations=broken)
    with Database(path) as database:
        assert announced(database) == ["one"]


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    with Database(path) as database:
        announce(database, "one")
        database.read(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"state\.db was written by a newer Goldsmith"):
        Database(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"state\.db is not Goldsmith's database"):
        Database(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 2000])
def test_a_damaged_file_is_refused_and_left_alone(path: Path, damage: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(damage)
    with pytest.raises(StoreError, match=r"state\.db"):
        Database(path)
    assert path.read_bytes() == damage


def test_an_empty_file_is_a_new_database(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with Database(path) as database:
        assert announced(database) == []


def test_a_home_that_cannot_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"/proc/nothing: .*set GOLDSMITH_HOME"):
        Database(Path("/proc/nothing/state.db"))
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match=f"{tmp_path}/file.*GOLDSMITH_HOME"):
        Database(tmp_path / "file" / "state.db")
    (tmp_path / "home" / "state.db").mkdir(parents=True)
    with pytest.raises(EnvironmentFault, match=r"state\.db is not a file"):
        Database(tmp_path / "home" / "state.db")
