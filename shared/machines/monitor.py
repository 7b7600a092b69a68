"""QEMU's machine protocol (QMP) on a socket that QEMU inherits. It has no path, so no other process can reach it.

Each message is a line of JSON. QEMU greets, expects `qmp_capabilities`, answers each command by its id, and sends
events about the machine in between (https://www.qemu.org/docs/master/interop/qmp-spec.html).
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import EnvironmentFault, Transient

PATIENCE = 20.0  # seconds for an answer; QEMU answers at once, unless the host is overloaded
START_PATIENCE = 300.0  # for the first answer: QEMU reads its files before
_CHUNK = _LAST_WORDS = 1 << 16
_EVENTS = 64  # that are remembered: the last ones say how a machine has ended
_CHANGES, _COPY = "goldsmith-changes", "goldsmith-copy"  # of a disk, and the job that writes them to a file


class Monitor:
    """The host's end of one machine's monitor. The socket's owner closes it. Thread-safe."""

    def __init__(self, name: str, connection: socket.socket) -> None:
        self._name = name
        self._connection = connection
        self._connection.settimeout(PATIENCE)
        self._received = b""
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        self._numbers = count(1)
        self._turn = threading.Lock()
        self._greeted = False

    def resize(self, drive: str, size: int) -> None:
        """Grow a drive's file to `size` bytes, and tell the guest. Raises Transient when the machine ends meanwhile."""
        with self._talk():
            self._execute("block_resize", device=drive, size=size)

    def attach(self, drive: str, file: Path, device: Mapping[str, Any]) -> None:
        """Attach one disk more to a machine, to be read alone, as a device of QEMU's. Transient, EnvironmentFault."""
        with self._talk():
            node = {"driver": "file", "filename": str(file)}
            self._execute("blockdev-add", driver="raw", **{"node-name": drive, "read-only": True}, file=node)
            self._execute("device_add", id=f"{drive}-disk", drive=drive, **device)

    def listen(self) -> None:
        """Enable QEMU's events, which need a first command."""
        if not self._greeted:
            self._connection.sendall(json.dumps({"execute": "qmp_capabilities", "id": 0}).encode() + b"\n")
            self._greeted = True

    def start_with_changes(self, drive: str) -> None:
        """Let a machine that was started paused run, its changes of a drive noted. Transient, EnvironmentFault."""
        self._connection.settimeout(START_PATIENCE)
        try:
            with self._talk():
                self._execute("block-dirty-bitmap-add", node=drive, name=_CHANGES)
                self._execute("cont")
        finally:
            with suppress(OSError):
                self._connection.settimeout(PATIENCE)

    def changed_bytes(self, drive: str) -> int:
        """Return how much of a drive has changed since start_with_changes() or copy_changes(). As copy_changes()."""
        with self._talk():
            for device in self._execute("query-block"):
                if device["device"] == drive:
                    bitmaps = device["inserted"]["dirty-bitmaps"]
                    return sum(int(each["count"]) for each in bitmaps if each["name"] == _CHANGES)
        raise EnvironmentFault(f"machine {self._name}: QEMU has no drive {drive}")

    def copy_changes(self, drive: str, target: Path, seconds: float) -> None:
        """Write what has changed of a drive, as it is at this moment, into an empty QCOW2 file of its size.

        Changes are counted from there on again. EnvironmentFault, and Transient when the machine ends meanwhile or
        takes longer; then they are not known any more.
        """
        file = {"driver": "file", "filename": str(target)}
        with self._talk():
            for old in [event for event in self._events if _is_about_copy(event)]:
                self._events.remove(old)
            self._execute("blockdev-add", driver="qcow2", **{"node-name": _COPY}, cache={"no-flush": True}, file=file)
            try:
                self._execute(
                    "blockdev-backup",
                    device=drive,
                    target=_COPY,
                    sync="incremental",
                    bitmap=_CHANGES,
                    **{"job-id": _COPY},
                )
                self._finish_copy(time.monotonic() + seconds)
            finally:
                with suppress(OSError, ValueError, EnvironmentFault):  # refused while an aborted copy uses it
                    self._execute("blockdev-del", **{"node-name": _COPY})

    def was_reset(self) -> bool:
        """Return whether a machine that has ended did so because its guest wanted a restart. Needs listen() before."""
        with self._turn:
            told = self._received
            try:
                while data := self._connection.recv(_CHUNK):
                    told = (told + data)[-_LAST_WORDS:]
            except OSError:
                pass  # use what has been received
            return any(map(_is_reset, self._events)) or any(_is_reset(_parsed(line)) for line in told.splitlines())

    @contextmanager
    def _talk(self) -> Iterator[None]:
        """Have QEMU for one thread, and turn the end of the machine into Transient."""
        with self._turn:
            try:
                if not self._greeted:
                    self._execute("qmp_capabilities")
                    self._greeted = True
                yield
            except (OSError, ValueError) as error:  # the machine has ended: the socket is closed, or a line is cut off
                raise Transient(f"machine {self._name} does not answer: {error}; it is looked at again") from error

    def _finish_copy(self, until: float) -> None:
        """Wait for the end of the copy, which may have come before QEMU's answer. OSError, EnvironmentFault."""
        while not any(map(self._is_end_of_copy, self._events)):
            left = until - time.monotonic()
            if left <= 0:
                self._execute("block-job-cancel", device=_COPY, force=True)
                raise TimeoutError("the copy of its changes takes too long")
            self._connection.settimeout(min(left, PATIENCE))
            try:
                self._next()
            except TimeoutError:
                continue
            finally:
                self._connection.settimeout(PATIENCE)

    def _is_end_of_copy(self, message: dict[str, Any]) -> bool:
        if not _is_about_copy(message):
            return False
        told = message["data"].get("error")
        if told or message["event"] == "BLOCK_JOB_CANCELLED":
            raise EnvironmentFault(f"machine {self._name}: QEMU cannot copy a disk's changes: {told or 'ended'}")
        return True

    def _execute(self, command: str, **arguments: object) -> Any:
        number = next(self._numbers)
        request = {"execute": command, "arguments": arguments, "id": number}
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        while (answer := self._next()).get("id") != number:  # a greeting, an event or a late answer
            pass
        if "error" in answer:
            told = answer["error"].get("desc", "it does not say why")
            raise EnvironmentFault(f"machine {self._name}: QEMU refuses {command}: {told}; is it an old one?")
        return answer.get("return")

    def _next(self) -> dict[str, Any]:
        while b"\n" not in self._received:
            data = self._connection.recv(_CHUNK)
            if not data:
                raise ConnectionError("QEMU has closed its monitor")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        if "event" in message:
            self._events.append(message)
        return message


def _is_about_copy(event: dict[str, Any]) -> bool:
    """Return whether an event says how the copy of a disk's changes has ended."""
    data = event.get("data")
    ends = event.get("event") in ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED")
    return ends and isinstance(data, dict) and data.get("device") == _COPY


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError:  # a line that was cut off
        return None


def _is_reset(message: object) -> bool:
    """Return whether a message is the event SHUTDOWN of a guest that wanted a reset (QEMU's qapi/run-state.json)."""
    data = message.get("data") if isinstance(message, dict) and message.get("event") == "SHUTDOWN" else None
    return isinstance(data, dict) and data.get("reason") == "guest-reset"
