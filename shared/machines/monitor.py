"""QEMU's machine protocol (QMP) on a socket that QEMU inherits. It has no path, so no other process can reach it.

Each message is a line of JSON. QEMU greets, expects `qmp_capabilities`, answers each command by its id, and sends
events about the machine in between (https://www.qemu.org/docs/master/interop/qmp-spec.html).
"""

from __future__ import annotations

import json
import socket
import threading
from itertools import count
from typing import Any

from ..errors import EnvironmentFault, Transient

PATIENCE = 20.0  # seconds for an answer; QEMU answers at once, unless the host is overloaded
_CHUNK = _LAST_WORDS = 1 << 16


class Monitor:
    """The host's end of one machine's monitor. The socket's owner closes it."""

    def __init__(self, name: str, connection: socket.socket) -> None:
        self._name = name
        self._connection = connection
        self._connection.settimeout(PATIENCE)
        self._received = b""
        self._numbers = count(1)
        self._turn = threading.Lock()
        self._greeted = False

    def resize(self, drive: str, size: int) -> None:
        """Grow a drive's file to `size` bytes, and tell the guest. Raises Transient when the machine ends meanwhile."""
        with self._turn:
            try:
                if not self._greeted:
                    self._execute("qmp_capabilities")
                    self._greeted = True
                self._execute("block_resize", device=drive, size=size)
            except (OSError, ValueError) as error:  # the machine has ended: the socket is closed, or a line is cut off
                raise Transient(f"machine {self._name} does not answer: {error}; it is looked at again") from error

    def listen(self) -> None:
        """Enable QEMU's events, which need a first command."""
        self._connection.sendall(json.dumps({"execute": "qmp_capabilities", "id": 0}).encode() + b"\n")
        self._greeted = True

    def was_reset(self) -> bool:
        """Return whether a machine that has ended did so because its guest wanted a restart. Needs listen() before."""
        told = b""
        try:
            while data := self._connection.recv(_CHUNK):
                told = (told + data)[-_LAST_WORDS:]
        except OSError:
            pass  # use what has been received
        return any(_is_reset(line) for line in told.splitlines())

    def _execute(self, command: str, **arguments: object) -> None:
        number = next(self._numbers)
        request = {"execute": command, "arguments": arguments, "id": number}
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        while (answer := self._next()).get("id") != number:  # a greeting, an event or a late answer
            pass
        if "error" in answer:
            told = answer["error"].get("desc", "it does not say why")
            raise EnvironmentFault(f"machine {self._name}: QEMU refuses {command}: {told}; is it an old one?")

    def _next(self) -> dict[str, Any]:
        while b"\n" not in self._received:
            data = self._connection.recv(_CHUNK)
            if not data:
                raise ConnectionError("QEMU has closed its monitor")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


def _is_reset(line: bytes) -> bool:
    """Return whether a line is the event SHUTDOWN of a guest that wanted a reset (QEMU's qapi/run-state.json)."""
    try:
        message = json.loads(line)
    except ValueError:  # a line that was cut off
        return False
    data = message.get("data") if isinstance(message, dict) and message.get("event") == "SHUTDOWN" else None
    return isinstance(data, dict) and data.get("reason") == "guest-reset"
