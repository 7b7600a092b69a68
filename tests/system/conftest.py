"""Fixtures for tests of the whole command line: for each test a home with one Debian in it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.images.catalogue import Catalogue
from shared.machines.accelerator import accelerator
from shared.machines.direct_boot import direct_boot
from tests.conftest import BASE_HOME
from tests.shared.sandbox.ordinary_user import AS_USER, MODES, give, place_for
from tests.system.as_user import as_ordinary_user
from tests.system.command import Goldsmith


@pytest.fixture(scope="session")
def warm_cache(debian_disk: Path) -> Path:
    """The cache of a home that has built from this Debian before, so that each test need not probe KVM again."""
    with (BASE_HOME / "lock").open("w") as lock:  # pytest's workers all come here
        fcntl.flock(lock, fcntl.LOCK_EX)
        accelerator(BASE_HOME)
        direct_boot.prepare_boot(debian_disk, BASE_HOME)
    return BASE_HOME / "cache"


@pytest.fixture
def goldsmith(debian_home: Path, warm_cache: Path, tmp_path: Path) -> Iterator[Goldsmith]:
    """The command line, with a home of its own. Everything that it started ends with the test."""
    for name in ("accelerator.json", "boot"):
        source, target = warm_cache / name, debian_home / "cache" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
    with Goldsmith(debian_home, tmp_path) as command:
        yield command


@pytest.fixture
def bare_goldsmith(tmp_path: Path) -> Iterator[Goldsmith]:
    """The command line with an empty home."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    with Goldsmith(home, tmp_path) as command:
        yield command


@pytest.fixture(params=MODES)
def user(request: pytest.FixtureRequest) -> str:
    """root, or the ordinary user of the tests."""
    return str(request.param)


@pytest.fixture
def empty(user: str) -> Iterator[Goldsmith]:
    """The command line as that user, with a home in which there is no image."""
    enter = as_ordinary_user() if user == AS_USER else ()
    with place_for(user) as place:
        (place / "home").mkdir(mode=0o700)
        give(place / "home", user)
        with Goldsmith(place / "home", place, enter=enter) as command:
            yield command


@pytest.fixture
def sandboxes(empty: Goldsmith, user: str, debian_disk: Path) -> Goldsmith:
    """The command line as that user, with a home of its own."""
    Catalogue(empty.home, SystemClock()).add(debian_disk, "debian-12-base", transfer="copy", family="debian-12")
    for path in empty.home.rglob("*"):
        give(path, user)
    return empty


@pytest.fixture(scope="session")
def debian_rootfs(debian_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system of the tests' Debian, as goldsmith itself exports it, once for all workers of a run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "rootfs"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            (folder / "home").mkdir()
            Catalogue(folder / "home", SystemClock()).add(debian_disk, "debian", transfer="link")
            with Goldsmith(folder / "home", folder) as command:
                done = command.run("images", "export", "debian", "--output", folder / "files", "--format", "tar")
            assert done.status == 0, done.text
            (folder / "whole").touch()
    return next((folder / "files").glob("*.tar"))
