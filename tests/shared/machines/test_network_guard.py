"""What a guarded thread starts reaches other machines and our own sockets, and nothing that this host listens on."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.machines import network_guard
from shared.machines.network_guard import NetworkGuard, leads_here
from tests.shared.machines.addresses import own_addresses

ASKS = """\
import socket, sys
kind, family, host, port, text = sys.argv[1:]
with socket.socket(getattr(socket, family), getattr(socket, kind)) as asking:
    asking.settimeout(10)
    try:
        if text:
            asking.sendto(text.encode(), (host, int(port)))
        else:
            asking.connect("\\0" + host if family == "AF_UNIX" else (host, int(port)))
        print("reached")
    except OSError as error:
        print(error.errno)
"""
UNREACHABLE = "101\n"  # ENETUNREACH


def sockaddr(host: str, port: int = 80) -> bytes:
    """A struct sockaddr, as the kernel takes it."""
    address = ipaddress.ip_address(host)
    if address.version == 4:
        return socket.AF_INET.to_bytes(2, sys.byteorder) + port.to_bytes(2, "big") + address.packed + bytes(8)
    family = socket.AF_INET6.to_bytes(2, sys.byteorder)
    return family + port.to_bytes(2, "big") + bytes(4) + address.packed + bytes(4)


@contextmanager
def guarded() -> Iterator[Callable[..., str]]:
    """A thread under guard, which asks by a process that it starts."""
    guard = NetworkGuard()
    with ThreadPoolExecutor(1, initializer=guard.confine) as thread:

        def ask(kind: str, family: str, host: str, port: int, text: str = "") -> str:
            line = [sys.executable, "-I", "-c", ASKS, kind, family, host, str(port), text]
            return thread.submit(subprocess.run, line, capture_output=True, text=True, check=True).result().stdout

        yield ask
    assert guard.fault == ""
    guard.close()
    guard.close()


@pytest.mark.parametrize("host", ["127.0.0.1", *own_addresses(), "127.200.0.9", "0.0.0.0", "::1"])
def test_what_listens_on_this_host_is_out_of_reach(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as server, guarded() as ask:
        server.bind((host, 0))
        server.listen()
        port = server.getsockname()[1]
        assert ask("SOCK_STREAM", family.name, host, port) == UNREACHABLE
        socket.create_connection((host, port), timeout=10).close()  # this thread is not guarded


@pytest.mark.parametrize("host", ["127.0.0.1", *own_addresses()])
def test_datagram_to_this_host_is_not_sent(host: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, guarded() as ask:
        server.bind((host, 0))
        assert ask("SOCK_DGRAM", "AF_INET", host, server.getsockname()[1], "text") == UNREACHABLE
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(10)


def test_own_server_and_other_machines_are_reached() -> None:
    name = f"goldsmith-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server, guarded() as ask:
        server.bind("\0" + name)
        server.listen()
        assert ask("SOCK_STREAM", "AF_UNIX", name, 0) == "reached\n"
        assert ask("SOCK_DGRAM", "AF_INET", "198.51.100.7", 9) == "reached\n"  # no packet is sent


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_process_makes_itself_a_pair_of_sockets(host: str) -> None:
    """Libslirp does so for each connection to our own server."""
    code = (
        "import socket; a = socket.socket(); a.bind((%r, 0)); a.listen(); b = socket.socket();"
        "b.connect(a.getsockname()); print(a.accept()[1] == b.getsockname())"
    )
    guard = NetworkGuard()
    with ThreadPoolExecutor(1, initializer=guard.confine) as thread:
        line = [sys.executable, "-I", "-c", code % host]
        done = thread.submit(subprocess.run, line, capture_output=True, text=True, check=True).result()
    guard.close()
    assert done.stdout == "True\n"


def test_many_ask_at_once() -> None:
    guard = NetworkGuard()
    with ThreadPoolExecutor(1, initializer=guard.confine) as thread:
        line = [sys.executable, "-I", "-c", ASKS, "SOCK_STREAM", "AF_INET", "127.0.0.1", "1", ""]
        started = [thread.submit(subprocess.Popen, line, stdout=subprocess.PIPE, text=True) for _ in range(8)]
        assert [each.result().communicate()[0] for each in started] == [UNREACHABLE] * 8
    guard.close()


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        (sockaddr("93.184.215.14"), False),
        (sockaddr("10.9.8.7"), False),
        (sockaddr("2001:db8::7"), False),
        (sockaddr("127.0.0.1"), True),
        (sockaddr("127.0.0.53", 53), False),  # the resolver, at its own port alone
        (sockaddr("127.0.0.53", 80), True),
        (sockaddr("127.0.0.54", 53), True),
        (sockaddr("::ffff:127.0.0.1"), True),
        (sockaddr("::ffff:93.184.215.14"), False),
        (sockaddr("169.254.169.254"), True),  # of a cloud that this host is a machine of
        (sockaddr("fe80::1"), True),
        (sockaddr("255.255.255.255"), True),
        (sockaddr("224.0.0.1"), True),
        (sockaddr("93.184.215.14")[:7], True),
        (b"", True),
        ((40).to_bytes(2, sys.byteorder) + bytes(14), True),  # AF_VSOCK: its hypervisor
        (int(socket.AF_UNIX).to_bytes(2, sys.byteorder) + b"\0name", False),
    ],
)
def test_address(tmp_path: Path, address: bytes, ours: bool) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("# of systemd\nnameserver 127.0.0.53\nnameserver nonsense\nnameserver\noptions edns0\n")
    assert leads_here(address, resolver) is ours


ORDINARY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
"""The user nobody, without any capability."""
GUARDS = """\
import os, socket, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from network_guard import NetworkGuard

guard = NetworkGuard()
with ThreadPoolExecutor(1, initializer=guard.confine) as thread, socket.create_server(("127.0.0.1", 0)) as server:
    def ask(*words):
        line = [sys.executable, "-I", "-c", sys.argv[1], *words]
        return thread.submit(subprocess.run, line, capture_output=True, text=True, check=True).result().stdout.strip()
    here = ask("SOCK_STREAM", "AF_INET", "127.0.0.1", str(server.getsockname()[1]), "")
    there = ask("SOCK_DGRAM", "AF_INET", "198.51.100.7", "9", "")
[rights] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")]
print(os.getuid(), int(rights, 16), here, there, guard.fault)
guard.close()
"""


@pytest.fixture
def stranger() -> Iterator[Callable[..., str]]:
    """Run a guard as an ordinary user, behind a command: this one, or `nobody` where this one is root."""
    command = ORDINARY if os.getuid() == 0 else ()
    with tempfile.TemporaryDirectory() as folder:  # other users may not enter pytest's own
        Path(folder).chmod(0o755)
        shutil.copy(network_guard.__file__, folder)
        program = Path(folder) / "guards.py"
        program.write_text(GUARDS)
        pythons = (os.path.realpath(sys.executable), "/usr/bin/python3")  # the former may be below /root
        ran = [each for each in pythons if subprocess.run([*command, "test", "-x", each], check=False).returncode == 0]

        def run(*before: str) -> str:
            line = [*before, *command, ran[0], str(program), ASKS]
            return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

        yield run


REFUSED = UNREACHABLE.strip()
FOREIGN_PROC = "/proc does not show this process's memory: it is not of this process's PID namespace"
CONTAINERS = (  # made by root: some hosts let no other user do so
    (("unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--mount-proc"), "reached"),
    (("unshare", "--pid", "--fork"), f"{REFUSED} {FOREIGN_PROC}"),  # all would be refused: better to say so before
)


@pytest.mark.parametrize(("before", "there"), [((), "reached"), *(CONTAINERS if os.getuid() == 0 else ())])
def test_an_ordinary_user_without_any_right_can_guard(
    stranger: Callable[..., str], before: tuple[str, ...], there: str
) -> None:
    assert stranger(*before) == f"{os.getuid() or 65534} 0 {REFUSED} {there}"


def test_host_that_cannot_guard_says_why() -> None:
    guard = NetworkGuard(machine="sparc64")
    thread = threading.Thread(target=guard.confine)
    thread.start()
    thread.join()
    assert guard.fault == "no system calls are known of sparc64"
    guard.close()
