"""The record of a machine, by which every process of this host can see it, wait for it and end it.

machine.json holds the QEMU process's name (boot id, pid and start time, so that a reused pid is never mistaken for it)
and, once it has ended, how. A QEMU that has ended without such an entry was lost with the process that started it.
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

from ..build.events import Stop
from ..host.processes import is_alive, name_of, pid_of
from ..host.scratch import faults
from ..ports import Machine

ZONE = "local"
RECORD = "machine.json"
MACHINE_LOST = "the process that ran it ended, and so did the machine"


@dataclass(frozen=True)
class Record:
    """One machine. `how` is None until its end has been recorded."""

    process: str
    how: Stop | None = None
    detail: str = ""

    @classmethod
    def of(cls, pid: int) -> Record:
        """Return the record of a machine that has just been started."""
        return cls(name_of(pid))

    @classmethod
    def read(cls, folder: Path) -> Record | None:
        """Read a machine's record. Return None when this folder has no machine, or none yet."""
        try:
            document = json.loads((folder / RECORD).read_text())
            return cls(str(document["process"]), document["how"], str(document["detail"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def write(self, folder: Path) -> None:
        """Write it whole or not at all, unless the folder is gone. Raises NoSpace, EnvironmentFault."""
        writer = f"{os.getpid()}.{threading.get_ident()}"  # two threads may record a machine's end at once
        staged = folder / f".{RECORD}.{writer}"
        with suppress(FileNotFoundError), faults(folder):
            staged.write_text(json.dumps(asdict(self)))
            staged.replace(folder / RECORD)

    def machine(self, name: str) -> Machine:
        """Return the machine's present state."""
        if self.how is not None:
            return Machine(name, ZONE, "stopped", self.how, self.detail)
        if is_alive(self.process):
            return Machine(name, ZONE, "running")
        return Machine(name, ZONE, "stopped", "lost", MACHINE_LOST)

    def wait(self, seconds: float) -> bool:
        """Wait for the process to end, a child or not. Return whether it has ended within `seconds`."""
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
        """Open the process itself, so that a reused pid does not matter. Return None when it has ended."""
        if not is_alive(self.process):
            return None
        try:
            descriptor = os.pidfd_open(pid_of(self.process))
        except ProcessLookupError:
            return None
        if not is_alive(self.process):  # it ended before it was opened: this may be another process
            os.close(descriptor)
            return None
        return descriptor
