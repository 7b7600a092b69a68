"""QEMU's machine protocol (QMP) on a socket that QEMU has inherited: no path, so nobody else can reach it.

Each message is a line of JSON. QEMU greets, wants to hear `qmp_capabilities`, answers each command by its id, and may
say in between what happens to the machine (https://www.qemu.org/docs/master/interop/qmp-spec.html).
"""

from __future__ import annotations

import json
import socket
import threading
from itertools import count
from typing import Any

from ..errors import EnvironmentFault, Transient

PATIENCE = 20.0  # seconds for an answer; QEMU gives it at once, on a host that is not overloaded
_CHUNK = 1 << 16


class Monitor:
    """Our end of one machine's monitor. It is closed by whoever made the socket."""

    def __init__(self, name: str, connection: socket.socket) -> None:
        self._name = name
        self._connection = connection
        self._connection.settimeout(PATIENCE)
        self._received = b""
        self._numbers = count(1)
        self._turn = threading.Lock()
        self._greeted = False

    def resize(self, drive: str, size: int) -> None:
        """Make a drive's file `size` bytes large, and tell the guest. Transient when the machine ends meanwhile."""
        with self._turn:
            try:
                if not self._greeted:
                    self._execute("qmp_capabilities")
                    self._greeted = True
                self._execute("block_resize", device=drive, size=size)
            except (OSError, ValueError) as error:  # the machine has ended: nothing at its end, or half a line
                raise Transient(f"machine {self._name} does not answer: {error}; it is looked at again") from error

    def _execute(self, command: str, **arguments: object) -> None:
        number = next(self._numbers)
        request = {"execute": command, "arguments": arguments, "id": number}
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        while (answer := self._next()).get("id") != number:  # a greeting, an event, what came too late
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
