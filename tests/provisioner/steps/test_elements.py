"""What the step believes of a run of elements, whose scripts are root and can end it, or write in its place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from provisioner.elements.run import RESULT, STOPPED, read_stopped
from provisioner.elements.variables import WORK
from provisioner.steps.elements import run_result, stopped_script

GOOD = {"scripts": [], "problem": "x", "status": 3, "tail": "", "timed_out": False}


def test_a_result_is_read(tmp_path: Path) -> None:
    (tmp_path / RESULT).write_text(json.dumps(GOOD))
    assert run_result(str(tmp_path)) == GOOD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 100_000,
        json.dumps({**GOOD, "status": "abc"}),
        json.dumps({**GOOD, "scripts": 3}),
        json.dumps({**GOOD, "problem": ["x"]}),
        json.dumps({**GOOD, "tail": "x" * (9 << 20)}),
    ],
    ids=["empty", "list", "deep", "status", "scripts", "problem", "large"],
)
def test_another_text_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / RESULT).write_text(text)
    assert run_result(str(tmp_path)) == {}


def test_no_file_is_none(tmp_path: Path) -> None:
    assert run_result(str(tmp_path)) == {}
    os.mkfifo(tmp_path / RESULT)
    assert run_result(str(tmp_path)) == {}
    (tmp_path / RESULT).unlink()
    (tmp_path / RESULT).symlink_to("/dev/zero")
    assert run_result(str(tmp_path)) == {}


HALT = {
    "phase": "install.d",
    "file": "50-app",
    "element": "app",
    "path": "/tmp/in_target.d/install.d/50-app",
    "environment": {"A": "b"},
    "done": ["install.d/10-app"],
    "device": {},
    "mounts": ["/mnt"],
}


def test_where_a_run_has_stopped_is_read(tmp_path: Path) -> None:
    assert stopped_script(str(tmp_path)) is None
    (tmp_path / WORK).mkdir()
    (tmp_path / WORK / STOPPED).write_text(json.dumps(HALT))
    assert read_stopped(str(tmp_path / WORK)) == HALT
    script = stopped_script(str(tmp_path))
    assert script is not None
    assert (script.path, script.is_inside, script.environment) == (HALT["path"], True, {"A": "b"})


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        json.dumps([HALT]),
        json.dumps({**HALT, "phase": "other.d"}),
        json.dumps({**HALT, "environment": {"A": 1}}),
        json.dumps({**HALT, "done": [["x"]]}),
        json.dumps({**HALT, "path": None}),
    ],
    ids=["deep", "list", "phase", "environment", "done", "path"],
)
def test_what_a_script_has_written_there_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / STOPPED).write_text(text)
    assert read_stopped(str(tmp_path)) is None
