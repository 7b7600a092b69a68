"""The machine as a whole: grow its root file system, stop its services, trim its disks, power off, reboot.

`Machine` is the machine that this process runs on. `NoMachine` is a tree of files that no system runs from
(`--no-power`): there is nothing to stop, and turning off means to end.
"""

from __future__ import annotations

import os
import time

from ..protocol import KEEP_LAYER, LAYER_SIGNATURE, SHELL_PORT, layer_request, sign
from ..system import process
from ..system.file_system import FILE_SYSTEM_HEAD, file_system_size
from ..system.files import read_text
from ..system.mounts import mounts
from ..system.os_release import COS, system_id
from ..system.output import StepConsole
from ..system.step_group import StepGroup
from .free_blocks import disks, give_back
from .services import started, stop_services

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

END, END_FAILED, END_REBOOT, END_LAYER = 0, 1, 194, 195  # exit statuses of the provisioner where it turns nothing off

KEPT, KEEP_SECONDS = 200, 120.0  # what the host answers, and for how long a step's result may keep the next one waiting
JOURNAL_ON_DISK = "/run/systemd/journal/flushed"  # exists once journald writes below /var
JOURNAL_SOCKET = "/run/systemd/journal/io.systemd.journal"
JOURNAL_SECONDS = 5.0
COS_UNITS = (  # write below /var of Container-Optimized OS, some of them when they are stopped
    *("crash-reporter.service", "crash-sender.service", "device_policy_manager.service"),
    *("metrics-daemon.service", "update-engine.service", "systemd-random-seed.service"),
    *("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald-audit.socket"),
    "systemd-journald.service",
)

SLACK = 16 << 20  # bytes: a root file system that is this much smaller than its partition stays as it is
SECTOR = 512  # /sys counts in these, whatever the disk does

SYSTEMD = "run/systemd/system"  # below the root; exists while systemd is the init, sd_booted(3)
SIGRTMIN = 34
POWER_OFF_AT_ONCE = SIGRTMIN + 14  # systemd(1): stops no unit, so none writes its state into the image
REBOOT_IN_ORDER = SIGRTMIN + 5  # systemd(1): reboot.target, which stops the services that the steps started
SYSRQ = "/proc/sysrq-trigger"
SYSRQ_SECONDS = 10.0
PATIENCE = 120.0  # seconds to wait for the machine to go down before the next, harder way


def _read(path: str) -> str:
    try:
        return read_text(path)
    except OSError:
        return ""


class NoMachine:
    """A tree of files."""

    no_restart = ""  # why no step can restart it, with the remedy
    uses_reserve = True  # whether steps may fill the blocks that a file system keeps for root
    layers_end = False  # whether this process has to end so that the host can keep the result of a step
    environment: Mapping[str, str] = {}  # of all steps, beside what each of them is given

    def __init__(self, console: StepConsole) -> None:
        self._console = console

    def step_group(self) -> StepGroup:
        """Return what holds the processes of a step that begins."""
        return StepGroup()

    def nested_group(self) -> StepGroup:
        """Return what holds the processes of a step that a process of another one begins."""
        return StepGroup()

    def keep_shell_port(self) -> None:
        """Keep the port of shell_port() from the steps."""

    def shell_port(self) -> int:
        """Open the connection on which a person gets a shell, both ways; return its descriptor. OSError."""
        raise OSError("a tree of files has no port for a shell")

    def prepare(self, *, grows: bool) -> str:
        """Make the machine ready for the steps, with `grows` its root as well; return a note for people, or ""."""
        return ""

    def add_scratch(self) -> str:
        """Mount the machine's blank disk; return what is wrong, or ""."""
        return ""

    def drop_scratch(self) -> None:
        """Unmount the blank disk for good."""

    def keep(self, index: int, key: str) -> None:
        """Have the host keep the disk as it is now, after a step. The key is the job's."""

    def silence(self) -> list[str]:
        """Stop all that would write into the image while it is cleaned; return what could not be done."""
        return []

    def empty_swap(self) -> list[str]:
        """Remove the machine's memory from its swap; return what could not be done."""
        return []

    def trim(self) -> None:
        """Trim the disks."""

    def turn_off(self, *, failed: bool) -> int:
        """End for good."""
        return END_FAILED if failed else END

    def reboot(self) -> int:
        """End, to start again."""
        return END_REBOOT


class BuildMachine(NoMachine):
    """This machine."""

    host = "http://169.254.169.254"  # where a VM of one machine finds it
    _is_kept = True  # the disk, by the host
    _started: frozenset[str] = frozenset()  # the units that were active at the beginning of the job

    def shell_port(self) -> int:
        """Open the connection on which a person gets a shell, both ways; return its descriptor. OSError."""
        from .virtio_port import open_port  # few jobs are held

        return open_port(SHELL_PORT)

    def prepare(self, *, grows: bool) -> str:
        """Grow the root file system; on Container-Optimized OS, whose root is never written to, set up the machine."""
        self._started = frozenset(started())
        if system_id("/") == COS:
            from ..cos.cos import set_up_cos

            set_up_cos(self._console)
            return ""
        return grow_root(self._console) if grows else ""

    def add_scratch(self) -> str:
        """Mount the blank disk, after formatting it where it is new; return what is wrong, or ""."""
        from .scratch_disk import mount  # few builds have one

        return mount(self._console)

    def drop_scratch(self) -> None:
        """Unmount the blank disk for good."""
        from .scratch_disk import unmount

        unmount()

    def keep(self, index: int, key: str) -> None:
        """Have the host keep the disk as it is now, after a step; whatever it says, the job goes on.

        A host that has not kept it once keeps it no more until the machine restarts.
        """
        if not self._is_kept:
            return
        os.sync()
        from ..system.http import request  # where reports are published, it is there already

        data = layer_request(index)
        try:
            headers = {LAYER_SIGNATURE: sign(key, data)}
            status, _ = request("POST", f"{self.host}{KEEP_LAYER}{index}", headers, data, KEEP_SECONDS)
            problem = "" if status == KEPT else f"HTTP {status}"
        except OSError as error:
            problem = str(error)
        if problem:
            self._is_kept = False
            self._console.say(f"the host keeps the results of no more steps: {problem}")

    def silence(self) -> list[str]:
        """End what the steps left running, stop all services, and keep log daemons from writing to the disk."""
        process.kill_leftovers()
        problem = stop_services(self._started)
        if os.path.exists(JOURNAL_ON_DISK):
            self._relinquish_journal()
        if system_id("/") == COS:
            self._run("systemctl", "stop", *COS_UNITS)  # stops the others also where one of them does not exist
        return [problem] if problem else []

    def empty_swap(self) -> list[str]:
        """Remove the machine's memory from its swap; return what could not be done."""
        if "/" not in _read("/proc/swaps") and "swap" not in _read("/etc/fstab"):
            return []
        from .swap import empty_swap  # few machines have any

        return empty_swap()

    def trim(self) -> None:
        """Trim the disks."""
        give_back(self._console)

    def turn_off(self, *, failed: bool) -> int:
        """Power off with the file systems clean.

        Where the kernel makes the only disk read-only, no process has a file on it open for writing, or a deleted file
        open: no process needs to end first, and the power can go at once. Else systemd ends all processes, unmounts
        and powers off, which takes 0.2 s longer on an emulated CPU.
        """
        self._console.flush()
        if self._make_read_only():
            with open(SYSRQ, "w", encoding="ascii") as trigger:
                trigger.write("o")
            time.sleep(SYSRQ_SECONDS)
        os.sync()
        return self._go_down(POWER_OFF_AT_ONCE, "poweroff")

    def reboot(self) -> int:
        """Reboot as an administrator would."""
        os.sync()
        return self._go_down(REBOOT_IN_ORDER, "reboot")

    def _make_read_only(self) -> bool:
        found = disks()
        if [disk.path for disk in found] != ["/"] or not os.access(SYSRQ, os.W_OK):
            return False
        return self._run("mount", "-o", "remount,ro", found[0].source, "/") == 0

    def _go_down(self, number: int, program: str) -> int:
        if os.path.isdir("/" + SYSTEMD):
            os.kill(1, number)
            time.sleep(PATIENCE)  # ends early: systemd kills this process
        self._run(program, "-f")
        time.sleep(PATIENCE)
        return END_FAILED

    def _run(self, name: str, *arguments: str) -> int:
        """Run a program without its output; return its exit status, -1 where there is no such program."""
        program = process.find_program(name)
        if not program:
            return -1
        return process.run_quietly([program, *arguments])

    def _relinquish_journal(self) -> None:
        """Make journald close its files on the disk and go on in memory: `journalctl --relinquish-var`, by Varlink."""
        import socket

        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(JOURNAL_SECONDS)
        try:
            connection.connect(JOURNAL_SOCKET)
            connection.sendall(b'{"method":"io.systemd.Journal.RelinquishVar","parameters":{}}\0')
            answer = connection.recv(4096)
            if b'"error"' in answer:
                self._console.say(f"journald: {answer.decode('utf-8', 'replace')[:200]}")
        except OSError as error:
            self._console.say(f"journald may write to the disk until the end: {error}")
        finally:
            connection.close()


def grow_root(console: StepConsole) -> str:
    """Grow the root file system to its partition. Return a note for people if that fails, else "".

    The partition may have been made larger before this machine booted.
    """
    try:
        kind, device = _root_mount()
        name = os.path.basename(os.readlink("/sys/dev/block/" + device))
        with open(f"/sys/dev/block/{device}/size", encoding="ascii") as file:
            partition = int(file.read()) * SECTOR
        with open(f"/dev/{name}", "rb") as disk:
            size = file_system_size(disk.read(FILE_SYSTEM_HEAD))
    except OSError:
        return ""  # not on a disk of its own: overlays, network file systems, memory
    if size is None or partition - size < SLACK:
        return ""
    return _grow(kind, name, partition, console)


def _root_mount() -> tuple[str, str]:
    """Return the kind of the root file system, and the MAJOR:MINOR of its disk. OSError where it is not on a disk."""
    root = [mount for mount in mounts() if mount.path == "/"][-1]
    device = root.device
    if device.startswith("0:"):  # btrfs: the number is not its disk's
        number = os.stat(root.source).st_rdev
        device = f"{os.major(number)}:{os.minor(number)}"
    return root.kind, device


def _grow(kind: str, name: str, partition: int, console: StepConsole) -> str:
    command, package = {
        "ext": (["resize2fs", f"/dev/{name}"], "e2fsprogs"),
        "xfs": (["xfs_growfs", "/"], "xfsprogs"),
        "btrfs": (["btrfs", "filesystem", "resize", "max", "/"], "btrfs-progs"),
    }["ext" if kind.startswith("ext") else kind]
    program = process.find_program(command[0])
    if not program:
        return f"the root file system stays smaller than its disk: this image has no {command[0]} (package {package})"
    status = process.run_quietly([program, *command[1:]])
    if status:
        return f"the root file system stays smaller than its disk: {command[0]} ended with status {status}"
    console.say(f"the root file system now fills its {partition >> 20} MiB")
    return ""
