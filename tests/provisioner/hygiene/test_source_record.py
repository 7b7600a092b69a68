"""The record of the source image's files: a file is the build's unless the record has it unchanged."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from provisioner.hygiene.self_check import check_machine
from provisioner.hygiene.source_record import take_record
from tests.provisioner.hygiene.memory_files import pem
from tests.provisioner.provisioning import wait_for


def test_what_changed_is_told_by_the_record_of_the_first_boot_whatever_the_clock_says(tmp_path: Path) -> None:
    root, record = tmp_path / "root", tmp_path / "record"
    (root / "etc").mkdir(parents=True)
    for name in ("same", "changed", "renamed", "touched"):
        (root / "etc" / name).write_text(pem("PRIVATE"))
    take_record(str(root), str(tmp_path / "state"), str(record), str(tmp_path / "mark"), resumed=False)
    (root / "etc/changed").write_text(pem("EC PRIVATE"))
    (root / "etc/renamed").rename(root / "etc/moved")
    os.utime(root / "etc/touched", ns=(0, 0))
    (root / "etc/new").write_text(pem("PRIVATE"))
    os.utime(root / "etc/new", ns=(0, 0))
    take_record(str(root), str(tmp_path / "state"), str(record), str(tmp_path / "mark"), resumed=True)  # a later boot
    found = check_machine(str(root), str(tmp_path / "state"), str(record))
    assert [finding.path for finding in found] == ["/etc/changed", "/etc/moved", "/etc/new", "/etc/touched"]


def test_a_job_that_has_lost_its_record_takes_everything_for_the_build_s(tmp_path: Path) -> None:
    root, record = tmp_path / "root", tmp_path / "record"
    (root / "etc").mkdir(parents=True)
    (root / "etc/key").write_text(pem("PRIVATE"))
    take_record(str(root), str(tmp_path / "state"), str(record), str(tmp_path / "mark"), resumed=True)
    assert [finding.path for finding in check_machine(str(root), str(tmp_path / "state"), str(record))] == ["/etc/key"]


def is_later(file: Path, probe: Path) -> bool:
    """Return whether a file that is made now is later than another: the clock of inodes advances in ticks."""
    probe.unlink(missing_ok=True)
    probe.touch()
    return probe.stat().st_ctime_ns > file.stat().st_ctime_ns


def test_a_job_that_the_release_before_began_goes_on_with_its_mark(tmp_path: Path) -> None:
    root, record, mark = tmp_path / "root", tmp_path / "record", tmp_path / "mark"
    (root / "etc").mkdir(parents=True)
    (root / "etc/old.key").write_text(pem("PRIVATE"))
    wait_for(lambda: is_later(root / "etc/old.key", mark))
    wait_for(lambda: is_later(mark, tmp_path / "probe"))
    (root / "etc/new.key").write_text(pem("PRIVATE"))
    take_record(str(root), str(tmp_path / "state"), str(record), str(mark), resumed=True)
    found = check_machine(str(root), str(tmp_path / "state"), str(record))
    assert [finding.path for finding in found] == ["/etc/new.key"]


def test_swap_that_the_steps_have_switched_off_is_emptied(tmp_path: Path) -> None:
    """It is in no fstab and switched off: only its contents show what it is."""
    root, record = tmp_path / "root", tmp_path / "record"
    root.mkdir()
    take_record(str(root), str(tmp_path / "state"), str(record), str(tmp_path / "mark"), resumed=False)
    (root / "swapfile").write_bytes(b"SECRET-IN-MEMORY" * 65536)
    subprocess.run(["mkswap", str(root / "swapfile")], check=True, capture_output=True)
    assert check_machine(str(root), str(tmp_path / "state"), str(record)) == []
    assert b"SECRET" not in (root / "swapfile").read_bytes()
