"""A pager for what is longer than a screen: $PAGER, else less. What a guest has written is harmless in it as well."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper

from .terminal import can_be_drawn_on

NONE = ("", "cat")  # values of PAGER that mean none
USUAL = "less"
LESS = "FRX"  # end at once if all fits on a screen, show colours, leave the text on the screen


class _PagedOutput(TextIOWrapper):
    """Standard output that leads to a pager: a person's terminal still, for what asks whether it is one."""

    def isatty(self) -> bool:
        return True


@contextmanager
def paged() -> Iterator[None]:
    """Show what the block prints in a pager, if standard output is a terminal and there is one."""
    pager = _started() if sys.stdout.isatty() and can_be_drawn_on() else None
    if pager is None:
        yield
        return
    assert pager.stdin is not None
    terminal, sys.stdout = sys.stdout, _PagedOutput(pager.stdin, encoding="utf-8", errors="replace")
    try:
        yield
    except BrokenPipeError:
        pass  # the person has seen enough
    finally:
        with suppress(BrokenPipeError):
            sys.stdout.close()
        sys.stdout = terminal
        _wait(pager)


def _started() -> subprocess.Popen[bytes] | None:
    """Start the pager; None where none is wanted, or there is none."""
    words = shlex.split(os.environ.get("PAGER", USUAL))
    if not words or (len(words) == 1 and words[0] in NONE):
        return None
    environment = {"LESS": LESS, "LESSCHARSET": "utf-8", **os.environ}
    with suppress(OSError):
        return subprocess.Popen(words, stdin=subprocess.PIPE, env=environment)
    return None


def _wait(pager: subprocess.Popen[bytes]) -> None:
    """Wait for the pager, which takes Ctrl-C for itself."""
    while True:
        with suppress(KeyboardInterrupt):
            pager.wait()
            return
