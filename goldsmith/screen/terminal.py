"""What the terminal can do, by its environment."""

from __future__ import annotations

import os

DUMB = ("dumb", "unknown")


def can_be_drawn_on() -> bool:
    """Return whether a terminal's cursor can be moved: not where TERM says that it is dumb, or nothing."""
    return os.environ.get("TERM", "") not in ("", *DUMB)
