"""Start a sandbox where a VM would be started: the same folder, console, reports and record, and no QEMU."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

from ..architectures import X86_64, Architecture, of_host
from ..cache.layer_store import Lack, LayerRecord, folder_of_layers
from ..disks.disk import Disk
from ..disks.partition_table import DiskPartition
from ..errors import EnvironmentFault, InputError
from ..host.build_folder import BuildFolder
from ..host.programs import ProgramFailed, find_tool, run_tool
from ..ports import Message
from ..sandbox.roots.layer_stack import MOST_LOWER, CacheSpec
from ..sandbox.roots.tree_root import unwritten_disk
from ..sandbox.supervisor import BAD_INPUT, HELD, LAYERS, REMOVE, SandboxSpec
from ..sandbox.user_namespace import own_id_ranges
from .metadata_server import MetadataServer, Route, machine_routes
from .package_proxy import PackageProxy, open_package_proxy
from .process import MachineEnd, MachineProcess, SerialPort
from .qemu import ADDRESS, MachineSpec
from .secret_desk import SecretDesk
from .start import PORTS, TIED

TREE = Path(__file__).resolve().parents[2]
PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1])\n"
    "from shared.quick_dataclasses import install_quick_dataclasses as install; install()\n"
    "from shared.sandbox.supervisor import main\n"
    "sys.exit(main(sys.argv[2:]))"
)
SLIRP, TUN = "slirp4netns", "/dev/net/tun"
PATIENCE = 900.0  # seconds for a sandbox to be set up: a fraction of one, unless a large image is unpacked first
MESSAGE = 64  # bytes


def check_host(home: Path, architecture: Architecture = X86_64, *, internet: bool) -> None:
    """Check that this host has what a sandbox needs, and that its processor runs an architecture's programs.

    InputError for one that does not; MissingTool, EnvironmentFault.
    """
    if of_host(os.uname().machine) != architecture:
        raise InputError(
            f"local.engine: chroot runs the image's programs on this host, which has {os.uname().machine}, and the "
            f"image is for {architecture.name}; write engine: vm, which {architecture.emulator} emulates"
        )
    for program in (TIED[0], *((SLIRP,) if internet else ())):
        find_tool(program)
    if internet and not os.access(TUN, os.R_OK | os.W_OK):
        remedy = "as root: chmod 666" if Path(TUN).exists() else "as root: modprobe tun, and then chmod 666"
        raise EnvironmentFault(
            f"a sandbox with a network needs {TUN}, which you may not open; {remedy} {TUN}, "
            "or write local: {network: false}"
        )
    if os.geteuid():
        for program in ("newuidmap", "newgidmap", "mke2fs", "debugfs"):
            find_tool(program)
        own_id_ranges()
        check_way(home.absolute(), os.getuid(), os.getgid())


def check_way(home: Path, user: int, group: int) -> None:
    """Check that a user reaches a folder without supplementary groups: a sandbox has none. EnvironmentFault."""
    for folder in (home, *home.parents):
        if not folder.exists():
            continue
        state = folder.stat()
        bit = 0o100 if state.st_uid == user else 0o010 if state.st_gid == group else 0o001
        if not state.st_mode & bit:
            raise EnvironmentFault(
                f"{folder}: a sandbox has none of your supplementary groups, and may not pass; as its owner: "
                f"chmod o+x {folder}, or set GOLDSMITH_HOME to another folder, or write local.engine: vm"
            )


def remove_folder(folder: Path) -> None:
    """Remove a folder in which a sandbox of an ordinary user has left files of other ids. EnvironmentFault."""
    work_on_files(REMOVE, folder)


def work_on_files(*arguments: str | Path) -> str:
    """Work on files that may be of an ordinary user's other ids, as supervisor.main() says; return what it printed.

    InputError, EnvironmentFault.
    """
    try:
        return run_tool([sys.executable, "-I", "-S", "-E", "-c", PROGRAM, str(TREE), *arguments]).strip()
    except ProgramFailed as error:
        kind = InputError if error.status == BAD_INPUT else EnvironmentFault
        raise kind(error.output.strip() or str(error)) from error


def look_at_layers(cache: CacheSpec) -> tuple[list[LayerRecord], Lack | None]:
    """Return the records of the layers that a sandbox would begin after, and what the next one lacks. EnvironmentFault.

    Files of an ordinary user's sandbox have ids that only a process of that user's namespace can look at.
    """
    most = replace(cache, chain=cache.chain[:MOST_LOWER])
    document = json.loads(work_on_files(LAYERS, json.dumps(asdict(most))))
    return [LayerRecord(**each) for each in document["found"]], document["lack"]


def launch_sandbox(
    spec: MachineSpec,
    home: Path,
    publish: Callable[[Message], None],
    starter: Executor,
    guarded: Executor,
    on_end: Callable[[MachineSpec, MachineProcess, MachineEnd], None],
) -> MachineProcess:
    """Start a sandbox on a thread of `starter`, with which it ends. The caller has to call watch().

    Its way to other hosts is started on a thread of `guarded`: what that starts does not reach this host itself.
    Raises EnvironmentFault, MissingTool.
    """
    _write_cidata(spec)
    roots = home / "cache" / "roots"
    roots.mkdir(mode=0o700, parents=True, exist_ok=True)  # here: in its namespace the sandbox is another user
    layers = folder_of_layers(home)
    place, table, uuid, label = _root_of(spec)
    with ExitStack() as stack:
        files = [stack.enter_context((spec.folder / f"{name}.log").open("ab", buffering=0)) for name in PORTS]
        ours, theirs = zip(*(socket.socketpair() for _ in (*files, "shell")), strict=True)
        control, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (*ours, *theirs, control, asked):
            stack.enter_context(each)
        console, reports, shell = (each.fileno() for each in theirs)
        sandbox = SandboxSpec(
            name=spec.name,
            disk=str(spec.disk),
            offset=place.start,
            size=place.size,
            root_uuid=uuid,
            root_label=label,
            table=table,
            image=spec.source,
            source=str(spec.source_disk),
            roots=str(roots),
            folder=str(spec.folder),
            memory=spec.memory_mb << 20,
            address=ADDRESS,
            network=spec.internet,
            written_at=spec.written_at,
            console=console,
            reports=reports,
            control=asked.fileno(),
            cache=_cache_of(spec, layers),
            shell=shell if spec.shell else -1,
        )
        stderr = stack.enter_context(tempfile.TemporaryFile())
        hidden = spec.secrets.forms if spec.secrets else ()
        proxy = open_package_proxy(home, spec.site_proxy, stack, hidden) if spec.packages else None
        desk = None if spec.secrets is None else SecretDesk(spec.secrets)
        process = starter.submit(_spawn, sandbox, stderr).result()
        for each in (*theirs, asked):
            each.close()
        try:
            routes = machine_routes(publish, BuildFolder.of_resource(home, spec.name).build_id)
            routes += () if desk is None else (desk.route,)
            _introduce(spec, process, control, stderr, stack, guarded, routes, proxy)
        except BaseException:
            process.kill()
            process.wait()
            raise
        stops = [(spec.folder / HELD).touch, *([desk.close] if desk else [])]
        ports = [SerialPort(end, file) for end, file in zip(ours, files, strict=False)]
        return MachineProcess(spec, process, ports, stderr, on_end, stack.pop_all(), shell=ours[-1], on_hold=stops)


def _root_of(spec: MachineSpec) -> tuple[DiskPartition, str, str, str]:
    """Return where the root file system is, or will be, the kind of the disk's table, and what the root is called."""
    disk = spec.disk if spec.disk.exists() else unwritten_disk(spec.disk)
    with Disk(spec.disk if spec.disk.exists() else spec.source_disk or disk) as opened, Disk(disk) as target:
        root = opened.root
        [place] = [each for each in target.table.partitions if each.number == root.partition.number]
        return place, target.table.kind, root.file_system.uuid, root.file_system.layout.label


def _cache_of(spec: MachineSpec, layers: Path) -> CacheSpec | None:
    if spec.cache is None:
        return None
    return CacheSpec(str(layers), spec.cache.build, spec.cache.max_age, spec.cache.chain)


def _write_cidata(spec: MachineSpec) -> None:
    """Write the files of the job into a folder, from which the sandbox takes them over."""
    folder = spec.folder / "cidata"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o755)
    for name, content in (spec.cidata or {}).items():
        if isinstance(content, Path):
            shutil.copyfile(content, folder / name)
        else:
            (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)


def _spawn(sandbox: SandboxSpec, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    python = [sys.executable, "-I", "-S", "-E", "-c", PROGRAM, str(TREE), sandbox.encode()]
    return subprocess.Popen(
        [find_tool(TIED[0]), *TIED[1:], str(os.getpid()), *python],
        stdin=subprocess.DEVNULL,
        stdout=stderr,
        stderr=stderr,
        pass_fds=tuple(
            each for each in (sandbox.console, sandbox.reports, sandbox.control, sandbox.shell) if each >= 0
        ),
        start_new_session=True,
    )


def _introduce(
    spec: MachineSpec,
    process: subprocess.Popen[bytes],
    control: socket.socket,
    stderr: IO[bytes],
    stack: ExitStack,
    guarded: Executor,
    routes: Sequence[Route],
    proxy: PackageProxy | None,
) -> None:
    """Serve and connect the sandbox when it asks for that, and wait until it is ready."""
    control.settimeout(PATIENCE)
    while True:
        try:
            said, descriptors, _, _ = socket.recv_fds(control, MESSAGE, 3)
        except TimeoutError as error:
            raise EnvironmentFault(f"the sandbox {spec.name} is not ready after {PATIENCE:g} s") from error
        if said == b"ready":
            return
        if said != b"network":
            process.wait()
            stderr.seek(0)
            told = stderr.read().decode("utf-8", "replace").strip()
            raise EnvironmentFault(told or f"the sandbox {spec.name} ended before it was ready")
        users, network, listener = descriptors
        taken = stack.enter_context(socket.socket(fileno=listener))
        stack.enter_context(MetadataServer(spec.name, routes, taken, proxy))
        try:
            if spec.internet:
                guarded.submit(connect_network, users, network, stack).result()
        finally:
            os.close(users)
            os.close(network)
        control.sendall(b"connected")


def connect_network(users: int, network: int, stack: ExitStack) -> None:
    """Connect a network namespace to other hosts, in user space, until the end. EnvironmentFault."""
    ready, is_ready = os.pipe()
    line = [
        *(find_tool(SLIRP), "--configure", "--mtu=65520", "--disable-host-loopback", "--enable-seccomp"),
        *(() if os.geteuid() else ("--enable-sandbox",)),  # from root's rights and files; it needs them to begin with
        *(f"--ready-fd={is_ready}", f"--userns-path=/proc/self/fd/{users}"),
        *("--netns-type=path", f"/proc/self/fd/{network}", "tap0"),
    ]
    process = subprocess.Popen(
        [find_tool(TIED[0]), *TIED[1:], str(os.getpid()), *line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(is_ready, users, network),
        start_new_session=True,
    )
    stack.callback(_end, process)
    os.close(is_ready)
    with os.fdopen(ready, "rb") as told:
        if not told.read(1):
            assert process.stderr is not None
            why = process.stderr.read().decode("utf-8", "replace").strip()[-500:]
            raise EnvironmentFault(f"the sandbox cannot be connected: {why}; write local: {{network: false}}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stderr is not None:
        process.stderr.close()
