"""What the step believes of a run of elements, whose scripts are root and can end it, or write in its place."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from provisioner.elements.run import RESULT, STOPPED, ElementsRun, ScriptOutput, read_stopped
from provisioner.elements.variables import WORK
from provisioner.protocol import OUTPUT_LIMIT
from provisioner.steps.elements import LONGEST_WORDS, TAIL, failure_texts, run_result, stopped_script
from provisioner.system.output import StepConsole, StepOutput

PASSWORD = "s3cret-of-the-proxy"
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
        json.dumps({**HALT, "path": "/x\0"}),
        json.dumps({**HALT, "environment": {"A": "\ud800"}}),
        json.dumps({**HALT, "environment": {"\ud800": "A"}}),
        json.dumps({**HALT, "environment": {"A": "\0"}}),
        json.dumps({**HALT, "environment": {"A=B": "c"}}),
        json.dumps({**HALT, "device": {"": "c"}}),
    ],
    ids=[
        "deep",
        "list",
        "phase",
        "environment",
        "done",
        "path",
        "nul",
        "surrogate",
        "name",
        "nul in a value",
        "sign",
        "no name",
    ],
)
def test_what_a_script_has_written_there_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / STOPPED).write_text(text)
    assert read_stopped(str(tmp_path)) is None


def told(tmp_path: Path, *pieces: str) -> str:
    """Return all that is told of a script that has printed this, where PASSWORD is hidden."""
    output = ScriptOutput()
    for piece in pieces:
        output.feed(piece.encode())
    step = StepOutput("s", str(tmp_path / "log"), StepConsole(str(tmp_path)), [PASSWORD.encode()])
    step.close()
    return "\n".join(failure_texts({"problem": "it failed", "tail": output.whole_lines().decode()}, step.hide))


@pytest.mark.parametrize("cut", [OUTPUT_LIMIT, TAIL, LONGEST_WORDS])
@pytest.mark.parametrize("line", ["{} {}", "{}\n{}", "{}@{}"], ids=["words", "lines", "one-word"])
def test_no_cut_leaves_a_part_of_a_password(tmp_path: Path, cut: int, line: str) -> None:
    parts = [PASSWORD[at : at + 4] for at in range(len(PASSWORD) - 3)]
    for after in range(cut - len(PASSWORD) - 2, cut + 1):
        text = "a b " + line.format(PASSWORD, "x" * after)
        for pieces in ([text], [text[:3000], text[3000:]], ["y\n" * 3000, text, "\n"]):
            shown = told(tmp_path, *pieces)
            assert not [part for part in parts if part in shown], (after, shown)


def test_what_is_not_cut_is_told_as_it_is(tmp_path: Path) -> None:
    assert told(tmp_path, "one\n\n two\n", "x" * 200) == (
        f"it failed; its last lines: one | two | ...{'x' * LONGEST_WORDS}\none\n\n two\n{'x' * 200}"
    )
    assert told(tmp_path) == "it failed\n"
    whole = ScriptOutput()
    whole.feed(b"a" * OUTPUT_LIMIT)
    assert whole.whole_lines() == b"a" * OUTPUT_LIMIT
    whole.feed(b"\r\nb c\n")
    assert whole.whole_lines() == b"b c\n"
    whole.feed(b"d" * 5000 + b"\n")
    assert whole.whole_lines() == b""
    whole.feed(b"d e\n")
    assert whole.whole_lines() == b"d e\n"


def test_secrets_leave_the_environment_and_are_hidden_in_what_is_written(tmp_path: Path) -> None:
    task = {"variables": {}, "array": "", "origins": {}, "unrooted": [], "phases": [], "seconds": 1.0, "device": {}}
    os.environ["GS_TEST_SECRET"] = PASSWORD
    run = ElementsRun(str(tmp_path), {**task, "secrets": ["GS_TEST_SECRET", "GS_TEST_ABSENT"]})
    assert "GS_TEST_SECRET" not in os.environ
    assert run.hide(f"the end of {PASSWORD}!".encode()) == b"the end of (hidden)!"
    encoded = base64.b64encode(PASSWORD.encode())
    assert encoded[:-4] not in run.hide(b"in base64: " + encoded)
    assert ElementsRun(str(tmp_path), task).hide(PASSWORD.encode()) == PASSWORD.encode()
