"""The view of a running build: live in a terminal, plain lines elsewhere, or JSON for programs.

All three are told the same: every event as it is applied, the progress of long work, new lines of the VM's console.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, Self, TextIO

from provisioner.protocol import INVENTORY
from shared.build.build import Build, State
from shared.build.events import Event, Reported, to_json
from shared.planning.remedies import remedy_of

from .progress import Stages
from .terminal import can_be_drawn_on
from .text import last_state, printable
from .times import with_iso_times
from .words import DOING, event_line, result_line, summary


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

    def aside(self) -> AbstractContextManager[None]:
        """Show nothing during the block: the terminal is another's."""
        ...

    def end(self, build: Build, logs: str) -> None:
        """The build is finished; `logs` is the folder that has the whole console."""
        ...


def view(as_json: bool) -> View:
    """Choose the view: JSON when asked, live in a terminal that can be drawn on, plain otherwise."""
    if as_json:
        return JsonView(sys.stdout)
    if sys.stdout.isatty() and can_be_drawn_on():
        from .live import LiveView

        return LiveView()
    return PlainView(sys.stdout)


def quiet_view(as_json: bool) -> View:
    """Return the view that shows the result alone, or JSON all the same when asked."""
    return JsonView(sys.stdout) if as_json else QuietView(sys.stdout, sys.stderr)


class Lines:
    """A stream that is written to line by line. When its reader goes away the build goes on, unseen."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._is_read = True

    def write(self, line: str) -> None:
        """Write one line, at once."""
        with self._lock:
            if not self._is_read:
                return
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except BrokenPipeError:
                self._is_read = False


class PlainView:
    """One line for each thing that happens, with the seconds since the start."""

    def __init__(self, stream: TextIO) -> None:
        self._lines = Lines(stream)
        self._start = time.monotonic()
        self._state: State | None = None
        self._stages = Stages(self._say)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def event(self, build: Build, event: Event) -> None:
        """Print what changed."""
        if build.state is not self._state:
            if self._state is None:
                self._say(f"build {build.id}")
            self._state = build.state
            if build.state is not State.QUEUED:  # most builds are not for long; what one waits for is told as progress
                self._say(f"{build.state}: {build.outcome if build.ended else DOING[build.state]}")
        text = event_line(build, event)
        if text:
            self._say(text)

    def progress(self, what: str, done: int, total: int) -> None:
        """Print where a piece of work begins and ends."""
        self._stages(what, done, total)

    def console(self, lines: list[str]) -> None:
        """Print them, set off."""
        for line in lines:
            self._say(f"| {last_state(line)}")

    def aside(self) -> AbstractContextManager[None]:
        """Go on: what is shown is no picture that must stay whole."""
        return nullcontext()

    def end(self, build: Build, logs: str) -> None:
        """Print the summary."""
        for line in summary(build, logs):
            self._lines.write(printable(line))

    def _say(self, text: str) -> None:
        self._lines.write(f"{time.monotonic() - self._start:7.1f} s  {printable(text)}")


class QuietView:
    """The image's project and name alone, on one line; of a build without one its end, as an error."""

    def __init__(self, stream: TextIO, errors: TextIO) -> None:
        self._lines, self._errors = Lines(stream), Lines(errors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def event(self, build: Build, event: Event) -> None:
        """Print nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Print nothing."""

    def console(self, lines: list[str]) -> None:
        """Print nothing."""

    def aside(self) -> AbstractContextManager[None]:
        """Go on: nothing is shown that must stay whole."""
        return nullcontext()

    def end(self, build: Build, logs: str) -> None:
        """Print what was made, or why nothing was."""
        made = result_line(build)
        if made:
            self._lines.write(printable(made))
            return
        for line in summary(build, logs):
            self._errors.write(printable(line))


class JsonView:
    """One JSON object a line: {"event": ...} as each is applied, {"build": ...} at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._lines = Lines(stream)
        self._percent = ("", -1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def event(self, build: Build, event: Event) -> None:
        """Print the event and the state it led to."""
        document = to_json(event)
        document.pop("plan", None)  # it is in the build
        if isinstance(event, Reported) and event.report.kind == INVENTORY:
            document["report"]["output"] = ""  # up to half a megabyte on one line, which a reader does not need
        self._print({"event": document, "state": build.state})

    def progress(self, what: str, done: int, total: int) -> None:
        """Print each percent once."""
        percent = (what, done * 100 // total if total else 0)
        if percent != self._percent:
            self._percent = percent
            self._print({"progress": what, "done": done, "total": total})

    def console(self, lines: list[str]) -> None:
        """Print them as one object."""
        self._print({"console": lines})

    def aside(self) -> AbstractContextManager[None]:
        """Go on: what is shown is no picture that must stay whole."""
        return nullcontext()

    def end(self, build: Build, logs: str) -> None:
        """Print the whole build."""
        self._print({"build": to_json(build), "logs": logs, "remedy": remedy_of(build)})

    def _print(self, document: dict[str, object]) -> None:
        self._lines.write(json.dumps(with_iso_times(document), sort_keys=True))
