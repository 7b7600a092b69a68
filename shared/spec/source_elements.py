"""A step of elements that names none takes those of the source, with their path and their variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .document import KeyPath, Position

ELEMENTS = "elements"
_LENT = ("elements", "path")


def lend_elements(
    data: dict[str, Any], positions: dict[KeyPath, Position]
) -> tuple[dict[str, Any], frozenset[KeyPath]]:
    """Return a spec's values, which may be wrong, in which such steps have what they take, and the keys of that.

    `positions` gets the places of what they have now. What is wrong with it is told where the source has it.
    """
    source, steps = data.get("source"), data.get("steps")
    given = source.get(ELEMENTS) if isinstance(source, Mapping) else None
    if not isinstance(given, Mapping) or not isinstance(steps, tuple):
        return data, frozenset()
    lent: set[KeyPath] = set()
    changed = tuple(_lent(step, ("steps", at, "inputs"), given, positions, lent) for at, step in enumerate(steps))
    return {**data, "steps": changed}, frozenset(lent)


def _lent(
    step: Any, path: KeyPath, given: Mapping[str, Any], positions: dict[KeyPath, Position], lent: set[KeyPath]
) -> Any:
    inputs = step.get("inputs", {}) if isinstance(step, Mapping) and step.get("action") == ELEMENTS else None
    if not isinstance(inputs, Mapping) or ELEMENTS in inputs:
        return step
    taken = {key: given[key] for key in _LENT if key in given and key not in inputs}
    lent |= {(*path, key) for key in (*taken, ELEMENTS)}
    env, own = given.get("env", {}), inputs.get("env", {})
    if isinstance(env, Mapping) and isinstance(own, Mapping) and (env or own):
        taken["env"] = {**env, **own}
        lent |= {(*path, "env", key) for key in env if key not in own} if own else {(*path, "env")}
    for place, position in list(positions.items()):
        if place[:2] == ("source", ELEMENTS) and place[2:3] and place[2] in taken:
            positions.setdefault((*path, *place[2:]), position)
    return {**step, "inputs": {**inputs, **taken}}
