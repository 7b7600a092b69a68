"""The live view in a terminal: states, steps with their times, the export's progress, the last lines of the console."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from shared.build import Build, StepRecord
from shared.events import Event, Reported

from .view import DOING, summary

LINES = 8  # of the console

_MARKS = {"waiting": ("·", "dim"), "done": ("✓", "green"), "failed": ("✗", "red")}


class LiveView:
    """Draws four times a second; everything else only changes what will be drawn."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=4, transient=True)
        self._lock = threading.Lock()
        self._build: Build | None = None
        self._lines: deque[str] = deque(maxlen=LINES)
        self._work: tuple[str, int, int] | None = None
        self._start = time.monotonic()
        self._step_started = time.monotonic()
        self._spinner = Spinner("dots")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def event(self, build: Build, event: Event) -> None:
        """Remember the build."""
        with self._lock:
            if self._build is None or self._build.state is not build.state:
                self._work = None
            if isinstance(event, Reported):
                self._step_started = time.monotonic()
            self._build = build

    def progress(self, what: str, done: int, total: int) -> None:
        """Remember how far the work is."""
        with self._lock:
            self._work = (what, done, total)

    def console(self, lines: list[str]) -> None:
        """Remember the last lines."""
        with self._lock:
            self._lines.extend(lines)

    def end(self, build: Build, logs: str) -> None:
        """Print the steps and the summary, which stay."""
        self._console.print(_steps(build, ""))
        for line in summary(build, logs):
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _draw(self) -> RenderableType:
        with self._lock:
            build, lines, work = self._build, list(self._lines), self._work
        if build is None:
            return self._spinner
        self._spinner.update(text=Text(f"{build.id}  {DOING[build.state]}  {time.monotonic() - self._start:.0f} s"))
        parts: list[RenderableType] = [self._spinner]
        parts.append(_steps(build, f"{time.monotonic() - self._step_started:.1f} s"))
        if work is not None and work[2]:
            row = Table.grid(padding=(0, 1))
            row.add_row(Text(f"  {work[0]}"), ProgressBar(total=work[2], completed=work[1], width=40))
            parts.append(row)
        parts.extend(Text(f"  │ {line}", style="dim", no_wrap=True, overflow="ellipsis") for line in lines)
        return Group(*parts)


def _steps(build: Build, running_for: str) -> Table:
    table = Table.grid(padding=(0, 2))
    for record in (*build.steps, *build.verify_steps):
        mark, style = _MARKS.get(record.status, ("▸", "yellow"))
        table.add_row(
            f"  [{style}]{mark}[/]", Text(record.name), Text(record.action, style="dim"), _time(record, running_for)
        )
    return table


def _time(record: StepRecord, running_for: str) -> Text:
    if record.status == "running":
        return Text(running_for)
    return Text("" if record.seconds is None else f"{record.seconds:.1f} s")
