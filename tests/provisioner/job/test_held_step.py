"""What the shell of a failed step is given: the step's variables, without its secrets unless they are asked for."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from provisioner.elements.run import STOPPED
from provisioner.elements.variables import WORK
from provisioner.frames import ENDED, HANG_UP, INPUT, OPEN, OUTPUT, READY, BadFrame, FrameReader, frame
from provisioner.job.hold import HeldStep, Hold
from provisioner.job.working_folder import JobFolders
from provisioner.machine.machine import NoMachine
from provisioner.protocol import ELEMENTS_ACTION, Step
from provisioner.steps.elements import StoppedScript
from provisioner.steps.step_context import StepError
from provisioner.system.output import StepConsole
from provisioner.system.step_group import StepGroup

LENT = {"http_proxy": "http://me:pw@proxy:3128", "PATH": "/shims:/bin", "SOURCE_DATE_EPOCH": "1"}
OWN = {"COLOUR": "blue", "DB_PASSWORD": "x", "API_KEY2": "x", "PUBLIC_TOKEN": "x", "WEBHOOK": "ghp_" + "a1B2" * 9}


def held(tmp_path: Path) -> HeldStep:
    step = Step("breaks", "run-script", {"script": "breaks.sh", "env": OWN})
    return HeldStep(step, "it failed", JobFolders(str(tmp_path), "/", str(tmp_path)), "/context", LENT, "", [b"pw"])


def test_secrets_are_left_out_by_name_and_by_value(tmp_path: Path) -> None:
    environment, left_out = held(tmp_path).environment(secrets=False)
    assert left_out == ["API_KEY2", "DB_PASSWORD", "WEBHOOK", "http_proxy"]
    assert environment == {
        "PATH": "/shims:/bin",
        "SOURCE_DATE_EPOCH": "1",
        "COLOUR": "blue",
        "PUBLIC_TOKEN": "x",
    }


def test_secrets_are_there_when_they_are_asked_for(tmp_path: Path) -> None:
    assert held(tmp_path).environment(secrets=True) == ({**LENT, **OWN}, [])
    assert held(tmp_path).script() == "breaks.sh"


def test_frames_are_whole_however_they_arrive() -> None:
    reader, data = FrameReader(), frame(OUTPUT, b"one") + frame(OUTPUT) + frame(OUTPUT, b"x" * 70_000)
    found = [each for at in range(0, len(data), 1000) for each in reader.feed(data[at : at + 1000])]
    assert found == [(OUTPUT, b"one"), (OUTPUT, b""), (OUTPUT, b"x" * 70_000)]


def test_a_frame_beyond_all_measure_is_refused() -> None:
    with pytest.raises(BadFrame):
        FrameReader().feed(b"O\xff\xff\xff\xff")


HALT: Mapping[str, Any] = {
    "phase": "install.d",
    "file": "50-app",
    "element": "app",
    "path": "/tmp/in_target.d/install.d/50-app",
    "environment": {"A": "b"},
    "done": [],
    "device": {},
    "mounts": [],
}


class Connected(NoMachine):
    """A machine whose port is one end of a pair of sockets. Its processes have no group."""

    def __init__(self, port: int, console: StepConsole) -> None:
        super().__init__(console)
        self.port = port

    def step_group(self) -> StepGroup:
        return StepGroup("/proc/none")

    def shell_port(self) -> int:
        return self.port


class Unreachable(StoppedScript):
    """A script on a machine whose unshare a script has removed."""

    def shell(self, start: str) -> list[str]:
        raise StepError("this image has no unshare")


class Terminal:
    """The host's end of the connection."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.reader = FrameReader()
        self.shown = b""

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        self.end.sendall(frame(kind, payload))

    def wait(self, kind: bytes) -> None:
        """Read until a frame of a kind has come."""
        kinds: list[bytes] = []
        while kind not in kinds:
            data = self.end.recv(65536)
            assert data, f"the connection has ended: {self.shown!r}"
            for found, payload in self.reader.feed(data):
                kinds.append(found)
                self.shown += payload if found == OUTPUT else b""


@contextmanager
def served(tmp_path: Path, step: HeldStep) -> Iterator[Terminal]:
    """Hold a step; at the block's end the host ends the connection, and the provisioner goes on."""
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    console = StepConsole(str(tmp_path / "no-console"))
    ended = threading.Event()

    def hold() -> None:
        Hold(step, Connected(theirs.detach(), console), console, str(tmp_path / "shell")).serve(60)
        ended.set()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield Terminal(ours)
    finally:
        ours.close()
        thread.join(60)
    assert ended.is_set(), "the provisioner has died while it was held"


def of_elements(tmp_path: Path, stopped: Mapping[str, Any]) -> HeldStep:
    """Return a step of elements that has stopped, as stopped.json says."""
    state = tmp_path / "state"
    (state / WORK).mkdir(parents=True)
    (state / WORK / STOPPED).write_text(json.dumps(stopped))
    step = Step("app", ELEMENTS_ACTION, {"elements": ["app"], "path": ["own"]})
    places = JobFolders(str(tmp_path), "/", str(state))
    return HeldStep(step, "it failed", places, str(tmp_path), {"LENT": "here"}, "", [])


def used(terminal: Terminal) -> bytes:
    """Use the shell; return what it has shown."""
    terminal.wait(READY)
    terminal.send(OPEN, json.dumps({"rows": 24, "columns": 200, "term": "dumb", "secrets": False}).encode())
    terminal.send(INPUT, b"echo $LENT-$A-shell; exit\n")
    terminal.wait(ENDED)
    terminal.send(HANG_UP)
    return terminal.shown


@pytest.mark.parametrize("text", ["\ud800", "\0"], ids=["surrogate", "nul"])
def test_what_a_script_writes_where_a_run_has_stopped_does_not_end_the_hold(tmp_path: Path, text: str) -> None:
    """The person gets the shell of a step that has stopped nowhere, in the context's folder."""
    with served(tmp_path, of_elements(tmp_path, {**HALT, "environment": {"A": text}})) as terminal:
        shown = used(terminal)
    assert b"\nhere--shell" in shown
    assert str(tmp_path).encode() in shown


def test_a_shell_that_cannot_begin_at_the_script_begins_in_the_context(tmp_path: Path) -> None:
    step = of_elements(tmp_path, HALT)
    assert step.stopped is not None
    step.stopped = Unreachable("", HALT)
    with served(tmp_path, step) as terminal:
        shown = used(terminal)
    assert b"\n-b-shell" in shown
    assert f"not where the script has failed, but in {tmp_path}: this image has no unshare\r\n".encode() in shown
