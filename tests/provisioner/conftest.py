"""What a test of the provisioner may leave: a step's processes outlive a provisioner that is killed, as intended."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_steps_left(tmp_path: Path) -> Iterator[None]:
    """End what works below the test's folder once the test has ended, however it did."""
    yield
    for pid in working_below(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def working_below(folder: Path) -> list[int]:
    """Processes whose working directory is in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or entry.name == str(os.getpid()):
            continue
        with suppress(OSError):  # it has ended, or is not ours to look at
            if Path(str((entry / "cwd").readlink()).removesuffix(" (deleted)")).is_relative_to(folder):
                found.append(int(entry.name))
    return found
