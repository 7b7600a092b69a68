"""The report port, by the ports that the machine has."""

from __future__ import annotations

import os
import pty
from pathlib import Path

from provisioner.reporting.report_port import open_first


def written(master: int, path: Path) -> bytes:
    handle = open_first(str(path))
    assert handle is not None
    os.write(handle, b"word\n")
    os.close(handle)
    return os.read(master, 100)


def test_a_port_of_arm64_is_found_under_its_own_name(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    (tmp_path / "ttyAMA2").symlink_to(os.ttyname(slave))
    assert written(master, tmp_path / "ttyS2") == b"word\n"
    other, second = pty.openpty()
    (tmp_path / "ttyS2").symlink_to(os.ttyname(second))  # as on x86-64, which comes first
    assert written(other, tmp_path / "ttyS2") == b"word\n"
    for each in (master, slave, other, second):
        os.close(each)


def test_a_machine_without_one_has_none(tmp_path: Path) -> None:
    assert open_first(str(tmp_path / "ttyS2")) is None
