"""A VM that has had 100,000 events recorded, in SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.build.events import kind_of
from shared.local.database import Database
from shared.local.store import LocalStore
from tests.contracts.flood_contract import FloodContract, flood, text
from tests.world import values

COUNT, SIZE = 100_000, 300
FOLLOWED, LARGE = 2_000, 32 << 10


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    with Database(tmp_path_factory.mktemp("flood") / "state.db") as database:
        yield filled(database, COUNT, SIZE)


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[LocalStore]:
    with Database(tmp_path / "state.db") as database:
        yield filled(database, FOLLOWED, LARGE)


def filled(database: Database, count: int, size: int) -> LocalStore:
    store = LocalStore(database)
    store.create(values.build(), values.requested())
    rows = ((values.BUILD_ID, event.event_id, kind_of(event), text(event)) for event in flood(count, size))
    with database.transaction() as connection:
        connection.executemany("INSERT INTO events (build_id, event_id, kind, document) VALUES (?, ?, ?, ?)", rows)
    return store


class TestFloodInSqlite(FloodContract):
    COUNT = COUNT
    FOLLOWED = FOLLOWED


def test_no_page_is_sorted(tmp_path: Path) -> None:
    """An index has the order: SQLite does not hold all events of a build to find the first ones."""
    with Database(tmp_path / "state.db") as database:
        for order in ("position > 7 ORDER BY position", "1 ORDER BY position DESC"):
            query = f"SELECT event_id, document FROM events WHERE build_id = 'x' AND {order} LIMIT 5"
            plan = database.read(f"EXPLAIN QUERY PLAN {query}")
            assert not any("TEMP B-TREE" in row[-1] for row in plan), plan
