"""The builds of a workflow: which steps belong to each, whether they are complete, and which wait for which."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from ...names import OWN_NAMES, SPEC_NAME_LENGTH
from ..document import Document, Problem
from .commands import FINISH, START, Command
from .customizer import draft_build, unique
from .native_draft import Origin
from .wait_for import Before

StepTimeouts = list[tuple[Fraction, Origin]]


@dataclass(frozen=True)
class Drafted:
    """One build: its native document, and the indexes of the builds that must have succeeded before it begins."""

    document: Document
    after: tuple[int, ...]
    first: int  # index of its first step in the workflow
    last: int


@dataclass
class _Open:
    start: Command
    steps: list[Command] = field(default_factory=list)


def builds_of(
    commands: Sequence[Command], before: Before, whole: StepTimeouts, limits: Mapping[int, StepTimeouts], stem: str
) -> tuple[list[Drafted], list[Problem]]:
    """Put the builds together, in the order of their ends. `whole` limits the workflow's time, `limits` a step's."""
    problems: list[Problem] = []
    under_way: dict[tuple[str, ...], _Open] = {}
    ended: dict[tuple[str, ...], int] = {}  # the last finish-image-build, by state
    drafted: list[Drafted] = []
    names: set[str] = set()
    for command in commands:
        mine = under_way.get(command.state)
        if command.name == START:
            problems += _start_problems(command, mine, ended.get(command.state), before)
            under_way[command.state] = _Open(command)
        elif mine is None:
            text = "belongs to no build; write a start-image-build before it"
            problems.append(_problem(command, f"{command.name} {text}"))
        elif command.name != FINISH:
            problems += _late(command, [mine.start], before)
            mine.steps.append(command)
        else:
            del under_way[command.state]
            ended[command.state] = command.index
            problems += _late(command, [mine.start, *mine.steps], before)
            name = unique(_name(command, stem), names, SPEC_NAME_LENGTH)
            names.add(name)
            after = tuple(n for n, other in enumerate(drafted) if other.last in before[command.index])
            document = draft_build(name, mine.start, mine.steps, command, [*limits[command.index], *whole])
            drafted.append(Drafted(document, after, mine.start.index, command.index))
    for left in under_way.values():
        text = "starts a build that has no finish-image-build; add one, or no image is made"
        problems.append(_problem(left.start, text))
    return drafted, problems


def _start_problems(command: Command, mine: _Open | None, ended: int | None, before: Before) -> list[Problem]:
    if mine is not None:
        text = f"starts a build while that of {mine.start.place.shown} is not finished; add finish-image-build"
        return [_problem(command, f"{text} before it, or keep them apart by -local-state-workdir")]
    if ended is not None and ended not in before[command.index]:
        text = f"starts a build beside that of steps[{ended}]; let it wait for that step"
        return [_problem(command, f"{text}, or keep them apart by -local-state-workdir")]
    return []


def _late(command: Command, needed: Sequence[Command], before: Before) -> list[Problem]:
    """Find the steps of its build that a step has to wait for and does not."""
    missed = [other for other in needed if other.index not in before[command.index]]
    text = "does not wait for {}, the {} of its build; add it to waitFor"
    return [_problem(command, text.format(other.place.shown, other.name)) for other in missed]


def _problem(command: Command, text: str) -> Problem:
    return Problem(command.path, text, command.place.position, command.place.shown)


def _name(finish: Command, stem: str) -> str:
    """Name a build after the image that it makes."""
    for text in (*(finish.text(flag) for flag in ("image-name", "image-suffix", "image-family")), stem):
        words = re.sub(r"[^a-z0-9]+", "-", text.lower())
        name = re.sub(rf"^({OWN_NAMES}|[^a-z])+", "", words)[:SPEC_NAME_LENGTH].rstrip("-")
        if name:
            return name
    return "build"
