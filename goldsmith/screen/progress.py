"""Progress of long work: a line for each piece of it, and in a terminal a spinner with how far it is."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.ports import Progress

from .terminal import can_be_drawn_on
from .text import printable, say
from .times import Pace

if TYPE_CHECKING:
    from rich.console import Console


class Stages:
    """Prints a line when a piece of work begins and, if it has a total, one when it is done; nothing in between."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._what = ""
        self._done = False
        self._started = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` bytes of `total` are done."""
        if what != self._what:
            self._what, self._done, self._started = what, False, time.monotonic()
            self._tell(what)
        if total and done >= total and not self._done:
            self._done = True
            self._tell(f"{what}: done, {total / 1e6:,.1f} MB in {time.monotonic() - self._started:.1f} s")


class Spinner:
    """The piece of work in hand on the terminal's last line; those that are done above it, with their times."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("", spinner="dots")
        self._lock = threading.Lock()
        self._what = ""
        self._started = 0.0
        self._pace = Pace(0, 0.0)

    def start(self) -> None:
        """Begin to draw."""
        self._status.start()

    def stop(self, *, done: bool) -> None:
        """End drawing; `done` says whether the last piece came to its end."""
        self._status.stop()
        if done:
            self._leave()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Draw `done` bytes of `total`, how fast it goes and what time is left, with the next frame."""
        from rich.text import Text

        with self._lock:
            if what != self._what:
                self._leave()
                self._what, self._started = what, time.monotonic()
                self._pace = Pace(done, self._started)
            how_far = f"  {self._pace.words(done, total, time.monotonic()).strip()}" if total else ""
            self._status.update(Text(printable(what) + how_far, no_wrap=True, overflow="ellipsis"))

    def _leave(self) -> None:
        if self._what:
            took = f"{time.monotonic() - self._started:7.1f} s  {printable(self._what)}"
            self._console.print(took, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def shown() -> Iterator[Progress]:
    """Show the block's progress on standard error, which leaves standard output to the result."""
    if not (sys.stderr.isatty() and can_be_drawn_on()):
        yield Stages(_line)
        return
    from rich.console import Console

    spinner = Spinner(Console(stderr=True))
    spinner.start()
    done = False
    try:
        yield spinner
        done = True
    finally:
        spinner.stop(done=done)


def _line(text: str) -> None:
    say(text, sys.stderr)
    sys.stderr.flush()
