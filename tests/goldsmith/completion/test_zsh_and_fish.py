"""Completion in zsh and fish, as a person uses it; they show what each word means."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldsmith.completion.installation import install_completion
from tests.goldsmith.completion.interactive_shell import InteractiveShell
from tests.goldsmith.completion.typed_lines import LINES

pytestmark = pytest.mark.slow

SHELLS = ("zsh", "fish")


@pytest.mark.parametrize("name", SHELLS)
def test_shell_completes_lines(name: str, filled: Path, folder: Path) -> None:
    with InteractiveShell(name, folder, filled) as shell:
        assert {typed: shell.completed(typed) for typed in LINES} == LINES


@pytest.mark.parametrize("name", SHELLS)
def test_shell_tells_what_words_mean(name: str, filled: Path, folder: Path) -> None:
    with InteractiveShell(name, folder, filled) as shell:
        shell.shows("goldsmith builds show world-", "timed out, 2 days ago", "exporting, ")
        shell.shows("goldsmith images di", "Share an image of a deployment", "Show what differs between two images")
        shell.shows("goldsmith builds retry world-1 --", "An earlier phase than the one that failed")
        shell.shows("goldsmith images show base-", "base-2")


@pytest.mark.parametrize("name", SHELLS)
def test_shell_completes_from_where_it_was_installed(name: str, filled: Path, folder: Path) -> None:
    script = install_completion(name, {"HOME": str(folder.parent)})
    load = "source ~/.zshrc" if name == "zsh" else f"source '{script}'"
    with InteractiveShell(name, folder, filled, load) as shell:
        assert shell.completed("goldsmith images lin") == "goldsmith images lineage "
