"""What a person sees of a build while it runs: a live view in a terminal, plain lines elsewhere, or JSON for programs.

All three are told the same: every event as it is applied, the progress of long work, new lines of the VM's console.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Protocol, Self, TextIO

from provisioner.protocol import REBOOTING, STARTED, STEP_FAILED, STEP_FINISHED, STEP_STARTED, Report
from shared.build import Build, Outcome, State
from shared.events import Event, MachineStarted, MachineStopped, Reported, to_json

DOING = {
    State.PREPARING: "making the build VM",
    State.PROVISIONING: "running the steps",
    State.EXPORTING: "making the image",
    State.VERIFYING: "verifying the image",
    State.PUBLISHING: "publishing the image",
    State.CLEANING: "cleaning up",
    State.FINISHED: "finished",
}
"""What each state means to the person who waits."""


class View(Protocol):
    """Shows one build. Its methods may be called from several threads."""

    def __enter__(self) -> Self:
        """Start showing."""
        ...

    def __exit__(self, *_: object) -> None:
        """Stop showing, whatever happened."""
        ...

    def event(self, build: Build, event: Event) -> None:
        """An event was applied; `build` is what it led to."""
        ...

    def progress(self, what: str, done: int, total: int) -> None:
        """Long work goes on: `done` of `total`."""
        ...

    def console(self, lines: list[str]) -> None:
        """The steps wrote these lines."""
        ...

    def end(self, build: Build, logs: str) -> None:
        """The build is finished; `logs` is the folder that has the whole console."""
        ...


def view(as_json: bool) -> View:
    """Choose the view: JSON when asked, live in a terminal, plain otherwise."""
    if as_json:
        return JsonView(sys.stdout)
    if sys.stdout.isatty():
        from .live import LiveView

        return LiveView()
    return PlainView(sys.stdout)


class PlainView:
    """One line for each thing that happens, with the seconds since the start."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._state: State | None = None
        self._percent: tuple[str, int] = ("", -1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def event(self, build: Build, event: Event) -> None:
        """Say what changed."""
        if build.state is not self._state:
            if self._state is None:
                self._say(f"build {build.id}")
            self._state = build.state
            self._say(f"{build.state}: {DOING[build.state]}")
        text = tell(build, event)
        if text:
            self._say(text)

    def progress(self, what: str, done: int, total: int) -> None:
        """Say every tenth part."""
        tenth = done * 10 // total if total else 0
        if (what, tenth) != self._percent:
            self._percent = (what, tenth)
            self._say(f"{what} {tenth * 10} %" if total else what)

    def console(self, lines: list[str]) -> None:
        """Print them, set off."""
        for line in lines:
            self._say(f"| {line}")

    def end(self, build: Build, logs: str) -> None:
        """Print the summary."""
        for line in summary(build, logs):
            self._stream.write(line + "\n")
        self._stream.flush()

    def _say(self, text: str) -> None:
        with self._lock:
            self._stream.write(f"{time.monotonic() - self._start:6.1f} s  {text}\n")
            self._stream.flush()


class JsonView:
    """One JSON object a line: {"event": ...} as each is applied, {"build": ...} at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def event(self, build: Build, event: Event) -> None:
        """Print the event and the state it led to."""
        document = to_json(event)
        document.pop("plan", None)  # it is in the build
        self._print({"event": document, "state": build.state})

    def progress(self, what: str, done: int, total: int) -> None:
        """Print it."""
        self._print({"progress": what, "done": done, "total": total})

    def console(self, lines: list[str]) -> None:
        """Print them as one object."""
        self._print({"console": lines})

    def end(self, build: Build, logs: str) -> None:
        """Print the whole build."""
        self._print({"build": to_json(build), "logs": logs})

    def _print(self, document: dict[str, object]) -> None:
        with self._lock:
            self._stream.write(json.dumps(document, sort_keys=True) + "\n")
            self._stream.flush()


def tell(build: Build, event: Event) -> str:
    """One line on an event, for people; "" when the state says it all."""
    if isinstance(event, Reported):
        return _tell_report(build, event.report)
    if isinstance(event, MachineStarted):
        return f"VM of attempt {event.attempt} started"
    if isinstance(event, MachineStopped):
        return f"VM of attempt {event.attempt}: {event.how}" + (f" ({event.detail})" if event.detail else "")
    return ""


def _tell_report(build: Build, report: Report) -> str:
    table = build.verify_steps if report.phase == "verify" else build.steps
    name = table[report.step].name if report.step is not None and report.step < len(table) else ""
    took = "" if report.seconds is None else f" in {report.seconds:.1f} s"
    if report.kind == STARTED:
        return "provisioner started" + (f", going on with step {report.resumed_at + 1}" if report.resumed_at else "")
    if report.kind == STEP_STARTED:
        return f"step {name}"
    if report.kind == STEP_FINISHED:
        return f"step {name} done{took}"
    if report.kind == STEP_FAILED:
        again = "" if report.final else ", trying again"
        return f"step {name} failed{took}, exit status {report.exit_status}{again}"
    return "rebooting the VM" if report.kind == REBOOTING else ""


def summary(build: Build, logs: str) -> list[str]:
    """What a person wants to know at the end, line by line."""
    plan, image = build.plan, build.image
    if build.outcome is Outcome.SUCCEEDED and plan is not None and image is not None:
        family = f", newest of family {plan.image.family}" if plan.image.family else ""
        lines = [f"image {image.project}/{image.name}{family}"]
        if plan.image.export_to and image.archive:
            lines.append(f"archive {plan.image.export_to} ({image.archive.bytes / 1e6:,.1f} MB)")
        return lines
    lines = [f"{build.outcome}: {build.reason}"]
    if build.outcome is Outcome.UNCHANGED:
        return lines
    for record in (*build.steps, *build.verify_steps):
        if record.status == "failed" and record.output:
            lines += [f"the last lines of step {record.name}:"]
            lines += [f"  {line}" for line in record.output.splitlines()[-20:]]
    return [*lines, f"the whole log: {logs}"]
