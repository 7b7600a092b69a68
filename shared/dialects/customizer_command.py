"""One step of a workflow that runs COS Customizer: its subcommand, the values of its flags, and where they stand."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ..closed import nearest
from ..names import quoted
from ..spec_document import Document, KeyPath, Problem
from .customizer_flags import ASIDE, GLOBAL_FLAGS, STATE, SUBCOMMANDS
from .go_flags import Fault, Use, parse
from .native_draft import Place

WORKSPACE = "/workspace"  # where Cloud Build unpacks the source and starts every step
_STATE_FOLDER = ".cos-customizer-workdir"  # where the flag is not given


@dataclass(frozen=True)
class Command:
    """A subcommand with its flags; a flag with an empty value, or 0, counts as not given, as it does there."""

    index: int  # of the workflow's step
    name: str
    step: Mapping[str, Any]
    state: tuple[str, ...]  # steps with the same belong to one build
    document: Document  # the workflow's
    uses: Mapping[str, Sequence[Use]] = field(default_factory=dict)
    faulty: Mapping[str, str] = field(default_factory=dict)  # flags whose value cannot be read, and why
    wrong: Mapping[str, int] = field(default_factory=dict)  # the arguments that these are

    @property
    def path(self) -> KeyPath:
        """The step's place among the workflow's values."""
        return ("steps", self.index)

    @property
    def place(self) -> Place:
        """Where the step is written."""
        return Place(self.document.position(self.path), f"steps[{self.index}]")

    def at(self, flag: str, use: int = -1) -> Place:
        """Where a flag is written, last or at its use of that number; where it is not, the step."""
        if flag in self.wrong:
            path: KeyPath = (*self.path, "args", self.wrong[flag])
        else:
            path = (*self.path, "args", self.uses[flag][use].argument) if flag in self.uses else self.path
        return Place(self.document.position(path), f"{self.place.shown} -{flag}")

    def beside(self, key: str) -> Place:
        """Where another key of the step is written."""
        return Place(self.document.position((*self.path, key)), f"{self.place.shown}.{key}")

    def lacks(self, flag: str) -> bool:
        """Whether a flag is not given."""
        return flag not in self.faulty and not self._last(flag, None)

    def text(self, flag: str) -> str:
        """Give the value of a flag that takes text."""
        return str(self._last(flag, ""))

    def number(self, flag: str) -> int:
        """Give the value of a flag that takes a whole number."""
        return int(self._last(flag, 0))

    def switch(self, flag: str) -> bool:
        """Give the value of a boolean flag."""
        return bool(self._last(flag, False))

    def seconds(self, flag: str) -> Fraction | None:
        """Give the value of a flag that takes a duration."""
        value = self._last(flag, None)
        return value if isinstance(value, Fraction) else None

    def pairs(self, flag: str) -> dict[str, tuple[str, Place]]:
        """Give names and values of all uses of a flag, the later ones winning, and where each stands."""
        found: dict[str, tuple[str, Place]] = {}
        for number, use in enumerate(self.uses.get(flag, ())):
            found |= {name: (value, self.at(flag, number)) for name, value in use.value.items()}
        return found

    def items(self, flag: str) -> list[tuple[str, Place]]:
        """Give the entries of all uses of a flag that takes a list, and where each stands."""
        uses = enumerate(self.uses.get(flag, ()))
        return [(item, self.at(flag, number)) for number, use in uses for item in use.value]

    def in_workspace(self, path: str) -> str | None:
        """Give a path on the builder relative to the workflow's folder; None where it leads out of it."""
        whole = posixpath.normpath(posixpath.join(WORKSPACE, str(self.step.get("dir", "")), path))
        if whole != WORKSPACE and not whole.startswith(WORKSPACE + "/"):
            return None
        return posixpath.relpath(whole, WORKSPACE)

    def _last(self, flag: str, default: Any) -> Any:
        return self.uses[flag][-1].value if flag in self.uses else default


def read_command(index: int, step: Mapping[str, Any], document: Document) -> tuple[Command | None, list[Problem]]:
    """Read the arguments of a step, its references replaced; None where no subcommand can be told."""
    arguments: tuple[str, ...] = step.get("args", ())
    path: KeyPath = ("steps", index)
    before = parse(arguments, 0, GLOBAL_FLAGS)
    problems = [_problem(fault, path, document) for fault in before.faults]
    if before.rest == len(arguments):
        text = f"names no subcommand; write one of: {', '.join(SUBCOMMANDS)}"
        return None, [*problems, Problem((*path, "args"), text)]
    name = arguments[before.rest]
    if name in ASIDE:
        return Command(index, name, step, (), document), problems
    if name not in SUBCOMMANDS:
        text = f"{quoted(name)} is no subcommand; {nearest(name, SUBCOMMANDS)}"
        return None, [*problems, Problem((*path, "args", before.rest), text)]
    parsed = parse(arguments, before.rest + 1, SUBCOMMANDS[name])
    problems += [_problem(fault, path, document) for fault in parsed.faults]
    if parsed.rest < len(arguments):
        text = f"{quoted(arguments[parsed.rest])} is no flag, and {name} takes nothing else; remove it"
        problems.append(Problem((*path, "args", parsed.rest), text))
    folder = before.uses[STATE][-1].value if STATE in before.uses else _STATE_FOLDER
    state = (*_homes(step), posixpath.normpath(folder))
    faulty = {fault.flag: fault.text for fault in parsed.faults}
    wrong = {fault.flag: fault.argument for fault in parsed.faults}
    return Command(index, name, step, state, document, parsed.uses, faulty, wrong), problems


def _homes(step: Mapping[str, Any]) -> list[str]:
    """Give what the step sets HOME to, which the folder of its state is in."""
    env = step.get("env")
    return [item for item in env if str(item).startswith("HOME=")] if isinstance(env, tuple) else []


def _problem(fault: Fault, path: KeyPath, document: Document) -> Problem:
    where: KeyPath = (*path, "args", fault.argument)
    shown = f"steps[{path[1]}] -{fault.flag}" if fault.flag else f"steps[{path[1]}]"
    return Problem(where, fault.text, document.position(where), shown)
