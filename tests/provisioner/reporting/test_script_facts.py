"""What the step reports of the scripts that its run tells of: batches, bounds, and files that scripts write to."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from provisioner.protocol import (
    ALL_SCRIPTS_LIMIT,
    ELEMENTS_ACTION,
    SCRIPTS_LIMIT,
    ScriptFact,
    Step,
    decode_scripts,
    encode_script,
    most_script_reports,
)
from provisioner.reporting.script_facts import SCRIPTS_FILE, ScriptLog, ScriptReports

BEGUN = ScriptFact("install.d", "50-app", "app")
ENDED = ScriptFact("install.d", "50-app", "app", 1.5, 3)


def reported(work: Path, act: Callable[[ScriptLog], None]) -> tuple[list[str], int]:
    """Return the reports of what a run tells, and how many scripts were left out."""
    told: list[str] = []
    with ScriptReports(str(work), told.append) as reports:
        act(ScriptLog(str(work)))
    return told, reports.left_out


def test_a_script_is_told_as_soon_as_it_runs_and_when_it_has_ended(tmp_path: Path) -> None:
    told: list[str] = []
    with ScriptReports(str(tmp_path), told.append):
        log = ScriptLog(str(tmp_path))
        log.add(BEGUN)
        until = time.monotonic() + 30
        while not told and time.monotonic() < until:
            time.sleep(0.01)
        log.add(ENDED)
    assert [decode_scripts(text) for text in told] == [[BEGUN], [ENDED]]


def test_short_scripts_are_one_report(tmp_path: Path) -> None:
    def run(log: ScriptLog) -> None:
        for number in range(50):
            log.add(ScriptFact("install.d", f"{number}-app", "app"))
            log.add(ScriptFact("install.d", f"{number}-app", "app", 0.001, 0))

    told, left_out = reported(tmp_path, run)
    facts = [fact for text in told for fact in decode_scripts(text) if fact.seconds is not None]
    assert [fact.file for fact in facts] == [f"{number}-app" for number in range(50)]
    assert (len(told) <= 10, left_out) == (True, 0)  # of 100 facts


def test_thousands_of_scripts_have_a_bound_that_is_told(tmp_path: Path) -> None:
    def run(log: ScriptLog) -> None:
        for number in range(9000):
            log.add(ScriptFact("install.d", f"{number}-{'x' * 60}", "app", 0.5, 0))

    told, left_out = reported(tmp_path, run)
    assert max(map(len, told)) <= SCRIPTS_LIMIT
    assert sum(map(len, told)) <= ALL_SCRIPTS_LIMIT
    assert sum(len(decode_scripts(text)) for text in told) + left_out == 9000
    assert left_out > 0
    assert len(told) <= most_script_reports(Step("app", ELEMENTS_ACTION, {}, timeout=0))


def test_what_a_script_writes_there_does_no_harm(tmp_path: Path) -> None:
    def run(log: ScriptLog) -> None:
        with (tmp_path / SCRIPTS_FILE).open("ab") as file:
            file.write(b"\xff\n[]\n" + b"[" * 100_000 + b'\n["a","b"]\n["a","b","c",true,0]\n[1,2,3]\n' + b"y" * 9000)
        (tmp_path / SCRIPTS_FILE).unlink()
        (tmp_path / SCRIPTS_FILE).symlink_to("/dev/zero")
        log.add(BEGUN)
        log.add(ENDED)

    told, _ = reported(tmp_path, run)
    assert [decode_scripts(text) for text in told] == [[ENDED]]


def test_nothing_is_written_where_nothing_is_reported(tmp_path: Path) -> None:
    with ScriptReports(str(tmp_path), None):
        ScriptLog(str(tmp_path)).add(BEGUN)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_the_reports_and_not_the_step(tmp_path: Path) -> None:
    def refuse(text: str) -> None:
        raise OSError(28, "No space left on device")

    with ScriptReports(str(tmp_path), refuse):
        ScriptLog(str(tmp_path)).add(ENDED)


def test_what_no_report_may_show_is_hidden_however_its_line_writes_it(tmp_path: Path) -> None:
    told: list[str] = []
    with ScriptReports(str(tmp_path), told.append, lambda text: text.replace('p"w\u00e9', "(hidden)")):
        ScriptLog(str(tmp_path)).add(ScriptFact('p"w\u00e9.d', '50-p"w\u00e9', 'of p"w\u00e9', 1.0, 0))
    assert [decode_scripts(text) for text in told] == [[ScriptFact("(hidden).d", "50-(hidden)", "of (hidden)", 1.0, 0)]]


def test_lines_come_back() -> None:
    text = "\n".join(map(encode_script, (BEGUN, ENDED)))
    assert decode_scripts(text) == [BEGUN, ENDED]
    assert decode_scripts('["a","b","c",1e999,0]\n["a","b","c",1,70000]\n["a","b","c",1,null]\n{}') == []
