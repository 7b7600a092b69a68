"""Start QEMU for a machine's specification: CIDATA disk, firmware, sockets, command line."""

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
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from ..architectures import ARM64, X86_64, Architecture, find_architecture
from ..cache.layer_store import LayerStore, folder_of_layers
from ..delivery.cidata import write_cidata
from ..disks.partition_table import read_disk_table
from ..errors import GoldsmithError, ImageFileError, MissingTool
from ..host.build_folder import BuildFolder
from ..host.programs import find_tool
from ..ports import Message
from .accelerator import accelerator
from .direct_boot import direct_boot
from .direct_boot.installed_kernel import DirectBootImpossible
from .metadata_server import MetadataServer, Route, machine_routes
from .monitor import Monitor
from .package_proxy import open_package_proxy
from .process import MachineEnd, MachineProcess, Running, SerialPort
from .qemu import ADDRESS, Firmware, KernelFiles, MachineSpec, UefiFiles, Wiring, command
from .record import Record
from .secret_desk import SecretDesk

if TYPE_CHECKING:
    from .layer_keeper import LayerKeeper

LOG = logging.getLogger(__name__)

PORTS = ("console", "reports")  # serial ports, and the names of the files that their output is appended to

QBOOT = Path("/usr/share/qemu/qboot.rom")
OVMF = (  # code and variables, where Debian and Ubuntu have them
    (Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd")),
    (Path("/usr/share/OVMF/OVMF_CODE.fd"), Path("/usr/share/OVMF/OVMF_VARS.fd")),
)
PAGE = 64 << 10  # bytes that are written together
AAVMF = ((Path("/usr/share/AAVMF/AAVMF_CODE.fd"), Path("/usr/share/AAVMF/AAVMF_VARS.fd")),)  # the same for arm64

# setpriv's PR_SET_PDEATHSIG survives exec. It misses a parent that died before it was set, so the script compares the
# parent's pid. The script is fixed; everything that varies follows as arguments.
TIED = ("setpriv", "--pdeathsig", "KILL", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')


def launch(
    spec: MachineSpec,
    home: Path,
    publish: Callable[[Message], None],
    starter: Executor,
    on_end: Callable[[MachineSpec, MachineProcess, MachineEnd], None],
    services: Mapping[str, Sequence[Route]] | None = None,
) -> MachineProcess:
    """Start QEMU on a thread of `starter`, with which it ends. The caller has to call watch().

    `services` are the routes that the guest reaches by HTTP, by address, ADDRESS among them. By default they are those
    of a build VM.
    """
    spec.folder.mkdir(parents=True, exist_ok=True)
    cidata = None if spec.cidata is None else spec.folder / "cidata.iso"
    if spec.cidata is not None and cidata is not None:
        write_cidata(spec.cidata, cidata)
    keeper = _keeper(spec, home)
    desk = None if spec.secrets is None else SecretDesk(spec.secrets)
    if services is None:
        own = tuple(each.route for each in (keeper, desk) if each is not None)
        services = {ADDRESS: (*machine_routes(publish, BuildFolder.of_resource(home, spec.name).build_id), *own)}
    found = accelerator(home, architecture=find_architecture(spec.architecture))
    firmware, note = choose_firmware(spec, home)
    with ExitStack() as stack:
        if keeper is not None:
            stack.callback(keeper.close)
        files = [stack.enter_context((spec.folder / f"{name}.log").open("ab", buffering=0)) for name in PORTS]
        for text in (note, f"{found.name}: {found.reason}"):
            if text:
                LOG.info("%s: %s", spec.name, text)
                files[0].write(f"goldsmith: {text}\n".encode())
        hidden = spec.secrets.forms if spec.secrets else ()
        proxies = {ADDRESS: open_package_proxy(home, spec.site_proxy, stack, hidden)} if spec.packages else {}
        servers = {
            address: stack.enter_context(MetadataServer(spec.name, routes, proxy=proxies.get(address))).socket_name
            for address, routes in services.items()
        }
        stderr = stack.enter_context(tempfile.TemporaryFile())
        launcher = _Launcher(spec, home, cidata, found.name, files, servers, stderr, starter, firmware, keeper)
        stack.callback(launcher.close)
        first = launcher.start()
        again = launcher.start_again if isinstance(firmware, KernelFiles) else None
        stops = [*([keeper.stop] if keeper else []), *([desk.close] if desk else [])]
        return MachineProcess(
            spec, first.process, first.ports, stderr, on_end, stack.pop_all(), first.monitor, again, first.shell, stops
        )


@dataclass
class _Launcher:
    """Everything that QEMU is started with, once or again, and the host's ends of the newest one's sockets."""

    spec: MachineSpec
    home: Path
    cidata: Path | None
    accelerator: Literal["kvm", "tcg"]
    files: Sequence[FileIO]
    servers: Mapping[str, str]
    stderr: IO[bytes]
    starter: Executor
    firmware: Firmware
    keeper: LayerKeeper | None
    sockets: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        self.sockets.close()

    def start(self) -> Running:
        with ExitStack() as opened:
            ends = [_sockets(opened) for _ in (*self.files, "monitor", *(["shell"] if self.spec.shell else []))]
            inherited = [theirs.fileno() for _, theirs in ends]
            console, reports, monitor = inherited[:3]
            shell, shown = (ends[3][0], inherited[3]) if self.spec.shell else (None, None)
            others = {address: name for address, name in self.servers.items() if address != ADDRESS}
            wiring = Wiring(console, reports, self.servers[ADDRESS], others, monitor, self.keeper is not None, shown)
            line = command(self.spec, self.cidata, self.firmware, self.accelerator, wiring, find_tool("socat"))
            process = self.starter.submit(_spawn, line, self.stderr, inherited).result()
            for _, theirs in ends:
                theirs.close()
            ports = [SerialPort(ours, file) for (ours, _), file in zip(ends, self.files, strict=False)]
            ports[0].watched = self.spec.panic_ends
            running = Running(process, ports, Monitor(self.spec.name, ends[2][0]), shell)
            if self.keeper is not None:
                _begin_paused(self.keeper, running)
            if isinstance(self.firmware, KernelFiles):
                running.monitor.listen()
            self.close()  # the sockets of the process before, which has ended
            self.sockets = opened.pop_all()
            return running

    def start_again(self) -> Running:
        """Start the kernel that the image's boot loader would start now, or the same one where that is impossible."""
        if self.keeper is not None:
            self.keeper.stop()
            self.keeper = None
        try:
            firmware, note = choose_firmware(self.spec, self.home)
        except ImageFileError as error:
            firmware, note = self.firmware, str(error)
        if isinstance(firmware, KernelFiles):
            self.firmware = firmware
        else:
            LOG.info("%s: the kernel stays the same: %s", self.spec.name, note)
        running = self.start()
        try:
            Record.of(running.process.pid).write(self.spec.folder)
        except BaseException:
            running.process.kill()  # without a record no other process could see or end it
            raise
        return running


def _keeper(spec: MachineSpec, home: Path) -> LayerKeeper | None:
    """Return what keeps the results of a machine's steps; None where none are wanted."""
    if spec.cache is None or not spec.cache.chain:
        return None
    from .layer_keeper import LayerKeeper

    return LayerKeeper(spec, spec.cache, LayerStore(folder_of_layers(home), shutil.rmtree))


def _begin_paused(keeper: LayerKeeper, running: Running) -> None:
    """Let a machine run that was started paused. One that cannot is ended, as which it is reported."""
    try:
        keeper.begin(running.monitor)
    except GoldsmithError as error:
        LOG.warning("%s", error)
        running.process.kill()


def choose_firmware(spec: MachineSpec, home: Path) -> tuple[Firmware, str]:
    """Return how a machine starts, and a note for people where that is not the way that the spec asks for."""
    if spec.boot == "direct":
        architecture = find_architecture(spec.architecture)
        try:
            boot = direct_boot.prepare_boot(spec.disk, home, architecture)
        except DirectBootImpossible as error:
            return _firmware(spec), f"no direct boot, but the slower way by firmware and boot loader: {error}"
        line = boot.command_line(internet=spec.internet, cidata=spec.cidata is not None)
        return KernelFiles(boot.kernel, boot.initrd, line, architecture == X86_64 and QBOOT.exists()), ""
    return _firmware(spec), ""


def _firmware(spec: MachineSpec) -> Firmware:
    """Return BIOS for a disk that boots by it, otherwise UEFI with this machine's own variables."""
    is_arm = spec.architecture == ARM64.name
    if not is_arm and read_disk_table(spec.disk).boots_by_bios:
        return "bios"
    code, variables = find_uefi(ARM64 if is_arm else X86_64)
    own = spec.folder / "efi-variables.fd"
    if not own.exists():
        _copy_variables(variables, own)
    return UefiFiles(code, own)


def _copy_variables(source: Path, target: Path) -> None:
    """Copy a firmware's variables, of which all but a few KiB of up to 64 MiB are zeroes, as a sparse file."""
    data = source.read_bytes()
    with target.open("wb") as file:
        file.truncate(len(data))
        for start in range(0, len(data), PAGE):
            page = data[start : start + PAGE]
            if page.count(0) < len(page):
                file.seek(start)
                file.write(page)


def find_uefi(architecture: Architecture) -> tuple[Path, Path]:
    """Return this host's UEFI firmware for an architecture: code and variables. MissingTool."""
    for code, variables in AAVMF if architecture == ARM64 else OVMF:
        if code.exists() and variables.exists():
            return code, variables
    if architecture == ARM64:
        raise MissingTool("the UEFI firmware AAVMF, which images for arm64 boot by,", "qemu-efi-aarch64")
    raise MissingTool("the UEFI firmware OVMF, which this image boots by,", "ovmf")


def _sockets(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Return the host's end of a connection, and QEMU's."""
    ours, theirs = socket.socketpair()
    stack.enter_context(theirs)
    return stack.enter_context(ours), theirs


def _spawn(line: Sequence[str], stderr: IO[bytes], inherited: Sequence[int]) -> subprocess.Popen[bytes]:
    arguments = [find_tool(TIED[0]), *TIED[1:], str(os.getpid()), find_tool(line[0]), *line[1:]]
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=stderr,
        stderr=stderr,
        pass_fds=tuple(inherited),
        start_new_session=True,  # Ctrl-C goes to Goldsmith alone, which decides about the machine
    )
