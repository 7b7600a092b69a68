"""A reader who follows the pages: commands as they are written there, typed into a shell with an empty home."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.docs.not_run import NOT_RUN
from tests.docs.pages import Command, File, commands, every_command, shown_files
from tests.project.source_tree import ROOT

NEEDS_TERMINAL = "--on-failure shell"
LIMIT = 900.0  # seconds that one command may take on a machine that has much else to do


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

    def opens(self, command: str, **stands_for: str | Path) -> list[str]:
        """Return what runs a command that a page has, word for word, in a terminal."""
        assert command in {each.text for each in _commands()}, f"no page has the command {command}"
        variables = (f"{name}={value}" for name, value in self._variables().items())
        line = self.writes(command, stands_for)
        return ["env", "-i", "-C", str(self.folder), *variables, "TERM=xterm", "bash", "-c", f"exec {line}"]

    def follows(
        self, page: str, heading: str = "", fails: frozenset[str] = frozenset(), left_out: frozenset[str] = frozenset()
    ) -> str:
        """Write all files of a page, or of what is below a heading, and run all its commands, in their order.

        Return what they print. Those of NOT_RUN are left out, those that need a terminal, which opens() is for, and
        those of `left_out`, which another test types; those of `fails` end with exit status 1.
        """
        steps: list[Command | File] = [*commands(Path(page)), *shown_files(Path(page))]
        found = sorted((step for step in steps if heading in ("", step.heading)), key=lambda step: step.line)
        found = [step for step in found if step.text not in left_out]
        assert found, f"{page} has nothing to follow below {heading}"
        return "".join(self._does(step, fails) for step in found)

    def _does(self, step: Command | File, fails: frozenset[str]) -> str:
        if isinstance(step, File):
            path = self.folder / step.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.writes(step.text, {}))
        elif NEEDS_TERMINAL not in step.text and not any(step.text in texts for texts in NOT_RUN.values()):
            return self.run(self.writes(step.text, {}), int(step.text in fails))
        return ""

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
