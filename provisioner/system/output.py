"""The output of a step: it goes to the step's log and to the console, and its end into the report of a failure.

Memory is bounded whatever a step writes: lines are cut at LINE_LIMIT, the console gets CONSOLE_LIMIT bytes of one try,
and the log is two files, the older of which is replaced when the newer one is full.
"""

from __future__ import annotations

import os
import select
import time

from ..protocol import OUTPUT_LIMIT
from .redaction import Redactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable

LINE_LIMIT = 4096  # bytes; the console gets a longer line in pieces
CONSOLE_LIMIT = 4 << 20  # bytes of one try: a serial console takes 0.7 MB/s, and must not hold up a step for long
LOG_LIMIT = 32 << 20  # bytes of each of a log's two files: the log lies on the disk that becomes the image
TIOCOUTQ = 0x5411  # linux/tty: returns how many bytes a terminal has yet to send
FLUSH_SECONDS = 1.0
CONSOLE_PATIENCE = 2.0  # seconds without a byte after which a console is given up

_CONTROLS = bytes(byte if (byte >= 32 and byte != 127) or byte in b"\t\n" else ord("?") for byte in range(256))


class StepConsole:
    """The machine's console, which people and the host's log read. Never raises, never blocks for long."""

    def __init__(self, path: str) -> None:
        self._handle = 1
        if path != "-":
            try:
                self._handle = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                self._handle = 1
        self._dead = False

    def say(self, text: str) -> None:
        """Print a line from the provisioner itself."""
        self.write(f"goldsmith: {text}\n".encode("utf-8", "replace"))

    def flush(self) -> None:
        """Wait until all output has left."""
        flush(self._handle)

    def write(self, data: bytes) -> None:
        """Print whole lines."""
        view = memoryview(data)
        while view and not self._dead:
            try:
                if writable(self._handle, CONSOLE_PATIENCE):
                    view = view[os.write(self._handle, view[: select.PIPE_BUF]) :]
                else:
                    self._dead = True
            except BlockingIOError:
                continue
            except OSError:
                self._dead = True


def flush(handle: int) -> None:
    """Wait until a terminal has sent all that it accepted; a power-off would lose the rest."""
    import fcntl

    until = time.monotonic() + FLUSH_SECONDS
    try:
        while int.from_bytes(fcntl.ioctl(handle, TIOCOUTQ, bytes(4)), "little") and time.monotonic() < until:
            time.sleep(0.001)
    except OSError:
        pass  # not a terminal, or one without this call


def writable(handle: int, seconds: float) -> bool:
    """Wait until a handle accepts more bytes; return False after `seconds`."""
    poller = select.poll()
    poller.register(handle, select.POLLOUT)
    return bool(poller.poll(seconds * 1000))


class ProgramOutput:
    """What a program prints. `tail` is its last OUTPUT_LIMIT bytes."""

    def __init__(self) -> None:
        self.tail = b""

    def feed(self, data: bytes) -> None:
        """Add the next piece of output."""
        self.tail = data[-OUTPUT_LIMIT:] if len(data) >= OUTPUT_LIMIT else (self.tail + data)[-OUTPUT_LIMIT:]


class StepOutput(ProgramOutput):
    """One try's output. `tail` is its last OUTPUT_LIMIT bytes. It has none of the `hidden` texts."""

    def __init__(self, name: str, log: str, console: StepConsole, hidden: Sequence[bytes] = ()) -> None:
        super().__init__()
        self._redactor = Redactor(hidden) if hidden else None
        self._prefix = f"[step {name}] ".encode("utf-8", "replace").replace(b"\n", b" ")
        self._console = console
        self._shown = 0
        self._line = b""
        self._path = log
        self._log = -1
        self._logged = 0
        self._logging(self._open)

    def hide(self, text: str) -> str:
        """Return a text without what no output may show."""
        if self._redactor is None:
            return text
        return self._redactor.hide(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def say(self, text: str) -> None:
        """Add a line from the provisioner to the step's output."""
        self.feed(text.encode("utf-8", "replace") + b"\n")

    def feed(self, data: bytes) -> None:
        """Add the next piece of output."""
        self._add(data if self._redactor is None else self._redactor.feed(data))

    def _add(self, data: bytes) -> None:
        if self._log >= 0:
            self._logging(lambda: self._keep(data))
        super().feed(data)
        if self._shown <= CONSOLE_LIMIT:
            self._show(data)

    def close(self) -> None:
        """Print the text after the last newline, and close the log."""
        if self._redactor is not None:
            self._add(self._redactor.rest())
        if self._line:
            self._show(b"\n")
        if self._log >= 0:
            os.close(self._log)

    def _logging(self, act: Callable[[], None]) -> None:
        """Do something with the log; where the disk accepts no more, say so and go on without the log."""
        try:
            act()
        except OSError as error:
            self._log = -1
            self._console.say(f"{self._path}: {error.strerror}: this step's output goes to the console only")

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._log = os.open(self._path, flags, 0o600)
        self._logged = os.fstat(self._log).st_size

    def _keep(self, data: bytes) -> None:
        if self._logged + len(data) > LOG_LIMIT:
            os.close(self._log)
            os.replace(self._path, self._path + ".old")
            self._open()
        view = memoryview(data)
        while view:
            view = view[os.write(self._log, view) :]
        self._logged += len(data)

    def _show(self, data: bytes) -> None:
        lines = (self._line + data).split(b"\n")
        self._line = lines.pop()
        while len(self._line) > LINE_LIMIT:
            lines.append(self._line[:LINE_LIMIT])
            self._line = self._line[LINE_LIMIT:]
        if not lines:
            return
        shown = b"".join(self._prefix + _last_state(line) + b"\n" for line in lines).translate(_CONTROLS)
        self._shown += len(shown)
        self._console.write(shown)
        if self._shown > CONSOLE_LIMIT:
            self._line = b""
            self._console.write(self._prefix + b"... too much for the console: the rest is in the step's log\n")


def _last_state(line: bytes) -> bytes:
    r"""Return the last state of a line that overwrites itself, such as a progress bar.

    A last state that is shorter than an earlier one would leave the end of that on a terminal. In such a line carriage
    returns are part of the text, and are shown: invalid user name 'app\r'.
    """
    states = line.rstrip(b"\r").split(b"\r")
    if len(states[-1]) < max(map(len, states)):
        return b"\\r".join(states)
    return states[-1]
