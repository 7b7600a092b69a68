"""Ctrl-C, kill, a closed pipe, and cancel from another process: the build is cancelled, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.system.command import ROOT, Document, Done, Goldsmith, is_event, prints
from tests.system.sandboxes import sandboxed

pytestmark = pytest.mark.vm

INTERRUPTED = 130


def dawdling(goldsmith: Goldsmith, *, machine: bool = False) -> list[str]:
    """The arguments of a build that does not end by itself, in a VM or in a sandbox."""
    steps = [{"name": "dawdles", "script": "echo waiting\nexec sleep infinity\n"}]
    spec = goldsmith.spec(steps) if machine else sandboxed(goldsmith, steps)
    return ["build", str(spec), "--json", "--output", str(goldsmith.output)]


def assert_cancelled(goldsmith: Goldsmith, done: Done, reason: str) -> None:
    assert "Traceback" not in done.err, done.err
    build = done.documents()[-1]["build"]
    assert (build["state"], build["outcome"], build["reason"]) == ("finished", "cancelled", reason)
    assert build["ledger"] == []
    assert list(goldsmith.output.glob("*")) == []
    assert goldsmith.images() == []
    goldsmith.traces.assert_none()


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        (is_event("BuildRequested"), signal.SIGINT),
        (is_event("MachineStarted"), signal.SIGTERM),
        (is_event("MachineStarted"), signal.SIGHUP),
        (prints("waiting"), signal.SIGINT),
    ],
    ids=["Ctrl-C as it begins", "kill as it boots", "the terminal is closed", "Ctrl-C in a step"],
)
def test_a_signal_cancels(goldsmith: Goldsmith, moment: Callable[[Document], bool], number: signal.Signals) -> None:
    running = goldsmith.start(*dawdling(goldsmith, machine=True))
    running.until(moment)
    running.send(number)
    done = running.finish()
    assert done.status == INTERRUPTED, done.text
    assert_cancelled(goldsmith, done, f"cancelled by {number.name}")


def test_ctrl_c_during_the_export_cancels(goldsmith: Goldsmith) -> None:
    spec = sandboxed(goldsmith, [{"name": "quick", "script": "true\n"}])
    running = goldsmith.start("build", spec, "--json", "--output", goldsmith.output)
    running.until(lambda document: document.get("progress") == "writing the archive")
    running.send(signal.SIGINT)
    done = running.finish()
    assert done.status == INTERRUPTED, done.text
    assert_cancelled(goldsmith, done, "cancelled by SIGINT")


def test_another_process_cancels(goldsmith: Goldsmith) -> None:
    running = goldsmith.start(*dawdling(goldsmith))
    build_id = running.until(is_event("BuildRequested"))["event"]["build_id"]
    running.until(is_event("MachineStarted"))
    cancelled = goldsmith.run("builds", "cancel", build_id[:-3])
    assert (cancelled.status, cancelled.out) == (0, f"build {build_id} is cancelled\n"), cancelled.text
    done = running.finish()
    assert done.status == 1
    assert_cancelled(goldsmith, done, "cancelled by goldsmith builds cancel")
    again = goldsmith.run("builds", "cancel", build_id)
    assert (again.status, "finished already" in again.err) == (2, True), again.text


def test_a_reader_that_goes_away_ends_no_build(goldsmith: Goldsmith) -> None:
    """`goldsmith build ... | head -1`: the build goes on unseen until it is cancelled."""
    arguments = [sys.executable, "-m", "goldsmith", *dawdling(goldsmith)]
    environment = {**os.environ, "GOLDSMITH_HOME": str(goldsmith.home)}
    with subprocess.Popen(
        arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        build_id = json.loads(process.stdout.readline())["event"]["build_id"]
        process.stdout.close()
        cancelled = goldsmith.run("builds", "cancel", build_id)
        said = process.stderr.read().decode()
    assert (cancelled.status, process.returncode) == (0, 1), cancelled.text
    assert "Traceback" not in said
    (build,) = goldsmith.builds()
    assert (build["state"], build["outcome"]) == ("finished", "cancelled")
    goldsmith.traces.assert_none()
