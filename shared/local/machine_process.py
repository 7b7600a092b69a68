"""One running QEMU: its serial ports written to files, a kernel panic noticed, its end explained.

One thread for each machine waits for whatever comes first: bytes on a serial port, or the end of the process. The
guest is not trusted: a file takes SERIAL_LIMIT bytes of each port, and what follows is dropped.
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

from ..errors import Permanent
from ..events import Stop
from .monitor import Monitor
from .qemu_command import MachineSpec, drive_of

LOG = logging.getLogger(__name__)

SERIAL_LIMIT = 64 << 20  # bytes of a serial port that are kept
TRUNCATED = b"\n[goldsmith: the machine has written too much; the rest is not kept]\n"
CHUNK = 1 << 16
COMPLAINT = 2000  # characters of what QEMU said that are quoted

# The kernel writes this at the start of a line, after its time; a step's output has the step's name there.
PANIC = re.compile(rb"^(?:\[ *[0-9]+\.[0-9]+\] )?Kernel panic - not syncing: ([^\r\n]*)\r?\n", re.MULTILINE)
_LINE_LIMIT = 4096


@dataclass(frozen=True)
class Outcome:
    """How a machine ended."""

    how: Stop
    detail: str = ""


@dataclass
class SerialPort:
    """The host's end of a serial port and the file that it is written to."""

    connection: socket.socket
    file: FileIO
    watched: bool = False  # for the kernel's last words
    _written: int = 0
    _tail: bytes = b""

    def copy(self) -> tuple[bool, str | None]:
        """Copy what there is; give whether more may follow, and the kernel's last words if they were among it."""
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
        except OSError as error:  # the machine goes on: it must not wait for a port that nobody reads
            LOG.warning("%s: %s; the rest of a serial port's output is not kept", self.file.name, error.strerror)
            self._written = SERIAL_LIMIT

    def _panic(self, data: bytes) -> str | None:
        text = self._tail + data
        found = PANIC.search(text)
        self._tail = text[max(text.rfind(b"\n") + 1, len(text) - _LINE_LIMIT) :]
        return None if found is None else found[1].decode("utf-8", "replace")


@dataclass
class MachineProcess:
    """A QEMU that was started.

    `stderr` is the file with what it says; `on_end` is told the outcome, once; `resources` are closed after the end.
    """

    spec: MachineSpec
    process: subprocess.Popen[bytes]
    ports: Sequence[SerialPort]
    stderr: IO[bytes]
    on_end: Callable[[MachineSpec, MachineProcess, Outcome], None]
    resources: ExitStack
    monitor: Monitor | None = None  # a direct boot has none: its disks are NVMe, which a guest never sees grow
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
        """Make one of its disks `size` bytes large, and tell the guest; False when it has no such disk, or has ended.

        Transient when it ends at this moment; Permanent when its guest would not see it.
        """
        drive = drive_of(self.spec, disk)
        if drive is None or self.wait(0):
            return False
        if self.monitor is None:
            raise Permanent(
                f"disk {disk.stem}: machine {self.spec.name} was booted directly and would not see it grow; "
                "write local.boot: firmware"
            )
        self.monitor.resize(drive, size)
        return True

    def kill(self, reason: str) -> None:
        """End it at once; wait until all that it used is closed."""
        self._asked = self._asked or reason
        self.process.kill()
        if self._thread is not None:
            self._thread.join()

    def _follow(self) -> None:
        end = os.pidfd_open(self.process.pid)  # not reaped before wait() below, so the pid is still its own
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(end, selectors.EVENT_READ)
                for port in self.ports:
                    selector.register(port.connection, selectors.EVENT_READ, port)
                self._copy_until(selector, end)
            for port in self.ports:
                self._drain(port)
            self.process.wait()
            self.on_end(self.spec, self, self._outcome())
        finally:
            os.close(end)
            self._ended.set()
            self.resources.close()

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
        """Copy what the machine wrote last."""
        port.connection.setblocking(False)
        try:
            while self._copy(port):
                pass
        except BlockingIOError:
            pass

    def _outcome(self) -> Outcome:
        status = self.process.returncode
        self.stderr.seek(0)
        complaint = self.stderr.read().decode("utf-8", "replace").strip()[-COMPLAINT:]
        if self._panic is not None:
            return Outcome("panicked", f"kernel panic: {self._panic}")
        if self._asked is not None:
            return Outcome("lost", self._asked)
        if status == 0 and "terminating on signal" not in complaint:
            return Outcome("powered-off")
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return Outcome("lost", f"QEMU {how}" + (f": {complaint}" if complaint else ""))
