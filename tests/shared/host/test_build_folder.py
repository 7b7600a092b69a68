"""A build's folder: who runs it, also between processes; its labels; what tidying leaves."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from shared.errors import InputError
from shared.host.build_folder import BuildFolder, build_ids
from tests.shared.host.contenders import hear, other_process
from tests.world.values import BUILD_ID

VM = f"gs-{BUILD_ID}-a12-vm"


@pytest.fixture
def folder(tmp_path: Path) -> BuildFolder:
    return BuildFolder(tmp_path, BUILD_ID)


def hold(home: Path, pipe: Connection) -> None:
    """Hold the build until something is said; tell whether it is held."""
    with BuildFolder(home, BUILD_ID).running() as ours:
        pipe.send(ours)
        pipe.recv()
    pipe.send("let go")
    pipe.recv()


def test_one_process_at_a_time_holds_a_build(folder: BuildFolder, tmp_path: Path) -> None:
    with other_process(hold, tmp_path) as (_process, pipe):
        assert hear(pipe) is True
        with folder.running() as ours:
            assert not ours
        with BuildFolder(tmp_path, "another-0123456789ab").running() as ours:
            assert ours
        pipe.send("let go")
        assert hear(pipe) == "let go"
        with folder.running() as ours:
            assert ours


def test_killed_process_holds_nothing(folder: BuildFolder, tmp_path: Path) -> None:
    with other_process(hold, tmp_path) as (process, pipe):
        assert hear(pipe) is True
        process.kill()
        process.join()
        with folder.running() as ours:
            assert ours


def test_one_process_holds_a_build_once(folder: BuildFolder) -> None:
    with folder.running() as first:
        with folder.running() as second:
            assert (first, second) == (True, False)
        with folder.running() as third:  # the second, which had nothing, has let nothing go
            assert not third


def tidy_often(home: Path, pipe: Connection) -> None:
    """Tidy the build up whenever it can be held, until something is said."""
    pipe.send("ready")
    while not pipe.poll():
        folder = BuildFolder(home, BUILD_ID)
        with folder.running() as ours:
            if ours:
                folder.tidy()


def test_lock_that_was_tidied_away_holds_nothing(folder: BuildFolder, tmp_path: Path) -> None:
    """Between opening and locking, another process may have removed the file, and a third may lock a new one."""
    with other_process(tidy_often, tmp_path) as (_process, pipe):
        assert hear(pipe) == "ready"
        held = 0
        until = time.monotonic() + 5
        while held < 300 and time.monotonic() < until:
            with folder.running() as ours:
                if ours:
                    held += 1
                    assert (folder.path / "lock").exists()
        pipe.send("enough")
    assert held


def test_build_is_let_go_when_its_block_fails(folder: BuildFolder) -> None:
    with pytest.raises(KeyError), folder.running():
        raise KeyError
    with folder.running() as ours:
        assert ours


def test_folder_is_found_by_the_name_of_what_is_in_it(tmp_path: Path, folder: BuildFolder) -> None:
    assert BuildFolder.of_resource(tmp_path, VM).path == folder.path
    assert BuildFolder.of_resource(tmp_path, "gs-a-a1-b-a2-vm").build_id == "a-a1-b"


@pytest.mark.parametrize(
    "name", ["", "gs-", "gs--a1-vm", "x-y-a1-vm", "gs-y-vm", "gs-y-a1-", "gs-y-a1-vm/..", "gs-y-a-vm"]
)
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="is not the name of a machine or disk"):
        BuildFolder.of_resource(tmp_path, name)


def test_labels_come_back_and_damage_is_no_label(folder: BuildFolder) -> None:
    assert folder.labels() == {}
    folder.label({"b": "2", "a": "1"})
    folder.label({"c": "3"})
    assert folder.labels() == {"c": "3"}
    assert [path.name for path in folder.path.iterdir()] == ["labels.json"]
    for damage in ('{"c": ', "[]", "3", "\x00"):
        (folder.path / "labels.json").write_text(damage)
        assert folder.labels() == {}


def test_what_is_there_is_listed(folder: BuildFolder, tmp_path: Path) -> None:
    assert (folder.machines(), folder.disks(), build_ids(tmp_path)) == ([], [], [])
    folder.machine(VM).mkdir(parents=True)
    for name in ("b", "a"):
        folder.disk(name).parent.mkdir(exist_ok=True)
        folder.disk(name).touch()
    assert (folder.machines(), folder.disks(), build_ids(tmp_path)) == ([VM], ["a", "b"], [BUILD_ID])


def test_tidying_leaves_the_logs_alone(folder: BuildFolder) -> None:
    folder.machine(VM).mkdir(parents=True)
    folder.context.touch()
    folder.logs.mkdir()
    (folder.logs / "x.log").write_text("kept")
    assert folder.is_untidy()
    folder.tidy()
    assert not folder.is_untidy()
    assert [path.name for path in folder.path.rglob("*")] == ["logs", "x.log"]


def test_tidying_may_leave_the_context(folder: BuildFolder) -> None:
    folder.machine(VM).mkdir(parents=True)
    folder.context.write_text("packed")
    with folder.running():
        folder.tidy(context=True)
    assert [path.name for path in folder.path.iterdir()] == ["context.tar"]
    folder.tidy()
    assert not folder.path.exists()


def test_tidying_removes_a_folder_without_logs(folder: BuildFolder, tmp_path: Path) -> None:
    assert not folder.is_untidy()
    folder.tidy()  # absent is fine
    with folder.running():
        assert folder.is_untidy()
        folder.tidy()
    assert build_ids(tmp_path) == []
