"""A build VM asks its host to keep its disk, and goes on whatever the host says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from provisioner.machine.machine import BuildMachine
from provisioner.protocol import layer_request, sign
from provisioner.system.output import StepConsole

KEY = "0b" * 32


class Host(ThreadingHTTPServer):
    """A host that gives its answers in turn."""

    def __init__(self, answers: list[int]) -> None:
        self.answers = answers
        self.heard: list[tuple[str, bytes, str]] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Host

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((self.path, body, self.headers["Goldsmith-Signature"]))
        self.send_response(self.server.answers.pop(0))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name for it
        """Say nothing."""


@pytest.fixture
def host() -> Iterator[Host]:
    with Host([200, 410, 200]) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def machine_of(url: str, console: StepConsole) -> BuildMachine:
    machine = BuildMachine(console)
    machine.host = url
    return machine


def test_the_host_is_asked_until_it_keeps_no_more(host: Host, tmp_path: Path) -> None:
    console = tmp_path / "console"
    console.touch()
    machine = machine_of(f"http://127.0.0.1:{host.server_address[1]}", StepConsole(str(console)))
    for index in (3, 4, 5):
        machine.keep(index, KEY)
    assert host.heard == [
        (f"/goldsmith/layers/{index}", layer_request(index), sign(KEY, layer_request(index))) for index in (3, 4)
    ]
    assert console.read_text() == "goldsmith: the host keeps the results of no more steps: HTTP 410\n"


def test_a_host_that_does_not_answer_is_no_fault(host: Host) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        machine = machine_of(f"http://127.0.0.1:{unheard.getsockname()[1]}", StepConsole("/dev/null"))
        machine.keep(0, KEY)
    machine.host = f"http://127.0.0.1:{host.server_address[1]}"
    machine.keep(1, KEY)
    assert host.heard == []
