"""Child processes: ready when they answer, ended within a bound, never outliving us."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.web.processes import ChildProcess, Processes, free_port
from shared.errors import EnvironmentFault, MissingTool
from shared.host.processes import is_alive, name_of

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 60.0  # for anything here to happen


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as started:
        yield started


def shell(processes: Processes, folder: Path, script: str) -> ChildProcess:
    return processes.start("the test's child", ["sh", "-c", script], folder / "logs" / "child.log")


def wait_for(path: Path, text: str) -> None:
    end = time.monotonic() + SECONDS
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < end, f"{path} never holds {text!r}"
        time.sleep(0.01)


def test_it_is_ready_when_it_answers(processes: Processes, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-u", "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    child = processes.start("a server", command, tmp_path / "log", folder=tmp_path)
    child.wait_until_ready(f"http://127.0.0.1:{port}/", SECONDS)
    assert child.status is None
    wait_for(child.log, "GET /")
    with pytest.raises(EnvironmentFault, match=r"a server does not answer at .*/absent after 0.2 s"):
        child.wait_until_ready(f"http://127.0.0.1:{port}/absent", 0.2)


def test_an_end_at_the_start_is_told_with_the_log(processes: Processes, tmp_path: Path) -> None:
    child = shell(processes, tmp_path, "for i in $(seq 100); do echo line $i; done; echo no memory >&2; exit 3")
    with pytest.raises(EnvironmentFault) as caught:
        child.wait_until_ready(f"http://127.0.0.1:{free_port()}/", SECONDS)
    text = str(caught.value)
    assert "the test's child ended with status 3" in text
    assert text.splitlines()[-2:] == ["    line 100", "    no memory"]
    assert "line 50\n" not in text


def test_silence_has_a_bound(processes: Processes, tmp_path: Path) -> None:
    child = shell(processes, tmp_path, "exec sleep 60")
    began = time.monotonic()
    with pytest.raises(EnvironmentFault, match=r"does not answer at .* after 0.3 s; .*child.log ends with"):
        child.wait_until_ready(f"http://127.0.0.1:{free_port()}/", 0.3)
    assert time.monotonic() - began < 30  # by default it would be two minutes


def test_the_environment_and_the_folder_are_the_childs(processes: Processes, tmp_path: Path) -> None:
    processes.start(
        "env",
        ["sh", "-c", 'echo "$GREETING from $PWD"'],
        tmp_path / "log",
        environment={"GREETING": "hi"},
        folder=tmp_path,
    )
    wait_for(tmp_path / "log", f"hi from {tmp_path}")


def test_a_missing_program_is_named(processes: Processes, tmp_path: Path) -> None:
    with pytest.raises(MissingTool, match="no-such-program is not installed"):
        processes.start("it", ["no-such-program"], tmp_path / "log")


def test_close_ends_the_stubborn_with_their_children(tmp_path: Path) -> None:
    with Processes() as processes:
        meek = shell(processes, tmp_path / "meek", "exec sleep 60")
        stubborn = shell(processes, tmp_path / "stubborn", 'trap "" TERM; sleep 60 & echo $!; wait; wait; sleep 60')
        wait_for(stubborn.log, "\n")
        names = [name_of(pid) for pid in (meek.pid, stubborn.pid, int(stubborn.log.read_text()))]
        began = time.monotonic()
    assert time.monotonic() - began < 30  # half of what they would sleep for
    assert meek.status == -signal.SIGTERM
    assert stubborn.status == -signal.SIGKILL
    wait_for_end(names)


def test_children_end_with_us_by_whatever_signal(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom emulator.web.processes import Processes\n"
        "processes = Processes()\n"
        f"children = [processes.start('s', ['sleep', '60'], Path({str(tmp_path / 'log')!r})) for _ in range(2)]\n"
        "print(*(child.pid for child in children), flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        names = [name_of(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(names) == 2
        assert all(is_alive(name) for name in names)
        parent.kill()
    wait_for_end(names)


def wait_for_end(names: list[str]) -> None:
    end = time.monotonic() + SECONDS / 2  # they would end after a minute by themselves
    while any(is_alive(name) for name in names):
        assert time.monotonic() < end, "a child has outlived its parent"
        time.sleep(0.01)


def test_a_free_port_is_kept_for_who_asks_for_it() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    with socket.socket() as other, pytest.raises(OSError, match=os.strerror(98)):
        other.bind(("127.0.0.1", ports[0]))  # without SO_REUSEADDR, as sockets bind whose port the kernel chooses
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", ports[0]))
        server.listen()
