"""Clean up after tests of the provisioner: a step's processes outlive a provisioner that is killed, as intended.

And a Cloud Storage for those that write objects.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import google.cloud.storage as gcs
import pytest
from google.auth.credentials import AnonymousCredentials

from emulator.storage.endpoint import StorageEndpoint
from emulator.web.identity import Identity
from provisioner.system.step_group import MOUNT, own_group


@pytest.fixture(autouse=True, scope="session")
def _no_group_left() -> Iterator[None]:
    """At the end, remove the group of this process, which tests have made that run steps in it."""
    yield
    with suppress(OSError):  # there is none
        Path(own_group(MOUNT), f"goldsmith-step-{os.getpid()}").rmdir()


@pytest.fixture(autouse=True)
def _no_steps_left(tmp_path: Path) -> Iterator[None]:
    """After each test, kill the processes that work below its folder."""
    yield
    for pid in working_below(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    remove_groups_of_the_dead()


def working_below(folder: Path) -> list[int]:
    """Return the processes whose working directory is in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or entry.name == str(os.getpid()):
            continue
        with suppress(OSError):  # it has ended, or may not be read
            if Path(str((entry / "cwd").readlink()).removesuffix(" (deleted)")).is_relative_to(folder):
                found.append(int(entry.name))
    return found


def remove_groups_of_the_dead() -> None:
    """Remove the control groups of killed provisioners: on a machine systemd does that, with their unit."""
    for group in Path(own_group(MOUNT)).glob("goldsmith-step-*"):
        if not Path("/proc", group.name.rpartition("-")[2]).exists():
            with suppress(OSError):  # a process in it has not ended yet: a later test removes it
                group.rmdir()


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """The key of Cloud Storage's emulator, which takes a while to make."""
    return Identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture
def storage(tmp_path: Path, identity: Identity) -> Iterator[StorageEndpoint]:
    """Cloud Storage."""
    with StorageEndpoint(tmp_path / "storage", identity=identity, on_finalized=lambda _object: None) as endpoint:
        yield endpoint


@pytest.fixture
def bucket(storage: StorageEndpoint) -> Any:
    """An empty bucket there."""
    options = {"api_endpoint": storage.url}
    client = gcs.Client(project="p", credentials=AnonymousCredentials(), client_options=options)
    return client.create_bucket("archives")
