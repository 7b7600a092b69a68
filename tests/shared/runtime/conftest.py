"""A home of one machine, with its backend opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.host.build_folder import BuildFolder
from shared.runtime.one_machine import LocalBackend, open_one_machine
from tests.world.values import BUILD_ID


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def backend(home: Path) -> Iterator[LocalBackend]:
    with open_one_machine(home) as opened:
        yield opened


@pytest.fixture
def folder(home: Path) -> BuildFolder:
    return BuildFolder(home, BUILD_ID)
