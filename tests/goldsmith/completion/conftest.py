"""A home with builds and images whose names are completed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shared.local.database import Database

BUILDS = 3000


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with builds and images."""
    home = tmp_path_factory.mktemp("filled") / "home"
    home.mkdir(mode=0o700)
    insert = "INSERT INTO builds VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    with Database(home / "state.db") as database, database.transaction() as connection:
        for number in range(BUILDS):
            row = (f"hello-{number:012x}", 1, "finished", float(number), 0.0, 0.0, 0.0, "damaged")
            connection.execute(insert, row)
        made = time.time() - 2.5 * 86400
        connection.execute(insert, ("world-1", 1, "finished", made, 0.0, 0.0, 0.0, '{"outcome": "timed_out"}'))
        connection.execute(insert, ("world-2", 1, "exporting", 9e8, 0.0, 0.0, 0.0, '{"outcome": null}'))
        connection.execute(insert, ("evil\x1b[2J thing", 1, "finished", 1e9, 0.0, 0.0, 0.0, ""))
        connection.execute(insert, ("$(touch$IFS/x)", 1, "finished", 1e9, 0.0, 0.0, 0.0, ""))
    for name, record in (("base-1", '{"family": "base"}'), ("base-2", '{"family": "base"}'), ("odd", "[")):
        (home / "images" / name).mkdir(parents=True)
        (home / "images" / name / "image.json").write_text(record)
    return home


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder in which a person types, with specs."""
    folder = tmp_path / "here"
    (folder / "my specs").mkdir(parents=True)
    for name in ("build.yaml", "my specs/a b.yaml", "other.json"):
        (folder / name).touch()
    return folder
