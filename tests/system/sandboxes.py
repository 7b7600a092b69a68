"""Sandboxes of the system tests: specs that are built in them, and what they may leave on this host."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.shared.sandbox.ordinary_user import MODES
from tests.system.command import Document, Goldsmith

GROUPS = Path("/sys/fs/cgroup")
ROOT_IN_SOAK = [*(pytest.param(mode, marks=pytest.mark.soak) for mode in MODES[:-1]), MODES[-1]]


def sandboxed(goldsmith: Goldsmith, steps: list[Document], **more: object) -> Path:
    local = {"engine": "chroot", "network": False, "memory_mb": 512}
    return goldsmith.spec(steps, **{"local": local, **more})  # type: ignore[arg-type]


def mounts_and_loops(goldsmith: Goldsmith) -> list[str]:
    """Return the mounts and the loop devices of this host that belong to a home's builds."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    lines += [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    return [line for line in lines if str(goldsmith.folder) in line]


def groups_of(goldsmith: Goldsmith) -> list[Path]:
    names = [path.name for path in (goldsmith.home / "builds").glob("*")]
    return [path for path in GROUPS.glob("*/goldsmith-*") if any(name in path.name for name in names)]


def wait_for_no_group(goldsmith: Goldsmith) -> None:
    until = time.monotonic() + 60
    while left := groups_of(goldsmith):
        assert time.monotonic() < until, left
        time.sleep(0.02)


def wait_for_no_mount(goldsmith: Goldsmith) -> None:
    """Wait until the kernel has freed what the last process of a sandbox held."""
    until = time.monotonic() + 60
    while left := mounts_and_loops(goldsmith):
        assert time.monotonic() < until, left
        time.sleep(0.02)


def assert_nothing_left(goldsmith: Goldsmith) -> None:
    goldsmith.traces.wait_for_no_process()
    wait_for_no_group(goldsmith)
    wait_for_no_mount(goldsmith)
