"""Reports on a serial port of the machine, one line each: for VMs without a network, or with one that does not work."""

from __future__ import annotations

import binascii
import os
import termios

from ..protocol import SERIAL_MARK, Job, sign
from ..system.output import StepConsole, flush, writable
from .reports import Way

PATIENCE = 10.0  # seconds without a byte after which a report is given up


class ReportPort(Way):
    """Writes to job.report_port, or to the console where the machine has no such port."""

    def __init__(self, job: Job, console: StepConsole) -> None:
        super().__init__(job)
        self._console = console
        self._handle = open_first(job.report_port)
        self._lead = b"\n"  # ends a line that a power cut has left unfinished

    def deliver(self, reports: list[bytes]) -> bool:
        """Write them, a line each."""
        lines = b"".join(self._line(report) for report in reports)
        if self._handle is None:
            self._console.write(b"\n" + lines)
            return True
        view = memoryview(self._lead + lines)
        self._lead = b""
        try:
            while view:
                if not writable(self._handle, self.seconds_left(PATIENCE)):
                    self._lead = b"\n"
                    return False
                view = view[os.write(self._handle, view) :]
        except OSError as error:
            self._console.say(f"{self.job.report_port}: {error.strerror}")
            return False
        return True

    def run(self) -> None:
        """Send until closed and empty, and until the port has sent it too."""
        super().run()
        if self._handle is not None:
            flush(self._handle)

    def _line(self, data: bytes) -> bytes:
        text = binascii.b2a_base64(data, newline=False).decode()
        return f"{SERIAL_MARK} {text} {sign(self.job.key, data)}\n".encode()


def open_first(path: str) -> int | None:
    """Open a port by its name, else by its name on arm64: a PL011 port is ttyAMA2 where others are ttyS2."""
    folder, name = os.path.split(path)
    for each in (name, name.replace("ttyS", "ttyAMA")):
        handle = open_raw(os.path.join(folder, each))
        if handle is not None:
            return handle
    return None


def open_raw(path: str) -> int | None:
    """Open a port so that bytes leave unchanged; return None where it does not exist or does not work."""
    flags = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_APPEND
    try:
        handle = os.open(path, flags)
    except OSError:
        return None
    if not os.isatty(handle):
        return handle
    try:
        _, _, control, _, in_speed, out_speed, characters = termios.tcgetattr(handle)
        control = control & ~(termios.CSIZE | termios.PARENB) | termios.CS8 | termios.CLOCAL
        termios.tcsetattr(handle, termios.TCSANOW, [0, 0, control, 0, in_speed, out_speed, characters])
    except termios.error:  # the kernel makes four ttyS nodes whether the hardware is there or not
        os.close(handle)
        return None
    return handle
