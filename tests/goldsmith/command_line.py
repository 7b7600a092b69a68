"""Runs the command line as a process of its own, forked from one that has the imports done, in milliseconds."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_PROCESSES = multiprocessing.get_context("forkserver")
LIMIT = 240  # seconds for one command


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int | None
    out: str
    err: str

    def document(self) -> Any:
        """What it printed with --json."""
        return json.loads(self.out)


class Commands:
    """The command line with one home; what it prints is kept below `folder`."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home = home
        self._out, self._err = folder / "out.txt", folder / "err.txt"

    def __call__(self, *words: str | Path) -> Done:
        """Run a command to its end."""
        with self.started(*words) as process:
            process.join(LIMIT)
            return self.done(process)

    @contextmanager
    def started(self, *words: str | Path) -> Iterator[BaseProcess]:
        """Start a command; it is killed in the end."""
        arguments = [str(word) for word in words]
        process = _PROCESSES.Process(target=_run, args=(arguments, str(self.home), self._out, self._err), daemon=True)
        process.start()
        try:
            yield process
        finally:
            process.kill()
            process.join(LIMIT)
            process.close()

    def done(self, process: BaseProcess) -> Done:
        """What came of a command that has ended."""
        return Done(process.exitcode, self._out.read_text(), self._err.read_text())

    def printed(self) -> str:
        """What the command has printed up to here."""
        return self._out.read_text() if self._out.exists() else ""


def _run(arguments: list[str], home: str, out: Path, err: Path) -> None:
    from goldsmith.__main__ import main

    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream.fileno())
    os.environ["GOLDSMITH_HOME"] = home
    sys.argv = ["goldsmith", *arguments]
    sys.exit(main())
