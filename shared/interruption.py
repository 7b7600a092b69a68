"""A wish to end a running build: set by a signal handler or another thread, seen by the code that runs the build."""

from __future__ import annotations


class Interruption:
    """Asked for at most once; the first reason stays."""

    def __init__(self) -> None:
        self.reason = ""

    def ask(self, reason: str) -> None:
        """Ask for the end."""
        self.reason = self.reason or reason

    @property
    def asked(self) -> bool:
        """Return whether the build is asked to end."""
        return bool(self.reason)
