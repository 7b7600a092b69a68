"""Limits: which kind a host gets, and that the groups go with the sandbox."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from shared.sandbox.limits import Groups, ResourceLimits, descendants, make_limits, watch_over

MIB = 1 << 20


def controllers(mount: Path, version: int) -> Path:
    """Lay out a file system as control groups have it: a folder that is made in it has the files of its controllers."""
    if version == 2:
        (mount / "cgroup.controllers").write_text("memory pids\n")
    else:
        for name in ("memory", "pids"):
            (mount / name).mkdir()
    return mount


def test_a_host_without_control_groups_gets_resource_limits(tmp_path: Path) -> None:
    limits = make_limits("gs-x-a1-vm", 64 * MIB, tmp_path)
    assert isinstance(limits, ResourceLimits)
    assert limits.how == "resource limits, and a look at its memory twice a second"


def test_groups_without_their_files_are_removed_again(tmp_path: Path) -> None:
    for version in (1, 2):
        mount = tmp_path / str(version)
        mount.mkdir()
        controllers(mount, version)
        assert isinstance(make_limits("gs-x-a1-vm", 64 * MIB, mount), ResourceLimits)
        assert list(mount.rglob("goldsmith-*")) == []


def test_processes_are_counted_with_their_children() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 600 & sleep 600 & wait"]) as shell:
        try:
            until = time.monotonic() + 60
            while len(descendants(shell.pid)) < 3:
                assert time.monotonic() < until
                time.sleep(0.01)
            assert shell.pid in descendants(shell.pid)
        finally:
            for each in descendants(shell.pid):
                os.kill(each, signal.SIGKILL)


def test_a_process_with_too_much_memory_is_seen() -> None:
    code = "held = bytearray(64 << 20); held[::4096] = b'x' * len(held[::4096]); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        assert ResourceLimits(32 * MIB).is_exceeded(child.pid)
        assert not ResourceLimits(512 * MIB).is_exceeded(child.pid)
        child.kill()


def test_groups_go_when_the_last_holder_of_the_pipe_has_ended(tmp_path: Path) -> None:
    folder = tmp_path / "group"
    folder.mkdir()
    before = set(descendants(os.getpid()))
    read, write = os.pipe()
    watch_over(Groups("made", [folder]), read)
    os.close(read)
    [watcher] = set(descendants(os.getpid())) - before
    while len(list(Path(f"/proc/{watcher}/fd").iterdir())) > 1:  # it has closed all else when it waits
        time.sleep(0.01)
    assert folder.exists()
    os.close(write)
    until = time.monotonic() + 60
    while folder.exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    os.waitpid(watcher, 0)
