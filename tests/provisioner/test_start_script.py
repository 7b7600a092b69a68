"""start.sh in a root of its own with busybox: where it finds the cidata, and which program starts which, how often.

python3 there is this machine's, behind a script that only records its call, or one that acts as the download.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from shared.delivery.bundle import start_script

PROGRAMS = ("cat", "cp", "cut", "mkdir", "mount", "sed", "sh", "sleep", "sync", "tail")
POWERED_OFF = "systemctl poweroff -ff\n"
UNIT = "run/systemd/system/goldsmith-build.service"
BOOTSTRAPPED = "bootstrap /run/goldsmith/cidata/bootstrap.sh\n"


class Machine:
    """A root in which only busybox and the script are real; the metadata's startup-script is /tmp/startup-script."""

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
        self.add_program("systemctl", 'echo systemctl "$@" >>/calls')
        (root / "proc/uptime").write_text("20.50 39.00\n")
        self.add_program(
            "sleep", 'echo sleep "$@" >>/calls\nread -r s _ </proc/uptime\necho "$((${s%.*} + $1)).00 0" >/proc/uptime'
        )
        (root / "etc").mkdir()
        (root / "tmp/startup-script").write_bytes(start_script())

    def add_program(self, name: str, script: str) -> None:
        """Add a program; it comes before busybox's."""
        path = self.root / "usr/bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def add_python(self, script: str, name: str = "python3") -> None:
        """Add a Python of 3.6 or later that does something else when it is not asked for its version."""
        self.add_program(name, f'[ "$4" != -c ] || exit 0\n{script}')

    def add_cidata(self) -> None:
        """Put the cidata in place."""
        self.cidata.mkdir(parents=True, exist_ok=True)
        (self.cidata / "job.json").write_text("{}")
        (self.cidata / "bootstrap.sh").write_text('echo bootstrap "$0" >>/calls\n')

    def run(self, *command: str) -> int:
        """Run a command in the root; return its exit status."""
        whole = ["unshare", "--map-root-user", "--mount", "chroot", str(self.root), "/bin/sh", *command]
        return subprocess.run(whole, check=False, timeout=240, env={"PATH": "/usr/sbin:/usr/bin"}).returncode


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


@pytest.mark.parametrize(
    ("system", "waits"),
    [
        ("NAME=COS\nID=cos\nVERSION=121\nVERSION_ID=121\nBUILD_ID=18867.0.0\n", False),
        ('ID="cos"\nVERSION_ID="113"\n', False),
        ("ID=cos\nVERSION_ID=125\n", True),
        ('ID=debian\nVERSION_ID="12"\n', True),
        ('ID="rocky"\nVERSION_ID="8.10"\nID_LIKE="cos"\n', True),
    ],
)
def test_cos_before_125_is_not_waited_for(machine: Machine, system: str, waits: bool) -> None:
    """Its cloud-init may wait forever for a registry, on a VM that reaches none."""
    (machine.root / "etc/os-release").write_text(system)
    assert machine.run("/tmp/startup-script") == 0
    after = "After=cloud-final.service network-online.target\n" if waits else "After=network-online.target\n"
    assert after in (machine.root / UNIT).read_text()


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
    machine.add_python("echo python >>/calls")
    machine.add_cidata()
    assert machine.run("/tmp/startup-script", "run") == 0
    assert machine.calls.read_text() == BOOTSTRAPPED


def test_a_disk_comes_before_the_network(machine: Machine) -> None:
    machine.add_python("echo python >>/calls")
    machine.add_cidata()
    files = machine.root / "disk"
    machine.cidata.rename(files)
    machine.add_program("mount", 'echo mount "$@" >>/calls; cp -r /disk/. /run/goldsmith/cidata')
    assert machine.run("/tmp/startup-script", "run") == 0
    assert machine.calls.read_text() == "mount -o ro LABEL=cidata /run/goldsmith/cidata\n" + BOOTSTRAPPED


def test_a_download_is_tried_until_the_network_is_up(machine: Machine) -> None:
    machine.add_program("mount", "exit 1")
    files = machine.root / "files"
    machine.add_cidata()
    machine.cidata.rename(files)
    machine.add_python(
        '[ -e /up ] || { [ ! -e /soon ] || : >/up; : >/soon; echo "URLError: unreachable" >&2; exit 1; }\n'
        'echo fetched "$@" >>/calls; rmdir "$5" 2>/dev/null; cp -r /files/. "$5"',
    )
    assert machine.run("/tmp/startup-script", "run") == 0
    fetched = "fetched -I -S -E - /run/goldsmith/cidata /var/lib/goldsmith /run/goldsmith/patience\n"
    assert machine.calls.read_text() == "sleep 1\nsleep 2\n" + fetched + BOOTSTRAPPED


def test_nothing_to_build_with_is_told_and_ends_the_machine(machine: Machine) -> None:
    machine.add_program("mount", "exit 1")
    machine.add_python('printf "first\\nHTTPError: HTTP Error 403: Forbidden\\n" >&2; exit 1')
    assert machine.run("/tmp/startup-script", "run") == 1
    *tries, told = machine.console.read_text().splitlines()
    assert told == "goldsmith: no files to build with 307 s after the boot: HTTPError: HTTP Error 403: Forbidden"
    assert set(tries) == {"goldsmith: no files to build with yet: HTTPError: HTTP Error 403: Forbidden"}
    pauses = [int(line.split()[1]) for line in machine.calls.read_text().splitlines() if line.startswith("sleep")]
    assert pauses[:5] == [1, 2, 4, 8, 8]
    assert len(pauses) == len(tries)
    assert machine.calls.read_text().endswith(POWERED_OFF)


def test_time_is_what_passes_and_not_what_is_slept(machine: Machine) -> None:
    """Each try takes half a minute where packets are lost; the metadata says how long a VM may be silent."""
    machine.add_program("mount", "exit 1")
    slow = "read -r s _ </proc/uptime; echo $((${s%.*} + 30)).00 0 >/proc/uptime"
    machine.add_python(f'{slow}; echo 90 >"$7"; echo "OSError: storage does not answer" >&2; exit 1')
    assert machine.run("/tmp/startup-script", "run") == 1
    *tries, told = machine.console.read_text().splitlines()
    assert told == "goldsmith: no files to build with 113 s after the boot: OSError: storage does not answer"
    assert len(tries) == 2
    assert machine.calls.read_text() == "sleep 1\nsleep 2\n" + POWERED_OFF


def test_no_python_is_told_at_once(machine: Machine) -> None:
    assert machine.run("/tmp/startup-script", "run") == 1
    assert machine.console.read_text().startswith("goldsmith: this image has no python3 of 3.6 or later, ")
    assert machine.calls.read_text() == POWERED_OFF


def test_the_download_runs_by_the_python_that_is_there(machine: Machine) -> None:
    """Enterprise Linux 8 has only platform-python; an older python3 may be there too."""
    machine.add_program("mount", "exit 1")
    machine.add_program("python3", "exit 1")
    (machine.root / "usr/libexec").mkdir()
    files = machine.root / "files"
    machine.add_cidata()
    machine.cidata.rename(files)
    machine.add_python('echo fetched >>/calls; rmdir "$5"; cp -r /files/. "$5"', "../libexec/platform-python")
    assert machine.run("/tmp/startup-script", "run") == 0
    assert machine.calls.read_text() == "fetched\n" + BOOTSTRAPPED


def test_compute_engine_gets_time_to_read_why(machine: Machine) -> None:
    product = machine.root / "sys/class/dmi/id/product_name"
    product.parent.mkdir(parents=True)
    product.write_text("Google Compute Engine\n")
    assert machine.run("/tmp/startup-script", "run") == 1
    assert machine.calls.read_text() == "sleep 240\n" + POWERED_OFF


def test_without_systemd_it_goes_on_by_itself(tmp_path: Path) -> None:
    machine = Machine(tmp_path, systemd=False)
    machine.add_python("exit 1")
    machine.add_cidata()
    assert machine.run("/tmp/startup-script") == 0
    assert machine.calls.read_text() == BOOTSTRAPPED
