from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from shared.host.processes import is_alive, this_process


def test_this_process_is_alive_and_named_the_same_each_time() -> None:
    assert is_alive(this_process())
    assert this_process() == this_process()
    assert this_process().split(":")[1] == str(os.getpid())


def test_a_process_is_dead_from_its_end_on_even_unnoticed_by_its_parent() -> None:
    boot = this_process().split(":")[0]
    with subprocess.Popen(["sleep", "60"]) as process:
        start = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        name = f"{boot}:{process.pid}:{start}"
        assert is_alive(name)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
        assert not is_alive(name)
    assert not is_alive(name)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_another_boot_pid_or_start_is_another_process(index: int) -> None:
    parts = this_process().split(":")
    parts[index] = "4194305" if index == 1 else parts[index] + "0"  # above the highest pid there can be
    assert not is_alive(":".join(parts))


@pytest.mark.parametrize("name", ["", ":", "::", "boot:1", "boot:self:1", "nonsense"])
def test_other_texts_name_no_process(name: str) -> None:
    assert not is_alive(name)
    assert not is_alive(name.replace("boot", this_process().split(":")[0]))


def test_a_program_of_any_name_is_understood(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "60"]) as process:
        start = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        assert is_alive(f"{this_process().split(':')[0]}:{process.pid}:{start}")
        process.kill()
