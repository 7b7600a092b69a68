"""Google's emulators for the adapters' tests: one pair for all workers of a run, and a project of its own per test."""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from emulator.cloud.google import GoogleEmulators


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """PUBSUB_EMULATOR_HOST and FIRESTORE_EMULATOR_HOST of emulators that run until the last worker's end."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with one_pair(folder / "google-emulators") as environment:
        yield environment


@contextmanager
def one_pair(folder: Path) -> Iterator[Mapping[str, str]]:
    """Share emulators between processes: who comes first starts them, and stops them when all others have gone.

    Each holds a shared lock on `users` while it uses them, which the kernel releases when it dies; the first one waits
    at its end for the exclusive lock.
    """
    folder.mkdir(exist_ok=True)
    told = folder / "environment.json"
    with (folder / "turn").open("w") as turn, (folder / "users").open("w") as users:
        fcntl.flock(turn, fcntl.LOCK_EX)
        emulators = None if told.exists() else GoogleEmulators(folder)
        try:
            if emulators:
                emulators.start()
                told.write_text(json.dumps(emulators.environment()))
            fcntl.flock(users, fcntl.LOCK_SH)
            fcntl.flock(turn, fcntl.LOCK_UN)
            yield json.loads(told.read_text())
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            if emulators:
                _stop_after_all(emulators, told, turn.fileno(), users.fileno())


def _stop_after_all(emulators: GoogleEmulators, told: Path, turn: int, users: int) -> None:
    """Wait without the turn, so that a worker which comes late can still begin, and look again with it."""
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_UN)
        fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(turn, fcntl.LOCK_UN)
            continue
        told.unlink(missing_ok=True)
        emulators.close()
        return


@pytest.fixture
def project() -> str:
    """A project that has not been used before: the emulators know any, and each is empty."""
    return f"test-{uuid.uuid4().hex[:20]}"
