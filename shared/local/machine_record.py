"""What one process writes down about its machine, so that every other one can see it, wait for it and end it.

machine.json holds the QEMU process's name (boot, pid and start time: never another process that was given the same pid)
and, once that has ended, how. A process that has ended without that being written down was lost with its builder.
"""

from __future__ import annotations

import json
import os
import select
import signal
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ..events import Stop
from ..ports import Machine
from .processes import is_alive, name_of, pid_of
from .scratch import faults

ZONE = "local"
RECORD = "machine.json"
LOST = "the process that ran it ended, and so did the machine"


@dataclass(frozen=True)
class Record:
    """One machine. `how` is None while it runs, for all that is known."""

    process: str
    how: Stop | None = None
    detail: str = ""

    @classmethod
    def of(cls, pid: int) -> Record:
        """The record of a machine that has just been started."""
        return cls(name_of(pid))

    @classmethod
    def read(cls, folder: Path) -> Record | None:
        """Read a machine's record; None when there is no machine in this folder, or not yet."""
        try:
            document = json.loads((folder / RECORD).read_text())
            return cls(str(document["process"]), document["how"], str(document["detail"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Write it whole or not at all; a folder that was deleted meanwhile needs none. NoSpace, EnvironmentFault."""
        writer = f"{os.getpid()}.{threading.get_ident()}"  # two threads may note a machine's end at once
        staged = folder / f".{RECORD}.{writer}"
        with suppress(FileNotFoundError), faults(folder):
            staged.write_text(json.dumps(asdict(self)))
            staged.replace(folder / RECORD)

    def machine(self, name: str) -> Machine:
        """The machine as others see it."""
        if self.how is not None:
            return Machine(name, ZONE, "stopped", self.how, self.detail)
        if is_alive(self.process):
            return Machine(name, ZONE, "running")
        return Machine(name, ZONE, "stopped", "lost", LOST)

    def wait(self, seconds: float) -> bool:
        """Wait for the process to end, whoever's child it is."""
        descriptor = self._open()
        if descriptor is None:
            return True
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(max(0.0, seconds) * 1000))
        finally:
            os.close(descriptor)

    def kill(self) -> None:
        """End the process at once."""
        descriptor = self._open()
        if descriptor is None:
            return
        try:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)

    def _open(self) -> int | None:
        """Open the process itself, so that its pid cannot change hands any more. None when it has ended."""
        if not is_alive(self.process):
            return None
        try:
            descriptor = os.pidfd_open(pid_of(self.process))
        except ProcessLookupError:
            return None
        if not is_alive(self.process):  # it ended before it was opened, and this may be another one
            os.close(descriptor)
            return None
        return descriptor
