"""The backend of this machine: its master key."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from shared.runtime.one_machine import LocalBackend, open_one_machine
from tests.conftest import ROOT
from tests.shared.host.contenders import hear, other_process
from tests.world.values import BUILD_ID

BOOT = f"gs-{BUILD_ID}-a1-boot"


def tell_key(home: Path, pipe: Connection) -> None:
    hear(pipe)
    with open_one_machine(home):
        pipe.send((home / "master.key").read_bytes())
    pipe.recv()


def test_master_key_is_made_once_and_for_its_owner_alone(backend: LocalBackend, home: Path) -> None:
    key = home / "master.key"
    before = key.read_bytes()
    assert (len(before), key.stat().st_mode & 0o777) == (32, 0o600)
    with open_one_machine(home):
        assert key.read_bytes() == before
    assert [path.name for path in home.glob(".master*")] == []


DIES = """
import os, sys
from pathlib import Path
from shared.runtime.one_machine import open_one_machine
sys.addaudithook(lambda event, _: os._exit(9) if event == "os.link" else None)
open_one_machine(Path(sys.argv[1]))
"""


def test_a_process_that_dies_before_the_key_has_its_name_leaves_nothing_of_it(home: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DIES, home], cwd=ROOT, check=False)
    assert (done.returncode, [path.name for path in home.glob("*master*")]) == (9, [])
    with open_one_machine(home):
        assert len((home / "master.key").read_bytes()) == 32


def test_processes_that_start_at_once_take_one_key(home: Path) -> None:
    with other_process(tell_key, home) as (_one, first), other_process(tell_key, home) as (_two, second):
        first.send("go")
        second.send("go")
        assert hear(first) == hear(second)
