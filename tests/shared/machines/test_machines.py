"""Machines as processes: seen, awaited and ended from any process; tied to their builder; real ones boot a Debian."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from provisioner.protocol import SCRATCH
from shared.delivery.bundle import provisioner_pyz
from shared.errors import AlreadyExists, EnvironmentFault, ImageFileError, MissingTool, Permanent
from shared.host.programs import find_tool
from shared.machines.machines import STOPPED, Machines
from shared.machines.qemu import DataDisk
from shared.machines.record import MACHINE_LOST, RECORD, Record
from shared.ports import Machine
from tests.shared.machines.addresses import own_addresses
from tests.shared.machines.hosts import NAME, PATIENCE, Host, wait_until

ROOT = Path(__file__).resolve().parents[3]
MIRROR = "http://deb.debian.org/debian/dists/bookworm/Release"
OF_THE_NETWORK = ("169.254.169.1", "169.254.169.2", "169.254.169.3", "10.0.2.2")
OFF = "sync\nkill -48 1\nsleep 600\n"  # systemd(1): SIGRTMIN+14 powers off at once
FINDS = """\
export PYTHONPATH=/run/goldsmith/cidata/provisioner.pyz
python3 -c 'from provisioner.machine.scratch_disk import find_scratch_disk; print("scratch is", find_scratch_disk("/"))'
"""
GROWS = """\
size=/sys/class/block/$(lsblk -no PKNAME "$(findmnt -no SOURCE /)")/size
before=$(cat $size)
echo "waits with $before"
for _ in $(seq 600); do [ "$(cat $size)" = "$before" ] || break; sleep 0.1; done
echo "grown to $(cat $size)"
"""


def python(url: str, data: bytes | None = None) -> str:
    """A line of shell with which a guest asks a URL, for its status alone."""
    body = "None" if data is None else f"base64.b64decode({base64.b64encode(data).decode()!r})"
    code = f"import base64,urllib.request as u;print(u.urlopen({url!r},data={body},timeout=20).status)"
    return f'echo "{url} -> $(python3 -c "{code}" 2>&1 | tail -n 1)"\n'


@contextmanager
def web_server() -> Iterator[int]:
    """A server on all addresses of this host, loopback among them; gives its port."""

    class Hello(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("0.0.0.0", 0), Hello)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def processes(text: str) -> list[int]:
    """The processes that have a text in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in command and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def sockets(text: str) -> list[str]:
    return [line for line in Path("/proc/net/unix").read_text().splitlines() if text in line]


# --- without a guest: the boot sector of an empty disk ends at once, or QEMU does


def test_unknown_machine_is_none_and_stopping_it_is_fine(host: Host) -> None:
    assert host.machines.status(NAME) is None
    assert host.machines.wait(NAME, 0)
    host.machines.stop(NAME)


def test_check_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    code = "import sys; from pathlib import Path; from shared.machines.machines import Machines\n"
    code += "Machines(Path(sys.argv[1]), print).check('vm', 'direct', internet=True)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": str(tmp_path / "bin")}, capture_output=True, text=True, check=False
    )
    assert "apt-get install qemu-system-x86" in done.stderr
    with pytest.raises(MissingTool):
        find_tool("qemu-system-of-another-world")


def test_qemu_that_ends_early_is_quoted(host: Host, blank_disk: Path) -> None:
    host.machines.start(host.spec(blank_disk, "", boot="firmware", cpus=1000))
    assert host.machines.wait(NAME, 60)
    machine = host.machines.status(NAME)
    assert machine is not None
    assert (machine.status, machine.how) == ("stopped", "lost")
    assert "QEMU ended with status 1" in machine.detail
    assert "CPU" in machine.detail


def test_disk_that_is_none_starts_nothing(host: Host, tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(1 << 20))
    for boot in ("direct", "firmware"):
        with pytest.raises(ImageFileError):
            host.machines.start(host.spec(tmp_path / "disk.raw", "", boot=boot))
    assert host.machines.status(NAME) is None
    assert sockets(NAME) == []


def test_machine_that_cannot_be_written_down_is_ended(host: Host, blank_disk: Path) -> None:
    (host.folder / RECORD).mkdir(parents=True)  # where its record should go
    with pytest.raises(EnvironmentFault, match="directory"):
        host.machines.start(host.spec(blank_disk, "", boot="firmware"))
    assert (processes(NAME), sockets(NAME), host.machines.status(NAME)) == ([], [], None)


def test_running_machine_is_seen_and_stopped_from_elsewhere(host: Host, blank_disk: Path) -> None:
    host.machines.start(host.spec(blank_disk, "", boot="firmware"))
    with pytest.raises(AlreadyExists):
        host.machines.start(host.spec(blank_disk, "", boot="firmware"))
    with Machines(host.home, host.messages.append) as others:
        machine = others.status(NAME)
        assert machine is not None
        assert machine.status == "running"
        assert not others.wait(NAME, 0.1)
        others.stop(NAME)
        assert others.wait(NAME, 60)
    assert host.machines.wait(NAME, 60)
    machine = host.machines.status(NAME)
    assert machine is not None
    assert machine.status == "stopped"
    wait_until(lambda: not sockets(NAME), "the end of the server", 60)


def test_machine_that_has_just_ended_is_not_lost_before_it_is_known_how(host: Host, blank_disk: Path) -> None:
    """Its last words may still be on their way into the log."""
    for _ in range(3):
        host.machines.start(host.spec(blank_disk, "", boot="firmware"))
        _boot, pid, _start = json.loads((host.folder / RECORD).read_text())["process"].split(":")
        os.kill(int(pid), signal.SIGKILL)
        while (machine := host.machines.status(NAME)) is not None and machine.status == "running":
            pass
        assert machine is not None
        assert machine.detail == "QEMU was killed by signal 9"


def test_stopped_machine_says_so_and_may_start_again(host: Host, blank_disk: Path) -> None:
    for _ in range(2):
        host.machines.start(host.spec(blank_disk, "", boot="firmware"))
        host.machines.stop(NAME)
        assert host.machines.status(NAME) == Machine(NAME, "local", "stopped", "lost", STOPPED)
        assert processes(NAME) == []


def test_another_process_with_the_same_pid_is_left_alone(host: Host) -> None:
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        process = Record.of(bystander.pid).process
        boot, pid, start = process.split(":")
        host.folder.mkdir(parents=True)
        Record(f"{boot}:{pid}:{int(start) - 1}").write(host.folder)
        assert host.machines.status(NAME) == Machine(NAME, "local", "stopped", "lost", MACHINE_LOST)
        host.machines.stop(NAME)
        assert bystander.poll() is None
        Record(process).write(host.folder)
        host.machines.stop(NAME)
        assert bystander.wait(60) == -signal.SIGKILL
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"process": 1}', '{"process": "x", "how": null}'])
def test_damaged_record_is_no_machine(host: Host, text: str) -> None:
    host.folder.mkdir(parents=True)
    (host.folder / "machine.json").write_text(text)
    assert host.machines.status(NAME) is None


@pytest.mark.parametrize("boot", ["direct", "firmware"])
def test_killed_builder_leaves_nothing_that_runs(host: Host, blank_disk: Path, boot: str) -> None:
    """The builder is killed with -9 while its machine runs; direct boot of a disk without a kernel falls back."""
    code = (
        "import sys, threading; from pathlib import Path\n"
        "from shared.machines.machines import Machines, MachineSpec\n"
        "home, disk, folder = map(Path, sys.argv[1:4])\n"
        f"machines = Machines(home, print); spec = MachineSpec({NAME!r}, folder, disk, {{}}, boot={boot!r})\n"
        "threading.Thread(target=machines.start, args=(spec,)).start()\n"  # a thread that ends: the machine must not
        "sys.stdin.read()\n"
    )
    builder = subprocess.Popen(
        [sys.executable, "-c", code, host.home, blank_disk, host.folder], cwd=ROOT, stdin=subprocess.PIPE
    )
    try:
        wait_until(lambda: Record.read(host.folder) is not None, "the start of the machine", 60)
        machine = host.machines.status(NAME)
        assert machine is not None
        assert machine.status == "running"
        assert not host.machines.wait(NAME, 0.5)
        assert sockets(NAME)
        builder.kill()
        assert host.machines.wait(NAME, 60)
        wait_until(lambda: not processes(NAME) and not sockets(NAME), "the end of all", 60)
        machine = host.machines.status(NAME)
        assert machine is not None
        assert (machine.status, machine.how, machine.detail) == ("stopped", "lost", MACHINE_LOST)
    finally:
        builder.kill()
        builder.wait()
        assert builder.stdin is not None
        builder.stdin.close()
    if boot == "direct":
        assert "no direct boot" in host.console


# --- with a guest


@pytest.mark.vm
def test_direct_boot_reaches_a_whole_system_and_the_image_is_not_touched(host: Host, disk: Path) -> None:
    publish = "http://169.254.169.254/v1/projects/local/topics/build-reports:publish"
    message = json.dumps({"messages": [{"data": base64.b64encode(b"from the guest").decode()}]}).encode()
    script = (
        "if [ ! -e /var/tmp/second ]; then\n"
        "  echo first boot; ls /etc/systemd/system/*.wants /run/systemd/system >/var/tmp/units\n"
        "  >/var/tmp/second; sync; systemctl reboot; sleep 600\nfi\n"
        'echo second boot; echo "state: $(systemctl is-system-running)"\n'
        'systemctl enable --now ssh >/dev/null 2>&1; echo "ssh: $? $(systemctl is-active ssh)"\n'
        'systemctl start dbus; echo "dbus: $(systemctl is-active dbus)"\n'
        'echo "network: $(systemctl is-active network-online.target)"\n'
        "ls -l /dev/disk/by-label; echo a report >/dev/ttyS2\n" + python(publish, message)
    )
    with web_server() as port:
        closed = [f"http://{address}:{port}/" for address in (*OF_THE_NETWORK, *own_addresses())]
        script += "".join(python(url) for url in (*closed, MIRROR)) + OFF
        host.run(disk, script)
    machine = host.machines.status(NAME)
    assert machine is not None
    assert (machine.how, machine.detail) == ("powered-off", ""), host.console
    for text in ("first boot", "second boot", "state: running", "ssh: 0 active", "dbus: active", f"{publish} -> 200"):
        assert text in host.console, host.console
    assert f"{MIRROR} -> 200" in host.console, host.console
    for url in closed:  # this host is no part of the internet
        assert f"{url} -> urllib.error.URLError" in host.console, host.console
    assert re.search(r"root -> \.\./\.\./nvme0n[12]p1\b", host.console), host.console  # which, changes with each boot
    assert [message.data for message in host.messages] == [b"from the guest"]
    assert (host.folder / "reports.log").read_text().strip() == "a report"
    root = subprocess.run(["sfdisk", "-J", disk], capture_output=True, check=True).stdout
    start = json.loads(root)["partitiontable"]["partitions"][0]["start"] * 512
    trace = subprocess.run(
        ["debugfs", "-R", "ls /run", f"{disk}?offset={start}"], capture_output=True, text=True, check=True
    ).stdout
    assert "goldsmith" not in trace


@pytest.mark.vm
def test_without_internet_only_the_server_is_reached_and_a_panic_ends_it(host: Host, disk: Path) -> None:
    with web_server() as port:
        script = python("http://169.254.169.254/") + python(f"http://169.254.169.2:{port}/")
        script += 'began=$(date +%s); getent hosts deb.debian.org; echo "lookup: $? after $(($(date +%s) - began)) s"\n'
        script += "sleep 2\necho 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 600\n"
        host.run(disk, script, internet=False)
    machine = host.machines.status(NAME)
    assert machine is not None
    assert (machine.how, machine.detail) == ("panicked", "kernel panic: sysrq triggered crash"), host.console
    assert "http://169.254.169.254/ -> urllib.error.HTTPError: HTTP Error 404" in host.console
    assert f":{port}/ -> 200" not in host.console
    found = re.search(r"lookup: (\d+) after (\d+) s", host.console)
    assert found is not None, host.console
    assert found[1] != "0"
    assert int(found[2]) < 5  # a name server that does not answer is waited for so long, twice


@pytest.mark.vm
def test_hanging_guest_is_stopped_and_its_connections_with_it(host: Host, disk: Path) -> None:
    script = "exec 3<>/dev/tcp/169.254.169.254/80; echo connected; sleep 600\n"
    host.machines.start(host.spec(disk, f"bash -c '{script}'\n"))
    host.wait_for("connected")
    with pytest.raises(Permanent, match="was booted directly and would not see it grow"):
        host.machines.grow_disk(disk, disk.stat().st_size + 4096)
    wait_until(lambda: len(processes(NAME)) == 2, "a connection", 60)  # QEMU and what connects for it
    host.machines.stop(NAME)
    wait_until(lambda: not processes(NAME) and not sockets(NAME), "the end of all", 60)


@pytest.mark.vm
def test_firmware_boots_the_same_disk_with_cloud_init_and_the_guest_sees_it_grow(host: Host, disk: Path) -> None:
    """finish-image-build -disk-size-gb: the disk is resized while the VM waits for it, and the VM goes on."""
    scratch = disk.with_name("scratch.raw")
    scratch.write_bytes(bytes(1 << 20))
    asked = host.spec(disk, "echo from cloud-init\n" + FINDS + GROWS + OFF, "firmware")
    cidata = {**(asked.cidata or {}), "provisioner.pyz": provisioner_pyz()}
    asked = replace(asked, cidata=cidata, data_disks=(DataDisk(scratch, SCRATCH, writable=True),))
    host.machines.start(asked)
    host.wait_for("waits with")
    size = disk.stat().st_size + (1 << 30)
    host.machines.grow_disk(disk, size)
    assert disk.stat().st_size == size
    assert host.machines.wait(NAME, PATIENCE), host.console
    assert f"grown to {size // 512}\n" in host.console
    assert "scratch is /dev/sd" in host.console
    machine = host.machines.status(NAME)
    assert machine is not None
    assert (machine.how, machine.detail) == ("powered-off", ""), host.console
    assert "from cloud-init" in host.console


@pytest.mark.vm
def test_disk_without_boot_sector_boots_by_uefi(host: Host, disk: Path) -> None:
    with disk.open("r+b") as file:
        file.write(bytes(440))
    host.machines.start(host.spec(disk, "", boot="firmware"))
    host.wait_for("Linux version")
    host.machines.stop(NAME)
    assert (host.folder / "efi-variables.fd").exists()
