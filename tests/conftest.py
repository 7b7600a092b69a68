"""What holds for all tests, and the Debian image that those with a virtual machine start from."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from shared.clock import SystemClock
from shared.local.catalogue import Catalogue

ROOT = Path(__file__).resolve().parents[1]
BASE_HOME = ROOT / "build" / "test-home"  # outlives a run; `make clean` removes it
FAMILY = "debian-12"

# Virtual machines run beside these tests on the same few cores: how long one example takes tells nothing.
settings.register_profile("shared-cores", deadline=None, print_blob=True)
settings.load_profile("shared-cores")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start what takes longest first, so that no core is idle at the end."""
    items.sort(key=lambda item: item.get_closest_marker("vm") is None)


@pytest.fixture(scope="session")
def debian_disk() -> Path:
    """The disk of a bootstrapped Debian 12, which `make test` makes; nobody may write to it."""
    BASE_HOME.mkdir(parents=True, exist_ok=True)
    catalogue = Catalogue(BASE_HOME, SystemClock())
    with (BASE_HOME / "lock").open("w") as lock:  # pytest's workers all come here
        fcntl.flock(lock, fcntl.LOCK_EX)
        image = catalogue.newest_in_family(FAMILY)
        if image is None:
            subprocess.run(
                [sys.executable, "-m", "goldsmith", "images", "bootstrap", FAMILY],
                cwd=ROOT,
                env={**os.environ, "GOLDSMITH_HOME": str(BASE_HOME)},
                check=True,
            )
            image = catalogue.newest_in_family(FAMILY)
    assert image is not None
    return catalogue.disk(image.name)


@pytest.fixture
def debian_home(tmp_path: Path, debian_disk: Path) -> Path:
    """A test's own GOLDSMITH_HOME, with that Debian as the only image of family debian-12."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    Catalogue(home, SystemClock()).add(debian_disk, "debian-12-base", transfer="link", family=FAMILY)
    return home
