"""The machine as a whole: stop what writes, give free blocks back, power off, reboot.

`Machine` is the one we run on. `NoMachine` is a tree of files that nothing runs from (`--no-power`): there is nothing
to stop, and turning off is ending.
"""

from __future__ import annotations

import os
import time

from . import process
from .free_blocks import disks, give_back
from .os_release import COS, system_id
from .output import Console
from .root_disk import grow_root

END, END_FAILED, END_REBOOT = 0, 1, 194  # exit statuses of a provisioner that turns nothing off

JOURNAL_ON_DISK = "/run/systemd/journal/flushed"  # exists once journald writes below /var
JOURNAL_SOCKET = "/run/systemd/journal/io.systemd.journal"
JOURNAL_SECONDS = 5.0
SYSLOG_PIDS = ("run/rsyslogd.pid", "run/syslog-ng.pid", "run/syslogd.pid")
SYSLOG_UNITS = ("syslog.socket", "rsyslog.service", "syslog-ng.service")
COS_UNITS = (  # what writes below /var of Container-Optimized OS, some of it when it is stopped
    *("crash-reporter.service", "crash-sender.service", "device_policy_manager.service"),
    *("metrics-daemon.service", "update-engine.service", "systemd-random-seed.service"),
    *("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald-audit.socket"),
    "systemd-journald.service",
)

SYSTEMD = "/run/systemd/system"  # exists while systemd is the init, sd_booted(3)
SIGRTMIN = 34
POWER_OFF_AT_ONCE = SIGRTMIN + 14  # systemd(1): no unit is stopped, so none writes its state back into the image
REBOOT_IN_ORDER = SIGRTMIN + 5  # systemd(1): reboot.target, for what the steps installed and started
SYSRQ = "/proc/sysrq-trigger"
SYSRQ_SECONDS = 10.0
PATIENCE = 120.0  # seconds for a machine to go down before it is tried by harder means


def units_to_stop(root: str) -> tuple[str, ...]:
    """Give the units of the system below `root` that would write into the image while it is cleaned."""
    has_syslog = any(os.path.exists(os.path.join(root, path)) for path in SYSLOG_PIDS)
    return (*(SYSLOG_UNITS if has_syslog else ()), *(COS_UNITS if system_id(root) == COS else ()))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""


class NoMachine:
    """A tree of files."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def prepare(self) -> str:
        """Make the machine ready for the steps; give a note for people."""
        return ""

    def add_scratch(self) -> str:
        """Mount the blank disk that the machine was made with; give what is wrong, or nothing."""
        return ""

    def drop_scratch(self) -> None:
        """Unmount it for good."""

    def silence(self) -> None:
        """Stop what would write into the image while it is cleaned."""

    def empty_swap(self) -> list[str]:
        """Take the machine's memory out of its swap; return what could not be done."""
        return []

    def trim(self) -> None:
        """Give free blocks back to the disks."""

    def turn_off(self, *, failed: bool) -> int:
        """End for good."""
        return END_FAILED if failed else END

    def reboot(self) -> int:
        """End to begin again."""
        return END_REBOOT


class Machine(NoMachine):
    """This machine."""

    def prepare(self) -> str:
        """Let the root file system fill its partition, or do what a system needs that is never written to."""
        if system_id("/") == COS:
            from .cos import set_up

            set_up(self._console)
            return ""
        return grow_root(self._console)

    def add_scratch(self) -> str:
        """Mount the blank disk, formatted where it is new; give what is wrong, or nothing."""
        from .scratch_disk import mount  # few builds have one

        return mount(self._console)

    def drop_scratch(self) -> None:
        """Unmount it for good."""
        from .scratch_disk import unmount

        unmount()

    def silence(self) -> None:
        """Kill what the steps left behind, and let no log daemon write to the disk."""
        process.kill_leftovers()
        if os.path.exists(JOURNAL_ON_DISK):
            self._relinquish_journal()
        units = units_to_stop("/")
        if units:
            self._run("systemctl", "stop", *units)  # one that is not there keeps no other from being stopped

    def empty_swap(self) -> list[str]:
        """Take the machine's memory out of its swap; return what could not be done."""
        if b"/" not in _read("/proc/swaps") and b"swap" not in _read("/etc/fstab"):
            return []
        from .swap import empty_swap  # few machines have any

        return empty_swap()

    def trim(self) -> None:
        """Give free blocks back to the disks."""
        give_back(self._console)

    def turn_off(self, *, failed: bool) -> int:
        """Power off with the file systems clean.

        If the kernel lets the only disk become read-only, then no process has a file of it open for writing, or one
        that was deleted: nobody needs to be asked to end, and the power can go at once. Else systemd ends all
        processes, unmounts and powers off, which takes 0.2 s longer on an emulated CPU.
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
        return self._run("mount", "-o", "remount,ro", found[0].device, "/") == 0

    def _go_down(self, number: int, program: str) -> int:
        if os.path.isdir(SYSTEMD):
            os.kill(1, number)
            time.sleep(PATIENCE)  # cut short by what ends us
        self._run(program, "-f")
        time.sleep(PATIENCE)
        return END_FAILED

    def _run(self, name: str, *arguments: str) -> int:
        """Run a program without a word from it; give its exit status."""
        program = process.find_program(name)
        if not program:
            return -1
        quiet = [(os.POSIX_SPAWN_OPEN, handle, os.devnull, os.O_RDWR, 0) for handle in (1, 2)]
        child = os.posix_spawn(program, [name, *arguments], {"PATH": "/usr/sbin:/usr/bin"}, file_actions=quiet)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _relinquish_journal(self) -> None:
        """Let journald close its files on the disk and go on in memory: `journalctl --relinquish-var`, in Varlink."""
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
