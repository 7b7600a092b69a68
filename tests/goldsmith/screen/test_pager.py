"""Long output in a pager: only on a terminal, harmless whatever a guest has written, and left as a person likes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.goldsmith.command_line import Commands
from tests.goldsmith.commands.test_commands import DONE, keep
from tests.goldsmith.screen.drawn_terminal import watched


@pytest.fixture
def pager(tmp_path: Path) -> Path:
    """A program that keeps what it is given, and says so."""
    program = tmp_path / "pager"
    program.write_text(f"#!/bin/sh\ncat >{tmp_path}/paged; echo it was paged\n")
    program.chmod(0o755)
    return program


def logged(home: Path, log: bytes) -> None:
    keep(home, DONE)
    logs = home / "builds" / DONE.id / "logs"
    logs.mkdir(parents=True)
    (logs / f"gs-{DONE.id}-a1-vm.log").write_bytes(log)


def test_a_log_is_paged_on_a_terminal_and_neutralised(home: Path, pager: Path) -> None:
    logged(home, b"\x1b[2Jone\n\x1b[31mtwo\x1b[0m\n" * 1000)
    environment = {"GOLDSMITH_HOME": str(home), "PAGER": str(pager)}
    status, written, _ = watched(["builds", "logs", DONE.id], environment=environment)
    assert (status, written) == (0, "it was paged\r\n")
    assert (pager.parent / "paged").read_text() == "\ufffd[2Jone\ntwo\n" * 1000


@pytest.mark.parametrize("words", [("--no-pager", "builds", "list"), ("builds", "list", "--json")])
def test_no_pager_where_none_is_wanted(home: Path, pager: Path, words: tuple[str, ...]) -> None:
    keep(home, DONE)
    status, written, _ = watched(words, environment={"GOLDSMITH_HOME": str(home), "PAGER": str(pager)})
    assert (status, "it was paged" in written, DONE.id in written) == (0, False, True)


@pytest.mark.parametrize("value", ["", "cat", "/no/such/program"])
def test_without_a_pager_it_is_printed(home: Path, value: str) -> None:
    keep(home, DONE)
    status, written, _ = watched(["builds", "list"], environment={"GOLDSMITH_HOME": str(home), "PAGER": value})
    assert (status, DONE.id in written) == (0, True)


def test_a_pager_that_ends_early_ends_the_command_in_peace(home: Path, tmp_path: Path) -> None:
    logged(home, b"a line of a log\n" * 200_000)
    program = tmp_path / "head"
    program.write_text("#!/bin/sh\nread line; echo $line\n")
    program.chmod(stat.S_IRWXU)
    environment = {"GOLDSMITH_HOME": str(home), "PAGER": os.fspath(program)}
    status, written, _ = watched(["builds", "logs", DONE.id], environment=environment)
    assert (status, written) == (0, "a line of a log\r\n")


def test_an_error_is_told_after_the_pager(home: Path, pager: Path) -> None:
    environment = {"GOLDSMITH_HOME": str(home), "PAGER": str(pager)}
    status, written, _ = watched(["builds", "show", "nope"], environment=environment)
    assert (status, written.splitlines()[0]) == (2, "it was paged")
    assert "there is no build 'nope'" in written.splitlines()[1]


def test_less_ends_by_itself_where_all_fits_on_the_screen(home: Path) -> None:
    keep(home, DONE)
    status, written, _ = watched(["builds", "list"], environment={"GOLDSMITH_HOME": str(home)})
    assert (status, DONE.id in written) == (0, True)


def test_nothing_is_paged_where_output_is_no_terminal(run: Commands, home: Path) -> None:
    keep(home, DONE)
    assert DONE.id in run("builds", "list").out
