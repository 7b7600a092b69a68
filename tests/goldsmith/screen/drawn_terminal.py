"""A terminal of a test's own: runs a command on a pty, and keeps what a person would see after each thing it wrote."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LIMIT = 240  # seconds for one command
_PARTS = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class Screen:
    """The lines of a terminal, for what the live view writes: text, line ends, cursor up, and lines erased."""

    def __init__(self) -> None:
        self.lines: list[str] = [""]
        self.row = self.column = 0

    def write(self, text: str) -> None:
        """Take what a program has written."""
        for numbers, letter, end, plain in _PARTS.findall(text):
            if plain:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + plain + line[self.column + len(plain) :]
                self.column += len(plain)
            elif end == "\r":
                self.column = 0
            elif end == "\n":
                self.row += 1
                self.lines.extend([""] * (self.row + 1 - len(self.lines)))
            elif letter == "A":
                self.row = max(0, self.row - int(numbers or 1))
            elif letter == "K":
                self.lines[self.row] = "" if numbers == "2" else self.lines[self.row][: self.column]

    @property
    def text(self) -> str:
        """What is seen."""
        return "\n".join(line.rstrip() for line in self.lines)


def watched(
    words: Sequence[str | Path],
    *,
    size: tuple[int, int] = (100, 30),
    environment: Mapping[str, str] | None = None,
    typing: Callable[[str], str] = lambda seen: "",
    typed: bytes = b"",
) -> tuple[int, str, list[str]]:
    """Run a command on a terminal; return its exit status, all that it wrote, and what was seen after each piece.

    `typed` is typed before it begins, and what `typing` returns each time that something else is seen.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    if typed:
        os.write(ours, typed)
    process = subprocess.Popen(
        [sys.executable, "-m", "goldsmith", *map(str, words)],
        cwd=ROOT,
        env={**without_size(), "TERM": "xterm-256color", **(environment or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    screen, written, seen = Screen(), b"", []
    given_up = threading.Timer(LIMIT, process.kill)
    given_up.start()
    try:
        while piece := os.read(ours, 65536):
            written += piece
            screen.write(piece.decode("utf-8", "replace"))
            seen.append(screen.text)
            os.write(ours, typing(screen.text).encode())
    except OSError:  # EIO: the other end is closed
        pass
    given_up.cancel()
    os.close(ours)
    return process.wait(LIMIT), written.decode("utf-8", "replace"), seen


def without_size() -> dict[str, str]:
    """The environment without what would say another size than the terminal's."""
    return {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
