"""A reader who follows the pages: commands as they are written there, typed into a shell with an empty home."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.docs.pages import Command, every_command
from tests.project.source_tree import ROOT

LIMIT = 420.0  # seconds that one command may take on a machine that has much else to do


@dataclass(frozen=True)
class Reader:
    """Types commands of the pages in a folder; `stands_for` has what the reader writes for the words of a page."""

    folder: Path
    environment: Mapping[str, str]
    stands_for: dict[str, str] = field(default_factory=dict)

    def types(self, command: str, status: int = 0, says: str = "", **stands_for: str | Path) -> str:
        """Run a command that a page has, word for word; return all that it prints."""
        assert command in {each.text for each in _commands()}, f"no page has the command {command}"
        return self.run(self.writes(command, stands_for), status, says)

    def follows(self, page: str, heading: str) -> str:
        """Run all commands of a page below a heading, in their order; return what they print."""
        found = [each for each in _commands() if (each.page, each.heading) == (page, heading)]
        assert found, f"{page} has no commands below {heading}"
        return "".join(self.run(self.writes(each.text, {})) for each in found)

    def run(self, line: str, status: int = 0, says: str = "") -> str:
        """Run a line of a shell; return all that it prints."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            env=self._variables(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=LIMIT,
        )
        assert done.returncode == status, f"{line}: {done.returncode}\n{done.stdout}"
        assert says in done.stdout, f"{line} does not say {says!r}\n{done.stdout}"
        return done.stdout

    def writes(self, command: str, more: Mapping[str, str | Path]) -> str:
        """Return a command with the reader's own names in it."""
        names = {**self.stands_for, **{name: str(value) for name, value in more.items()}}
        if not names:
            return command
        words = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        return re.sub(rf"(?<![A-Za-z0-9_-])(?:{words})(?![A-Za-z0-9_])", lambda found: names[found[0]], command)

    def _variables(self) -> dict[str, str]:
        path = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.folder), "LANG": "C.UTF-8", **self.environment}


@cache
def _commands() -> list[Command]:
    return every_command()
