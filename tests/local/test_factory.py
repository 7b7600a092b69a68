"""The factory of this machine: what it finishes and deletes of what killed processes left; file sources; its key."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from shared import resources
from shared.build import Build, Outcome, State
from shared.errors import NotFound
from shared.interruption import Interruption
from shared.local.build_folder import BuildFolder, build_ids
from shared.local.factory import LOST, LocalFactory, open_factory
from shared.local.image_file import file_name
from shared.orders import Order
from shared.plan import ImagePlan, Plan
from shared.ports import ImageRequest
from shared.spec import Source
from tests import values
from tests.local.contenders import hear, other_process
from tests.local.small_disks import left_clean, os_tree, rooted
from tests.values import BUILD_ID

BOOT = f"gs-{BUILD_ID}-a1-boot"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def factory(home: Path) -> Iterator[LocalFactory]:
    with open_factory(home) as opened:
        yield opened


@pytest.fixture
def folder(home: Path) -> BuildFolder:
    return BuildFolder(home, BUILD_ID)


def sparse(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(4 << 20)
    return path


def left(factory: LocalFactory, state: State, **changes: object) -> Build:
    """A build whose process was killed in this state, with its disk."""
    plan = values.plan(requested=time.time())
    ledger = resources.of_order(plan, "create_resources", 1)
    build = values.build(plan=plan, state=state, zone="local", ledger=ledger, created=time.time())
    build = replace(build, deadline=time.time() + 3600, **changes)  # type: ignore[arg-type]  # fields of Build, by name
    factory.store.create(build, values.requested(plan=plan))
    left_clean(BuildFolder(factory.home, build.id).disk(BOOT))
    return build


def recover(factory: LocalFactory) -> list[Build]:
    """Finish what killed processes have left, and tidy up after builds that have never begun."""
    factory.tidy()
    ended = [factory.resume(build.id) for build in factory.interrupted()]
    return [build for build in ended if build is not None]


def hold(home: Path, pipe: Connection) -> None:
    """Hold the build until something is said."""
    with open_factory(home) as factory, factory.building(BUILD_ID) as ours:
        pipe.send(ours)
        pipe.recv()
    pipe.send("let go")
    pipe.recv()


def tell_key(home: Path, pipe: Connection) -> None:
    hear(pipe)
    with open_factory(home):
        pipe.send((home / "master.key").read_bytes())
    pipe.recv()


def test_master_key_is_made_once_and_for_its_owner_alone(factory: LocalFactory, home: Path) -> None:
    key = home / "master.key"
    before = key.read_bytes()
    assert (len(before), key.stat().st_mode & 0o777) == (32, 0o600)
    with open_factory(home):
        assert key.read_bytes() == before
    assert [path.name for path in home.glob(".master*")] == []


def test_what_a_killed_process_left_of_a_key_is_no_hindrance(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / f".master.key.{os.getpid()}").write_bytes(b"half")  # of a process that had this one's number before
    with open_factory(home):
        assert len((home / "master.key").read_bytes()) == 32
    assert [path.name for path in home.glob(".master*")] == []


def test_processes_that_start_at_once_take_one_key(home: Path) -> None:
    with other_process(tell_key, home) as (_one, first), other_process(tell_key, home) as (_two, second):
        first.send("go")
        second.send("go")
        assert hear(first) == hear(second)


def test_build_that_had_not_begun_leaves_nothing(factory: LocalFactory, folder: BuildFolder) -> None:
    with factory.building(BUILD_ID) as ours:
        assert ours
        folder.context.touch()
    assert not folder.path.exists()
    with pytest.raises(KeyError), factory.building(BUILD_ID):
        raise KeyError
    assert not folder.path.exists()


def test_unfinished_build_keeps_its_files(factory: LocalFactory, folder: BuildFolder) -> None:
    left(factory, State.PROVISIONING)
    with factory.building(BUILD_ID) as ours:
        assert ours
    assert folder.disks() == [BOOT]


@pytest.mark.parametrize("state", [State.PREPARING, State.PROVISIONING])
def test_build_whose_vm_was_at_work_is_cancelled(factory: LocalFactory, folder: BuildFolder, state: State) -> None:
    left(factory, state)
    [done] = recover(factory)
    assert (done.outcome, done.reason) == (Outcome.CANCELLED, LOST)
    assert done == factory.store.load(BUILD_ID).build
    assert not folder.path.exists()
    assert recover(factory) == []


def test_build_whose_vm_was_done_goes_on_to_its_image(factory: LocalFactory, folder: BuildFolder) -> None:
    left(factory, State.EXPORTING, outbox=(Order(BUILD_ID, 7, "export_image", 1),), orders=7)
    [done] = recover(factory)
    assert done.outcome is Outcome.SUCCEEDED, done.reason
    image = factory.catalogue.newest_in_family("hello")
    assert image is not None
    assert done.image is not None
    assert image.name == done.image.name
    kept = [f"hello-20261120{suffix}" for suffix in (".cdx.json", ".spdx.json")]
    assert (folder.is_untidy(), sorted(path.name for path in folder.logs.iterdir())) == (False, kept)


def test_build_that_another_process_runs_is_left_alone(factory: LocalFactory, home: Path, folder: BuildFolder) -> None:
    left(factory, State.PROVISIONING)
    with other_process(hold, home) as (_process, pipe):
        assert hear(pipe) is True
        assert recover(factory) == []
        with factory.building(BUILD_ID) as ours:
            assert not ours
        assert folder.disks() == [BOOT]
        pipe.send("let go")
        assert hear(pipe) == "let go"
    assert [build.id for build in recover(factory)] == [BUILD_ID]


def test_waiting_ends_with_the_process_that_runs_the_build(factory: LocalFactory, home: Path) -> None:
    left(factory, State.PROVISIONING)
    with other_process(hold, home) as (process, pipe):
        assert hear(pipe) is True
        killer = threading.Timer(0.5, process.kill)
        killer.start()
        done = factory.wait_until_finished(BUILD_ID)
        killer.join()
    assert (done.outcome, done.reason) == (Outcome.CANCELLED, LOST)
    assert factory.is_finished(BUILD_ID)
    with pytest.raises(NotFound):
        factory.wait_until_finished("hello-unknown")


def test_folder_of_a_build_that_never_began_is_tidied(factory: LocalFactory, home: Path, folder: BuildFolder) -> None:
    sparse(folder.context)
    sparse(folder.logs / "kept.log")
    sparse(BuildFolder(home, "empty-0123456789ab").context)
    assert recover(factory) == []
    assert build_ids(home) == [BUILD_ID]
    assert [path.name for path in folder.path.iterdir()] == ["logs"]


def test_sweep_names_what_it_deletes(factory: LocalFactory, folder: BuildFolder, tmp_path: Path) -> None:
    sparse(folder.disk(BOOT))  # of a build that nobody knows, without labels
    factory.catalogue.add(sparse(tmp_path / "x.raw"), "due")
    factory.catalogue.add(sparse(tmp_path / "y.raw"), "later")
    factory.catalogue.deprecate("due", "later", time.time() - 1)
    factory.catalogue.deprecate("later", "due", time.time() + 1000)
    assert factory.sweep() == [f"disk {BOOT}", "image due"]
    assert factory.sweep() == []
    assert factory.catalogue.get("later") is not None


def test_sweep_leaves_a_build_at_work_alone(factory: LocalFactory, folder: BuildFolder) -> None:
    left(factory, State.PROVISIONING)
    with factory.building(BUILD_ID):
        assert factory.sweep() == []
    assert folder.disks() == [BOOT]


def test_sweep_leaves_what_a_build_in_cleaning_owns(factory: LocalFactory, folder: BuildFolder) -> None:
    """A killed process has left it there: its clean-up is the one that deletes, whatever the labels say."""
    left(factory, State.CLEANING, outcome=Outcome.FAILED)
    folder.label({"goldsmith-expires": "1"})
    assert factory.sweep() == []
    assert folder.disks() == [BOOT]


def test_files_of_a_build_that_another_process_is_just_starting_stay(
    factory: LocalFactory, home: Path, folder: BuildFolder
) -> None:
    with other_process(hold, home) as (_process, pipe):
        assert hear(pipe) is True
        sparse(folder.context)
        factory.tidy()
        assert factory.sweep() == []
        assert folder.context.exists()
        pipe.send("let go")
        assert hear(pipe) == "let go"
    assert not folder.path.exists()


def test_to_look_whether_a_build_is_held_makes_nothing(factory: LocalFactory, folder: BuildFolder) -> None:
    assert not folder.is_held()
    assert not folder.path.exists()
    build = left(factory, State.PROVISIONING)
    assert factory.is_interrupted(build)
    with factory.building(BUILD_ID):
        assert folder.is_held()
        assert not factory.is_interrupted(build)
    assert factory.is_interrupted(build)


def test_file_beside_the_spec_joins_the_catalogue_once(factory: LocalFactory, tmp_path: Path) -> None:
    rooted(tmp_path / "small.raw", os_tree(tmp_path / "tree"))
    source = Source.model_validate({"file": "small.raw"})
    first = factory.resolve(source, tmp_path)
    assert factory.resolve(source, tmp_path) == first
    assert [image.name for image in factory.catalogue.list()] == [first.name]
    assert factory.describe(first.name).system == "Debian GNU/Linux 12 (bookworm)"


def test_file_that_another_build_has_just_brought_in_is_that_image(home: Path, tmp_path: Path) -> None:
    file = rooted(tmp_path / "small.raw", os_tree(tmp_path / "tree"))

    def overtake(what: str, done: int, total: int) -> None:
        if what.startswith("looking"):
            others.catalogue.add(file, file_name(file))

    with open_factory(home) as others, open_factory(home, overtake) as factory:
        found = factory.resolve(Source.model_validate({"file": "small.raw"}), tmp_path)
        assert [image.id for image in others.catalogue.list()] == [found.id]


def test_source_by_name_is_looked_up(factory: LocalFactory, tmp_path: Path) -> None:
    factory.catalogue.add(sparse(tmp_path / "x.raw"), "one", family="f")
    for keys in ({"image": "one"}, {"family": "f"}):
        assert factory.resolve(Source.model_validate({"project": "local", **keys}), tmp_path).name == "one"


@pytest.mark.parametrize("keys", [{"image": "cos-109-1-2-3"}, {"family": "cos-stable"}, {"milestone": 109}])
def test_imported_images_of_container_optimized_os_are_found(
    factory: LocalFactory, tmp_path: Path, keys: dict[str, object]
) -> None:
    """start-image-build -image-name, -image-milestone, -image-family, in the catalogue of one machine."""
    factory.catalogue.add(sparse(tmp_path / "x.raw"), "cos-109-1-2-3", family="cos-stable")
    source = Source.model_validate({"project": "cos-cloud", **keys})
    assert factory.resolve(source, tmp_path).name == "cos-109-1-2-3"


def test_unchanged_build_is_run_without_a_machine(factory: LocalFactory, folder: BuildFolder) -> None:
    heard: list[State] = []
    request = values.requested(unchanged=values.image_record())
    with factory.building(BUILD_ID):
        done = factory.run(request, lambda build, event: heard.append(build.state), Interruption())
    assert done.outcome is Outcome.UNCHANGED
    assert heard[-1] is State.FINISHED
    assert State.PROVISIONING not in heard
    assert build_ids(factory.home) == []
    assert factory.logs_of(BUILD_ID) == str(folder.logs)


def test_image_of_a_build_outlives_its_disk(factory: LocalFactory, folder: BuildFolder) -> None:
    image = ImagePlan("local", "kept")
    plan: Plan = values.plan(image=image)
    size = left_clean(folder.disk(BOOT)).stat().st_size
    request = ImageRequest("local", image.name, BOOT, "local", "local", "", {}, (), plan.source.architecture)
    factory.compute.create_image(request)
    factory.compute.delete("disk", BOOT, "local", "")
    assert factory.catalogue.disk("kept").stat().st_size == size
    assert folder.disks() == []
