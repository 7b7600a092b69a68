"""Names of builds, images and families, for a shell that completes them and for the nearest ones to a mistyped name.

A shell waits for this at each press of Tab, so no backend is opened: a column of the database, and the folders of the
catalogue. What is damaged or not there has no names, and nothing is changed.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

KnownKind: TypeAlias = Literal["build", "image", "family"]

LIMIT = 200  # names that a shell is given; more are no help to a person
RECORD_BYTES = 1 << 20  # of an image's record
RECORDS = 2000  # that are read for their families
PATIENCE = 0.1  # seconds for a lock

_BUILDS = """
    SELECT id FROM builds WHERE id >= :first AND id < :end
    ORDER BY created DESC, id DESC LIMIT :limit
"""
_BUILDS_IN_WORDS = """
    SELECT builds.id, coalesce(nullif(build_facts.outcome, ''), builds.state), builds.created
    FROM builds LEFT JOIN build_facts ON build_facts.id = builds.id WHERE builds.id >= :first AND builds.id < :end
    ORDER BY builds.created DESC, builds.id DESC LIMIT :limit
"""
_AFTER_ALL = "\U0010ffff"  # after every letter of an id


def known_names(home: Path, kind: KnownKind, prefix: str, limit: int = LIMIT) -> list[str]:
    """Return the names of this machine that begin like that: builds newest first, images and families by name."""
    if kind == "build":
        return _builds(home / "state.db", prefix, limit)
    folders = _images(home / "images")
    if kind == "image":
        return sorted(name for name in folders if name.startswith(prefix))[:limit]
    families = {_family(home / "images" / name / "image.json") for name in folders[:RECORDS]}
    return sorted(name for name in families if name and name.startswith(prefix))[:limit]


def known_builds(home: Path, prefix: str, limit: int = LIMIT) -> list[tuple[str, str, float]]:
    """Return builds whose ids begin like that, newest first: id, outcome or else state, when it was made."""
    rows = _rows(home / "state.db", _BUILDS_IN_WORDS, prefix, limit)
    return [(row[0], str(row[1]), float(row[2])) for row in rows if isinstance(row[2], int | float)]


def known_family(home: Path, image: str) -> str:
    """Return the family of an image of the catalogue, or ""."""
    return _family(home / "images" / image / "image.json")


def _builds(path: Path, prefix: str, limit: int) -> list[str]:
    return [row[0] for row in _rows(path, _BUILDS, prefix, limit)]


def _rows(path: Path, query: str, prefix: str, limit: int) -> list[tuple[Any, ...]]:
    # Without a write-ahead log no process has the file open. To open it even to read would make an empty log.
    how = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    wanted = {"first": prefix, "end": prefix + _AFTER_ALL, "limit": limit}
    with suppress(sqlite3.Error):
        opened = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=PATIENCE)
        with closing(opened):
            return [row for row in opened.execute(query, wanted) if isinstance(row[0], str)]
    return []


def _images(folder: Path) -> list[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".")]
    return []


def _family(record: Path) -> str:
    with suppress(OSError, ValueError, AttributeError, RecursionError), record.open("rb") as stream:
        family = json.loads(stream.read(RECORD_BYTES)).get("family")
        return family if isinstance(family, str) else ""
    return ""
