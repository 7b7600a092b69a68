"""QEMU's monitor: what is said on it, and what comes of a machine that ends, refuses, or says something else first."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from shared.errors import EnvironmentFault, Transient
from shared.machines.monitor import Monitor

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": ["oob"]}}
EVENT = {"event": "BLOCK_IO_ERROR", "data": {}}


@contextmanager
def qemu(answers: Sequence[Mapping[str, object] | None]) -> Iterator[tuple[Monitor, list[dict[str, object]]]]:
    """Play QEMU's part: greet, and give one of the answers to each request; None closes the connection."""
    ours, theirs = socket.socketpair()
    heard: list[dict[str, object]] = []

    def play() -> None:
        with theirs, theirs.makefile("rwb", buffering=0) as lines:
            lines.write(json.dumps(GREETING).encode() + b"\r\n")
            for answer in answers:
                request = json.loads(lines.readline())
                heard.append(request)
                if answer is None:
                    return
                late = json.dumps({"return": {}, "id": -1}).encode()
                told = json.dumps({**answer, "id": request["id"]}).encode()
                lines.write(json.dumps(EVENT).encode() + b"\r\n" + late + b"\r\n" + told[:3])
                lines.write(told[3:] + b"\r\n")

    thread = threading.Thread(target=play)
    thread.start()
    with ours:
        yield Monitor("vm", ours), heard
    thread.join()


def test_it_greets_once_and_finds_the_answer_among_what_else_is_said() -> None:
    with qemu([{"return": {}}] * 3) as (monitor, heard):
        monitor.resize("root", 12 << 30)
        monitor.resize("root", 13 << 30)
    assert [request["execute"] for request in heard] == ["qmp_capabilities", "block_resize", "block_resize"]
    assert heard[1]["arguments"] == {"device": "root", "size": 12 << 30}


@pytest.mark.parametrize(
    ("told", "reset"),
    [
        ([{"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-reset"}}], True),
        ([{"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}}], False),
        ([{"event": "RESET", "data": {"guest": True, "reason": "guest-reset"}}], False),
        ([{"event": "SHUTDOWN", "data": []}, [1], "text"], False),
        ([], False),
    ],
)
def test_a_guest_that_wants_a_restart_is_told_from_one_that_is_done(told: Sequence[object], reset: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monitor = Monitor("vm", ours)
        monitor.listen()
        assert json.loads(theirs.recv(1000)) == {"execute": "qmp_capabilities", "id": 0}
        for line in (GREETING, {"return": {}, "id": 0}, *told):
            theirs.sendall(json.dumps(line).encode() + b"\r\n")
        theirs.sendall(b'{"event": "SHUT')
        theirs.close()
        assert monitor.was_reset() is reset


def test_what_qemu_refuses_is_quoted() -> None:
    refusal = {"error": {"class": "GenericError", "desc": "Cannot grow device files"}}
    with qemu([{"return": {}}, refusal]) as (monitor, _heard), pytest.raises(EnvironmentFault, match="Cannot grow"):
        monitor.resize("root", 12 << 30)


def test_a_machine_that_ends_may_be_looked_at_again() -> None:
    with qemu([{"return": {}}, None]) as (monitor, _heard), pytest.raises(Transient, match="vm does not answer"):
        monitor.resize("root", 12 << 30)


def test_a_machine_that_has_ended_may_be_looked_at_again() -> None:
    ours, theirs = socket.socketpair()
    monitor = Monitor("vm", ours)
    theirs.close()
    ours.close()
    with pytest.raises(Transient, match="vm does not answer"):
        monitor.resize("root", 12 << 30)
