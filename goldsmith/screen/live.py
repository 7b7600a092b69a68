"""The live view in a terminal: a tree of states and steps with their times, progress, the last lines of the console."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from provisioner.protocol import STEP_STARTED
from shared.build.build import Build, Outcome, State, StepRecord
from shared.build.events import Event, Reported

from .text import last_state, printable
from .times import Pace, took
from .words import DOING, event_line, running_script, summary

LINES = 8  # of the console, at most
FRAME = 4  # lines of the terminal that are neither tree nor console: spinner, progress, and two that say how many more
ECHO = 2  # columns at the end of each line for the ^C that a terminal shows: on a line of its own it would stay there
STAY = 40  # rows of the tree that are left on the terminal at the end, at most
WORTH_A_ROW = 1.0  # seconds in the queue
GAP = 2  # columns between the parts of a row
BAR = 20  # columns of the bar of progress, where the terminal is wide enough for it
DETAIL_FROM = 60  # columns of a terminal that has room for the actions of steps
BAR_FROM = 80  # columns of such a terminal

_MARKS = {"waiting": ("·", "dim"), "running": ("▸", "yellow"), "done": ("✓", "green"), "failed": ("✗", "red")}
_PATH = (
    State.QUEUED,
    State.PREPARING,
    State.PROVISIONING,
    State.EXPORTING,
    State.VERIFYING,
    State.PUBLISHING,
    State.CLEANING,
    State.HELD,
)


@dataclass(frozen=True)
class _Row:
    """One row of the tree: a state, or a step below it."""

    depth: int
    status: str
    name: str
    detail: str
    time: str


@dataclass
class _Stay:
    """How long a build has been in a state, over all attempts, until it entered it the last time."""

    before: float  # seconds
    since: float  # when it entered it: the event's time
    seen: float  # the same moment on this process's own clock


class LiveView:
    """Draws four times a second; everything else only changes what will be drawn."""

    def __init__(self, console: Console | None = None) -> None:
        self._lock = threading.Lock()
        self._build: Build | None = None
        self._lines: deque[str] = deque(maxlen=LINES)
        self._work: tuple[str, int, int] | None = None
        self._pace = Pace(0, 0.0)
        self._stays: dict[State, _Stay] = {}
        self._failed_in: State | None = None
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
                self._enter(build, event.time)
            self._build = build
            if isinstance(event, Reported) and event.report.step is not None:
                running = running_script(event.report)
                self._work = (running, 0, 0) if running else None  # of the step itself the tree tells
                if event.report.kind == STEP_STARTED:
                    self._step_started = time.monotonic()
            elif text := event_line(build, event):
                self._work = (text, 0, 0)

    def _enter(self, build: Build, when: float) -> None:
        """Note that a build has another state than before."""
        before = self._build
        if before is not None:
            stay = self._stays[before.state]
            stay.before += max(0.0, when - stay.since)
            if before.outcome is None and build.outcome in (Outcome.FAILED, Outcome.TIMED_OUT):
                self._failed_in = before.state
        known = self._stays.get(build.state)
        self._stays[build.state] = _Stay(0.0 if known is None else known.before, when, time.monotonic())

    def progress(self, what: str, done: int, total: int) -> None:
        """Remember how far the work is."""
        with self._lock:
            if self._work is None or self._work[0] != what or done < self._work[1]:
                self._pace = Pace(done, time.monotonic())
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
        """Print the tree and the summary, which stay."""
        with self._lock:
            rows = self._rows(build, time.monotonic())
        self._console.print(_tree(rows, STAY, self._console.size.width))
        for line in summary(build, logs):
            self._console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    def draw(self) -> RenderableType:
        """Return the picture of this moment; it fits the terminal, however many steps there are."""
        now = time.monotonic()
        with self._lock:
            build, lines, work, pace = self._build, list(self._lines), self._work, self._pace
            rows = [] if build is None else self._rows(build, now)
        width, height = max(1, self._console.size.width - ECHO), self._console.size.height
        if build is None:
            self._spinner.update(
                text=_title("" if work is None else printable(work[0]), took(now - self._start), width)
            )
            return self._spinner
        few = max(0, min(len(lines), LINES, height // 3, height - FRAME - 1))
        lines = lines[len(lines) - few :]
        what = f"{printable(build.id)}  {DOING[build.state]}"
        self._spinner.update(text=_title(what, took(now - self._start), width))
        parts: list[RenderableType] = [self._spinner, _tree(rows, max(1, height - FRAME - len(lines)), width)]
        if work is not None:
            parts.append(_progress(*work, pace, width, now))
        parts.extend(
            Text(f"  │ {printable(last_state(line))}", style="dim", no_wrap=True, overflow="ellipsis", tab_size=4)
            for line in lines
        )
        return Constrain(Group(*parts), width)

    def _rows(self, build: Build, now: float) -> list[_Row]:
        """Return the tree: the states that a build has been in, is in and will be in, its steps below two of them."""
        running_for = took(now - self._step_started)
        rows = []
        for state in [each for each in _PATH if self._is_shown(build, each)]:
            rows.append(_Row(0, self._status(build, state), DOING[state], "", self._stayed(build, state, now)))
            rows += [_step_row(record, running_for) for record in _steps_of(build, state)]
        return rows

    def _is_shown(self, build: Build, state: State) -> bool:
        """Return whether a state is in the tree: one that is passed at once, or not at all, is not."""
        if state in (State.QUEUED, State.HELD):
            return state is build.state or (state in self._stays and self._stays[state].before >= WORTH_A_ROW)
        verifies = build.plan is None or build.plan.verify_steps is not None
        to_come = build.outcome is None and (verifies or state is not State.VERIFYING)
        return state in self._stays or to_come or bool(_steps_of(build, state))

    def _status(self, build: Build, state: State) -> str:
        """Return how far a state is, as a step's status is called."""
        if state is build.state:
            return "running"
        if state is self._failed_in:
            return "failed"
        before = build.state not in _PATH or _PATH.index(state) < _PATH.index(build.state)
        if build.outcome is None or state in self._stays:
            return "done" if before or build.outcome is not None else "waiting"
        statuses = {record.status for record in _steps_of(build, state)}  # it was passed before the view began
        return "failed" if "failed" in statuses else "done" if statuses == {"done"} else "waiting"

    def _stayed(self, build: Build, state: State, now: float) -> str:
        stay = self._stays.get(state)
        if stay is None:
            return ""
        running = state is build.state and not build.ended
        return took(stay.before + (now - stay.seen if running else 0.0))


def _steps_of(build: Build, state: State) -> Sequence[StepRecord]:
    """Return the steps that run in a state, with the names of their VMs where several verify."""
    if state is State.PROVISIONING:
        return build.steps
    return build.all_steps[len(build.steps) :] if state is State.VERIFYING else ()


def _step_row(record: StepRecord, running_for: str) -> _Row:
    done = "" if record.seconds is None else took(record.seconds)
    time_of = running_for if record.status == "running" else done
    return _Row(1, record.status, printable(record.name), printable(record.action), time_of)


def _title(what: str, time_of: str, width: int) -> Text:
    """Return what stands beside the spinner, which would wrap it: the time is seen, and of the rest what has room."""
    title = Text(what)
    title.truncate(max(1, width - 4 - len(time_of)), overflow="ellipsis")
    title.append(f"  {time_of}" if what else time_of)
    title.truncate(max(1, width - 2), overflow="ellipsis")
    return title


def _progress(what: str, done: int, total: int, pace: Pace, width: int, now: float) -> RenderableType:
    """Return one line: what is done, and of what has a size a bar, how much, how fast, and for how long still."""
    words = pace.words(done, total, now) if total else ""
    if width < BAR_FROM:
        words = words.strip().partition("  ")[0] if width < BAR_FROM // 2 else words
    last = min(len(words) + 1, max(1, width // 2)) if total else 0
    bar = BAR + 1 if total and width >= BAR_FROM else 0
    row = Table.grid()
    row.add_column(no_wrap=True, overflow="ellipsis", max_width=max(1, width - last - bar))
    cells: list[RenderableType] = [Text(f"  {printable(what)}", no_wrap=True, overflow="ellipsis")]
    if bar:
        cells.append(Padding(ProgressBar(total=total, completed=done, width=BAR), (0, 0, 0, 1)))
        row.add_column(no_wrap=True, width=bar)
    if total:
        cells.append(Text(f" {words}", no_wrap=True, overflow="ellipsis"))
        row.add_column(no_wrap=True, width=last)
    row.add_row(*cells)
    return row


def _tree(rows: Sequence[_Row], room: int, width: int) -> RenderableType:
    """The rows in `room` of them, with what goes on in view, and how many there are above and below."""
    first = _first_row(rows, room)
    times = min(max((len(row.time) for row in rows), default=0) + GAP, width // 3)
    details = max((cell_len(row.detail) for row in rows), default=0) + GAP if width >= DETAIL_FROM else 0
    table = Table.grid()  # by widths of its own: Rich lets columns with a least width stand out of the table
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(3, width - times - details))
    if details:
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim", max_width=width // 3)
    table.add_column(no_wrap=True, justify="right", width=times)
    for row in rows[first : first + room]:
        mark, style = _MARKS[row.status]
        name = Text(f"{'  ' * (row.depth + 1)}{mark} ", style=style, no_wrap=True, overflow="ellipsis")
        name.append(row.name, style="bold" if row.depth == 0 and row.status == "running" else "not dim default")
        table.add_row(name, *([Text(" " * GAP + row.detail)] if details else []), Text(" " * GAP + row.time))
    parts: list[RenderableType] = [table]
    if first:
        parts.insert(0, Text(f"  … {first} before", style="dim", no_wrap=True, overflow="ellipsis"))
    after = len(rows) - first - room
    if after > 0:
        parts.append(Text(f"  … {after} more", style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _first_row(rows: Sequence[_Row], room: int) -> int:
    """The first row to show: what runs, failed or comes next stands in the middle; a step before its state."""
    over = len(rows) - room
    if over <= 0:
        return 0
    open_steps = [number for number, row in enumerate(rows) if row.status in ("running", "failed")]
    steps = [number for number in open_steps if rows[number].depth]
    waiting = [number for number, row in enumerate(rows) if row.status == "waiting"]
    focus = next(iter([*steps[:1], *open_steps[:1], *waiting[:1]]), len(rows))
    return min(over, max(0, focus - room // 2))
