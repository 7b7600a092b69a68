"""Machines of this host: QEMU processes that end with the process that started them, and that every process can see.

Machines are started on one thread that lives as long as their Machines object. The kernel ties a child's life to the
thread that made it (PR_SET_PDEATHSIG): when this process ends in any way, its machines are killed with it. What a
machine uses ends as well: the HTTP server's socket is abstract, the serial ports are inherited sockets, and what QEMU
starts for a connection ends when QEMU does. Only files in the machine's own folder are left: cidata.iso, console.log,
reports.log, machine.json.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ..architectures import ARM64, X86_64, find_architecture
from ..errors import AlreadyExists, EnvironmentFault, NotFound
from ..host.build_folder import BuildFolder
from ..host.programs import find_tool
from ..host.scratch import faults
from ..ports import Machine, Message
from .process import MachineEnd, MachineProcess
from .qemu import MachineSpec
from .record import ZONE, Record

if TYPE_CHECKING:
    import socket
    from contextlib import ExitStack

    from .metadata_server import Route
    from .network_guard import NetworkGuard

__all__ = ["MachineSpec", "Machines"]

LOG = logging.getLogger(__name__)

KILL_SECONDS = 10.0
STOPPED = "it was stopped"
CHROOT = "chroot"


class Machines:
    """The machines below `home`. `publish` takes the reports that they send. A context manager; close() ends it."""

    def __init__(self, home: Path, publish: Callable[[Message], None]) -> None:
        self._home = home
        self._publish = publish
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="machine-starter", initializer=self._confine)
        self._sandbox_starter = ThreadPoolExecutor(1, thread_name_prefix="sandbox-starter")
        self._guard: NetworkGuard | None = None
        self._ours: dict[str, MachineProcess] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the machines that this object has started."""
        for machine in list(self._ours.values()):
            machine.kill(STOPPED)
        self._starter.shutdown()
        self._sandbox_starter.shutdown()
        if self._guard is not None:
            self._guard.close()

    def check(self, engine: str, boot: str, *, internet: bool, architecture: str = X86_64.name) -> None:
        """Check that this host has what a machine needs. Raises MissingTool, EnvironmentFault."""
        kind = find_architecture(architecture)
        if engine == CHROOT:
            from .start_sandbox import check_host

            check_host(self._home, kind, internet=internet)
            if internet:
                self._refuse_open_network()
            return
        from .direct_boot import direct_boot
        from .start import TIED, find_uefi

        for program in (kind.emulator, "socat", TIED[0]):
            find_tool(program)
        if kind == ARM64:
            find_uefi(kind)  # which an image that does not boot directly boots by
        if boot == "direct" and direct_boot.runs_here(kind):
            direct_boot.static_busybox()
        if internet:
            self._refuse_open_network()

    def start(self, spec: MachineSpec, services: Mapping[str, Sequence[Route]] | None = None) -> None:
        """Start a machine. Raises AlreadyExists while it runs, MissingTool, NoSpace, EnvironmentFault, ImageFileError.

        `services` are the routes that the guest finds at each address. By default they are those of a build VM.
        """
        from .start import launch  # imports an HTTP server and more that only the start of a machine needs

        record = Record.read(spec.folder)
        if record is not None and record.machine(spec.name).status != "stopped":
            raise AlreadyExists(f"machine {spec.name} is running")
        if spec.internet:
            self._refuse_open_network()
        if spec.engine == CHROOT:
            from .start_sandbox import launch_sandbox

            machine = launch_sandbox(
                spec, self._home, self._publish, self._sandbox_starter, self._starter, _write_outcome
            )
        else:
            machine = launch(spec, self._home, self._publish, self._starter, _write_outcome, services)
        try:
            Record.of(machine.process.pid).write(spec.folder)
        except BaseException:
            machine.watch()
            machine.kill(STOPPED)  # without a record no other process could see or end it
            raise
        self._ours[spec.name] = machine
        machine.watch()

    def connect_sandbox(self, users: int, network: int, stack: ExitStack) -> None:
        """Connect a network namespace, an open descriptor, to other hosts than this one, until the stack ends.

        `users` is the namespace of users that it belongs to. EnvironmentFault.
        """
        from .start_sandbox import connect_network

        self._starter.submit(connect_network, users, network, stack).result()

    def status(self, name: str) -> Machine | None:
        """Look a machine up, whichever process started it. Return None when there is none of that name."""
        ours = self._ours.get(name)
        if ours is not None and not ours.wait(0):  # it counts as running until its last output has been read
            return Machine(name, ZONE, "running")
        record = Record.read(self._folder(name))
        return None if record is None else record.machine(name)

    def shell(self, name: str) -> socket.socket | None:
        """Return the connection to the provisioner of a machine of this process whose job may hold it, if it runs.

        From now on a hand may touch it: no result of its steps is kept in the cache, and no secret given, any more.
        """
        ours = self._ours.get(name)
        if ours is None or ours.wait(0):
            return None
        for stop in ours.on_hold:
            stop()
        return ours.shell

    def grow_disk(self, disk: Path, size: int) -> None:
        """Grow a disk file to `size` bytes, unless it has as many. A machine of this process that runs on it is told.

        The partition table and the partitions stay as they are. Raises Transient, Permanent, NotFound, NoSpace.
        """
        with faults(disk.parent):
            if not disk.exists():
                raise NotFound(f"there is no disk {disk.stem}")
            if disk.stat().st_size >= size or any(machine.grow(disk, size) for machine in list(self._ours.values())):
                return
            os.truncate(disk, size)

    def attach_disk(self, name: str, disk: Path, device: str, number: int) -> None:
        """Attach one disk more to a machine of this process while it runs. Transient, Permanent, NotFound."""
        ours = self._ours.get(name)
        if ours is None or ours.wait(0):
            raise NotFound(f"there is no machine {name} that runs")
        ours.attach(disk, device, number)

    def forget(self, name: str) -> None:
        """Forget a machine that has ended, so that its folder can be deleted."""
        self._ours.pop(name, None)

    def wait(self, name: str, seconds: float) -> bool:
        """Wait for a machine to end. Return whether it has ended, or does not exist, within `seconds`."""
        ours = self._ours.get(name)
        if ours is not None:
            return ours.wait(seconds)
        record = Record.read(self._folder(name))
        return record is None or record.how is not None or record.wait(seconds)

    def stop(self, name: str) -> None:
        """End a machine at once, whichever process started it. A machine that does not exist is no error."""
        ours = self._ours.get(name)
        if ours is not None:
            ours.kill(STOPPED)
            return
        folder = self._folder(name)
        record = Record.read(folder)
        if record is not None and record.how is None:
            record.kill()
            record.wait(KILL_SECONDS)
            _note_end(replace(record, how="lost", detail=STOPPED), folder)

    def _confine(self) -> None:
        """Keep processes that this thread starts away from this host's own addresses."""
        from .network_guard import NetworkGuard

        self._guard = NetworkGuard()
        self._guard.confine()

    def _refuse_open_network(self) -> None:
        """Raise EnvironmentFault if a guest with a network would reach this host itself."""
        fault = self._starter.submit(lambda: "" if self._guard is None else self._guard.fault).result()
        if fault:
            raise EnvironmentFault(
                f"a VM with a network would reach what listens on this host's loopback, and nothing here can hold it "
                f"back: {fault}; write local: {{network: false}}, or build on Linux 5.5 or newer, outside of a sandbox"
            )

    def _folder(self, name: str) -> Path:
        ours = self._ours.get(name)
        return BuildFolder.of_resource(self._home, name).machine(name) if ours is None else ours.spec.folder


def _write_outcome(spec: MachineSpec, machine: MachineProcess, outcome: MachineEnd) -> None:
    """Record how a machine ended, for every process, before those that wait in this one are woken."""
    record = Record.of(machine.process.pid)
    _note_end(replace(record, how=outcome.how, detail=outcome.detail), spec.folder)


def _note_end(record: Record, folder: Path) -> None:
    try:
        record.write(folder)
    except EnvironmentFault as error:  # a full disk: the process has ended, and others will see a lost machine
        LOG.warning("the record of how a machine ended could not be written: %s", error)
