"""What holds for all tests, and the Debian image that those with a virtual machine start from."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from tests.shared.images.families import newest

ROOT = Path(__file__).resolve().parents[1]
BASE_HOME = ROOT / "build" / "test-home"  # outlives a run; `make clean` removes it
FAMILY = "debian-12"

# Python has one server of forks for all modules, and the list that is set last holds: so there is one list.
multiprocessing.get_context("forkserver").set_forkserver_preload(
    [
        *("tests.goldsmith.command_line", "tests.shared.host.contenders", "goldsmith.__main__"),
        *("typer._adapters", "typer.rich_utils"),  # which typer imports when it runs
        *sorted(f"goldsmith.commands.{path.stem}" for path in (ROOT / "goldsmith" / "commands").glob("[a-z]*.py")),
        *("shared.runtime.one_machine", "shared.runtime.builds", "shared.runtime.dispatcher"),
    ]
)

# Virtual machines run beside these tests on the same few cores: how long examples take tells nothing. A folder that
# the examples of a test share is meant: each writes over what the last one has left.
settings.register_profile(
    "shared-cores",
    deadline=None,
    max_examples=int(os.environ.get("GOLDSMITH_EXAMPLES", "50")),  # of a test that says no number; more in the soak
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("shared-cores")


# Files whose tests take longest, by the beginning of their paths: those of one test or two, and then of many.
LONGEST = (
    *("tests/cloud/test_upload", "tests/system/test_from_nothing", "tests/system/test_hello", "tests/system/test_dib"),
    *("tests/system/test_step_cache", "tests/system/test_secrets", "tests/system/test_verify", "tests/cloud/"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start what takes longest first, so that no core is idle at the end."""

    def rank(item: pytest.Item) -> tuple[int, int]:
        long = next((place for place, path in enumerate(LONGEST) if item.nodeid.startswith(path)), len(LONGEST))
        kinds = [item.get_closest_marker(kind) is not None for kind in ("vm", "slow")]
        return (kinds.index(True) if True in kinds else len(kinds), long)

    items.sort(key=rank)


@pytest.fixture(scope="session")
def debian_disk() -> Path:
    """The disk of a bootstrapped Debian 12, which `make test` makes; no test may write to it."""
    return bootstrapped(FAMILY)


@pytest.fixture(scope="session")
def debian_13_disk() -> Path:
    """The same of Debian 13, whose kernel is Linux 6.12."""
    return bootstrapped("debian-13")


def bootstrapped(family: str) -> Path:
    """Return an image's disk, which outlives a run, and make it where there is none."""
    BASE_HOME.mkdir(parents=True, exist_ok=True)
    catalogue = Catalogue(BASE_HOME, SystemClock())
    with (BASE_HOME / f"lock-{family}").open("w") as lock:  # pytest's workers all come here
        fcntl.flock(lock, fcntl.LOCK_EX)
        image = newest(catalogue, family)
        if image is None:
            subprocess.run(
                [sys.executable, "-m", "goldsmith", "images", "bootstrap", family],
                cwd=ROOT,
                env={**os.environ, "GOLDSMITH_HOME": str(BASE_HOME)},
                check=True,
            )
            image = newest(catalogue, family)
    assert image is not None
    return catalogue.disk(image.name)


@pytest.fixture
def debian_home(tmp_path: Path, debian_disk: Path) -> Path:
    """A test's own GOLDSMITH_HOME, with that Debian as the only image of family debian-12."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    Catalogue(home, SystemClock()).add(debian_disk, "debian-12-base", transfer="link", family=FAMILY)
    return home
