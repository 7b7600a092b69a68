"""bootstrap.sh in a small root of its own, with a python3 and a systemctl that only record their calls."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.protocol import encode
from shared.delivery.bundle import bootstrap_script
from tests.provisioner.provisioning import job

PROGRAMS = ("cat", "mkdir", "mount", "sed", "sh", "sync")
POWERED_OFF = "systemctl poweroff -ff\n"


class Machine:
    """A root in which only busybox and the script are real."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.console = root / "dev/console"
        self.calls = root / "calls"
        self.cidata = root / "run/goldsmith/cidata"
        for folder in ("bin", "dev", "proc", "usr/bin"):
            (root / folder).mkdir(parents=True)
        self.cidata.mkdir(parents=True)
        (self.cidata / "bootstrap.sh").write_bytes(bootstrap_script())
        (self.cidata / "job.json").write_text('{"report_port":"/dev/null","steps":[]}')
        busybox = shutil.which("busybox")
        assert busybox is not None
        shutil.copy(busybox, root / "bin/busybox")
        for name in PROGRAMS:
            (root / "bin" / name).symlink_to("busybox")
        self.console.touch()
        self.calls.touch()
        self.add_program("systemctl", 'echo systemctl "$@" >>/calls')

    def add_program(self, name: str, script: str) -> None:
        """Add a program."""
        path = self.root / "usr/bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def boot(self, *arguments: str) -> int:
        """Start the script; return its exit status."""
        command = ["unshare", "--map-root-user", "--mount", "chroot", str(self.root)]
        command += ["/bin/sh", "/run/goldsmith/cidata/bootstrap.sh", *arguments]
        return subprocess.run(command, check=False, timeout=240, env={"PATH": "/usr/sbin:/usr/bin"}).returncode


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Make a machine that has not been started."""
    return Machine(tmp_path)


def test_the_provisioner_is_started_with_the_cidata(machine: Machine) -> None:
    machine.add_program("python3", 'printf "%s\\n" "$@" >>/calls; exit 5')
    assert machine.boot("--state", "/x") == 1
    calls = machine.calls.read_text()
    assert calls.startswith("-I\n-S\n-E\n-c\n")
    rest = "/run/goldsmith/cidata/provisioner.pyz\n--cidata\n/run/goldsmith/cidata\n--state\n/x\n"
    assert calls.endswith(rest + POWERED_OFF)
    assert machine.console.read_text() == "goldsmith: the provisioner ended unexpectedly with status 5\n"


def test_it_is_started_once_a_boot(machine: Machine) -> None:
    machine.add_program("python3", "echo python >>/calls")
    machine.boot()
    before = machine.calls.read_text()
    assert machine.boot() == 0
    assert machine.calls.read_text() == before
    (machine.root / "run/goldsmith/started").unlink()  # memory, gone with a reboot
    assert machine.boot() == 1
    assert machine.calls.read_text() == before * 2


def test_no_python_is_told_and_ends_the_machine(machine: Machine) -> None:
    assert machine.boot() == 1
    assert machine.console.read_text().startswith("goldsmith: this image has no python3; ")
    assert machine.calls.read_text() == POWERED_OFF


def test_a_python_that_lies_elsewhere_is_found(machine: Machine) -> None:
    """Enterprise Linux 8, whose own Python is outside of PATH; and images whose python3 belongs to another program."""
    machine.add_program("python3", '[ "$1" = --version ] || echo old >>/calls; exit 3')
    machine.add_program("python3.12", "exit 127")
    machine.add_program("python3.6", 'echo "$LC_ALL" >>/calls; exit 5')
    assert machine.boot() == 1
    assert machine.calls.read_text() == "old\nC.UTF-8\n" + POWERED_OFF
    (machine.root / "run/goldsmith/started").unlink()
    machine.calls.write_text("")
    (machine.root / "usr/libexec").mkdir()
    machine.add_program("../libexec/platform-python", "echo platform >>/calls; exit 5")
    assert machine.boot() == 1
    assert machine.calls.read_text() == "old\nplatform\n" + POWERED_OFF


@pytest.mark.parametrize(("seconds", "slept"), [(240.0, "0240"), (0.0, "00")])
def test_the_host_gets_the_time_that_the_job_allows_to_read_why(machine: Machine, seconds: float, slept: str) -> None:
    (machine.cidata / "job.json").write_bytes(encode(replace(job(), linger=seconds)))
    machine.add_program("sleep", 'echo sleep "$@" >>/calls')
    assert machine.boot() == 1
    assert machine.calls.read_text() == f"sleep {slept}\n" + POWERED_OFF


def test_pythons_of_no_use_are_told_and_end_the_machine(machine: Machine) -> None:
    machine.add_program("python3", '[ "$1" != --version ] || { echo Python 3.5.3; exit 0; }\nexit 3')
    machine.add_program("python3.13", "exit 127")
    machine.add_program("python3.7", "exit 4")
    assert machine.boot() == 1
    assert machine.console.read_text() == (
        "goldsmith: this image's python3 is of no use (python3 is Python 3.5.3, python3.13 does not run, "
        "python3.7 lacks modules of its library); the provisioner needs Python 3.6 or later: add python3 to the image\n"
    )
    assert machine.calls.read_text() == POWERED_OFF
