"""goldsmith gpu-drivers: the list, for people and programs, or why there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world.driver_bucket import VERSIONS, driver_storage

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with driver_storage(tmp_path_factory.mktemp("storage")) as url:
        yield url


def run(storage: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "STORAGE_EMULATOR_HOST": storage}
    command = [sys.executable, "-m", "goldsmith", "gpu-drivers", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_drivers_are_printed_one_a_line(storage: str) -> None:
    """install-gpu -get-valid-drivers: only prints the driver versions."""
    done = run(storage)
    assert (done.returncode, done.stdout.split("\n"), done.stderr) == (0, [*VERSIONS, ""], "")
    assert json.loads(run(storage, "--json").stdout) == VERSIONS


def test_without_the_internet_there_is_no_list() -> None:
    done = run("127.0.0.1:1")
    assert (done.returncode, done.stdout) == (3, "")
    assert "connect this machine to the Internet" in done.stderr
