"""Keep guests away from this host itself: from its loopback, and from every address that it has.

QEMU's user network makes a connection of this host's for each of the guest's. A connection to the guest's gateway
leads to this host's loopback, 127.0.0.1 is treated as any other address, and QEMU has no option against either.
Therefore the kernel asks this module (seccomp_unotify(2)) about every connect() and sendto() of QEMU and its children
before the call is made, and the guard checks the address. No privilege, package or namespace is needed, and no data
passes through this process.

The filter is put on a thread, and processes inherit it from the thread that starts them: everything that the thread
starts from then on is guarded, and nothing else is. The address is read from the calling process's memory. The guest
cannot write there. A QEMU that the guest has taken over can; against that, QEMU's own sandbox has to suffice. When this
process ends, guarded calls fail with ENOSYS.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import ipaddress
import logging
import os
import re
import secrets
import select
import socket
import struct
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOG = logging.getLogger(__name__)

RESOLVER = Path("/etc/resolv.conf")
DNS = 53
ADDRESS_LIMIT = 128  # bytes: sizeof(struct sockaddr_storage)
REFUSED = errno.ENETUNREACH
LOOPBACK = "127.0.0.1"
LISTENS = "0A"  # TCP_LISTEN, in /proc/net/tcp
KERNEL = (5, 5)  # the first Linux that can continue a call that was checked

# linux/audit.h, and each architecture's table of system calls: seccomp, connect, sendto.
_ARCHITECTURES: Mapping[str, tuple[int, int, int, int]] = {
    "x86_64": (0xC000003E, 317, 42, 44),
    "aarch64": (0xC00000B7, 277, 203, 206),
}
_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06  # classic BPF: a word of the data, ==, and the verdict
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data
_RECEIVE, _ANSWER, _STILL_ASKS = 0xC0502100, 0xC0182101, 0x40082102  # ioctls of linux/seccomp.h
_ASKED = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif
_ANSWERED = struct.Struct("=QqiI")  # struct seccomp_notif_resp
_CONTINUE = 1


_PLACES = {int(socket.AF_INET): (4, 8), int(socket.AF_INET6): (8, 24)}  # of the address in a struct sockaddr
_DEAF = {
    "/proc/sys/net/ipv4/ip_nonlocal_bind": 1,
    "/proc/sys/net/ipv6/ip_nonlocal_bind": 1,
    "/proc/sys/kernel/yama/ptrace_scope": 2,
}
"""Settings, and the values from which a guard cannot recognize this host's addresses, or read a process's memory."""

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Call:
    """A system call that waits for the guard's answer."""

    id: int
    thread: int  # of the process that makes it
    number: int
    arguments: tuple[int, ...]


class NetworkGuard:
    """Guard the processes started by threads that have called confine(). Close it when all of them have ended."""

    def __init__(self, machine: str = os.uname().machine) -> None:
        self.fault = ""  # after confine(): why there is no guard, for people
        self._machine = machine
        self._listener = -1
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None

    def confine(self) -> None:
        """Guard the calling thread and all that it will start. If that is impossible, set `fault` to the reason."""
        try:
            numbers = _system_calls(self._machine)
            self._listener = _listen(*numbers)
        except OSError as error:
            self.fault = error.strerror or str(error)
            return
        self._thread = threading.Thread(target=self._answer_all, args=(numbers[2],), daemon=True, name="network-guard")
        self._thread.start()
        if not _is_refused(LOOPBACK):
            self.fault = "the kernel takes the filter, and does not ask"
        elif not _own_sockets_are_reached():
            self.fault = "/proc does not show this process's memory: it is not of this process's PID namespace"

    def close(self) -> None:
        """End the guard. A process that still runs under it can make no more connections."""
        if self._stop < 0:
            return
        os.eventfd_write(self._stop, 1)
        if self._thread is not None:
            self._thread.join()
            os.close(self._listener)
        os.close(self._stop)
        self._stop = -1

    def _answer_all(self, connect: int) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._stop in ready or ready[self._listener] & select.POLLHUP:  # all that was guarded has ended
                return
            asked = bytearray(_ASKED.size)
            with suppress(OSError):  # the calling process has ended meanwhile
                fcntl.ioctl(self._listener, _RECEIVE, asked)
                number, thread, _flags, call, _architecture, _at, *arguments = _ASKED.unpack(asked)
                refused = self._refused(Call(number, thread, call, tuple(arguments)), connect)
                answer = _ANSWERED.pack(number, 0, -REFUSED if refused else 0, 0 if refused else _CONTINUE)
                fcntl.ioctl(self._listener, _ANSWER, bytearray(answer))

    def _refused(self, call: Call, connect: int) -> bool:
        where, length = call.arguments[1:3] if call.number == connect else call.arguments[4:6]
        try:
            with Path(f"/proc/{call.thread}/mem").open("rb", buffering=0) as memory:
                address = os.pread(memory.fileno(), min(length & 0xFFFFFFFF, ADDRESS_LIMIT), where)
            fcntl.ioctl(self._listener, _STILL_ASKS, struct.pack("=Q", call.id))  # fails if the memory was another's
        except (OSError, OverflowError) as error:
            LOG.warning("a guest's connection is refused, as its address cannot be read: %s", error)
            return True
        return leads_here(address) and not _is_to_itself(address, call.thread)


def _is_to_itself(address: bytes, thread: int) -> bool:
    """Return whether a process connects to a port that it listens on itself, as libslirp does to make a socket pair.

    QEMU listens on no other port, so such a connection is never a guest's.
    """
    if int.from_bytes(address[:2], sys.byteorder) != socket.AF_INET:
        return False
    port = f":{int.from_bytes(address[2:4], 'big'):04X}"
    with suppress(OSError):
        rows = (line.split() for line in Path(f"/proc/{thread}/net/tcp").read_text().splitlines()[1:])
        wanted = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == LISTENS}
        return bool(wanted) and any(_leads_to(each) in wanted for each in Path(f"/proc/{thread}/fd").iterdir())
    return False


def _leads_to(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # closed meanwhile
        return ""


def leads_here(address: bytes, resolver: Path = RESOLVER) -> bool:
    """Return whether a struct sockaddr is an address of this host. One that cannot be parsed counts as such.

    The host's resolver at its port for DNS does not: the guest's name server forwards to it.
    """
    family = int.from_bytes(address[:2], sys.byteorder)
    if len(address) >= 2 and family in (socket.AF_UNIX, socket.AF_UNSPEC):  # Goldsmith's server; a disconnect
        return False
    first, last = _PLACES.get(family, (0, 0))
    if not last or len(address) < last:
        return True
    found = ipaddress.ip_address(address[first:last])
    if int.from_bytes(address[2:4], "big") == DNS and found in _name_servers(resolver):
        return False
    return is_of_host(found)


def is_of_host(address: IpAddress) -> bool:
    """Return whether an address is this host's, or link-local as that of a cloud's metadata server."""
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback or address.is_unspecified or address.is_link_local or address.is_multicast:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))  # only addresses of this host can be bound to
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


def _name_servers(resolver: Path) -> set[IpAddress]:
    """Return the name servers of this host, from its resolv.conf(5)."""
    found: set[IpAddress] = set()
    with suppress(OSError):
        for line in resolver.read_text(errors="replace").splitlines():
            words = line.split()
            if words[:1] == ["nameserver"] and len(words) > 1:
                with suppress(ValueError):
                    found.add(ipaddress.ip_address(words[1].partition("%")[0]))
    return found


def _is_refused(address: str) -> bool:
    """Return whether connections of the calling thread to an address are refused. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex((address, 9)) == REFUSED


def _own_sockets_are_reached() -> bool:
    """Return whether the guard can read the calling thread's addresses: if not, it refuses every connection."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(f"\0goldsmith-{secrets.token_hex(8)}") != REFUSED  # no process listens there


def _system_calls(machine: str) -> tuple[int, int, int, int]:
    """Return an architecture's row of _ARCHITECTURES. Raises OSError on a host on which a guard cannot work."""
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no system calls are known of {machine}")
    release = tuple(int(number) for number in re.findall(r"[0-9]+", os.uname().release)[:2])
    if release < KERNEL:
        raise OSError(errno.ENOSYS, f"Linux {os.uname().release} is older than {KERNEL[0]}.{KERNEL[1]}")
    for path, what in _DEAF.items():
        with suppress(FileNotFoundError, ValueError):
            if int(Path(path).read_text()) >= what:
                raise OSError(errno.EPERM, f"{path} is {what} or more")
    return _ARCHITECTURES[machine]


def _listen(architecture: int, seccomp: int, connect: int, send: int) -> int:
    """Put the filter on the calling thread, and return the descriptor on which the kernel asks. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    destination = _ARGUMENTS_AT + 4 * 8 + (0 if sys.byteorder == "little" else 4)  # of sendto(): a pointer's lower half
    program = (
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 0, 6, architecture),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_JUMP_EQUAL, 3, 0, connect),
        (_JUMP_EQUAL, 0, 3, send),
        (_LOAD, 0, 0, destination),
        (_JUMP_EQUAL, 1, 0, 0),  # no destination: the socket has been connected
        (_RETURN, 0, 0, _NOTIFY),
        (_RETURN, 0, 0, _ALLOW),
    )
    words = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *word) for word in program))
    whole = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(words)))
    listener: int = library.syscall(seccomp, _SET_MODE_FILTER, _NEW_LISTENER, whole)
    if listener < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"the kernel does not let system calls be looked at ({os.strerror(number)})")
    return listener
