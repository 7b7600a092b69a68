"""One instance as a QEMU machine of this host: its size, its disks, and what its guest reaches."""

from __future__ import annotations

import codecs
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.build.events import Stop
from shared.build.machine_types import processor_of
from shared.machines.machines import Machines, MachineSpec
from shared.machines.metadata_server import Route
from shared.machines.qemu import DataDisk

from .disk import Disk
from .places import machine_size
from .rest.links import last
from .rest.refusals import Document

PRODUCT = "Google Compute Engine"  # by which cloud-init and others know where they are
MOST_CPUS = 2
LEAST_MB, MOST_MB = 1024, 2048
SERIAL_LIMIT = 1 << 20  # bytes of a serial port that the API gives at once, the newest
_FILES = {1: "console.log", 3: "reports.log"}  # nothing is connected to ports 2 and 4

Services = Callable[["Instance"], Mapping[str, Sequence[Route]]]
"""Returns the routes that an instance's guest reaches by HTTP, by address."""


@dataclass
class Instance:
    """An instance: its document, its disks in the order of the document's, and whether its machine is up."""

    path: str
    document: Document
    disks: Sequence[Disk]
    folder: Path
    boot: str  # direct or firmware
    down: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)
    asked: bool = False  # whether its machine was told to end
    turn: threading.RLock = field(default_factory=threading.RLock)  # of operations: one after the other

    @property
    def project(self) -> str:
        """The project that it is in."""
        return self.path.split("/")[1]

    @property
    def machine(self) -> str:
        """Its machine's name, which no other instance's has."""
        return f"{self.document['name']}.{self.document['id']}"

    def update(self, **fields: object) -> None:
        """Replace its document, so that readers always see a whole one, and wake those that wait for a change."""
        with self.changed:
            self.document = {**self.document, **fields}
            self.changed.notify_all()

    def attributes(self) -> dict[str, str]:
        """Return its metadata's keys and values."""
        return {item["key"]: item.get("value", "") for item in self.document["metadata"].get("items", [])}


class Runner:
    """Starts and ends the machines of instances."""

    def __init__(self, machines: Machines, services: Services) -> None:
        self._machines = machines
        self._services = services

    def start(self, instance: Instance) -> None:
        """Start an instance's machine. Raises what Machines.start() does."""
        self._machines.start(_spec(instance), self._services(instance))

    def attach(self, instance: Instance, disk: Disk, device: str) -> None:
        """Attach a disk, to be read alone, to the machine that runs. Raises what Machines.attach_disk() does."""
        self._machines.attach_disk(instance.machine, disk.file, device, len(instance.disks))

    def wait(self, instance: Instance, seconds: float) -> bool:
        """Wait for the machine to end by itself."""
        return self._machines.wait(instance.machine, seconds)

    def stop(self, instance: Instance) -> None:
        """End the machine at once; one that has ended is fine."""
        self._machines.stop(instance.machine)

    def end(self, instance: Instance) -> tuple[Stop, str]:
        """Return how a machine has ended, and details for people."""
        machine = self._machines.status(instance.machine)
        return ("lost", "") if machine is None or machine.how is None else (machine.how, machine.detail)

    def remove(self, instance: Instance) -> None:
        """Forget a machine that has ended, and delete its files."""
        self._machines.forget(instance.machine)
        shutil.rmtree(instance.folder, ignore_errors=True)


def serial_output(instance: Instance, port: int, start: int) -> tuple[str, int, int]:
    """Read a serial port from byte `start` on; return the text, where it starts and where it ends.

    At most the last SERIAL_LIMIT bytes are given. A negative `start` counts from the end.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        with (instance.folder / _FILES.get(port, "none")).open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            start = min(max(start if start >= 0 else end + start, end - SERIAL_LIMIT, 0), end)
            file.seek(start)
            data = file.read(end - start)
    except FileNotFoundError:
        return "", 0, 0
    text = decoder.decode(data)
    cut_off, _ = decoder.getstate()  # the beginning of a character; the next request gets all of it
    return text, start, start + len(data) - len(cut_off)


def _spec(instance: Instance) -> MachineSpec:
    size = machine_size(last(instance.document["machineType"]))
    assert size is not None, instance.document["machineType"]
    cpus, memory = size
    attached = instance.document["disks"]
    [root] = [disk for entry, disk in zip(attached, instance.disks, strict=True) if entry["boot"]]
    return MachineSpec(
        name=instance.machine,
        folder=instance.folder,
        disk=root.file,
        cidata=None,
        boot=instance.boot,
        cpus=min(cpus, MOST_CPUS, os.cpu_count() or 1),
        memory_mb=min(max(memory, LEAST_MB), MOST_MB),
        internet=any("accessConfigs" in interface for interface in instance.document["networkInterfaces"]),
        data_disks=tuple(
            DataDisk(disk.file, entry["deviceName"], entry["mode"] == "READ_WRITE")
            for entry, disk in zip(attached, instance.disks, strict=True)
            if not entry["boot"]
        ),
        product=PRODUCT,
        panic_ends=False,
        takes_disks=True,
        architecture=processor_of(last(instance.document["machineType"])).name,
    )
