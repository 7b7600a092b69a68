"""One running QEMU: write its serial ports to files, notice a kernel panic, and say how it ended.

QEMU itself restarts a machine whose guest wants that, but in a direct boot it would start the old kernel again. There
it ends instead, and is started anew with the kernel that the image's boot loader would start now.

One thread for each machine waits for bytes on a serial port and for the end of the process. The guest is not trusted:
a file takes SERIAL_LIMIT bytes of each port, and the rest is dropped.
"""

from __future__ import annotations

import logging
import os
import re
import selectors
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import IO

from ..build.events import Stop
from ..errors import GoldsmithError, Permanent
from .monitor import Monitor
from .qemu import MachineSpec, drive_of, given_disk

LOG = logging.getLogger(__name__)

SERIAL_LIMIT = 64 << 20  # bytes of a serial port that are kept
TRUNCATED = b"\n[goldsmith: the machine has written too much; the rest is not kept]\n"
CHUNK = 1 << 16
FIRST_GIVEN = 64  # number on its controller of the first disk that a machine is given while it runs
COMPLAINT = 2000  # characters of QEMU's last messages that are quoted

# The kernel writes this at the start of a line, behind the time. A step's output has the step's name there.
PANIC = re.compile(rb"^(?:\[ *[0-9]+\.[0-9]+\] )?Kernel panic - not syncing: ([^\r\n]*)\r?\n", re.MULTILINE)
_LINE_LIMIT = 4096


@dataclass(frozen=True)
class MachineEnd:
    """The end of a machine, and its cause."""

    how: Stop
    detail: str = ""


@dataclass
class SerialPort:
    """The host's end of a serial port, and the file that its output goes to."""

    connection: socket.socket
    file: FileIO
    watched: bool = False  # for a kernel panic
    _written: int = 0
    _tail: bytes = b""

    def __post_init__(self) -> None:
        self._written = os.fstat(self.file.fileno()).st_size  # before the machine's restart

    def copy(self) -> tuple[bool, str | None]:
        """Copy what has arrived. Return whether more may follow, and the message of a kernel panic in it."""
        try:
            data = self.connection.recv(CHUNK)
        except ConnectionResetError:
            data = b""
        if data:
            self._keep(data)
        return bool(data), self._panic(data) if self.watched else None

    def _keep(self, data: bytes) -> None:
        room = SERIAL_LIMIT - self._written
        if room <= 0:
            return
        try:
            self.file.write(data[:room] + (TRUNCATED if len(data) >= room else b""))
            self._written += len(data)
        except OSError as error:  # go on reading: the machine would wait for a port that is not read
            LOG.warning("%s: %s; the rest of a serial port's output is not kept", self.file.name, error.strerror)
            self._written = SERIAL_LIMIT

    def _panic(self, data: bytes) -> str | None:
        text = self._tail + data
        found = PANIC.search(text)
        self._tail = text[max(text.rfind(b"\n") + 1, len(text) - _LINE_LIMIT) :]
        return None if found is None else found[1].decode("utf-8", "replace")


@dataclass(frozen=True)
class Running:
    """A QEMU, with the host's ends of its serial ports and of its monitor."""

    process: subprocess.Popen[bytes]
    ports: Sequence[SerialPort]
    monitor: Monitor
    shell: socket.socket | None = None


@dataclass
class MachineProcess:
    """A QEMU that was started.

    `stderr` is the file that its messages go to. `on_end` is called once, with the outcome. `resources` are closed
    after the end.
    """

    spec: MachineSpec
    process: subprocess.Popen[bytes]
    ports: Sequence[SerialPort]
    stderr: IO[bytes]
    on_end: Callable[[MachineSpec, MachineProcess, MachineEnd], None]
    resources: ExitStack
    monitor: Monitor | None = None
    again: Callable[[], Running] | None = None  # starts a direct boot's QEMU again; raises GoldsmithError
    shell: socket.socket | None = None  # to the provisioner of a job that may hold the machine
    on_hold: Sequence[Callable[[], object]] = ()  # called before a person gets the shell: nothing more is kept or given
    _turn: threading.Lock = field(default_factory=threading.Lock)  # of starting it again, and of ending it
    _ended: threading.Event = field(default_factory=threading.Event)
    _asked: str | None = None  # why this process killed it
    _panic: str | None = None
    _thread: threading.Thread | None = None

    def watch(self) -> None:
        """Start the thread that follows the machine to its end."""
        self._thread = threading.Thread(target=self._follow, daemon=True, name=f"machine-{self.spec.name}")
        self._thread.start()

    def wait(self, seconds: float | None) -> bool:
        """Wait until the machine has ended and its outcome is known."""
        return self._ended.wait(seconds)

    def grow(self, disk: Path, size: int) -> bool:
        """Grow one of its disks to `size` bytes, and tell the guest. Return False if it has no such disk, or has ended.

        Raises Transient when it ends at this moment, Permanent when its guest would not see the new size.
        """
        drive = drive_of(self.spec, disk)
        if drive is None or self.wait(0):
            return False
        if self.monitor is None or self.again is not None:  # disks are NVMe, which a guest never sees grow
            raise Permanent(
                f"disk {disk.stem}: machine {self.spec.name} was booted directly and would not see it grow; "
                "write local.boot: firmware"
            )
        self.monitor.resize(drive, size)
        return True

    def attach(self, disk: Path, device: str, number: int) -> None:
        """Attach one disk more, which the machine sees at once and can only read. Transient, Permanent."""
        if self.monitor is None or not self.spec.takes_disks:
            raise Permanent(f"machine {self.spec.name} takes no disk while it runs")
        self.monitor.attach(f"given{number}", disk, given_disk(device, FIRST_GIVEN + number, self.again is not None))

    def kill(self, reason: str) -> None:
        """End it at once, and wait until its resources are closed."""
        with self._turn:
            self._asked = self._asked or reason
            self.process.kill()
        if self._thread is not None:
            self._thread.join()

    def _follow(self) -> None:
        try:
            self._follow_to_the_end()
            while self._starts_again():
                self._follow_to_the_end()
            self.on_end(self.spec, self, self._outcome())
        finally:
            self._ended.set()
            self.resources.close()

    def _follow_to_the_end(self) -> None:
        end = os.pidfd_open(self.process.pid)  # the pid is still its own: it is reaped by wait() below
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(end, selectors.EVENT_READ)
                for port in self.ports:
                    selector.register(port.connection, selectors.EVENT_READ, port)
                self._copy_until(selector, end)
            for port in self.ports:
                self._drain(port)
            self.process.wait()
        finally:
            os.close(end)

    def _starts_again(self) -> bool:
        """Start QEMU again if it has ended because its guest wants a restart. Return whether it runs."""
        if self.again is None or self.monitor is None or self._panic is not None or not self.monitor.was_reset():
            return False
        with self._turn:
            if self._asked is not None:
                return False
            try:
                running = self.again()
            except (GoldsmithError, OSError, RuntimeError) as error:  # RuntimeError: this process is about to end
                self._asked = f"it could not be started again: {error}"
                return False
            self.process, self.ports, self.monitor = running.process, running.ports, running.monitor
            self.shell = running.shell
        return True

    def _copy_until(self, selector: selectors.BaseSelector, end: int) -> None:
        while True:
            ready = [key for key, _ in selector.select()]
            for key in ready:
                if isinstance(key.data, SerialPort) and not self._copy(key.data):
                    selector.unregister(key.fileobj)
            if any(key.fd == end for key in ready):
                return

    def _copy(self, port: SerialPort) -> bool:
        more, panic = port.copy()
        if panic is not None and self._panic is None:
            self._panic = panic
            self.process.kill()
        return more

    def _drain(self, port: SerialPort) -> None:
        """Copy what the machine wrote before its end."""
        port.connection.setblocking(False)
        try:
            while self._copy(port):
                pass
        except BlockingIOError:
            pass

    def _outcome(self) -> MachineEnd:
        status = self.process.returncode
        self.stderr.seek(max(0, self.stderr.seek(0, os.SEEK_END) - 4 * COMPLAINT))
        complaint = self.stderr.read().decode("utf-8", "replace").strip()[-COMPLAINT:]
        if self._panic is not None:
            return MachineEnd("panicked", f"kernel panic: {self._panic}")
        if self._asked is not None:
            return MachineEnd("lost", self._asked)
        if status == 0 and "terminating on signal" not in complaint:
            return MachineEnd("powered-off")
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        what = "QEMU" if self.spec.engine == "vm" else "the sandbox"
        return MachineEnd("lost", f"{what} {how}" + (f": {complaint}" if complaint else ""))
