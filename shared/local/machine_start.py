"""From the machine that is wanted to a process of QEMU: CIDATA disk, firmware, sockets, command line."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from ..errors import MissingTool
from ..ports import Message
from . import direct_boot
from .accelerator import accelerator
from .build_folder import BuildFolder
from .cidata_disk import write_cidata
from .direct_boot import DirectBootImpossible
from .disk import read_table
from .machine_process import MachineProcess, Outcome, SerialPort
from .metadata_server import MetadataServer, Route, machine_routes
from .monitor import Monitor
from .programs import find
from .qemu_command import ADDRESS, Firmware, KernelFiles, MachineSpec, UefiFiles, Wiring, command

LOG = logging.getLogger(__name__)

QBOOT = Path("/usr/share/qemu/qboot.rom")
OVMF = (  # code and variables, as Debian and Ubuntu have them
    (Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd")),
    (Path("/usr/share/OVMF/OVMF_CODE.fd"), Path("/usr/share/OVMF/OVMF_VARS.fd")),
)

# setpriv's wish to die with the parent is kept over exec; a parent that died before the wish was made would not be
# noticed, so the script, which is fixed, compares. All that varies comes after it as arguments.
TIED = ("setpriv", "--pdeathsig", "KILL", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')


def launch(
    spec: MachineSpec,
    home: Path,
    publish: Callable[[Message], None],
    starter: Executor,
    on_end: Callable[[MachineSpec, MachineProcess, Outcome], None],
    services: Mapping[str, Sequence[Route]] | None = None,
) -> MachineProcess:
    """Start QEMU on a thread of `starter`, whose end would be the machine's; watch() is still to be called.

    `services` are what the guest reaches by HTTP, by address, ADDRESS among them; without, what a build's VM needs.
    """
    spec.folder.mkdir(parents=True, exist_ok=True)
    cidata = None if spec.cidata is None else spec.folder / "cidata.iso"
    if spec.cidata is not None and cidata is not None:
        write_cidata(spec.cidata, cidata)
    if services is None:
        services = {ADDRESS: machine_routes(publish, BuildFolder.of_resource(home, spec.name).build_id)}
    found = accelerator(home)
    firmware, note = choose_firmware(spec, home)
    with ExitStack() as stack:
        ports, ends = zip(*(_serial_port(spec, name, stack) for name in ("console", "reports")), strict=True)
        for text in (note, f"{found.name}: {found.reason}"):
            if text:
                LOG.info("%s: %s", spec.name, text)
                ports[0].file.write(f"goldsmith: {text}\n".encode())
        servers = {
            address: stack.enter_context(MetadataServer(spec.name, routes)).socket_name
            for address, routes in services.items()
        }
        stderr = stack.enter_context(tempfile.TemporaryFile())
        monitor, descriptor = None, None
        if not isinstance(firmware, KernelFiles):
            ours, theirs = _sockets(stack)
            monitor, descriptor = Monitor(spec.name, ours), theirs.fileno()
            ends = (*ends, theirs)
        wiring = Wiring(ends[0].fileno(), ends[1].fileno(), servers.pop(ADDRESS), servers, descriptor)
        line = command(spec, cidata, firmware, found.name, wiring, find("socat"))
        process = starter.submit(_spawn, line, stderr, [end.fileno() for end in ends]).result()
        for end in ends:
            end.close()
        machine = MachineProcess(spec, process, ports, stderr, on_end, stack.pop_all(), monitor)
        machine.ports[0].watched = spec.panic_ends
        return machine


def choose_firmware(spec: MachineSpec, home: Path) -> tuple[Firmware, str]:
    """Give how a machine starts, and a note for people where that is not as they asked for."""
    if spec.boot == "direct":
        try:
            boot = direct_boot.prepare(spec.disk, home)
        except DirectBootImpossible as error:
            return _firmware(spec), f"no direct boot, but the slower way by firmware and boot loader: {error}"
        line = boot.command_line(internet=spec.internet, cidata=spec.cidata is not None)
        return KernelFiles(boot.kernel, boot.initrd, line, QBOOT.exists()), ""
    return _firmware(spec), ""


def _firmware(spec: MachineSpec) -> Firmware:
    """BIOS where the disk is made for that, else UEFI with this machine's own variables."""
    if read_table(spec.disk).boots_by_bios:
        return "bios"
    for code, variables in OVMF:
        if code.exists() and variables.exists():
            own = spec.folder / "efi-variables.fd"
            if not own.exists():
                shutil.copyfile(variables, own)
            return UefiFiles(code, own)
    raise MissingTool("the UEFI firmware OVMF, which this image boots by,", "ovmf")


def _serial_port(spec: MachineSpec, name: str, stack: ExitStack) -> tuple[SerialPort, socket.socket]:
    """Make a serial port and the end of it that QEMU gets. What a machine says after a restart is added."""
    ours, theirs = _sockets(stack)
    file = stack.enter_context((spec.folder / f"{name}.log").open("ab", buffering=0))
    return SerialPort(ours, file), theirs


def _sockets(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Make our end of a connection and QEMU's."""
    ours, theirs = socket.socketpair()
    stack.enter_context(theirs)
    return stack.enter_context(ours), theirs


def _spawn(line: Sequence[str], stderr: IO[bytes], inherited: Sequence[int]) -> subprocess.Popen[bytes]:
    arguments = [find(TIED[0]), *TIED[1:], str(os.getpid()), find(line[0]), *line[1:]]
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=stderr,
        stderr=stderr,
        pass_fds=tuple(inherited),
        start_new_session=True,  # Ctrl-C is for us, and we decide what becomes of the machine
    )
