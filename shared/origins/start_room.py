"""Start a room (room.py) for a job of the provisioner, serve it its network, and wait for its end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..delivery.bundle import kept_pyz
from ..errors import EnvironmentFault
from ..host.programs import find_tool
from ..machines.machines import CHROOT, Machines
from ..machines.start import TIED
from .room import CACHE, JOB, RESULT_HANDLE, ROOM_LOST, TREE, RoomSpec

_SOURCES = Path(__file__).resolve().parents[2]
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1])\n"
    "from shared.quick_dataclasses import install_quick_dataclasses as install; install()\n"
    "from shared.origins.room import main\n"
    "sys.exit(main(sys.argv[2:]))"
)
_JOB = (
    "import sys; sys.path.insert(0, sys.argv[1])\n"
    "from provisioner.elements.root_run import main\n"
    "sys.exit(main(*sys.argv[2:5], int(sys.argv[5])))"
)
_PYZ = "provisioner.pyz"
_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")
_LONGEST_LINE = 4096
_LARGEST_RESULT = 16 << 20
_SAID = 64


@dataclass(frozen=True)
class RoomJob:
    """A job of a room: its files are in `folder`/job; `tree` is made, and `cache` kept."""

    name: str
    folder: Path
    tree: Path | None
    cache: Path | None
    network: bool
    memory: int  # bytes
    locks: tuple[int, ...]  # the descriptors that hold the folders


def run_room(job: RoomJob, home: Path, machines: Machines, each_line: Callable[[str], None]) -> bytes:
    """Run a job; return what it has told as its result. It dies with this process.

    Its way to other hosts is that of sandboxes among `machines`. EnvironmentFault, MissingTool.
    """
    machines.check(CHROOT, "", internet=job.network)
    (job.folder / "job" / _PYZ).write_bytes(kept_pyz(home / "cache"))
    _let_read(job.folder / "job")
    python, also = _python()
    with ExitStack() as stack:
        control, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        result, told = os.pipe()
        for end in (control, asked):
            stack.enter_context(end)
        file = stack.enter_context(os.fdopen(result, "rb"))
        spec = RoomSpec(
            name=job.name,
            folder=str(job.folder),
            command=(python, "-ISE", "-c", _JOB, f"{JOB}/{_PYZ}", JOB, TREE, CACHE, str(RESULT_HANDLE)),
            network=job.network,
            memory=job.memory,
            control=asked.fileno(),
            result=told,
            tree=None if job.tree is None else str(job.tree),
            cache=None if job.cache is None else str(job.cache),
            also=also,
        )
        try:
            process = _spawn(spec, job.locks)
        finally:
            os.close(told)
        asked.close()
        read = stack.enter_context(ThreadPoolExecutor(1)).submit(file.read, _LARGEST_RESULT)
        with _ended(process):
            if job.network:
                _serve(control, stack, machines)
            assert process.stdout is not None
            said = _follow(process.stdout, each_line)
            status = process.wait()
        found = read.result()
    if status or not found:
        text = said if status == ROOM_LOST and said else f"a sandbox on this host's programs ended with status {status}"
        raise EnvironmentFault(text)
    return found


def _spawn(spec: RoomSpec, locks: tuple[int, ...]) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-I", "-S", "-E", "-c", _PROGRAM, str(_SOURCES), spec.encode()]
    return subprocess.Popen(
        [find_tool(TIED[0]), *TIED[1:], str(os.getpid()), *line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(spec.control, spec.result, *locks),
        start_new_session=True,
    )


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    with process:
        try:
            yield
        except BaseException:
            process.kill()
            raise


def _serve(control: socket.socket, stack: ExitStack, machines: Machines) -> None:
    """Connect the room when it asks for that. It may end before."""
    said, descriptors, _, _ = socket.recv_fds(control, _SAID, 2)
    if said != b"network":
        return
    users, network = descriptors
    try:
        machines.connect_sandbox(users, network, stack)
    finally:
        os.close(users)
        os.close(network)
    control.sendall(b"connected")


def _follow(output: IO[bytes], each_line: Callable[[str], None]) -> str:
    """Hand over each line, as it comes; return the last one."""
    last = ""
    while line := output.readline(_LONGEST_LINE):
        last = line.decode("utf-8", "replace").rstrip()
        each_line(last)
    return last


def _python() -> tuple[str, tuple[str, ...]]:
    """Return a Python that a room has, and the folder that it needs beside /usr, if any."""
    for path in _PYTHONS:
        if os.access(path, os.X_OK):
            return path, ()
    return os.path.realpath(sys.executable), (os.path.realpath(sys.base_prefix),)


def _let_read(folder: Path) -> None:
    """Let any user read the files of a job: in a room, even root is another user."""
    folder.chmod(0o755)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o777 | (0o755 if path.is_dir() else 0o444))
