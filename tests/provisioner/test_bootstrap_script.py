"""bootstrap.sh in a small root of its own, with a python3 and a systemctl that only tell how they were called."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.protocol import encode
from shared.bundle import bootstrap_script
from tests.provisioner.provisioning import job

PROGRAMS = ("cat", "mkdir", "mount", "sed", "sh", "sync")
POWERED_OFF = "systemctl poweroff -ff\n"


class Machine:
    """A root in which nothing but busybox and our script is real."""

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
        self.has("systemctl", 'echo systemctl "$@" >>/calls')

    def has(self, name: str, script: str) -> None:
        """Add a program."""
        path = self.root / "usr/bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def boot(self, *arguments: str) -> int:
        """Start the script; give its exit status."""
        command = ["unshare", "--map-root-user", "--mount", "chroot", str(self.root)]
        command += ["/bin/sh", "/run/goldsmith/cidata/bootstrap.sh", *arguments]
        return subprocess.run(command, check=False, timeout=30, env={"PATH": "/usr/sbin:/usr/bin"}).returncode


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine that has not been started."""
    return Machine(tmp_path)


def test_the_provisioner_is_started_with_the_cidata(machine: Machine) -> None:
    machine.has("python3", 'printf "%s\\n" "$@" >>/calls; exit 5')
    assert machine.boot("--state", "/x") == 1
    calls = machine.calls.read_text()
    assert calls.startswith("-I\n-S\n-E\n-c\n")
    rest = "/run/goldsmith/cidata/provisioner.pyz\n--cidata\n/run/goldsmith/cidata\n--state\n/x\n"
    assert calls.endswith(rest + POWERED_OFF)
    assert machine.console.read_text() == "goldsmith: the provisioner ended unexpectedly with status 5\n"


def test_it_is_started_once_a_boot(machine: Machine) -> None:
    machine.has("python3", "echo python >>/calls")
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


@pytest.mark.parametrize(("seconds", "slept"), [(240.0, "0240"), (0.0, "00")])
def test_the_host_gets_the_time_that_the_job_allows_to_read_why(machine: Machine, seconds: float, slept: str) -> None:
    (machine.cidata / "job.json").write_bytes(encode(replace(job(), linger=seconds)))
    machine.has("sleep", 'echo sleep "$@" >>/calls')
    assert machine.boot() == 1
    assert machine.calls.read_text() == f"sleep {slept}\n" + POWERED_OFF


def test_an_old_python_is_told_and_ends_the_machine(machine: Machine) -> None:
    machine.has("python3", '[ "$1" != --version ] || { echo Python 3.6.8; exit 0; }\nexit 3')
    assert machine.boot() == 1
    assert machine.console.read_text().startswith("goldsmith: this image's Python 3.6.8 is too old; ")
    assert machine.calls.read_text() == POWERED_OFF
