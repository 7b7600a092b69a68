"""Installs completion for the shell that a person uses: a script in a folder of theirs, and a line that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shared.errors import InputError

from .scripts import SHELL_SCRIPTS

FARTHEST = 8  # processes above ours, such as sudo or a tool's own, among which the shell is looked for


def shell_in_use(environment: Mapping[str, str], process: int) -> str:
    """Return bash, zsh or fish: that process or the nearest one above it that is one, else $SHELL. InputError."""
    for _ in range(FARTHEST):
        name, process = _process(process)
        if name in SHELL_SCRIPTS:
            return name
    login = Path(environment.get("SHELL", "")).name
    if login in SHELL_SCRIPTS:
        return login
    raise InputError(
        "this is neither run by bash, zsh nor fish, nor does SHELL name one; run it in one of them, "
        "or print a script by: _GOLDSMITH_COMPLETE=source_bash goldsmith"
    )


def install_completion(shell: str, environment: Mapping[str, str]) -> Path:
    """Write a shell's script, and have the shell read it from now on; return the script's path. OSError."""
    home = Path(environment.get("HOME") or Path.home())
    if shell == "fish":
        script = Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "fish/completions/goldsmith.fish"
    elif shell == "zsh":
        script = home / ".zfunc" / "_goldsmith"
        line = "fpath+=(~/.zfunc); autoload -Uz compinit; compinit"
        _add_line(Path(environment.get("ZDOTDIR") or home) / ".zshrc", line)
    else:
        script = home / ".bash_completions" / "goldsmith.sh"
        _add_line(home / ".bashrc", f"source '{script}'")
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(SHELL_SCRIPTS[shell])
    return script


def _process(number: int) -> tuple[str, int]:
    """Return a process's name, and the number of the one above it."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return "", 0
    name, _, rest = stat.partition("(")[2].rpartition(") ")
    return name, int(rest.split()[1])


def _add_line(path: Path, line: str) -> None:
    """Add a line to a shell's file, unless it is there."""
    text = path.read_text(errors="replace") if path.exists() else ""
    if line not in text.splitlines():
        with path.open("a") as stream:
            stream.write(f"\n{line}\n" if text and not text.endswith("\n") else f"{line}\n")
