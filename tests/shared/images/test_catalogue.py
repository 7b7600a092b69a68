import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.errors import AlreadyExists, ImageFileError, InputError, NotFound, StoreError
from shared.images.catalogue import Catalogue
from tests.shared.images.families import newest

ROOT = Path(__file__).parents[3]


@dataclass
class SetClock:
    time: float = 1_700_000_000.0

    def now(self) -> float:
        return self.time

    def pause(self, seconds: float) -> None:
        self.time += seconds


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def catalogue(tmp_path: Path, clock: SetClock) -> Catalogue:
    return Catalogue(tmp_path / "home", clock)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "some.raw"
    with path.open("wb") as file:
        file.truncate(3 << 29)
        file.seek(1 << 20)
        file.write(b"data" * 4096)
    return path


def test_an_image_comes_back_as_it_was_added(catalogue: Catalogue, disk: Path) -> None:
    added = catalogue.add(disk, "one", family="first", labels={"a": "b"}, licenses=["x"], description="d")
    assert catalogue.get("one") == added
    assert (added.project, added.disk_size_gb, added.licenses, added.created) == ("local", 2, ("x",), 1_700_000_000.0)
    assert len(added.id) == 19
    assert 16384 <= added.archive_bytes < 1 << 20
    copy = catalogue.disk("one")
    assert copy.stat().st_size == disk.stat().st_size
    with copy.open("rb") as file:
        assert file.read(1 << 20) == bytes(1 << 20)
        assert file.read(1 << 20) == (b"data" * 4096).ljust(1 << 20, b"\0")
    assert copy.stat().st_mode & 0o222 == 0


def test_the_catalogue_is_empty_before_its_folder_is_made(catalogue: Catalogue) -> None:
    assert catalogue.get("one") is None
    assert list(catalogue.list()) == []
    assert not catalogue.delete("one")
    assert list(catalogue.purge()) == []
    with pytest.raises(NotFound, match="no image one"):
        catalogue.disk("one")
    with pytest.raises(NotFound):
        catalogue.set_labels("one", {})
    with pytest.raises(NotFound):
        catalogue.set_family("one", None)


@pytest.mark.parametrize("transfer", ["copy", "link", "move"])
def test_a_disk_is_copied_shared_or_taken(catalogue: Catalogue, disk: Path, transfer: str) -> None:
    before = disk.stat().st_ino
    catalogue.add(disk, "one", transfer=transfer)  # type: ignore[arg-type]  # parametrized
    assert disk.exists() == (transfer != "move")
    assert (catalogue.disk("one").stat().st_ino == before) == (transfer != "copy")


def test_linking_across_file_systems_copies(disk: Path, clock: SetClock, shm: Path) -> None:
    there = Catalogue(shm, clock)
    there.add(disk, "one", transfer="move")
    assert not disk.exists()
    assert there.disk("one").stat().st_size == 3 << 29


@pytest.fixture
def shm() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="catalogue-test-"))
    yield folder
    shutil.rmtree(folder)


def test_a_name_can_be_taken_once(catalogue: Catalogue, disk: Path) -> None:
    first = catalogue.add(disk, "one")
    with pytest.raises(AlreadyExists, match="goldsmith images delete one"):
        catalogue.add(disk, "one", transfer="move")
    assert disk.exists()
    assert catalogue.get("one") == first
    assert names(catalogue.folder) == ["one"]


def test_ids_are_not_used_again(catalogue: Catalogue, disk: Path, clock: SetClock) -> None:
    first = catalogue.add(disk, "one").id
    catalogue.delete("one")
    clock.time += 0.001
    assert catalogue.add(disk, "one").id != first


@pytest.mark.parametrize("name", ["", "One", "1a", "a-", "a_b", "a/b", "..", "a" * 64, ".scratch-1"])
def test_names_are_compute_engines(catalogue: Catalogue, disk: Path, name: str) -> None:
    for act in (lambda: catalogue.add(disk, name), lambda: catalogue.get(name), lambda: catalogue.delete(name)):
        with pytest.raises(InputError):
            act()
    with pytest.raises(InputError):
        catalogue.add(disk, "fine", family=name)
    assert not catalogue.folder.exists()


@pytest.mark.parametrize(
    "labels", [{"A": "b"}, {"a": "B"}, {"": "b"}, {"a": "x" * 64}, {f"k{i}": "" for i in range(65)}]
)
def test_labels_are_compute_engines(catalogue: Catalogue, disk: Path, labels: dict[str, str]) -> None:
    with pytest.raises(InputError):
        catalogue.add(disk, "one", labels=labels)
    catalogue.add(disk, "two")
    with pytest.raises(InputError):
        catalogue.set_labels("two", labels)
    assert catalogue.get("one") is None


def test_families_lists_and_prefixes(catalogue: Catalogue, disk: Path, clock: SetClock) -> None:
    for name, family in (("a-1", "a"), ("a-2", "a"), ("b-1", "b"), ("c", None)):
        clock.time += 1
        catalogue.add(disk, name, family=family)
    assert [image.name for image in catalogue.list()] == ["c", "b-1", "a-2", "a-1"]
    assert [image.name for image in catalogue.list(family="a")] == ["a-2", "a-1"]
    assert [image.name for image in catalogue.list(prefix="b-")] == ["b-1"]
    found = newest(catalogue, "a")
    assert found is not None
    assert found.name == "a-2"
    assert newest(catalogue, "z") is None


def test_a_deprecated_image_is_never_the_newest_and_goes_when_its_time_comes(
    catalogue: Catalogue, disk: Path, clock: SetClock
) -> None:
    catalogue.add(disk, "old", family="f")
    clock.time += 1
    catalogue.add(disk, "new", family="f")
    catalogue.deprecate("new", "old", clock.time + 10)
    found = newest(catalogue, "f")
    assert found is not None
    assert found.name == "old"
    assert [image.deprecated for image in catalogue.list(family="f")] == ["DEPRECATED", None]
    clock.time += 9
    assert list(catalogue.purge()) == []
    clock.time += 1
    assert list(catalogue.purge()) == ["new"]
    assert [image.name for image in catalogue.list()] == ["old"]


def test_an_image_that_is_active_again_is_not_purged(
    tmp_path: Path, catalogue: Catalogue, disk: Path, clock: SetClock
) -> None:
    class Activates(Catalogue):
        """Whose images become active between the look and the deletion."""

        def delete(self, name: str, *, due: float | None = None, image_id: str = "") -> bool:
            catalogue.activate(self.list()[0])
            return super().delete(name, due=due, image_id=image_id)

    catalogue.add(disk, "one", family="f")
    catalogue.deprecate("one", "two", clock.time)
    assert list(Activates(tmp_path / "home", clock).purge()) == []
    assert [image.deprecated for image in catalogue.list()] == [None]


def test_an_image_that_has_got_the_name_of_another_stays(catalogue: Catalogue, disk: Path, clock: SetClock) -> None:
    first = catalogue.add(disk, "one")
    assert catalogue.delete("one", image_id=first.id)
    clock.time += 1
    second = catalogue.add(disk, "one")
    assert not catalogue.delete("one", image_id=first.id)
    assert catalogue.get("one") == second
    assert catalogue.delete("one", image_id=second.id)


def test_labels_and_family_are_replaced(catalogue: Catalogue, disk: Path) -> None:
    catalogue.add(disk, "one", labels={"a": "1"})
    catalogue.set_labels("one", {"b": "2"})
    changed = catalogue.set_family("one", "f")
    assert (changed.labels, changed.family) == ({"b": "2"}, "f")
    assert catalogue.get("one") == changed
    assert names(catalogue.folder / "one") == ["disk.raw", "image.json"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-10],
        lambda data: b"[]",
        lambda data: json.dumps({**json.loads(data), "more": 1}).encode(),
        lambda data: json.dumps({**json.loads(data), "created": "now"}).encode(),
        lambda data: json.dumps({**json.loads(data), "labels": {"a": 1}}).encode(),
        lambda data: json.dumps({**json.loads(data), "name": "other"}).encode(),
        lambda data: json.dumps({**json.loads(data), "version": 2}).encode(),
        lambda data: None,
    ],
)
def test_a_damaged_entry_is_named_and_hides_no_other(catalogue: Catalogue, disk: Path, damage: object) -> None:
    catalogue.add(disk, "bad")
    catalogue.add(disk, "good")
    record = catalogue.folder / "bad" / "image.json"
    data = damage(record.read_bytes())  # type: ignore[operator]  # parametrized
    if data is None:
        record.unlink()
    else:
        record.write_bytes(data)
    said: list[str] = []
    assert [image.name for image in catalogue.list(damaged=said.append)] == ["good"]
    assert len(said) == 1
    assert str(record) in said[0]
    with pytest.raises(StoreError, match=r"image\.json"):
        catalogue.get("bad")
    assert catalogue.delete("bad")
    assert catalogue.get("bad") is None


def test_no_such_disk(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match=r"nothing\.raw"):
        catalogue.add(tmp_path / "nothing.raw", "one")
    assert names(catalogue.folder) == []


ADD = """
import sys, time
from pathlib import Path
from shared.errors import AlreadyExists
from shared.images.catalogue import Catalogue
class Clock:
    now = staticmethod(time.time)
try:
    Catalogue(Path(sys.argv[1]), Clock()).add(Path(sys.argv[2]), "same")
    print("added")
except AlreadyExists:
    print("taken")
"""


def test_of_two_processes_that_add_a_name_one_succeeds(catalogue: Catalogue, disk: Path) -> None:
    command = [sys.executable, "-c", ADD, str(catalogue.folder.parent), str(disk)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    assert sorted(one.communicate()[0].strip() for one in both) == ["added", "taken"]
    assert names(catalogue.folder) == ["same"]


KILLED = """
import os, signal, sys
from pathlib import Path
from shared.host.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as scratch:
    (scratch.path / "half").write_text("x")
    print(scratch.path, flush=True)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_uses_is_not(
    catalogue: Catalogue, disk: Path
) -> None:
    catalogue.folder.mkdir(parents=True)
    command = [sys.executable, "-c", KILLED, str(catalogue.folder)]
    dead = subprocess.run([*command, "die"], capture_output=True, text=True, cwd=ROOT)
    assert dead.returncode == -9
    assert Path(dead.stdout.strip()).exists()
    living = subprocess.Popen([*command, "live"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert living.stdout is not None
    in_use = Path(living.stdout.readline().strip())
    catalogue.add(disk, "one")
    assert names(catalogue.folder) == sorted([in_use.name, "one"])
    living.communicate("")
    assert names(catalogue.folder) == ["one"]
