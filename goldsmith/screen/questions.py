"""Questions to a person in a terminal, each with an answer that counts when nothing is typed."""

from __future__ import annotations

import sys
from collections.abc import Callable

from .text import complain, printable

TRIES = 5  # of one question


def can_ask() -> bool:
    """Return whether a person sits at both ends."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask(question: str, default: str, check: Callable[[str], object] = str) -> str:
    """Ask until the answer passes a check, which says by a ValueError what is wrong. ValueError after TRIES."""
    for left in range(TRIES, 0, -1):
        sys.stdout.write(f"{printable(question)}{f' [{printable(default)}]' if default else ''}: ")
        sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            raise KeyboardInterrupt  # the terminal has ended the input: as Ctrl-C
        answer = line.strip() or default
        try:
            check(answer)
        except ValueError as error:
            if left == 1:
                raise
            complain(str(error))
            continue
        return answer
    raise AssertionError("unreachable")
