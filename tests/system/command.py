"""Run the command line as people and programs do: start a process, follow it by --json, end it, examine it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Self

from tests.goldsmith.command_line import Commands
from tests.system.small_disk import SmallDisk
from tests.system.traces import Traces

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "setup" / "goldsmith"  # which .venv/bin/goldsmith leads to
LIMIT = 420.0  # seconds that one command may take on a machine that has much else to do

Document = dict[str, Any]


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Return all of its output."""
        return self.out + self.err

    def documents(self) -> list[Document]:
        """Return its output of --json, an object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Running:
    """A command that runs, its output read line by line as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.seen: list[Document] = []
        self._lines: Queue[str | None] = Queue()
        self._errors: list[str] = []
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._read_out, self._read_err)]
        for thread in self._threads:
            thread.start()

    def until(self, wanted: Callable[[Document], bool]) -> Document:
        """Wait for the first wanted document. Raises AssertionError when the command ends before."""
        while (line := self._next()) is not None:
            document: Document = json.loads(line)
            self.seen.append(document)
            if wanted(document):
                return document
        raise AssertionError(f"it ended with status {self.process.wait()} before: {''.join(self._errors)}\n{self.seen}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end. Return whether it came within `seconds`."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def finish(self) -> Done:
        """Wait for its end."""
        out = []
        while (line := self._next()) is not None:
            out.append(line)
        status = self.process.wait(LIMIT)
        for thread in self._threads:
            thread.join()
        return Done(status, "".join(out), "".join(self._errors))

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self._lines.put(line)
        self._lines.put(None)

    def _read_err(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            self._errors.extend(stream)

    def _next(self) -> str | None:
        try:
            return self._lines.get(timeout=LIMIT)
        except Empty:
            raise AssertionError(f"nothing was said for {LIMIT} s after {self.seen[-3:]}") from None


class Goldsmith:
    """The command line with one home, run in a small place or not. Leaving the context ends what was started."""

    def __init__(self, home: Path, folder: Path, place: SmallDisk | None = None, enter: Sequence[str] = ()) -> None:
        self.home = home
        self.folder = folder
        self.output = folder / "out"
        self.traces = Traces(home)
        self._enter = tuple(enter) if place is None else place.enter
        self._running: list[Running] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for running in self._running:
            if running.process.poll() is None:
                running.kill()
        self.traces.wait_for_no_process()
        for bulky in (self.home / "images", self.output, self.folder / "unpacked"):
            shutil.rmtree(bulky, ignore_errors=True)  # pytest keeps the folders of some runs

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of its commands."""
        return {"GOLDSMITH_HOME": str(self.home)}

    def line(self, *arguments: str | Path) -> list[str]:
        """Return the command line of a command."""
        return [*self._enter, str(LAUNCHER), *(str(argument) for argument in arguments)]

    def start(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> Running:
        """Start a command; Running.until reads its JSON."""
        process = subprocess.Popen(
            self.line(*arguments),
            cwd=ROOT,
            env={**os.environ, **self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append(Running(process))
        return self._running[-1]

    def run(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> Done:
        """Run a command to its end."""
        return self.start(*arguments, environment=environment).finish()

    def build(self, spec: Path, *arguments: str | Path) -> tuple[Done, Document]:
        """Run a build to its end. Return its output, and the whole build."""
        done = self.run("build", spec, "--json", *arguments)
        assert "Traceback" not in done.err, done.err
        documents = done.documents()
        assert "build" in (documents or [{}])[-1], done.text
        return done, documents[-1]["build"]

    def builds(self) -> list[Document]:
        """Return all builds, newest first."""
        return self._listed("builds")

    def images(self) -> list[Document]:
        """Return the catalogue's images without the Debian that every test starts with."""
        return [image for image in self._listed("images") if image["family"] != "debian-12"]

    def _listed(self, what: str) -> list[Document]:
        """Return what a list says: by a forked command, in a fifth of the time, where no other user has the home."""
        words = (what, "list", "--json")
        done = self.run(*words) if self._enter else Commands(self.home, self.folder)(*words)
        assert done.status == 0, done.out + done.err
        listed: list[Document] = json.loads(done.out)
        return listed

    def spec(self, steps: Sequence[Document], *, name: str = "tiny", **more: object) -> Path:
        """Write a spec of run-script steps; a step's key `script` is the script's text. Return the path."""
        folder = self.folder / f"spec-{name}"
        (folder / "context").mkdir(parents=True, exist_ok=True)
        document = {
            "name": name,
            "source": {"project": "local", "family": "debian-12"},
            "context": "context",
            "steps": [_step(step, folder / "context") for step in steps],
            "local": {"network": False, "memory_mb": 512},
            **more,
        }
        path = folder / "build.yaml"
        path.write_text(json.dumps(document))
        return path


def _step(step: Document, context: Path) -> Document:
    rest = {key: value for key, value in step.items() if key != "script"}
    if "script" not in step:
        return rest
    (context / f"{step['name']}.sh").write_text(step["script"])
    return {"action": "run-script", "inputs": {"script": f"{step['name']}.sh"}, **rest}


def event_of(document: Document) -> Document:
    """Return the event in a document of --json, or an empty one."""
    event: Document = document.get("event", {})
    return event


def is_event(kind: str) -> Callable[[Document], bool]:
    """Want an event of a kind, such as MachineStarted."""
    return lambda document: event_of(document).get("kind") == kind


def is_report(kind: str, step: int | None = None) -> Callable[[Document], bool]:
    """Want a report of a kind, such as step-started, of a step by its index or of any."""

    def wanted(document: Document) -> bool:
        report = event_of(document).get("report", {})
        return report.get("kind") == kind and step in (None, report.get("step"))

    return wanted


def prints(text: str) -> Callable[[Document], bool]:
    """Want a line of a step's output."""
    return lambda document: any(text in line for line in document.get("console", []))
