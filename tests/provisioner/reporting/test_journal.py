"""The reports that are kept for sending again, and those of several threads."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from provisioner.protocol import SCRIPTS, STEP_FINISHED, Job, Report, ScriptFact, Step, encode
from provisioner.reporting.journal import Journal, most_telling
from provisioner.reporting.reports import Reporter, Way
from provisioner.reporting.script_facts import ScriptLog, ScriptReports
from provisioner.reporting.state import UNSENT_LIMIT, JobState

JOB = Job("hello-0123456789ab", 1, "00" * 32, (Step("app", "run-script", {"script": "x"}),))


class Sent(Way):
    """A way that never delivers, and keeps what is sent with the sequence that the disk has at that time."""

    def __init__(self, state: Path) -> None:
        super().__init__(JOB)
        self.state = state
        self.sent: list[tuple[int, int]] = []  # the report's own, and the one on the disk

    def start(self) -> None:
        pass

    def deliver(self, reports: list[bytes]) -> bool:
        return False

    def send(self, reports: list[bytes]) -> None:
        for report in reports:
            self.sent.append((json.loads(report)["sequence"], json.loads(self.state.read_bytes())["sequence"]))


def journal(tmp_path: Path) -> tuple[Journal, Sent]:
    path = tmp_path / "state.json"
    way = Sent(path)
    return Journal(str(path), JOB, JobState(JOB.build_id, JOB.phase, JOB.attempt), Reporter([way])), way


def text(kind: str, sequence: int, output: str = "") -> str:
    return encode(Report("hello-0123456789ab", 1, "build", sequence, kind, 1.0, output=output)).decode()


def test_those_of_scripts_go_first() -> None:
    """A network that is down for long must not cost a build the ends of its steps."""
    facts = [text(STEP_FINISHED, number, '"kind":"scripts"') for number in range(150)]
    scripts = [text(SCRIPTS, 150 + number) for number in range(100)]
    assert most_telling(facts + scripts) == facts + scripts[50:]
    assert most_telling(scripts + facts) == scripts[50:] + facts
    assert most_telling(facts * 2) == (facts * 2)[-UNSENT_LIMIT:]
    assert most_telling(facts) == facts


def test_threads_that_report_at_once_never_share_a_number_or_a_file(tmp_path: Path) -> None:
    """Each report goes once, under a number of its own, and none before the state that it is about."""
    written, way = journal(tmp_path)
    together = threading.Barrier(4)

    def work(number: int) -> None:
        together.wait(30)
        for index in range(25):
            written.record(SCRIPTS, step=0, output=f"{number} {index}")

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, number) for number in range(4)]:
            done.result(60)
    assert [sequence for sequence, _ in way.sent] == list(range(1, 101))
    assert all(sequence <= on_disk for sequence, on_disk in way.sent)
    state = json.loads((tmp_path / "state.json").read_bytes())
    assert (state["sequence"], [json.loads(text)["sequence"] for text in state["unsent"]]) == (100, [*range(1, 101)])


def test_scripts_that_are_told_slowly_are_written_before_the_step_goes_on(tmp_path: Path) -> None:
    """The end of a step waits for the last report of its scripts, however long the disk takes."""
    written, way = journal(tmp_path)
    slow, begun, ended = threading.Event(), threading.Event(), threading.Event()

    def tell(text: str) -> None:
        begun.set()
        assert slow.wait(60)
        written.record(SCRIPTS, step=0, output=text)

    def step() -> None:
        with ScriptReports(str(tmp_path), tell):
            ScriptLog(str(tmp_path)).add(ScriptFact("install.d", "50-app", "app"))
        ended.set()
        written.record(STEP_FINISHED, step=0)

    thread = threading.Thread(target=step)
    thread.start()
    assert begun.wait(60)
    assert not ended.wait(0.5)
    slow.set()
    thread.join(60)
    assert way.sent == [(1, 1), (2, 2)]
    kinds = [json.loads(text)["kind"] for text in json.loads((tmp_path / "state.json").read_bytes())["unsent"]]
    assert kinds == [SCRIPTS, STEP_FINISHED]


def test_a_report_whose_commit_has_failed_is_kept_once(tmp_path: Path) -> None:
    written, way = journal(tmp_path)
    (tmp_path / "state.json.new").mkdir()
    with pytest.raises(IsADirectoryError):
        written.record(SCRIPTS, step=0, output="x")
    assert way.sent == []
    (tmp_path / "state.json.new").rmdir()
    written.record(STEP_FINISHED, step=0)
    assert way.sent == [(1, 2), (2, 2)]
    assert [json.loads(text)["sequence"] for text in written.state.unsent] == [1, 2]
