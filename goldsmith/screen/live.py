"""The live view in a terminal: states, steps with their times, the export's progress, the last lines of the console."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from provisioner.protocol import STEP_STARTED
from shared.build.build import Build, StepRecord
from shared.build.events import Event, Reported

from .text import printable
from .words import DOING, event_line, running_script, summary

LINES = 8  # of the console, at most
FRAME = 4  # lines of the terminal that are neither steps nor console: spinner, progress, and two that say how many more
STAY = 40  # steps that are left on the terminal at the end, at most

_MARKS = {"waiting": ("·", "dim"), "running": ("▸", "yellow"), "done": ("✓", "green"), "failed": ("✗", "red")}


class LiveView:
    """Draws four times a second; everything else only changes what will be drawn."""

    def __init__(self, console: Console | None = None) -> None:
        self._lock = threading.Lock()
        self._build: Build | None = None
        self._lines: deque[str] = deque(maxlen=LINES)
        self._work: tuple[str, int, int] | None = None
        self._start = self._step_started = time.monotonic()
        self._spinner = Spinner("dots")
        self._console = console or Console()
        self._live = Live(console=self._console, get_renderable=self.draw, refresh_per_second=4, transient=True)

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
            self._build = build
            if isinstance(event, Reported) and event.report.step is not None:
                running = running_script(event.report)
                self._work = (running, 0, 0) if running else None  # of the step itself the table tells
                if event.report.kind == STEP_STARTED:
                    self._step_started = time.monotonic()
            elif text := event_line(build, event):
                self._work = (text, 0, 0)

    def progress(self, what: str, done: int, total: int) -> None:
        """Remember how far the work is."""
        with self._lock:
            self._work = (what, done, total)

    def console(self, lines: list[str]) -> None:
        """Remember the last lines."""
        with self._lock:
            self._lines.extend(lines)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Draw nothing during the block."""
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()

    def end(self, build: Build, logs: str) -> None:
        """Print the steps and the summary, which stay."""
        self._console.print(_steps(build.all_steps, STAY, ""))
        for line in summary(build, logs):
            self._console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    def draw(self) -> RenderableType:
        """Return the picture of this moment; it fits the terminal, however many steps there are."""
        with self._lock:
            build, lines, work = self._build, list(self._lines), self._work
        if build is None:
            return self._spinner
        height = self._console.size.height
        few = max(0, min(len(lines), LINES, height // 3, height - FRAME - 1))
        lines = lines[len(lines) - few :]
        now = time.monotonic()
        title = Text(f"{printable(build.id)}  {DOING[build.state]}  {now - self._start:.0f} s")
        title.truncate(self._console.size.width - 2, overflow="ellipsis")  # the spinner itself would wrap it
        self._spinner.update(text=title)
        room = max(1, height - FRAME - len(lines))
        parts: list[RenderableType] = [
            self._spinner,
            _steps(build.all_steps, room, f"{now - self._step_started:.1f} s"),
        ]
        if work is not None:
            parts.append(_progress(*work))
        parts.extend(
            Text(f"  │ {printable(line)}", style="dim", no_wrap=True, overflow="ellipsis", tab_size=4) for line in lines
        )
        return Group(*parts)


def _progress(what: str, done: int, total: int) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    cells: list[RenderableType] = [Text(f"  {printable(what)}", no_wrap=True, overflow="ellipsis")]
    if total:
        cells += [ProgressBar(total=total, completed=done, width=30), Text(f"{done * 100 // total:3d} %")]
    row.add_row(*cells)
    return row


def _steps(records: Sequence[StepRecord], room: int, running_for: str) -> RenderableType:
    """The steps in `room` rows, with what goes on in view, and how many there are above and below."""
    first = _first_row(records, room)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=3)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
    table.add_column(no_wrap=True, justify="right")
    for record in records[first : first + room]:
        mark, style = _MARKS[record.status]
        table.add_row(
            Text(f"  {mark}", style=style),
            Text(printable(record.name)),
            Text(printable(record.action)),
            _time(record, running_for),
        )
    parts: list[RenderableType] = [table]
    if first:
        parts.insert(0, Text(f"  … {first} steps before", style="dim"))
    after = len(records) - first - room
    if after > 0:
        parts.append(Text(f"  … {after} more steps", style="dim"))
    return Group(*parts)


def _first_row(records: Sequence[StepRecord], room: int) -> int:
    """The first step to show: what runs, failed or comes next stands in the middle."""
    over = len(records) - room
    if over <= 0:
        return 0
    waiting = (number for number, record in enumerate(records) if record.status != "done")
    return min(over, max(0, next(waiting, len(records)) - room // 2))


def _time(record: StepRecord, running_for: str) -> Text:
    if record.status == "running":
        return Text(running_for)
    return Text("" if record.seconds is None else f"{record.seconds:.1f} s")
