"""The execute_command of a shell provisioner: which interpreter runs the script, and with which options.

Steps are root, so `sudo` and what gives it a password fall away, and so do the variables, which the step sets itself.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace

_HOLE = re.compile(r"\{\{-?\s{0,9}\.(\w{1,20})\s{0,9}-?\}\}")
_VARIABLES, _PATH = "@vars@", "@path@"
_MARKS = {"Vars": _VARIABLES, "EnvVarFile": _VARIABLES, "Path": _PATH}
_SHELLS = ("sh", "bash", "dash", "ash", "ksh", "zsh")
_SUDO_SWITCHES = re.compile(r"-[EHSnki]+|--(preserve-env|set-home|stdin|non-interactive|login)")
_ASSIGNED = re.compile(r"[A-Za-z_]\w*=\S*")
_BEFORE = re.compile(
    r"\s*(sudo\s+)?(chmod\s+\S+\s+'?\"?@path@'?\"?|\.\s+@vars@|set -e|(/usr/bin/)?cloud-init status --wait)\s*"
)
_FLAGS = re.compile(r"-[aefuxvl]*o?")
_PLAIN = re.compile(r"[\w.,:/=+-]*")
_DEPTH = 4


@dataclass(frozen=True)
class ScriptRunner:
    """How a script is run: by its first line, or by a program with options."""

    program: str = ""  # empty: the script's first line says it
    options: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    as_root: bool = False
    arguments: tuple[str, ...] = ()  # of the script


def script_runner(command: str) -> ScriptRunner | None:
    """Return what a command comes to; None for one that does something else as well."""
    text = _HOLE.sub(lambda match: _MARKS.get(match[1], "@other@"), command)
    for part in re.split(r"&&|;", text)[:-1]:
        if not _BEFORE.fullmatch(part):
            return None
    return _runner(re.split(r"&&|;", text)[-1], 0)


def _runner(text: str, depth: int) -> ScriptRunner | None:
    head, _, rest = text.partition("|")
    gives_password = head.split()[:1] in (["echo"], ["printf"]) and "sudo" in rest
    try:
        words = shlex.split(rest if gives_password else text)
    except ValueError:
        return None
    runner = ScriptRunner()
    while words and depth < _DEPTH:
        if words[0] == _PATH:
            arguments = tuple(words[1:])
            return replace(runner, arguments=arguments) if all(map(_PLAIN.fullmatch, arguments)) else None
        if runner.program and words[0] == "-c":
            return _within(words[1:], runner, depth)
        if words[0].rpartition("/")[2] == "su" and not runner.program:
            return _of_su(words[1:], runner, depth)
        found = _with_option(runner, words) if runner.program else _before_program(runner, words)
        if found is None:
            return None
        runner = found
    return None


def _before_program(runner: ScriptRunner, words: list[str]) -> ScriptRunner | None:
    """Take a word that stands before an interpreter; None for one that means something else."""
    word = words.pop(0)
    name = word.rpartition("/")[2]
    if word == _VARIABLES or name == "env":
        return runner
    if name == "sudo":
        while words and _SUDO_SWITCHES.fullmatch(words[0]):
            words.pop(0)
        return replace(runner, as_root=True)
    if name in _SHELLS:
        return replace(runner, program=word)
    if _ASSIGNED.fullmatch(word) and "@" not in word:
        key, _, value = word.partition("=")
        return replace(runner, env=(*runner.env, (key, value)))
    return None


def _with_option(runner: ScriptRunner, words: list[str]) -> ScriptRunner | None:
    """Take an option of an interpreter; None for one that is not known."""
    word = words.pop(0)
    if word == _VARIABLES:
        return runner
    is_value = word == "pipefail" and runner.options[-1:] != () and runner.options[-1].endswith("o")
    return replace(runner, options=(*runner.options, word)) if is_value or _FLAGS.fullmatch(word) else None


def _of_su(words: list[str], outer: ScriptRunner, depth: int) -> ScriptRunner | None:
    rest = [word for word in words if word not in ("-", "-l", "root", "--login")]
    return _within(rest[1:], replace(outer, as_root=True), depth) if rest[:1] == ["-c"] else None


def _within(words: list[str], outer: ScriptRunner, depth: int) -> ScriptRunner | None:
    """Return what `sh -c` comes to: what its text runs."""
    inner = _runner(words[0], depth + 1) if len(words) == 1 and not outer.options else None
    if inner is None:
        return None
    return replace(inner, env=outer.env + inner.env, as_root=outer.as_root or inner.as_root)
