"""The functions, one process of the functions framework for each, as on Google Cloud."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from shared.topology import FUNCTIONS, Function

from ..pubsub.courier import THREADS
from ..web.http_server import LOOPBACK
from ..web.processes import ChildProcess, Processes, free_port

ROOT = Path(__file__).resolve().parents[2]  # where main.py is
NOT_ALLOWED = 405  # what a function of events answers to a GET, as soon as it answers at all

SERVER = {"THREADS": str(THREADS), "PYTHONUNBUFFERED": "1", "LOG_EXECUTION_ID": "true"}
"""What a function's server finds in its environment, whatever the function."""

Environment = Callable[[Function], Mapping[str, str]]
"""Returns the variables of a function's environment, in addition to this process's own."""


class Functions:
    """All functions, from start() until close(); their logs are below `folder`. A context manager."""

    def __init__(self, folder: Path, environment: Environment) -> None:
        self._folder = folder
        self._environment = environment
        self._processes = Processes(ends_by=signal.SIGKILL)  # as Google may end it; workers end with it
        self._children: dict[str, tuple[ChildProcess, str]] = {}
        self.urls: Mapping[str, str] = {each.name: f"http://{LOOPBACK}:{free_port()}" for each in FUNCTIONS}

    def start(self) -> None:
        """Start all of them side by side, and return before they answer."""
        for each in FUNCTIONS:
            self._children[each.name] = self._start(each)

    def wait_until_ready(self) -> None:
        """Wait until each answers. EnvironmentFault, with the end of the log, for one that does not."""
        for child, url in self._children.values():
            child.wait_until_ready(url, below=NOT_ALLOWED + 1)

    def log(self, name: str) -> Path:
        """Return the file with a function's log: one JSON object per line."""
        return self._folder / f"{name}.log"

    def pid(self, name: str) -> int:
        """Return the process id of a function's server."""
        return self._children[name][0].pid

    def close(self) -> None:
        """Stop all of them; what is under way is cut off."""
        self._processes.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, function: Function) -> tuple[ChildProcess, str]:
        url = self.urls[function.name]
        child = self._processes.start(
            f"function {function.name}",
            command(function.name, ROOT / "main.py", url),
            self.log(function.name),
            environment={**SERVER, **self._environment(function)},
            folder=ROOT,
        )
        # An HTTP function is not called for robots.txt.
        return child, url + "/robots.txt"


def command(target: str, source: Path, url: str) -> list[str]:
    """Return the command line of a process that serves a function of a source file at http://HOST:PORT."""
    host, _, port = url.removeprefix("http://").partition(":")
    options = {"target": target, "source": str(source), "host": host, "port": port}
    return [
        sys.executable,
        "-m",
        "emulator.cloud.function_process",
        *(f"--{key}={value}" for key, value in options.items()),
    ]
