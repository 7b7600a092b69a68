"""The processes of a sandbox: one that enters the namespaces, the first one inside, and the provisioner's.

    supervisor                  of the host, or of the user's own namespace
    └── entrance                new user and network namespaces
        └── round               new mount, pid, uts, ipc and cgroup namespaces
            └── init (pid 1)        assembles the root, and waits for
                └── provisioner     runs the steps; when it has ended, init ends, and the kernel ends all the rest

A provisioner that ends so that a step's result can be kept is followed by another round, in a root that has it. Each
process dies with its parent. Steps see init, and the provisioner; both are hidden from them otherwise.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from provisioner.protocol import SHELL_HANDLE

from .assembly import CIDATA_FOLDER, CONSOLE, allow_services, assemble_root, furnish, listen_at, open_ports
from .seccomp import forbid_calls
from .shims import shims
from .system_calls import (
    NEW_CGROUPS,
    NEW_IPC,
    NEW_MOUNTS,
    NEW_NAMES,
    NEW_NETWORK,
    NEW_PROCESSES,
    NEW_USERS,
    end_with_parent,
    hide_process,
    renounce,
    unshare,
)

HTTP = 80
OWN_FAULT = 3  # of these processes; a provisioner ends with 0, 1 or LAYER
LAYER = 195  # the status of a job that goes on in a new root
_RENOUNCED = (12, 13, 16, 17, 20, 22, 25, 32, 33, 34, 35, 36, 37, 38, 39, 40)
"""CAP_NET_ADMIN, NET_RAW, SYS_MODULE, SYS_RAWIO, SYS_PACCT, SYS_BOOT, SYS_TIME, MAC_OVERRIDE, MAC_ADMIN, SYSLOG,
WAKE_ALARM, BLOCK_SUSPEND, AUDIT_READ, PERFMON, BPF, CHECKPOINT_RESTORE (linux/capability.h)."""
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_COMMAND = ("/bin/sh", f"/{CIDATA_FOLDER}/bootstrap.sh", "--no-power", "--sandbox")
_SAID = 4096  # bytes of a message between these processes


@dataclass(frozen=True)
class Furniture:
    """What the inside of a sandbox is made of."""

    root: Path  # mounted in the supervisor's mount namespace
    cidata: Path
    run_bytes: int  # of the memory file system at /run
    root_uuid: str
    root_label: str
    table: str  # the kind of the disk's partition table: gpt, mbr or none
    address: str  # of the HTTP server that takes the reports
    network: bool
    limits: tuple[tuple[int, int], ...] = ()  # resources, as in resource(3), and how much of each
    shell: int = -1  # the descriptor on which the provisioner may serve a shell


Init = Callable[[Furniture, socket.socket], int]
"""The work of the first process inside, which gets the connection to the supervisor; returns the exit status."""


class Entrance:
    """The supervisor's connection to the process that enters the namespaces."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._connection = connection

    @property
    def descriptor(self) -> int:
        """The connection's, which can be read when there is a message, or when the process has ended."""
        return self._connection.fileno()

    def receive(self) -> tuple[str, list[int]]:
        """Return the next message and its descriptors; "" when the process has ended."""
        data, descriptors, _, _ = socket.recv_fds(self._connection, _SAID, 4)
        return data.decode("utf-8", "replace"), list(descriptors)

    def go_on(self) -> None:
        """Let it go on, after what it waits for has been done."""
        self._connection.sendall(b"go")

    @contextmanager
    def closing(self, alive: int) -> Iterator[None]:
        """Close the connection and the pipe `alive` (limits.py) in the end; end the processes after a fault."""
        try:
            yield
        except BaseException:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            raise
        finally:
            self._connection.close()
            if alive >= 0:
                os.close(alive)


def enter(furniture: Furniture, close: Callable[[], None], init: Init | None = None) -> Entrance:
    """Start the processes of a sandbox. `close` is called in the new process: it closes what that must not have.

    The entrance sends `users` with its user namespace, and waits; then `network` with the namespaces of users and
    network and a socket that listens at the address, and waits. For each round it sends `round`, and waits; then init
    sends `ports` with the console and the port of the reports; then the entrance sends `ended STATUS`. Any of them
    sends `failed: ...` when it cannot go on. Another `init` than the provisioner's sends what it likes instead.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        return Entrance(pid, ours)
    status = OWN_FAULT
    try:
        ours.close()
        close()
        status = _entrance(furniture, theirs, init or _init)
    except OSError as error:
        with suppress(OSError):
            place = f"{error.filename}: " if error.filename else ""
            theirs.sendall(f"failed: {place}{error.strerror or error}".encode())
    finally:
        os._exit(status)


def _say(connection: socket.socket, text: str, *descriptors: int) -> None:
    socket.send_fds(connection, [text.encode()], list(descriptors))


def _wait(connection: socket.socket) -> None:
    if not connection.recv(_SAID):
        os._exit(1)  # the supervisor has ended


def _entrance(furniture: Furniture, connection: socket.socket, init: Init) -> int:
    """Enter the namespaces, run a job in them, and return its exit status."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for limit, most in furniture.limits:  # before: all users of the new namespace together are held to them
        resource.setrlimit(limit, (most, most))
    unshare(NEW_USERS)
    users = os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    _say(connection, "users", users)
    _wait(connection)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    die_with_parent(connection)
    unshare(NEW_NETWORK)
    listener = listen_at(furniture.address, HTTP)
    _say(connection, "network", users, os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC), listener.fileno())
    _wait(connection)
    listener.close()
    while True:
        _say(connection, "round")
        _wait(connection)
        status = _forked(lambda: _round(furniture, connection, init), connection)
        _say(connection, f"ended {status}")
        if status != LAYER:
            return status


def _round(furniture: Furniture, connection: socket.socket, init: Init) -> int:
    """Run a job, or what is left of it, in namespaces of its own; return its exit status."""
    die_with_parent(connection)
    unshare(NEW_MOUNTS | NEW_PROCESSES | NEW_NAMES | NEW_IPC | NEW_CGROUPS)
    return _forked(lambda: init(furniture, connection), connection)


def _forked(work: Callable[[], int], connection: socket.socket) -> int:
    """Do some work in a new process; return its exit status."""
    child = os.fork()
    if child:
        return status_of_process(os.waitpid(child, 0)[1])
    status = OWN_FAULT
    try:
        status = work()
    except OSError as error:
        with suppress(OSError):
            place = f"{error.filename}: " if error.filename else ""
            connection.sendall(f"failed: {place}{error.strerror or error}".encode())
    finally:
        os._exit(status)


def die_with_parent(connection: socket.socket) -> None:
    """Have the kernel kill this process with its parent, which may have ended a moment ago."""
    end_with_parent(signal.SIGKILL)
    poller = select.poll()
    poller.register(connection, select.POLLHUP)
    if poller.poll(0):
        os._exit(1)


def _init(furniture: Furniture, connection: socket.socket) -> int:
    """Be the first process of the sandbox: assemble_root it, run the provisioner, and return its exit status."""
    die_with_parent(connection)
    hide_process()
    assemble_root(furniture.root, furniture.cidata, furniture.run_bytes)
    ports = open_ports()
    furnish(shims(furniture.root_uuid, furniture.table, furniture.root_label), network=furniture.network)
    renounce_rights()
    provisioner = os.fork()
    if not provisioner:
        try:
            _become_provisioner(furniture.shell)
        finally:
            os._exit(127)
    _close_shell(furniture)
    _say(connection, "ports", *ports)
    for port in ports:
        os.close(port)
    connection.close()
    while True:
        ended, status = os.wait()  # of processes that the steps have left, too
        if ended == provisioner:
            allow_services()
            return status_of_process(status)


def renounce_rights() -> None:
    """Renounce what no program in a sandbox needs: rights over network and kernel, and system calls. OSError."""
    for capability in _RENOUNCED:
        with suppress(OSError):  # an older kernel has fewer
            renounce(capability)
    _keep_bounds()
    forbid_calls()


def _keep_bounds() -> None:
    """Renounce for this process, too, what programs that it starts cannot have any more."""
    library = ctypes.CDLL(None, use_errno=True)
    kept = (1 << 41) - 1
    for capability in _RENOUNCED:
        kept &= ~(1 << capability)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of capget(2)
    held = (ctypes.c_uint32 * 6)()
    if library.capget(header, held):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "capget")
    for index in range(6):
        held[index] &= (kept >> (32 if index > 2 else 0)) & 0xFFFFFFFF
    if library.capset(header, held):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "capset")


def _close_shell(furniture: Furniture) -> None:
    """Leave the connection of the shell to the provisioner, with which it ends."""
    if furniture.shell >= 0:
        os.close(furniture.shell)


def _become_provisioner(shell: int) -> None:
    os.setsid()
    nothing = os.open("/dev/null", os.O_RDONLY)
    console = os.open(f"/{CONSOLE}", os.O_WRONLY)
    for target, source in ((0, nothing), (1, console), (2, console)):
        os.dup2(source, target)
    if shell >= 0:
        os.dup2(shell, SHELL_HANDLE)
        os.set_inheritable(SHELL_HANDLE, True)
    os.execve(_COMMAND[0], _COMMAND, _ENVIRONMENT)  # noqa: S606 - a fixed command


def status_of_process(told: int) -> int:
    """Return an exit status, 128 + signal for a process that one has killed."""
    return 128 + os.WTERMSIG(told) if os.WIFSIGNALED(told) else os.WEXITSTATUS(told)
