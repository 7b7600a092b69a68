"""A terminal that a test types into: a pty, with a command that has it as its own."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Self

from tests.system.command import ROOT

LIMIT = 240.0  # seconds
CHUNK = 1 << 16
QUIET = 0.2  # seconds between looks


class Terminal:
    """One command on a pty, which is its controlling terminal. Leaving the context ends it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._ours, theirs = os.openpty()
        self.resize(24, 80)
        self._shown = ""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm", **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.close()

    def resize(self, rows: int, columns: int) -> None:
        """Change its size."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Type."""
        os.write(self._ours, text.encode())

    def until(self, text: str, seconds: float = LIMIT) -> str:
        """Wait until a text is shown; return what was shown up to its end, which is not looked at again."""
        end = time.monotonic() + seconds
        while text not in self._shown:
            if not self._read(end - time.monotonic()):
                raise AssertionError(f"{text!r} was not shown:\n{self._shown}")
        shown, _, self._shown = self._shown.partition(text)
        return shown + text

    def look(self, seconds: float) -> str:
        """Return what is shown, and what comes within some seconds; it is not looked at again."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and self._read(left):
            pass
        shown, self._shown = self._shown, ""
        return shown

    def close(self) -> None:
        """Close the terminal, as a window is closed."""
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1

    def finish(self) -> int:
        """Wait for the end of the command; return its exit status."""
        while self.process.poll() is None:
            self._read(QUIET)
        return self.process.returncode

    def _read(self, seconds: float) -> bool:
        """Take what is shown within some seconds; return whether there may be more."""
        if self._ours < 0 or not is_readable(self._ours, seconds):
            time.sleep(0 if self._ours >= 0 else QUIET)
            return False
        try:
            data = os.read(self._ours, CHUNK)
        except OSError:  # EIO: no process has it open any more
            data = b""
        self._shown += data.decode("utf-8", "replace")
        return bool(data)


def is_readable(descriptor: int, seconds: float) -> bool:
    """Return whether there is something to read within some seconds; select() knows no descriptor above 1023."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(max(0.0, seconds) * 1000))
