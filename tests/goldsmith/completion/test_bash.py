"""Completion in bash, as a person uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.goldsmith.completion.interactive_shell import InteractiveShell
from tests.goldsmith.completion.typed_lines import LINES

pytestmark = pytest.mark.slow


def test_bash_completes_lines(filled: Path, folder: Path) -> None:
    with InteractiveShell("bash", folder, filled) as shell:
        assert {typed: shell.completed(typed) for typed in LINES} == LINES
        assert (
            shell.completed("goldsmith build x.yaml --format=qcow2,vm") == "goldsmith build x.yaml --format=qcow2,vmdk "
        )
        shell.shows("goldsmith builds show world-", "world-1", "world-2")


def test_bash_lists_newest_builds_first(filled: Path, folder: Path) -> None:
    with InteractiveShell("bash", folder, filled) as shell:
        shell.shows("goldsmith builds show hello-000000000b", "000000000bb7", "000000000bb6")
