"""Folders for work in progress: gone at the end, and gone with the next one when their process was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared.host.scratch import passage, temporary_folder
from tests.shared.sandbox.ordinary_user import AS_ROOT, MODES
from tests.shared.sandbox.ordinary_user import run as run_as

ROOT = Path(__file__).resolve().parents[3]
HOLDS = """\
import sys, time
from shared.host.scratch import temporary_folder
with temporary_folder() as folder:
    (folder / "context.tar").touch()
    print(folder, flush=True)
    time.sleep(1000)
"""


def run(code: str, tmp_path: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def test_what_a_killed_process_leaves_goes_with_the_next_folder(tmp_path: Path) -> None:
    with run(HOLDS, tmp_path) as first, run(HOLDS, tmp_path) as second:
        assert first.stdout
        assert second.stdout
        dead, alive = Path(first.stdout.readline().strip()), Path(second.stdout.readline().strip())
        assert dead.is_relative_to(tmp_path)
        assert dead.stat().st_mode & 0o777 == 0o700
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert dead.exists()
        after = run(
            "from shared.host.scratch import temporary_folder\nwith temporary_folder() as f: print(f)", tmp_path
        )
        assert not Path(after.communicate()[0].strip()).exists()
        assert not dead.exists()
        assert alive.exists()
        second.kill()


def test_temporary_folder_is_removed_with_all_that_is_in_it() -> None:
    with temporary_folder() as folder:
        (folder / "a").mkdir()
        (folder / "a" / "b").touch()
    assert not folder.exists()


@pytest.mark.parametrize("mode", MODES)
def test_no_other_user_comes_near_trees_of_root(mode: str) -> None:
    assert run_as(mode, passage) == (0o700 if mode == AS_ROOT else 0o711)
