"""The SQLite store: the contract, and what only it can suffer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.local.database import Database
from shared.local.store import LocalStore
from tests.contracts.store_contract import StoreContract


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "home" / "state.db") as opened:
        yield opened


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, database: Database) -> LocalStore:
        return LocalStore(database)
