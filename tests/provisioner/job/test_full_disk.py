"""A full disk is named, whatever the step that filled it prints."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from provisioner.job.runner import full_disk
from provisioner.protocol import FAILED, STEP_FAILED
from tests.provisioner.provisioning import Provisioning, job, script

REMEDY = "raise output.disk_size_gb, or delete in the steps what the image does not need"


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a file system of 16 MiB with room for 64 files on a folder."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,nr_inodes=64", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    with suppress(OSError), file.open("wb", buffering=0) as opened:
        while opened.write(bytes(1 << 16)):
            pass


def test_a_full_disk_is_told_from_one_with_room(tmp_path: Path) -> None:
    small = tmp_path / "small"
    with small_disk(small):
        assert full_disk(str(small), str(tmp_path), str(tmp_path / "absent")) == ""
        fill(small / "large")
        told = f"the disk of {small} is full: 16 MiB, and none is left; {REMEDY}"
        assert full_disk(str(tmp_path), str(small)) == told
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        assert full_disk(str(small)) == ""  # as Container-Optimized OS's root is, always


def test_a_disk_without_room_for_another_file_is_full(tmp_path: Path) -> None:
    small = tmp_path / "small"
    with small_disk(small):
        with suppress(OSError):
            for number in range(100):
                (small / str(number)).touch()
        told = f"the disk of {small} is full: no file can be added to its 64 files; {REMEDY}"
        assert full_disk(str(small)) == told


@pytest.mark.parametrize("status", [0, 3])
def test_the_step_that_fills_the_disk_fails_with_the_remedy(tmp_path: Path, status: int) -> None:
    text = f'dd if=/dev/zero of="$OUT" bs=64k; echo "as if nothing was"; exit {status}'
    step = script("fill", env={"OUT": str(tmp_path / "m/root/large")})
    machine = Provisioning(tmp_path / "m", job(step, script("after")), {"fill": text, "after": "true"})
    with small_disk(machine.root):
        assert machine.run().status == 1
    failure, end = machine.reports()[-2:]
    assert (failure.kind, failure.exit_status, end.kind) == (STEP_FAILED, status, FAILED)
    assert " is full: 16 MiB, and none is left; " + REMEDY in failure.message
    assert end.message.endswith(REMEDY)
    assert "as if nothing was" in failure.output


def test_a_step_that_cleans_up_after_it_was_refused_is_told_the_remedy(tmp_path: Path) -> None:
    """As apt, dpkg and pip do: when they have failed, there is room again."""
    text = 'trap \'rm "$OUT"\' EXIT; set -e; dd if=/dev/zero of="$OUT" bs=64k'
    step = script("fill", env={"OUT": str(tmp_path / "m/root/large"), "LC_ALL": "C"})
    machine = Provisioning(tmp_path / "m", job(step), {"fill": text})
    with small_disk(machine.root):
        assert machine.run().status == 1
        assert full_disk(str(machine.root)) == ""
    failure, end = machine.reports()[-2:]
    told = f"exit status 1; its output says that no space was left: if that was on the image's disk, {REMEDY}"
    assert failure.message == told
    assert end.message.endswith(REMEDY)


def test_a_step_that_ends_well_may_speak_of_a_full_disk(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("fill")), {"fill": "echo No space left on device"})
    assert machine.run().status == 0
