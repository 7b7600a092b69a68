"""The start script, in a root of its own with busybox: where it finds the cidata, and what starts what, how often.

python3 there is this machine's, by a link that does nothing but note its call, or one that plays the download.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from shared.bundle import start_script

PROGRAMS = ("cat", "cp", "mkdir", "mount", "sed", "sh", "sleep", "sync", "tail")
POWERED_OFF = "systemctl poweroff -ff\n"
UNIT = "run/systemd/system/goldsmith-build.service"
BOOTSTRAPPED = "bootstrap /run/goldsmith/cidata/bootstrap.sh\n"


class Machine:
    """A root in which nothing but busybox and our script is real; metadata's startup-script is /tmp/startup-script."""

    def __init__(self, root: Path, *, systemd: bool = True) -> None:
        self.root = root
        self.console = root / "dev/console"
        self.calls = root / "calls"
        self.cidata = root / "run/goldsmith/cidata"
        for folder in ("bin", "dev", "proc", "tmp", "usr/bin", "run/systemd/system" if systemd else "run"):
            (root / folder).mkdir(parents=True)
        busybox = shutil.which("busybox")
        assert busybox is not None
        shutil.copy(busybox, root / "bin/busybox")
        for name in PROGRAMS:
            (root / "bin" / name).symlink_to("busybox")
        self.console.touch()
        self.calls.touch()
        self.has("systemctl", 'echo systemctl "$@" >>/calls')
        self.has("sleep", 'echo sleep "$@" >>/calls')
        (root / "tmp/startup-script").write_bytes(start_script())

    def has(self, name: str, script: str) -> None:
        """Add a program; it comes before busybox's."""
        path = self.root / "usr/bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def give(self) -> None:
        """Put the cidata in place."""
        self.cidata.mkdir(parents=True, exist_ok=True)
        (self.cidata / "job.json").write_text("{}")
        (self.cidata / "bootstrap.sh").write_text('echo bootstrap "$0" >>/calls\n')

    def run(self, *command: str) -> int:
        """Run a command in it; give its exit status."""
        whole = ["unshare", "--map-root-user", "--mount", "chroot", str(self.root), "/bin/sh", *command]
        return subprocess.run(whole, check=False, timeout=60, env={"PATH": "/usr/sbin:/usr/bin"}).returncode


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_unit_is_started_that_waits_for_cloud_init(machine: Machine) -> None:
    assert machine.run("/tmp/startup-script") == 0
    assert machine.calls.read_text() == "systemctl daemon-reload\nsystemctl start --no-block goldsmith-build.service\n"
    unit = (machine.root / UNIT).read_text()
    assert "After=cloud-final.service network-online.target\n" in unit
    assert "ExecStart=/bin/sh /run/goldsmith/start.sh run\n" in unit
    assert (machine.root / "run/goldsmith/start.sh").read_bytes() == start_script()


def test_who_comes_second_in_a_boot_does_nothing(machine: Machine) -> None:
    kept = machine.root / "run/goldsmith/start.sh"
    kept.parent.mkdir()
    kept.write_bytes(start_script())
    assert machine.run("/run/goldsmith/start.sh") == 0  # as cloud-init does, from where user-data has put it
    calls = machine.calls.read_text()
    assert calls.count("systemctl start") == 1
    assert machine.run("/tmp/startup-script") == 0
    assert machine.calls.read_text() == calls
    shutil.rmtree(machine.root / "run/goldsmith")  # memory, gone with a reboot
    assert machine.run("/tmp/startup-script") == 0
    assert machine.calls.read_text() == calls * 2


def test_cidata_that_is_there_is_used(machine: Machine) -> None:
    machine.has("python3", "echo python >>/calls")
    machine.give()
    assert machine.run("/tmp/startup-script", "run") == 0
    assert machine.calls.read_text() == BOOTSTRAPPED


def test_a_disk_comes_before_the_network(machine: Machine) -> None:
    machine.has("python3", "echo python >>/calls")
    machine.give()
    files = machine.root / "disk"
    machine.cidata.rename(files)
    machine.has("mount", 'echo mount "$@" >>/calls; cp -r /disk/. /run/goldsmith/cidata')
    assert machine.run("/tmp/startup-script", "run") == 0
    assert machine.calls.read_text() == "mount -o ro LABEL=cidata /run/goldsmith/cidata\n" + BOOTSTRAPPED


def test_a_download_is_tried_until_the_network_is_up(machine: Machine) -> None:
    machine.has("mount", "exit 1")
    files = machine.root / "files"
    machine.give()
    machine.cidata.rename(files)
    machine.has(
        "python3",
        '[ -e /up ] || { [ ! -e /soon ] || : >/up; : >/soon; echo "URLError: unreachable" >&2; exit 1; }\n'
        'echo fetched "$@" >>/calls; rmdir "$5" 2>/dev/null; cp -r /files/. "$5"',
    )
    assert machine.run("/tmp/startup-script", "run") == 0
    fetched = "fetched -I -S -E - /run/goldsmith/cidata /var/lib/goldsmith/download\n"
    assert machine.calls.read_text() == "sleep 1\nsleep 2\n" + fetched + BOOTSTRAPPED


def test_nothing_to_build_with_is_told_and_ends_the_machine(machine: Machine) -> None:
    machine.has("mount", "exit 1")
    machine.has("python3", 'printf "first\\nHTTPError: HTTP Error 403: Forbidden\\n" >&2; exit 1')
    assert machine.run("/tmp/startup-script", "run") == 1
    told = machine.console.read_text()
    assert told == "goldsmith: no files to build with after 300 s: HTTPError: HTTP Error 403: Forbidden\n"
    pauses = [int(line.split()[1]) for line in machine.calls.read_text().splitlines() if line.startswith("sleep")]
    assert pauses[:5] == [1, 2, 4, 8, 8]
    assert 300 <= sum(pauses) < 320
    assert machine.calls.read_text().endswith(POWERED_OFF)


def test_no_python_is_told_at_once(machine: Machine) -> None:
    assert machine.run("/tmp/startup-script", "run") == 1
    assert machine.console.read_text().startswith("goldsmith: this image has no python3; ")
    assert machine.calls.read_text() == POWERED_OFF


def test_compute_engine_gets_time_to_read_why(machine: Machine) -> None:
    product = machine.root / "sys/class/dmi/id/product_name"
    product.parent.mkdir(parents=True)
    product.write_text("Google Compute Engine\n")
    assert machine.run("/tmp/startup-script", "run") == 1
    assert machine.calls.read_text() == "sleep 240\n" + POWERED_OFF


def test_without_systemd_it_goes_on_by_itself(tmp_path: Path) -> None:
    machine = Machine(tmp_path, systemd=False)
    machine.has("python3", "exit 1")
    machine.give()
    assert machine.run("/tmp/startup-script") == 0
    assert machine.calls.read_text() == BOOTSTRAPPED
