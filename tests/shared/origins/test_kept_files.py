"""What elements keep for their next run: it is held by its user, and is removed as a whole."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.host.scratch import locked
from shared.origins.kept_files import KeptFiles
from tests.shared.sandbox.ordinary_user import MODES, place_for

MIB = 1 << 20


@pytest.fixture
def home() -> Iterator[Path]:
    with place_for(MODES[0]) as place:
        yield place


def keep(home: Path, name: str, size: int, used: float) -> Path:
    with KeptFiles(home).of([name]) as kept:
        (kept.files / "image").write_bytes(os.urandom(size))
    folder = kept.files.parent
    os.utime(folder, (used, used))
    return folder


def test_what_was_used_last_stays(home: Path) -> None:
    assert (KeptFiles(home).entries(), KeptFiles(home).prune(0)) == ([], 0)
    old, new = keep(home, "old", MIB, 1000.0), keep(home, "new", MIB, 2000.0)
    entries = KeptFiles(home).entries()
    assert [(each.path, each.used) for each in entries] == [(new, 2000.0), (old, 1000.0)]
    assert all(MIB <= each.bytes < 2 * MIB for each in entries)
    assert MIB <= KeptFiles(home).prune(3 * MIB // 2) < 2 * MIB
    assert [each.path for each in KeptFiles(home).entries()] == [new]
    with KeptFiles(home).of(["new"]) as kept:
        assert (kept.files / "image").stat().st_size == MIB
    assert time.time() - KeptFiles(home).entries()[0].used < 600


def test_what_is_in_use_stays(home: Path) -> None:
    keep(home, "other", MIB, 2000.0)
    with KeptFiles(home).of(["used"]) as kept:
        (kept.files / "image").write_bytes(b"1")
        KeptFiles(home).prune(0)
        assert [each.path for each in KeptFiles(home).entries()] == [kept.files.parent]
        assert (kept.files / "image").read_bytes() == b"1"


def test_a_folder_that_is_removed_while_another_waits_for_it_is_made_anew(home: Path) -> None:
    folder = keep(home, "own", MIB, 1000.0)

    def use() -> list[Path]:
        with KeptFiles(home).of(["own"]) as kept:
            return list(kept.files.iterdir())

    with ThreadPoolExecutor(1) as pool:
        with locked(folder):
            waiting = pool.submit(use)
            time.sleep(0.2)
            folder.rename(folder.with_name(".gone-1"))
        assert waiting.result() == []
    assert KeptFiles(home).prune(1 << 40) == 0
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # what a killed process left is gone, too
