"""Follows what the steps write on the VM's console, and hands it to the view line by line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from shared.errors import GoldsmithError, Passing

from .text import complain

STEP_MARK = "[step "  # what the provisioner puts before each line that a step writes
LAST_TRIES = 3  # to read the rest, after the end of the build
LEAVES_WITHIN = 0.5  # seconds for the rest when the block has failed
LONGEST_LINE = 65536  # bytes of an unfinished line; a step may write anything


class OutputSource(Protocol):
    """The consoles of a build's VMs, on one machine or in a project."""

    poll: float
    """Seconds between two looks."""

    def read(self) -> bytes:
        """Return what has been written since the last read. GoldsmithError."""


@contextmanager
def following(console: OutputSource, show: Callable[[list[str]], None]) -> Iterator[None]:
    """Show the steps' output while the block runs; at its end, once the build is finished, the rest of it.

    A block that ends by an exception, as by Ctrl-C, waits for the rest no longer than a moment: a network may be slow.
    """
    ended, left = threading.Event(), threading.Event()
    thread = threading.Thread(target=_follow, args=(console, show, ended, left), name="console", daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        ended.set()
        thread.join(LEAVES_WITHIN)
        left.set()
        raise
    ended.set()
    thread.join()


def _follow(
    console: OutputSource, show: Callable[[list[str]], None], ended: threading.Event, left: threading.Event
) -> None:
    """Show until the block has ended. A fault that may pass costs one look; any other ends the view, in words."""
    unfinished = b""
    tries = LAST_TRIES
    while tries:
        last = ended.wait(console.poll)
        try:
            told = console.read()
        except Passing as error:
            tries = 0 if left.is_set() else tries - last
            if tries:
                time.sleep(console.poll if last else 0)
                continue
            if left.is_set():
                return
            complain(f"the rest of the steps' output cannot be shown: {error}")
            return
        except GoldsmithError as error:
            if left.is_set():
                return
            complain(f"the steps' output cannot be shown: {error}")
            return
        tries = 0 if last else tries
        *whole, unfinished = (unfinished + told).split(b"\n")
        unfinished = unfinished[-LONGEST_LINE:]
        lines = [line.decode("utf-8", "replace").rstrip("\r") for line in whole]
        of_steps = [line[line.index(STEP_MARK) :] for line in lines if STEP_MARK in line]
        if of_steps and not left.is_set():
            show(of_steps)
