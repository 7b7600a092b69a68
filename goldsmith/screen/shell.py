"""A person's terminal, connected with the shell of a held machine: raw while that lasts, and as it was afterwards.

What is typed goes to the machine, Ctrl-C as well. A machine that has stood still since a Ctrl-C is left by another one.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from provisioner.frames import INPUT, LONGEST, OPEN, OUTPUT, RESIZED, TOLD, BadFrame, FrameReader, frame
from shared.errors import InputError

CHUNK = 1 << 15
LOOK = 200.0  # milliseconds between looks at the terminal's size
INTERRUPT = b"\x03"
UNANSWERED = 0.5  # seconds between two Ctrl-C without a byte from the machine, after which it is left
LOST_TERMINAL = "the terminal was lost"
STILL = "the machine did not answer Ctrl-C, and was left"


def require_terminal(what: str) -> None:
    """Check that a person can use a shell here. InputError."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError(f"{what} needs a terminal, and standard input or output is none; run it in one")


def use_shell(connection: socket.socket, *, secrets: bool) -> str:
    """Use the shell at the other end until either side ends it; return a line about that, or ""."""
    with connection, _raw(sys.stdin.fileno()):
        return _Terminal(connection, sys.stdin.fileno(), sys.stdout.fileno(), secrets=secrets).run()


@contextmanager
def _raw(handle: int) -> Iterator[None]:
    """Pass each key on as it is, for the length of the block."""
    before = termios.tcgetattr(handle)
    tty.setraw(handle)
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(handle, termios.TCSADRAIN, before)


class _Terminal:
    def __init__(self, connection: socket.socket, keys: int, picture: int, *, secrets: bool) -> None:
        self._connection = connection
        self._keys = keys
        self._picture = picture
        self._reader = FrameReader()
        self._waiting = b""
        self._size = self._look()
        self._interrupted = 0.0  # when Ctrl-C was pressed, and nothing has come from the machine since
        wish = {**self._size, "term": os.environ.get("TERM", "dumb"), "secrets": secrets}
        self._send(OPEN, json.dumps(wish).encode())

    def run(self) -> str:
        """Pass bytes on until one side ends; return a line about the end, or ""."""
        self._connection.setblocking(False)
        while True:
            poller = select.poll()
            poller.register(self._keys, select.POLLIN)
            poller.register(self._connection, select.POLLIN | (select.POLLOUT if self._waiting else 0))
            handles = [handle for handle, _ in poller.poll(LOOK)]
            self._resize()
            if self._keys in handles:
                why = self._type()
                if why:
                    return why
            if self._connection.fileno() in handles:
                ended = self._exchange()
                if ended is not None:
                    return ended

    def _send(self, kind: bytes, payload: bytes) -> None:
        self._waiting += frame(kind, payload)

    def _look(self) -> dict[str, int]:
        try:
            size = os.get_terminal_size(self._picture)
        except OSError:
            return {"rows": 24, "columns": 80}
        return {"rows": size.lines, "columns": size.columns}

    def _resize(self) -> None:
        size = self._look()
        if size != self._size:
            self._size = size
            self._send(RESIZED, json.dumps(size).encode())

    def _type(self) -> str:
        """Send what was typed; return why the machine is left, or ""."""
        try:
            data = os.read(self._keys, CHUNK)
        except OSError:
            data = b""
        if not data or len(self._waiting) > LONGEST:
            return LOST_TERMINAL if not data else STILL
        if INTERRUPT in data:
            now = time.monotonic()
            if self._interrupted and now - self._interrupted >= UNANSWERED:
                return STILL
            self._interrupted = self._interrupted or now
        self._send(INPUT, data)
        return ""

    def _exchange(self) -> str | None:
        """Send what waits, and show what has come; return a line at the end of the connection."""
        if self._waiting:
            self._push()
        try:
            data = self._connection.recv(CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return ""
        try:
            frames = self._reader.feed(data)
        except BadFrame:
            return "the machine sent what is no output"
        for kind, payload in frames:
            if kind == TOLD:
                return payload.decode("utf-8", "replace")
            if kind == OUTPUT:
                self._interrupted = 0.0
                if not self._show(payload):
                    return LOST_TERMINAL
        return None if data else ""

    def _push(self) -> None:
        """Send what waits, as much as is taken now. The other end may have said its last word, and not listen."""
        try:
            self._waiting = self._waiting[self._connection.send(self._waiting) :]
        except BlockingIOError:
            pass
        except OSError:
            self._waiting = b""

    def _show(self, data: bytes) -> bool:
        try:
            while data:
                data = data[os.write(self._picture, data) :]
        except OSError:
            return False
        return True
