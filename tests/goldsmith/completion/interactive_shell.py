"""A shell on a terminal of its own, as a person uses it: lines are typed, Tab is pressed, and the line is looked at.

Ctrl-G is bound to what writes the shell's line into a file, so that a test sees the line itself and no picture of it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Self

from tests.system.command import ROOT
from tests.system.terminal import Terminal

LIMIT = 240.0  # seconds for one line
LOOK = 0.05  # seconds between looks at the line
COMMANDS = {
    "bash": ("bash", "--norc", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "--interactive"),
}
READY = "is_ready"
_BEGINNINGS = {
    "bash": r"""
        bind -x '"\C-g": printf %s "$READLINE_LINE" >"$LINE.new"; mv "$LINE.new" "$LINE"'
        bind 'set completion-query-items 0'; bind 'set page-completions off'; bind 'set bell-style none'
        PS1='> '
    """,
    "zsh": r"""
        look() { printf %s "$BUFFER" >"$LINE.new"; mv "$LINE.new" "$LINE" }; zle -N look; bindkey '^G' look
        PS1='> '; unsetopt beep
    """,
    "fish": r"""
        function fish_prompt; echo '> '; end; function fish_greeting; end
        bind \cg 'commandline >"$LINE.new"; mv "$LINE.new" "$LINE"'
        set -g fish_autosuggestion_enabled 0
    """,
}
COMPLETION = {
    "bash": 'eval "$(_GOLDSMITH_COMPLETE=source_bash goldsmith)"',
    "zsh": 'eval "$(_GOLDSMITH_COMPLETE=source_zsh goldsmith)"',
    "fish": "_GOLDSMITH_COMPLETE=source_fish goldsmith | source",
}
"""How one session gets completion."""


class InteractiveShell:
    """One shell, in a folder, with its own home. Leaving the context ends it."""

    def __init__(self, name: str, folder: Path, goldsmith_home: Path, completion: str = "") -> None:
        self._line = folder.parent / "line"
        beginning = folder.parent / "beginning"
        loading = completion or COMPLETION[name]
        beginning.write_text(f"cd '{folder}'\n{_BEGINNINGS[name]}\n{loading}\nprintf 'is_re%s\\n' ady\n")
        environment = {
            "HOME": str(folder.parent),
            "GOLDSMITH_HOME": str(goldsmith_home),
            "LINE": str(self._line),
            "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "XDG_CONFIG_HOME": str(folder.parent / "config"),
            "XDG_DATA_HOME": str(folder.parent / "data"),
        }
        self._terminal = Terminal(COMMANDS[name], environment)
        self._terminal.resize(40, 110)
        self._terminal.type(f"source '{beginning}'\n")
        self._terminal.until(READY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._terminal.__exit__()

    def completed(self, typed: str) -> str:
        """Return the line after Tab was pressed behind what was typed."""
        self._line.unlink(missing_ok=True)
        self._terminal.type(f"\x15{typed}\t\x07")
        end = time.monotonic() + LIMIT
        while not self._line.exists():
            assert time.monotonic() < end, f"the shell has not shown its line after: {typed}"
            self._terminal.look(LOOK)
        return self._line.read_text().rstrip("\n")

    def shows(self, typed: str, *expected: str) -> None:
        """Check what is listed when Tab is pressed twice."""
        self._terminal.look(0)
        self._terminal.type(f"\x15{typed}\t\t")
        for text in expected:
            self._terminal.until(text, LIMIT)
