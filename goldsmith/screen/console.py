"""Follows what the steps write on the VM's console, and hands it to the view line by line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.runtime.opening import CloudConsole, LocalConsole


STEP_MARK = "[step "  # what the provisioner puts before each line that a step writes
LONGEST_LINE = 65536  # bytes of an unfinished line; a step may write anything


@contextmanager
def following(console: LocalConsole | CloudConsole, show: Callable[[list[str]], None]) -> Iterator[None]:
    """Show the steps' output while the block runs; at its end, once the build is finished, the rest of it."""
    ended = threading.Event()
    thread = threading.Thread(target=_follow, args=(console, show, ended), name="console", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _follow(console: LocalConsole | CloudConsole, show: Callable[[list[str]], None], ended: threading.Event) -> None:
    left = b""
    last = False
    while not last:
        last = ended.wait(console.poll)
        *whole, left = (left + console.read()).split(b"\n")
        left = left[-LONGEST_LINE:]
        lines = [line.decode("utf-8", "replace").rstrip("\r") for line in whole]
        of_steps = [line[line.index(STEP_MARK) :] for line in lines if STEP_MARK in line]
        if of_steps:
            show(of_steps)
