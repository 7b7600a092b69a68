"""Keeps the machine of a build whose step has failed, and connects terminals with the shell on it.

One thread passes frames between the machine's connection and the terminal that has come by an abstract Unix socket, on
which only processes of the same user are heard. The process that runs the build is the machine's parent: when it ends
in any way, the machine, its shell and the socket end as well, and the next command cleans up. Nothing of a held machine
outlives it.
"""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from provisioner.frames import (
    ABORT,
    ANSWER,
    ASKED,
    CONTEXT_PIECE,
    CONTINUE,
    ENDED,
    HANG_UP,
    INPUT,
    LONGEST,
    OPEN,
    OUTPUT,
    PIECE_BYTES,
    READY,
    RESIZED,
    RETRY,
    TOLD,
    WORDS,
    BadFrame,
    FrameReader,
    frame,
)
from provisioner.protocol import BUILD, Step

from ..build.build import Build, State
from ..build.plan import Context
from ..build.resources import machine_name
from ..engine.machine_in_use import phase_of
from ..engine.verifiers import failed_view
from ..errors import GoldsmithError, InputError, NotFound
from ..interruption import Interruption
from ..machines.machines import Machines

LOG = logging.getLogger(__name__)

CHUNK = 1 << 16
MOST_WAITING = 1 << 20  # bytes for a terminal that does not read; the machine then has to wait
MOST_UPLOADED = 1 << 18  # bytes of a context that wait at once
LOOK = 500.0  # milliseconds between looks at whether the build has ended
LONGEST_WORD = 16  # bytes


@dataclass(frozen=True)
class Retried:
    """A failed step as it is on the host now, with the files that it sees."""

    step: Step
    context: Context | None


def held_machine(build: Build) -> str:
    """Return the name of the machine of a build that is held."""
    phase, name = phase_of(build) or BUILD, failed_view(build)[0]
    number = build.plan.verifier_number(name) if build.plan is not None else 0
    return machine_name(build.id, build.attempt, phase, number)


def failed_step(build: Build) -> str:
    """Return the name of the step for whose failure a build is held. InputError where the machine has named none."""
    table = failed_view(build)[1].verify_steps if build.state is State.VERIFYING else build.steps
    for record in table:
        if record.status == "failed":
            return record.name
    raise InputError("the machine has not said which step has failed; write: continue")


def connect_shell(build: Build) -> socket.socket:
    """Connect to the process that keeps a build's machine. NotFound where none does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(_address(build))
        if _is_ours(connection):
            return connection
    except OSError:
        pass
    connection.close()
    raise NotFound(f"no process of yours keeps the machine of build {build.id}")


def _address(build: Build) -> str:
    return f"\0{held_machine(build)}-shell"


def _is_ours(connection: socket.socket) -> bool:
    """Return whether the other end is a process of this user. Abstract sockets have no mode."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, user, _group = struct.unpack("3i", packed)
    return bool(user == os.geteuid())


class _End:
    """One end of a connection, with what waits to be sent there."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.waiting = bytearray()
        self._reader = FrameReader()
        connection.setblocking(False)

    def receive(self) -> list[tuple[bytes, bytes]] | None:
        """Return the frames that have arrived; None at the end of the connection."""
        try:
            data = self.connection.recv(CHUNK)
        except BlockingIOError:
            return []
        except OSError:
            return None
        try:
            return self._reader.feed(data) if data else None
        except BadFrame as error:
            LOG.warning("a connection to a held machine is ended: %s", error)
            return None

    def send(self) -> None:
        """Send what waits, as much as is taken now. What cannot be sent any more is dropped."""
        try:
            del self.waiting[: self.connection.send(self.waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self.waiting.clear()


class Keeper:
    """Keeps one build's machine, from the failure of its step to the end of the build.

    `again` reads the spec and the context again, for `retry`; with None, `continue` only checks them. `once`: the end
    of the first shell ends the build.
    """

    def __init__(
        self,
        machines: Machines,
        interruption: Interruption,
        again: Callable[[Build | None], Retried | None],
        *,
        once: bool,
    ) -> None:
        self._machines = machines
        self._interruption = interruption
        self._again = again
        self._once = once
        self._build: Build | None = None
        self._machine: _End | None = None
        self._terminal: _End | None = None
        self._typed = False  # whether a person has typed since the last wish
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._upload: Iterator[bytes] = iter(())  # frames for the machine
        self.continues = False  # a person wants the build anew

    def keep(self, build: Build) -> bool:
        """Begin when the build is held; return whether that was now."""
        if not build.held or self._build is not None:
            return False
        self._build = build
        connection = self._machines.shell(held_machine(build))
        if connection is None:
            self._interruption.ask("its machine has no shell")
            return False
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(_address(build))
        except OSError as error:
            listener.close()
            LOG.warning("build %s: its machine cannot be entered: %s", build.id, error.strerror)
            self._interruption.ask("its machine cannot be entered")
            return False
        listener.listen(1)
        self._machine = _End(connection)
        self._thread = threading.Thread(target=self._run, args=(listener,), name="keeper", daemon=True)
        self._thread.start()
        return True

    def close(self) -> None:
        """End, once the build has."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, listener: socket.socket) -> None:
        assert self._machine is not None
        try:
            while not self._closed.is_set() and self._turn(listener, self._machine):
                pass
        finally:
            listener.close()
            self._dismiss("the build has ended")

    def _turn(self, listener: socket.socket, machine: _End) -> bool:
        """Pass on what has arrived; return whether the machine is still there."""
        terminal = self._terminal
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        if len(machine.waiting) < MOST_UPLOADED:
            machine.waiting += next(self._upload, b"")
        full = terminal is not None and len(terminal.waiting) > MOST_WAITING
        poller.register(machine.connection, (0 if full else select.POLLIN) | (select.POLLOUT if machine.waiting else 0))
        if terminal is not None:
            poller.register(terminal.connection, select.POLLIN | (select.POLLOUT if terminal.waiting else 0))
        handles = [handle for handle, _ in poller.poll(LOOK)]
        if listener.fileno() in handles:
            self._admit(listener)
        if terminal is not None and terminal.connection.fileno() in handles:
            terminal.send()
            self._take(terminal, machine)
        if machine.connection.fileno() in handles:
            machine.send()
            told = machine.receive() if not full else []
            for kind, payload in told or ():
                self._pass(kind, payload)
            return told is not None
        return True

    def _admit(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        if _is_ours(connection) and self._terminal is None:
            self._terminal = _End(connection)
            return
        with suppress(OSError):
            connection.settimeout(1.0)
            connection.sendall(frame(TOLD, b"another terminal has its shell open"))
        connection.close()

    def _take(self, terminal: _End, machine: _End) -> None:
        """Pass on what a terminal says; one that is gone ends its shell."""
        told = terminal.receive()
        for kind, payload in told or ():
            self._typed = self._typed or (kind == INPUT and terminal is self._terminal)
            if kind in (OPEN, INPUT, RESIZED, HANG_UP):
                machine.waiting += frame(kind, payload)
        if told is None and terminal is self._terminal:
            self._dismiss("")
            machine.waiting += frame(HANG_UP)
            self._leave("the terminal has gone")
        machine.send()

    def _pass(self, kind: bytes, payload: bytes) -> None:
        """Pass on what the machine says."""
        terminal = self._terminal
        if kind == ASKED and terminal is not None and self._typed:  # else no person has asked
            self._typed = False
            self._answer(payload[:LONGEST_WORD].decode("ascii", "replace"))
        elif kind == OUTPUT and terminal is not None:
            terminal.waiting += frame(kind, payload)
            terminal.send()
        elif kind == ENDED and terminal is not None:
            self._dismiss("")
            self._leave("its shell was left")
        elif kind == READY:
            LOG.debug("a held machine is ready: %s", payload)

    def _leave(self, why: str) -> None:
        """End the build after its only shell."""
        if self._once:
            self._interruption.ask(why)

    def _dismiss(self, why: str) -> None:
        """Let the terminal go, with a word."""
        terminal, self._terminal = self._terminal, None
        if terminal is None:
            return
        with suppress(OSError):
            terminal.connection.settimeout(1.0)
            terminal.connection.sendall(terminal.waiting + frame(TOLD, why.encode()))
        terminal.connection.close()

    def _answer(self, word: str) -> None:
        """Do what a person has written in the shell."""
        if word not in WORDS:
            return
        try:
            retried = None if word == ABORT else self._again(self._build if word == RETRY else None)
        except GoldsmithError as error:
            self._upload = iter((_answered({"problem": str(error)}),))
            return
        if retried is not None:
            self._upload = _uploaded(retried)
            return
        self.continues = word == CONTINUE
        self._interruption.ask(f"a person wrote {word} in its shell")
        self._dismiss("" if self.continues else "the build is given up")


def _answered(document: dict[str, object]) -> bytes:
    return frame(ANSWER, json.dumps(document).encode())


def _uploaded(retried: Retried) -> Iterator[bytes]:
    """Yield the frames of a context, in pieces, and of the step."""
    context = retried.context
    text = json.dumps({"step": asdict(retried.step), "digest": context.digest if context else ""}).encode()
    if len(text) > LONGEST:
        yield _answered({"problem": "the step is too long to be sent; write: continue"})
        return
    try:
        if context is not None:
            with Path(context.uri).open("rb") as file:
                yield from (frame(CONTEXT_PIECE, data) for data in iter(lambda: file.read(PIECE_BYTES), b""))
    except OSError as error:
        yield _answered({"problem": f"the context cannot be read: {error}"})
        return
    yield frame(ANSWER, text)
