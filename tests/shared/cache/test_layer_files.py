"""Layers on the disk: whole or absent, locked while in use, and removed in the order of their last use."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from shared.cache.layer_store import CHECKED, CONTENT, RECORD, LayerRecord, LayerStore, lock_record, oldest_of
from shared.cache.moving import export_layers, import_layers


def key(number: int) -> str:
    return f"{number:064x}"


def record(number: int, before: int = 0, oldest: float | None = None) -> LayerRecord:
    return LayerRecord(key(number), key(before) if before else "", "step", "build", "chroot", 1.0, oldest)


def publish(store: LayerStore, place: Path, number: int, before: int = 0, size: int = 1 << 12) -> bool:
    staged = place / f"staged-{number}"
    (staged / CONTENT).mkdir(parents=True)
    (staged / CONTENT / "file").write_bytes(os.urandom(size))
    return store.publish(staged, record(number, before)) is not None


@pytest.fixture
def store(tmp_path: Path) -> LayerStore:
    folder = tmp_path / "layers"
    folder.mkdir()
    return LayerStore(folder, shutil.rmtree)


def used(store: LayerStore, number: int, ago: float) -> None:
    moment = time.time() - ago
    os.utime(store.folder / key(number) / RECORD, (moment, moment))


def test_a_layer_is_found_again(store: LayerStore, tmp_path: Path) -> None:
    assert store.open(key(1)) is None
    assert publish(store, tmp_path, 1)
    found = store.open(key(1))
    assert found is not None
    assert (found.record.step, found.record.disk_bytes >= 1 << 12) == ("step", True)
    assert (found.content / "file").stat().st_size == 1 << 12
    found.close()


def test_the_second_of_two_builds_keeps_its_own(store: LayerStore, tmp_path: Path) -> None:
    assert publish(store, tmp_path, 1)
    before = (store.folder / key(1) / CONTENT / "file").read_bytes()
    shutil.rmtree(tmp_path / "staged-1", ignore_errors=True)
    assert not publish(store, tmp_path, 1)
    assert (store.folder / key(1) / CONTENT / "file").read_bytes() == before
    assert (tmp_path / "staged-1" / CONTENT / "file").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / CONTENT / "file").write_bytes(b"short"),
        lambda place: (place / CONTENT / "file").unlink(),
        lambda place: (place / CONTENT / "more").touch(),
        lambda place: shutil.rmtree(place / CONTENT),
        lambda place: (place / RECORD).write_text("{"),
        lambda place: (place / RECORD).write_text("[" * 100_000),
        lambda place: (place / RECORD).write_text("{}"),
        lambda place: (place / RECORD).write_text('{"key": 1}'),
        lambda place: [(place / CHECKED).write_text("x\ny"), (place / CONTENT / "file").write_bytes(b"other")],
    ],
)
def test_a_damaged_layer_is_thrown_away(store: LayerStore, tmp_path: Path, damage: object) -> None:
    publish(store, tmp_path, 1)
    damage(store.folder / key(1))  # type: ignore[operator]
    assert store.open(key(1)) is None
    assert list(store.folder.iterdir()) == []


def test_files_that_were_only_touched_are_compared_and_stay(store: LayerStore, tmp_path: Path) -> None:
    publish(store, tmp_path, 1)
    file = store.folder / key(1) / CONTENT / "file"
    os.chown(file, os.getuid(), os.getgid())  # another time of change
    found = store.open(key(1))
    assert found is not None
    found.close()
    assert (store.folder / key(1) / CHECKED).exists()
    again = store.open(key(1))
    assert again is not None
    again.close()
    file.write_bytes(b"x" * (1 << 12))
    assert store.open(key(1)) is None


def test_a_layer_in_use_is_not_removed(store: LayerStore, tmp_path: Path) -> None:
    publish(store, tmp_path, 1)
    publish(store, tmp_path, 2, before=1)
    program = (
        "import sys; from pathlib import Path; from shared.cache.layer_store import LayerStore\n"
        "opened = LayerStore(Path(sys.argv[1]), lambda path: None).open(sys.argv[2])\n"
        "print(opened is not None, flush=True); sys.stdin.read()\n"
    )
    user = subprocess.Popen(
        [sys.executable, "-c", program, str(store.folder), key(1)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert user.stdout is not None
    assert user.stdout.readline() == "True\n"
    assert [gone.key for gone in store.prune(0)] == [key(2)]
    user.communicate()
    assert [gone.key for gone in store.prune(0)] == [key(1)]
    assert list(store.folder.iterdir()) == []


def test_a_layer_in_the_making_is_locked_before_it_has_its_place(store: LayerStore, tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    (staged / CONTENT).mkdir(parents=True)
    lock = lock_record(staged)
    assert store.publish(staged, record(1)) is not None
    assert store.prune(0) == []
    found = store.open(key(1))
    assert found is not None
    found.close()
    os.close(lock)
    assert [gone.key for gone in store.prune(0)] == [key(1)]


def test_a_fault_is_not_taken_for_a_faster_build(store: LayerStore, tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    (staged / CONTENT).mkdir(parents=True)
    store.folder.rmdir()
    with pytest.raises(FileNotFoundError):
        store.publish(staged, record(1))


def test_a_link_is_no_content(store: LayerStore, tmp_path: Path) -> None:
    publish(store, tmp_path, 1)
    place = store.folder / key(1)
    shutil.rmtree(place / CONTENT)
    (place / CONTENT).symlink_to("/etc")
    whole = store.seal(place, record(1))
    (place / RECORD).write_bytes(whole.encode())
    assert store.open(key(1)) is None


def test_a_running_import_is_not_swept(store: LayerStore) -> None:
    place = store.folder / ".gone-import-1"
    place.mkdir()
    lock = os.open(place, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    store.sweep()
    assert place.exists()
    os.close(lock)
    store.sweep()
    assert not place.exists()


@pytest.mark.parametrize("record_is", ["link", "fifo", "folder"])
def test_an_archive_brings_files_and_no_ways_to_others(store: LayerStore, tmp_path: Path, record_is: str) -> None:
    publish(store, tmp_path, 1)
    archive = tmp_path / "layers.tar"
    assert export_layers(store, archive) == 1
    store.prune(0)
    assert import_layers(store, archive, shutil.rmtree) == 1
    place = store.folder / key(1)
    (place / RECORD).unlink()
    {
        "link": lambda: (place / RECORD).symlink_to("/dev/zero"),
        "fifo": lambda: os.mkfifo(place / RECORD),
        "folder": lambda: (place / RECORD).mkdir(),
    }[record_is]()
    hostile = tmp_path / "hostile.tar"
    subprocess.run(["tar", "-cf", hostile, "-C", store.folder, key(1)], check=True)
    shutil.rmtree(place)
    assert import_layers(store, hostile, shutil.rmtree) == 0
    assert list(store.folder.iterdir()) == []


def test_the_layers_that_were_used_last_stay(store: LayerStore, tmp_path: Path) -> None:
    for number, before in ((1, 0), (2, 1), (3, 1), (4, 3)):
        publish(store, tmp_path, number, before)
    for number, ago in ((1, 1), (2, 100), (3, 10), (4, 11)):
        used(store, number, ago)
    sizes = sum(each.disk_bytes for each in store.records())
    assert [gone.key for gone in store.prune(sizes)] == []
    assert [gone.key for gone in store.prune(sizes - 1)] == [key(2)]
    store.discard(key(3))
    assert [gone.key for gone in store.prune(sizes)] == [key(4)]  # of no use without 3
    assert [each.key for each in store.records()] == [key(1)]


def test_what_killed_processes_have_left_is_swept(store: LayerStore, tmp_path: Path) -> None:
    publish(store, tmp_path, 1)
    (store.folder / ".gone-abc-1" / CONTENT).mkdir(parents=True)
    (store.folder / key(2) / CONTENT).mkdir(parents=True)
    store.prune(1 << 40)
    assert [path.name for path in store.folder.iterdir()] == [key(1)]


def test_verify_reads_what_the_times_do_not_tell(store: LayerStore, tmp_path: Path) -> None:
    publish(store, tmp_path, 1)
    assert store.verify() == []
    place = store.folder / key(1)
    whole = replace(LayerRecord.decode((place / RECORD).read_bytes()), digest="0" * 64)
    (place / RECORD).write_bytes(whole.encode())
    found = store.open(key(1))  # as the file system tells it, nothing was changed
    assert found is not None
    found.close()
    assert store.verify() == [key(1)]
    assert list(store.folder.iterdir()) == []


def test_the_oldest_result_of_a_network_counts() -> None:
    assert oldest_of(None, False, 5.0) is None
    assert oldest_of(None, True, 5.0) == 5.0
    assert oldest_of(record(1, oldest=3.0), True, 5.0) == 3.0
    assert oldest_of(record(1, oldest=3.0), False, 5.0) == 3.0
