"""What is on disk: it outlives the endpoint, also one that is killed, and nothing else does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.storage.kept.preconditions import Preconditions
from emulator.storage.kept.store import Store
from emulator.storage.kept.stored_object import StoredObject
from emulator.storage.rest.failures import ApiError

NO_DEMANDS = Preconditions()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    made.create_bucket("abc", {})
    return made


def write(store: Store, name: str, content: bytes, demands: Preconditions = NO_DEMANDS) -> StoredObject:
    with store.stage() as staged:
        staged.append(content)
        return store.commit(staged, "abc", name, {"contentType": "text/plain"}, demands)


def read(store: Store, name: str) -> bytes:
    _, file = store.open("abc", name)
    with file:
        return file.read()


def data_files(folder: Path) -> int:
    return len(list((folder / "data").iterdir()))


def test_everything_is_there_again(tmp_path: Path, store: Store) -> None:
    names = ["a", "../b", "ü/" + "x" * 900, "c\\d"]
    written = [write(store, name, name.encode()) for name in names]
    again = Store(tmp_path)
    assert again.list("abc") == sorted(written, key=lambda one: one.name)
    assert [read(again, name) for name in names] == [name.encode() for name in names]
    assert again.buckets() == store.buckets()


def test_generations_grow_over_restarts_and_when_the_clock_stands(tmp_path: Path, store: Store) -> None:
    generations = [write(store, "x", b"").generation for _ in range(100)]
    assert generations == sorted(set(generations))
    [record] = (tmp_path / "buckets" / "abc" / "objects").iterdir()
    ahead = generations[-1] + 10**12  # as if the clock had been set back by some days
    record.write_text(json.dumps(json.loads(record.read_text()) | {"generation": ahead}))
    assert write(Store(tmp_path), "x", b"").generation == ahead + 1


def test_no_data_is_left_over(tmp_path: Path, store: Store) -> None:
    for content in (b"first", b"second"):
        write(store, "x", content)
    store.copy(store.get("abc", "x"), "abc", "y", {}, NO_DEMANDS)
    store.copy(store.get("abc", "x"), "abc", "x", {}, NO_DEMANDS)
    store.update("abc", "x", lambda old: old | {"metadata": {}})
    assert data_files(tmp_path) == 2
    store.delete("abc", "x")
    assert read(store, "y") == b"second"
    with pytest.raises(ApiError):
        write(store, "y", b"third", Preconditions(generation_match=0))
    assert data_files(tmp_path) == 1
    store.delete("abc", "y")
    store.delete_bucket("abc")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["buckets", "data"]


def test_what_a_killed_writer_leaves_is_cleared_away(tmp_path: Path, store: Store) -> None:
    (tmp_path / "data" / "abandoned").write_bytes(b"x")
    (tmp_path / "buckets" / "abc" / "objects" / "0.part").write_bytes(b"{")
    (tmp_path / "buckets" / "abc" / "bucket.part").write_bytes(b"{")
    Store(tmp_path).delete_bucket("abc")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["buckets", "data"]


def test_what_is_being_read_stays_readable(store: Store) -> None:
    write(store, "x", b"first")
    _, file = store.open("abc", "x")
    write(store, "x", b"second")
    store.delete("abc", "x")
    with file:
        assert file.read() == b"first"


def test_killed_writers_leave_whole_objects(tmp_path: Path, store: Store) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.emulator.storage.test_store import overwrite_for_ever;"
        "overwrite_for_ever(Path(sys.argv[1]))"
    )
    write(store, "x", b"\0" * 1000)
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            writer.stdout.read(1)  # it is writing
            writer.send_signal(signal.SIGKILL)
        again = Store(tmp_path)
        content = read(again, "x")
        assert len(content) == 1000
        assert len(set(content)) == 1
        assert again.get("abc", "x").size == 1000
        assert data_files(tmp_path) == 1


def overwrite_for_ever(folder: Path) -> None:
    store = Store(folder)
    for number in range(1_000_000):
        write(store, "x", bytes([number % 256]) * 1000)
        if number == 100:
            os.write(1, b".")


@pytest.mark.parametrize(
    ("demands", "absent", "there"),
    [
        (Preconditions(), True, True),
        (Preconditions(generation_match=0), True, False),
        (Preconditions(generation_match=7), False, True),
        (Preconditions(generation_match=8), False, False),
        (Preconditions(generation_not_match=0), False, True),
        (Preconditions(generation_not_match=7), True, False),
        (Preconditions(metageneration_match=2), False, True),
        (Preconditions(metageneration_match=1), False, False),
        (Preconditions(metageneration_not_match=2), True, False),
        (Preconditions(generation_match=7, metageneration_match=2), False, True),
        (Preconditions(generation_match=7, metageneration_match=3), False, False),
    ],
)
def test_preconditions(demands: Preconditions, absent: bool, there: bool) -> None:
    found = StoredObject("abc", "x", 7, 2, 0, "", "", "", "", "")
    assert [hold(demands, one) for one in (None, found)] == [absent, there]


def hold(demands: Preconditions, found: StoredObject | None) -> bool:
    try:
        demands.check(found)
    except ApiError as error:
        return error.status != 412
    return True
