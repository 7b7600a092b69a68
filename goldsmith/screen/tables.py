"""Plain tables and JSON on standard output: what a person reads and a program parses."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from .text import printable, say
from .times import ago, with_iso_times


def print_json(document: Any) -> None:
    """Print a document, indented, keys sorted, its times in ISO 8601 as well."""
    say(json.dumps(with_iso_times(document), indent=2, sort_keys=True))


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their heads, columns as wide as they need to be; nothing at all is said to be so."""
    if not rows:
        say("none")
        return
    table = [[printable(cell) for cell in row] for row in [heads, *rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(heads))]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        say("  ".join(cells).rstrip())


def when(seconds: float) -> str:
    """Return a time as people of any zone read it: 2026-11-20 13:05:11Z; no calendar has what is in no year."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "never"


def relative(seconds: float) -> str:
    """Return a time as people count it from now: 3 minutes ago."""
    return ago(seconds, time.time())


def megabytes(count: int) -> str:
    """A size in MB of 10^6 bytes, as disks and downloads are sold."""
    return f"{count / 1e6:,.1f} MB"
