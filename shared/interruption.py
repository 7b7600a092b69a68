"""A wish to end a running build: set by a signal handler or another thread, seen by whoever runs the build."""

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
        """Whether somebody has asked."""
        return bool(self.reason)
