"""The order of a workflow's steps: Cloud Build's `id` and `waitFor`.

A step without `waitFor` waits for all that are written before it, one with `-` for none, else for those that it names,
which have to be written before it. So the order of the file is always an order in which the steps may run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...names import nearest, quoted, shown_value
from ..document import KeyPath, Problem
from .keys import entry

AT_ONCE = "-"

Before = tuple[frozenset[int], ...]
"""For each step the indexes of all steps that have ended when it begins."""


def before_each(steps: Sequence[Any]) -> tuple[Before, list[Problem]]:
    """Return the steps before each step, directly or not, and the problems of `id` and `waitFor`."""
    ids: dict[str, int] = {}
    before: list[frozenset[int]] = []
    problems: list[Problem] = []
    for index, step in enumerate(steps):
        named, found = _named(step, index, ids) if isinstance(step, dict) else (set(range(index)), [])
        before.append(frozenset(named).union(*(before[earlier] for earlier in named)))
        problems += found
        if isinstance(step, dict):
            problems += _note_id(step, index, ids)
    return tuple(before), problems


def _named(step: Mapping[str, Any], index: int, ids: Mapping[str, int]) -> tuple[set[int], list[Problem]]:
    """Return the steps that one waits for by name; all before it, where it names none or a wrong one."""
    key, waits = entry(step, "waitFor")
    path: KeyPath = ("steps", index, key)
    if waits is None or waits == ():
        return set(range(index)), []
    faults = [(number, _fault(one, ids)) for number, one in enumerate(waits)]
    problems = [Problem((*path, number), fault) for number, fault in faults if fault]
    return set(range(index)) if problems else {ids[one] for one in waits if one != AT_ONCE}, problems


def _fault(wanted: Any, ids: Mapping[str, int]) -> str | None:
    if not isinstance(wanted, str):
        return f"needs the id of a step, not {shown_value(wanted)}; write that instead"
    if wanted == AT_ONCE or wanted in ids:
        return None
    hint = nearest(wanted, ids) if ids else "write its id: there"
    return f"no step before this one has the id {quoted(wanted)}; {hint}"


def _note_id(step: Mapping[str, Any], index: int, ids: dict[str, int]) -> list[Problem]:
    path: KeyPath = ("steps", index, "id")
    name = step.get("id")
    if name is None:
        return []
    if not isinstance(name, str):
        return [Problem(path, f'needs text, not {shown_value(name)}; put it in quotes: "..."')]
    if name == AT_ONCE:
        return [Problem(path, "cannot be -, which waitFor takes for the beginning; choose another id")]
    if name in ids:
        return [Problem(path, f"{quoted(name)} is the id of steps[{ids[name]}] already; choose another id")]
    ids[name] = index
    return []
