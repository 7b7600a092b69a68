"""The machine as a whole: stop what writes, give free blocks back, power off, reboot.

`Machine` is the one we run on. `NoMachine` is a tree of files that nothing runs from (`--no-power`): there is nothing
to stop, and turning off is ending.
"""

from __future__ import annotations

import os
import time

from . import process
from .output import Console
from .root_disk import grow_root

END, END_FAILED, END_REBOOT = 0, 1, 194  # exit statuses of a provisioner that turns nothing off

JOURNAL_SOCKET = "/run/systemd/journal/io.systemd.journal"
JOURNAL_SECONDS = 5.0
SYSLOG_PIDS = ("/run/rsyslogd.pid", "/run/syslog-ng.pid", "/run/syslogd.pid")
STOP_SYSLOG = ("stop", "syslog.socket", "rsyslog.service", "syslog-ng.service")

FITRIM = 0xC0185879  # linux/fs.h: _IOWR('X', 121, struct fstrim_range)
TRIMMED = ("ext4", "xfs", "btrfs")

SYSTEMD = "/run/systemd/system"  # exists while systemd is the init, sd_booted(3)
SIGRTMIN = 34
POWER_OFF_AT_ONCE = SIGRTMIN + 14  # systemd(1): no unit is stopped, so none writes its state back into the image
REBOOT_IN_ORDER = SIGRTMIN + 5  # systemd(1): reboot.target, for what the steps installed and started
PATIENCE = 120.0  # seconds for a machine to go down before it is tried by harder means


class NoMachine:
    """A tree of files."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def prepare(self) -> str:
        """Make the machine ready for the steps; give a note for people."""
        return ""

    def silence(self) -> None:
        """Stop what would write into the image while it is cleaned."""

    def trim(self) -> None:
        """Give free blocks back to the disks."""

    def turn_off(self, failed: bool) -> int:
        """End for good."""
        return END_FAILED if failed else END

    def reboot(self) -> int:
        """End to begin again."""
        return END_REBOOT


class Machine(NoMachine):
    """This machine."""

    def prepare(self) -> str:
        """Let the root file system fill its partition."""
        return grow_root(self._console)

    def silence(self) -> None:
        """Kill what the steps left behind, and let no log daemon write to the disk."""
        process.kill_leftovers()
        if os.path.isdir("/var/log/journal"):
            self._relinquish_journal()
        if any(os.path.exists(path) for path in SYSLOG_PIDS):
            self._run("systemctl", *STOP_SYSLOG)

    def trim(self) -> None:
        """FITRIM on all disks; what fstrim does, without starting it."""
        import fcntl
        import struct

        os.sync()  # blocks freed by files that were only just removed are not free on the disk yet
        for path in _mounted(TRIMMED):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(handle, FITRIM, struct.pack("QQQ", 0, 2**64 - 1, 0))
            except OSError as error:
                self._console.say(f"{path}: free blocks are not given back to the disk: {error.strerror}")
            finally:
                os.close(handle)

    def turn_off(self, failed: bool) -> int:
        """Power off at once and cleanly: systemd ends all processes, then syncs, unmounts and turns the machine off."""
        os.sync()
        return self._go_down(POWER_OFF_AT_ONCE, "poweroff")

    def reboot(self) -> int:
        """Reboot as an administrator would."""
        os.sync()
        return self._go_down(REBOOT_IN_ORDER, "reboot")

    def _go_down(self, number: int, program: str) -> int:
        if os.path.isdir(SYSTEMD):
            os.kill(1, number)
            time.sleep(PATIENCE)  # ended by the signal that ends us
        self._run(program, "-f")
        time.sleep(PATIENCE)
        return END_FAILED

    def _run(self, name: str, *arguments: str) -> None:
        program = process.find_program(name)
        if program:
            child = os.posix_spawn(program, [name, *arguments], {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
            os.waitpid(child, 0)

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


def _mounted(kinds: tuple[str, ...]) -> list[str]:
    """Give one mount point of each writable file system of these kinds."""
    found: dict[str, str] = {}
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            device, path, kind, options = line.split(" ")[:4]
            if kind in kinds and "rw" in options.split(","):
                found.setdefault(device, path)
    return list(found.values())
