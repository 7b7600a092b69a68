"""Run the real provisioner.pyz in a process of its own, on a folder as root, and read what it reports."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from provisioner.protocol import HEARTBEAT, SERIAL_MARK, Job, Report, Step, decode_report, sign
from shared.delivery.cidata import cidata_files
from tests.provisioner.pythons import chosen_python

KEY = "5f" * 32
LOCALE = {"LC_ALL": "C.UTF-8"}  # as bootstrap.sh has it


def script(name: str, path: str = "", **settings: Any) -> Step:
    """Return a run-script step; its script is `path`, by default the step's name."""
    env = settings.pop("env", {})
    return Step(name, "run-script", {"script": path or name, "env": env}, **settings)


@dataclass
class Ended:
    """The result of one boot of a provisioner."""

    status: int
    console: str


@dataclass
class Provisioning:
    """A machine's folders, and its job."""

    folder: Path
    job: Job
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    options: Sequence[str] = ("--drain", "2")
    env: Mapping[str, str] = field(default_factory=dict)
    within: Sequence[str] = ()  # the command that runs the provisioner's
    programs: Sequence[str] = ()  # those of the files that are executable
    python: str = ""  # "": the one that tests have chosen

    def __post_init__(self) -> None:
        self.root = self.folder / "root"
        self.cidata = self.folder / "cidata"
        self.state = self.root / "var/lib/goldsmith"
        self.port = self.folder / "port"
        self.root.mkdir(parents=True)
        self.cidata.mkdir()
        self.port.touch()
        self.write_cidata(replace(self.job, report_port=str(self.port)))

    def write_cidata(self, job: Job) -> None:
        """Write the cidata of a job."""
        self.job = job
        context = self.folder / "context.tar"
        with tarfile.open(context, "w") as archive:
            for name, text in self.files.items():
                path = self.folder / "member"
                path.write_bytes(text if isinstance(text, bytes) else text.encode())
                path.chmod(0o755 if name in self.programs else 0o644)
                archive.add(path, name)
        for name, data in cidata_files(job, context).items():
            (self.cidata / name).write_bytes(data if isinstance(data, bytes) else data.read_bytes())

    def start(self) -> subprocess.Popen[bytes]:
        """Boot; the console is the process's standard output."""
        command = [self.python or chosen_python(), "-I", "-S", "-E", str(self.cidata / "provisioner.pyz")]
        command += ["--cidata", str(self.cidata), "--root", str(self.root), "--console", "-", "--no-power"]
        pipe, out = subprocess.PIPE, subprocess.STDOUT
        return subprocess.Popen(
            [*self.within, *command, *self.options], stdout=pipe, stderr=out, env={**os.environ, **LOCALE, **self.env}
        )

    def run(self, seconds: float = 240.0) -> Ended:
        """Boot and wait for the end."""
        process = self.start()
        try:
            console, _ = process.communicate(timeout=seconds)
        finally:
            process.kill()
            process.wait()
        return Ended(process.returncode, console.decode("utf-8", "replace"))

    def reports(self) -> list[Report]:
        """Return the reports on the port, without heartbeats, each as often as it was sent."""
        return [report for report in map(decode_report, self.report_data()) if report.kind != HEARTBEAT]

    def report_data(self) -> list[bytes]:
        """Return the data of all reports on the port, after checking their signatures."""
        lines = [line.split(" ") for line in self.port.read_text().split("\n") if line]
        assert all(line[0] == SERIAL_MARK and len(line) == 3 for line in lines), lines
        found = [(base64.b64decode(line[1], validate=True), line[2]) for line in lines]
        assert all(sign(self.job.key, data) == signature for data, signature in found)
        return [data for data, _ in found]

    def kinds(self) -> list[str]:
        """Return the kinds of the reports."""
        return [report.kind for report in self.reports()]

    def read(self, name: str) -> str:
        """Read a file below the root."""
        return (self.root / name).read_text()


def job(*steps: Step, **settings: Any) -> Job:
    """Return a job for a folder as root; its state is kept unless `clean` is set."""
    return Job(
        **{"build_id": "hello-0123456789ab", "attempt": 1, "key": KEY, "steps": steps, "clean": False, **settings}
    )


def check_numbers(data: Sequence[bytes]) -> list[Report]:
    """Check that each number stands for one report and none is missing; return the reports in the order of numbers."""
    by_number: dict[int, bytes] = {}
    for report in data:
        number = decode_report(report).sequence
        if not number:
            continue  # a heartbeat
        assert by_number.setdefault(number, report) == report, f"{number} stands for two reports"
    assert sorted(by_number) == list(range(1, len(by_number) + 1))
    return [decode_report(by_number[number]) for number in sorted(by_number)]


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a provisioner, as a power cut does."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait until a condition holds, by polling every few milliseconds: it is mostly about files."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


def free_port() -> int:
    """Return a port on which nothing listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return server.server_port


def alive(pid: int) -> bool:
    """Return whether a process runs, and is not a zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def environment(text: str) -> dict[str, str]:
    """Parse the output of env(1)."""
    return dict(line.split("=", 1) for line in text.splitlines())
