"""What the step believes of a run of elements, whose scripts are root and can end it, or write in its place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from provisioner.elements.run import RESULT
from provisioner.steps.elements import run_result

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
