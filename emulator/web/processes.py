"""The emulator's child processes: each has a log, a way to tell that it is ready, and an end that is never later than
ours.

The kernel ties a child's life to the thread that made it (PR_SET_PDEATHSIG), so all children of one Processes are
started on a thread that lives as long as it does: when this process ends, by whatever signal, so do they.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from shared.errors import EnvironmentFault
from shared.host.programs import find_tool
from shared.machines.start import TIED

from .http_server import LOOPBACK

READY_SECONDS = 120.0  # Java on two busy cores has been seen to need 8, and all functions start at once
STOP_SECONDS = 3.0  # between SIGTERM and SIGKILL

_POLL = 0.02  # seconds between two looks at something that cannot be waited for
_QUOTED_LINES = 15
_QUOTED_BYTES = 16 * 1024


class ChildProcess:
    """One running program. `name` is for people, `log` has all that it writes."""

    def __init__(self, name: str, log: Path, process: subprocess.Popen[bytes], ends_by: signal.Signals) -> None:
        self._ends_by = ends_by
        self.name = name
        self.log = log
        self.pid = process.pid
        self._process = process

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def wait_until_ready(self, url: str, seconds: float = READY_SECONDS, *, below: int = 400) -> None:
        """Wait until a GET of `url` is answered with a status `below` that.

        EnvironmentFault, which quotes the log's end, when the process ends before or `seconds` pass.
        """
        end = time.monotonic() + seconds
        while not _answers(url, max(end - time.monotonic(), _POLL), below):
            if self.status is not None:
                raise EnvironmentFault(f"{self.name} ended with status {self.status} at its start; {self._quote()}")
            if time.monotonic() > end:
                raise EnvironmentFault(f"{self.name} does not answer at {url} after {seconds:g} s; {self._quote()}")
            time.sleep(_POLL)

    def terminate(self) -> None:
        """Ask it to end, and do not wait."""
        self._process.send_signal(self._ends_by)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End it: ask for it, and SIGKILL for it and its own children when `seconds` have passed."""
        self.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)  # not waited for, so the number is still its own
            self._process.wait()

    def _quote(self) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _QUOTED_BYTES))
            lines = log.read().decode(errors="replace").strip().splitlines()[-_QUOTED_LINES:]
        return f"{self.log} ends with:\n" + "\n".join(f"    {line}" for line in lines or ["(nothing)"])


class Processes:
    """Starts programs, and stops all of them at its own end by the signal `ends_by`. A context manager; thread-safe."""

    def __init__(self, ends_by: signal.Signals = signal.SIGTERM) -> None:
        self._ends_by = ends_by
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="process-starter")
        self._children: list[ChildProcess] = []

    def start(
        self,
        name: str,
        arguments: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> ChildProcess:
        """Start a program, its output added to `log`; MissingTool when it or setpriv is not installed.

        `environment` is added to this process's own; `folder` is where it runs.
        """
        program = find_tool(str(arguments[0]))
        command = [find_tool(TIED[0]), *TIED[1:], str(os.getpid()), program, *map(str, arguments[1:])]
        log.parent.mkdir(parents=True, exist_ok=True)

        def spawn() -> subprocess.Popen[bytes]:
            with log.open("ab") as output:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **(environment or {})},
                    cwd=folder,
                    start_new_session=True,  # Ctrl-C is for us, and we stop it in our order
                )

        child = ChildProcess(name, log, self._starter.submit(spawn).result(), self._ends_by)
        self._children.append(child)
        return child

    def close(self) -> None:
        """Stop all of them, side by side: STOP_SECONDS and a moment at most."""
        end = time.monotonic() + STOP_SECONDS
        for child in self._children:
            child.terminate()
        for child in self._children:
            child.stop(max(0.0, end - time.monotonic()))
        self._children.clear()
        self._starter.shutdown()  # last: the thread's end is the end of what it started

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def free_port() -> int:
    """Have the kernel choose a TCP port of loopback, for a child that takes its port as an argument.

    A connection is left behind in TIME_WAIT there: for 60 s the kernel gives the port only to a socket that asks for
    it by number, while a server, which binds with SO_REUSEADDR, may have it.
    """
    with socket.socket() as listener, socket.socket() as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, 0))
        listener.listen(1)
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        accepted.close()  # the side that closes first is the one in TIME_WAIT
        client.recv(1)
        port: int = listener.getsockname()[1]
        return port


def _answers(url: str, seconds: float, below: int) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=seconds):  # noqa: S310 - our own loopback
            return True
    except urllib.error.HTTPError as error:
        with error:
            return error.code < below
    except OSError:  # URLError too: not there yet
        return False
