"""Builds that killed processes have left: which commands wait for them to be finished, and what is said meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from goldsmith.home import concurrency
from shared.build.build import Outcome, State
from shared.build.orders import Order
from shared.errors import EnvironmentFault
from shared.host.build_folder import BuildFolder
from shared.local.bus import LocalBus
from shared.local.database import Database
from shared.ports import Message
from tests.goldsmith.command_line import Commands
from tests.goldsmith.commands.test_commands import DONE, LEFT, keep
from tests.world import values

SAID = f"goldsmith: build {LEFT.id} was left by a killed process while it was preparing; cleaning up after it first\n"
ENDED = f"goldsmith: build {LEFT.id} is cancelled now\n"


def test_lists_show_what_is_interrupted_and_leave_it_so(run: Commands, home: Path) -> None:
    keep(home, LEFT, DONE)
    for _twice in range(2):
        done = run("builds", "list")
        rows = {line.split("  ")[0]: line.split("  ")[1].strip() for line in done.out.splitlines()[1:]}
        assert rows[LEFT.id] == "preparing (interrupted)"
        assert "interrupted" not in rows[DONE.id]
        assert done.err.endswith("finish it with: goldsmith builds resume\n")
        listed = {
            build["id"]: (build["state"], build["interrupted"]) for build in run("builds", "list", "--json").document()
        }
        assert listed == {LEFT.id: ("preparing", True), DONE.id: ("finished", False)}
    assert "state:      preparing (interrupted)\n" in run("builds", "show", LEFT.id).out
    assert run("builds", "show", LEFT.id, "--json").document()["interrupted"] is True
    assert (run("images", "list").out, run("images", "list").err) == ("none\n", "")
    assert not (home / "builds").exists()  # to look makes nothing


def test_a_retry_names_the_build_that_it_retries(run: Commands, home: Path) -> None:
    retry = replace(DONE, id="retry-00000000000", retry_of=DONE.id)
    keep(home, DONE, retry)
    assert f"retry of:   {DONE.id}\n" in run("builds", "show", retry.id).out
    assert "retry of" not in run("builds", "show", DONE.id).out


def test_a_build_that_a_process_holds_is_not_interrupted(run: Commands, home: Path) -> None:
    keep(home, LEFT)
    with BuildFolder(home, LEFT.id).running():
        [build] = run("builds", "list", "--json").document()
        assert (build["state"], build["interrupted"]) == ("preparing", False)
        assert run("builds", "resume").out == "nothing to resume\n"
        done = run("builds", "resume", LEFT.id)
        assert (done.status, done.out) == (2, "")
        assert done.err.endswith(f"build {LEFT.id} is held by another process, which goes on with it\n")


def test_a_queued_build_shows_its_place(run: Commands, home: Path) -> None:
    waiting = values.build(id="waiting-00000000000", state=State.QUEUED)
    keep(home, LEFT, waiting)
    with BuildFolder(home, LEFT.id).running(), BuildFolder(home, waiting.id).running():
        rows = [line.split("  ") for line in run("builds", "list").out.splitlines()]
        assert [waiting.id, "queued (waits for build left-000000000000, which makes this image already)"] in [
            [row[0], row[1].strip()] for row in rows
        ]
        listed = {build["id"]: build["wait"] for build in run("builds", "list", "--json").document()}
        assert listed == {LEFT.id: None, waiting.id: {"place": 1, "running": 1, "maker": LEFT.id, "of_family": 0}}
        assert run("builds", "show", waiting.id, "--json").document()["wait"] == listed[waiting.id]
        assert "state:      queued (waits for build left" in run("builds", "show", waiting.id).out


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "9" * 400, "²"])
def test_a_limit_of_builds_that_is_no_number_is_told(text: str) -> None:
    with pytest.raises(EnvironmentFault, match="GOLDSMITH_CONCURRENCY is not a number of builds; set it to 1 or more"):
        concurrency(text)


def test_a_limit_of_builds_is_a_number_or_nothing() -> None:
    assert [concurrency(text) for text in ("", " ", "1", " 12\n")] == [None, None, 1, 12]


def test_the_limit_of_a_family_is_named_by_its_variable() -> None:
    with pytest.raises(EnvironmentFault, match="GOLDSMITH_FAMILY_CONCURRENCY is not a number of builds"):
        concurrency("many", "GOLDSMITH_FAMILY_CONCURRENCY")


@pytest.mark.parametrize("words", [[], [LEFT.id], ["left"]])
def test_resume_finishes_it_and_says_so_before_and_after(run: Commands, home: Path, words: list[str]) -> None:
    keep(home, LEFT)
    done = run("builds", "resume", *words)
    assert (done.status, done.out) == (0, f"build {LEFT.id} is cancelled\n")
    assert done.err.startswith(SAID)
    assert done.err.endswith(ENDED)
    assert run("builds", "list").err == ""
    assert run("builds", "resume").out == "nothing to resume\n"
    assert run("builds", "resume", "--json").document() == {"builds": {}, "left": []}


def test_a_build_that_cannot_be_resumed_is_2(run: Commands, home: Path) -> None:
    keep(home, DONE)
    unknown, finished = run("builds", "resume", "nope"), run("builds", "resume", DONE.id)
    assert (unknown.status, unknown.err) == (2, "goldsmith: there is no build 'nope'; see: goldsmith builds list\n")
    assert (finished.status, finished.err) == (2, f"goldsmith: build {DONE.id} is finished already: failed\n")


def test_what_cannot_be_finished_is_1_and_stops_no_other(run: Commands, home: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "not-an-object").mkdir()  # which no clean-up of ours would delete
    stuck = values.build(
        id="stuck-000000000000",
        state=State.CLEANING,
        outcome=Outcome.FAILED,
        ledger=(values.ledger_entry(kind="object", name=str(folder)),),
        outbox=(Order("stuck-000000000000", 1, "clean_up", 1),),
        orders=1,
    )
    keep(home, stuck, LEFT)
    done = run("builds", "resume", "--json")
    assert (done.status, done.document()) == (1, {"builds": {LEFT.id: "cancelled"}, "left": [stuck.id]})
    assert f"build {stuck.id} cannot be" in done.err
    assert folder.exists()


def test_sweep_says_so_before_it_begins(run: Commands, home: Path) -> None:
    keep(home, LEFT)
    done = run("sweep")
    assert done.out == f"build {LEFT.id} was left by a killed process; it is cancelled now\n"
    assert done.err.startswith(SAID)


def test_what_a_guest_sent_cannot_steer_the_terminal(run: Commands, home: Path) -> None:
    keep(home, LEFT)
    with Database(home / "state.db") as database:
        LocalBus(database).publish(Message("build-reports", b'{"\\u001b[2Jevil": 1}', {}, LEFT.id))
    done = run("builds", "resume")
    assert "goldsmith: dropped a message of build-reports: report.\ufffd[2Jevil: unknown key\n" in done.err
    assert "\x1b" not in done.err
