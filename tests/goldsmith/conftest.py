"""The command line with a home of its own, for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.goldsmith.command_line import Commands


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that is not there yet."""
    return tmp_path / "home"


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Commands:
    """Runs commands with that home."""
    return Commands(home, tmp_path)
