"""The builds of this machine: holding, running and following them, and finishing those of killed processes."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from shared.build import resources
from shared.build.build import LOST, Build, Outcome, State
from shared.build.events import BuildRequested
from shared.build.orders import Order
from shared.build.plan import ImagePlan
from shared.errors import EnvironmentFault, NotFound
from shared.host.build_folder import BuildFolder, build_ids
from shared.interruption import Interruption
from shared.ports import Bus, Message
from shared.runtime.builds import LocalBuilds
from shared.runtime.one_machine import LocalBackend, open_one_machine
from tests.shared.disks.small_disks import left_clean
from tests.shared.host.contenders import hear, other_process
from tests.shared.images.families import newest
from tests.world import values
from tests.world.values import BUILD_ID

BOOT = f"gs-{BUILD_ID}-a1-boot"


@pytest.fixture
def builds(backend: LocalBackend) -> LocalBuilds:
    return LocalBuilds(backend)


def sparse(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(4 << 20)
    return path


def left(backend: LocalBackend, state: State, **changes: object) -> Build:
    """A build whose process was killed in this state, with its disk."""
    plan = values.plan(requested=time.time())
    ledger = resources.of_order(plan, "create_resources", 1)
    build = values.build(plan=plan, state=state, zone="local", ledger=ledger, created=time.time())
    build = replace(build, deadline=time.time() + 3600, **changes)  # type: ignore[arg-type]  # fields of Build, by name
    backend.store.create(build, values.requested(plan=plan))
    left_clean(BuildFolder(backend.home, build.id).disk(BOOT))
    return build


def recover(builds: LocalBuilds) -> list[Build]:
    """Finish what killed processes have left, and tidy up after builds that have never begun."""
    builds.tidy()
    ended = [builds.resume(build.id) for build in builds.interrupted()]
    return [build for build in ended if build is not None]


def hold(home: Path, pipe: Connection) -> None:
    """Hold the build until something is said."""
    with open_one_machine(home) as backend, LocalBuilds(backend).building(BUILD_ID) as ours:
        pipe.send(ours)
        pipe.recv()
    pipe.send("let go")
    pipe.recv()


def test_build_that_had_not_begun_leaves_nothing(builds: LocalBuilds, folder: BuildFolder) -> None:
    with builds.building(BUILD_ID) as ours:
        assert ours
        folder.context.touch()
    assert not folder.path.exists()
    with pytest.raises(KeyError), builds.building(BUILD_ID):
        raise KeyError
    assert not folder.path.exists()


def test_unfinished_build_keeps_its_files(backend: LocalBackend, builds: LocalBuilds, folder: BuildFolder) -> None:
    left(backend, State.PROVISIONING)
    with builds.building(BUILD_ID) as ours:
        assert ours
    assert folder.disks() == [BOOT]


@pytest.mark.parametrize("state", [State.PREPARING, State.PROVISIONING])
def test_build_whose_vm_was_at_work_is_cancelled(
    backend: LocalBackend, builds: LocalBuilds, folder: BuildFolder, state: State
) -> None:
    left(backend, state)
    [done] = recover(builds)
    assert (done.outcome, done.reason) == (Outcome.CANCELLED, LOST)
    assert done == backend.store.load(BUILD_ID).build
    assert not folder.path.exists()
    assert recover(builds) == []


def test_build_whose_vm_was_done_goes_on_to_its_image(
    backend: LocalBackend, builds: LocalBuilds, folder: BuildFolder
) -> None:
    left(backend, State.EXPORTING, outbox=(Order(BUILD_ID, 7, "export_image", 1),), orders=7)
    [done] = recover(builds)
    assert done.outcome is Outcome.SUCCEEDED, done.reason
    image = newest(backend.catalogue, "hello")
    assert image is not None
    assert done.image is not None
    assert image.name == done.image.name
    kept = [f"hello-20261120{suffix}" for suffix in (".cdx.json", ".intoto.jsonl", ".spdx.json")]
    assert (folder.is_untidy(), sorted(path.name for path in folder.logs.iterdir())) == (False, kept)


def test_build_whose_vm_was_done_goes_on_to_its_archive(
    backend: LocalBackend, builds: LocalBuilds, tmp_path: Path
) -> None:
    plan = values.plan(requested=time.time())
    archive = tmp_path / "out" / "hello.tar.gz"
    plan = replace(plan, image=replace(plan.image, export_to=str(archive)))
    left(backend, State.EXPORTING, plan=plan, outbox=(Order(BUILD_ID, 7, "export_image", 1),), orders=7)
    [done] = recover(builds)
    assert done.outcome is Outcome.SUCCEEDED, done.reason
    beside = [f"hello{suffix}" for suffix in (".cdx.json", ".json", ".spdx.json", ".tar.gz")]
    assert sorted(path.name for path in archive.parent.iterdir()) == beside


def test_build_that_another_process_runs_is_left_alone(
    backend: LocalBackend, builds: LocalBuilds, home: Path, folder: BuildFolder
) -> None:
    left(backend, State.PROVISIONING)
    with other_process(hold, home) as (_process, pipe):
        assert hear(pipe) is True
        assert recover(builds) == []
        with builds.building(BUILD_ID) as ours:
            assert not ours
        assert folder.disks() == [BOOT]
        pipe.send("let go")
        assert hear(pipe) == "let go"
    assert [build.id for build in recover(builds)] == [BUILD_ID]


def test_waiting_ends_with_the_process_that_runs_the_build(
    backend: LocalBackend, builds: LocalBuilds, home: Path
) -> None:
    left(backend, State.PROVISIONING)
    with other_process(hold, home) as (process, pipe):
        assert hear(pipe) is True
        killer = threading.Timer(0.5, process.kill)
        killer.start()
        done = builds.wait_until_finished(BUILD_ID)
        killer.join()
    assert (done.outcome, done.reason) == (Outcome.CANCELLED, LOST)
    assert backend.store.load(BUILD_ID).build.finished
    with pytest.raises(NotFound):
        builds.wait_until_finished("hello-unknown")


def test_folder_of_a_build_that_never_began_is_tidied(builds: LocalBuilds, home: Path, folder: BuildFolder) -> None:
    sparse(folder.context)
    sparse(folder.logs / "kept.log")
    sparse(BuildFolder(home, "empty-0123456789ab").context)
    assert recover(builds) == []
    assert build_ids(home) == [BUILD_ID]
    assert [path.name for path in folder.path.iterdir()] == ["logs"]


def test_sweep_names_what_it_deletes(
    backend: LocalBackend, builds: LocalBuilds, folder: BuildFolder, tmp_path: Path
) -> None:
    sparse(folder.disk(BOOT))  # of an unknown build, without labels
    backend.catalogue.add(sparse(tmp_path / "x.raw"), "due")
    backend.catalogue.add(sparse(tmp_path / "y.raw"), "later")
    backend.catalogue.deprecate("due", "later", time.time() - 1)
    backend.catalogue.deprecate("later", "due", time.time() + 1000)
    assert builds.sweep() == [f"disk {BOOT}", "image due"]
    assert builds.sweep() == []
    assert backend.catalogue.get("later") is not None


def test_sweep_leaves_a_build_at_work_alone(backend: LocalBackend, builds: LocalBuilds, folder: BuildFolder) -> None:
    left(backend, State.PROVISIONING)
    with builds.building(BUILD_ID):
        assert builds.sweep() == []
    assert folder.disks() == [BOOT]


def test_sweep_leaves_what_a_build_in_cleaning_owns(
    backend: LocalBackend, builds: LocalBuilds, folder: BuildFolder
) -> None:
    """A killed process has left it there: its clean-up is the one that deletes, whatever the labels say."""
    left(backend, State.CLEANING, outcome=Outcome.FAILED)
    folder.label({"goldsmith-expires": "1"})
    assert builds.sweep() == []
    assert folder.disks() == [BOOT]


def test_files_of_a_build_that_another_process_is_just_starting_stay(
    builds: LocalBuilds, home: Path, folder: BuildFolder
) -> None:
    with other_process(hold, home) as (_process, pipe):
        assert hear(pipe) is True
        sparse(folder.context)
        builds.tidy()
        assert builds.sweep() == []
        assert folder.context.exists()
        pipe.send("let go")
        assert hear(pipe) == "let go"
    assert not folder.path.exists()


def test_to_look_whether_a_build_is_held_makes_nothing(
    backend: LocalBackend, builds: LocalBuilds, folder: BuildFolder
) -> None:
    assert not folder.is_held()
    assert not folder.path.exists()
    build = left(backend, State.PROVISIONING)
    assert builds.is_interrupted(build)
    with builds.building(BUILD_ID):
        assert folder.is_held()
        assert not builds.is_interrupted(build)
    assert builds.is_interrupted(build)


def test_a_lock_that_cannot_be_opened_keeps_no_other_build_from_its_end(
    backend: LocalBackend, builds: LocalBuilds, folder: BuildFolder
) -> None:
    left(backend, State.EXPORTING, outbox=(Order(BUILD_ID, 7, "export_image", 1),), orders=7)
    other = replace(values.build(plan=None), id="other-0123456789ab", state=State.PREPARING)
    backend.store.create(other, replace(values.requested(), build_id=other.id))
    lock = BuildFolder(backend.home, other.id).path / "lock"
    lock.parent.mkdir(parents=True)
    lock.symlink_to(lock)
    assert not builds.is_interrupted(other)
    assert [done.id for done in recover(builds)] == [BUILD_ID]
    with pytest.raises(EnvironmentFault, match="other-0123456789ab/lock: "):
        builds.resume(other.id)
    (backend.home / "builds" / "stray").touch()
    assert builds.sweep() == []


def test_unchanged_build_is_run_without_a_machine(
    backend: LocalBackend, builds: LocalBuilds, folder: BuildFolder
) -> None:
    heard: list[State] = []
    request = values.requested(unchanged=values.image_record())
    with builds.building(BUILD_ID):
        done = builds.run(request, lambda build, event: heard.append(build.state), Interruption())
    assert done.outcome is Outcome.UNCHANGED
    assert heard[-1] is State.FINISHED
    assert State.PROVISIONING not in heard
    assert build_ids(backend.home) == []
    assert builds.logs_of(BUILD_ID) == str(folder.logs)


@pytest.mark.parametrize("limited", [True, False])
def test_a_queued_build_ends_what_a_killed_process_has_left_before_it(home: Path, limited: bool) -> None:
    with open_one_machine(home, concurrency=1 if limited else None) as backend:
        before = left(backend, State.PROVISIONING)
        assert before.plan is not None
        plan = replace(before.plan, build_id="later-0123456789ab", rebuild="always" if limited else "changed")
        request = values.requested(plan=plan, queued=True)
        with LocalBuilds(backend).building(plan.build_id):
            done = LocalBuilds(backend).run(request, lambda build, event: None, Interruption())
        ended = backend.store.load(BUILD_ID).build
    assert (ended.finished, ended.outcome, ended.reason) == (True, Outcome.CANCELLED, LOST)
    assert done.outcome is Outcome.FAILED, "its turn has come, and the source is not there"
    assert done.turn == 0


def later(before: Build) -> BuildRequested:
    """A build that waits in the queue for one that a killed process has left."""
    assert before.plan is not None
    plan = replace(before.plan, build_id="later-0123456789ab", rebuild="always", content_digest="9" * 64)
    return values.requested(plan=replace(plan, image=ImagePlan("local", "later-1", numbered=True)), queued=True)


class FaultyBus:
    """Takes no wish to end the build that was left."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def publish(self, message: Message) -> None:
        if message.attributes["build_id"] == BUILD_ID:
            raise ZeroDivisionError("division by zero")
        self._bus.publish(message)


def test_an_unforeseen_fault_of_an_abandoned_build_is_told_and_the_queued_one_goes_on(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_one_machine(home) as opened:
        backend = replace(opened, bus=FaultyBus(opened.bus))
        request = later(left(backend, State.PROVISIONING))
        with LocalBuilds(backend).building(request.build_id):
            done = LocalBuilds(backend).run(request, lambda build, event: None, Interruption())
    assert (done.finished, done.outcome) == (True, Outcome.FAILED), "its turn has come, and the source is not there"
    [told] = [record for record in caplog.records if "cannot be ended yet" in record.getMessage()]
    assert told.getMessage().startswith(f"build {BUILD_ID} cannot be ended yet: ZeroDivisionError: ")
    assert told.exc_info is not None


def test_an_interruption_ends_the_queued_build_and_not_the_abandoned_one_that_it_finishes(home: Path) -> None:
    interruption = Interruption()

    def press(what: str, done: int, total: int) -> None:
        interruption.ask("cancelled by SIGINT")

    with open_one_machine(home, press, concurrency=1) as backend:
        plan = values.plan(requested=time.time())
        plan = replace(plan, image=replace(plan.image, export_to=str(home.parent / "hello.tar.gz")))
        order = Order(BUILD_ID, 7, "export_image", 1)
        request = later(left(backend, State.EXPORTING, plan=plan, outbox=(order,), orders=7))
        with LocalBuilds(backend).building(request.build_id):
            done = LocalBuilds(backend).run(request, lambda build, event: None, interruption)
        assert (done.outcome, done.reason) == (Outcome.CANCELLED, "cancelled by SIGINT")
        other = backend.store.load(BUILD_ID).build
        assert (other.outcome, LocalBuilds(backend).is_interrupted(other)) == (None, True)
    with open_one_machine(home) as backend:
        [ended] = recover(LocalBuilds(backend))
        assert (ended.id, ended.finished, ended.image is not None) == (BUILD_ID, True, True), ended.reason
        assert ended.outcome is not Outcome.CANCELLED


def test_a_build_that_waits_and_whose_process_is_killed_is_cancelled_by_the_next_command(
    backend: LocalBackend, builds: LocalBuilds
) -> None:
    before = left(backend, State.PROVISIONING)
    assert before.plan is not None
    waiting = values.build(id="later-0123456789ab", plan=replace(before.plan, build_id="later-0123456789ab"))
    backend.store.create(
        replace(waiting, state=State.QUEUED, deadline=time.time() + 3600), values.requested(plan=waiting.plan)
    )
    assert {(build.id, build.outcome) for build in recover(builds)} == {
        (BUILD_ID, Outcome.CANCELLED),
        (waiting.id, Outcome.CANCELLED),
    }
