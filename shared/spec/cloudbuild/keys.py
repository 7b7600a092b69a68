"""The keys of a workflow, as gcloud's loader takes them.

- camelCase, as Cloud Build's API has them, or snake_case.
- A single value for a key that holds a list: `waitFor: build` is `waitFor: [build]`. The loader does so with every
  repeated field of the API's messages, also with those that hold mappings.
- YAML's merge key `<<`, which a spec does not have: `{<<: *step, args: [...]}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...names import shown_value
from ..document import Document, KeyPath, Position, Problem

MERGE = "<<"

_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])")
_LISTS = ("steps", "images", "tags", "secrets", "dependencies")  # of a workflow; below options, nothing is read
_STEP_LISTS = ("args", "env", "secretEnv", "volumes", "waitFor", "allowExitCodes")


def snake_case(key: str) -> str:
    """Write `waitFor` as `wait_for`."""
    return _WORD_START.sub("_", key).lower()


def entry(mapping: Mapping[str, Any], key: str) -> tuple[str, Any]:
    """Return a camelCase key as it is written in `mapping`, and its value; None where it is not there."""
    other = snake_case(key)
    return (other, mapping[other]) if other in mapping and key not in mapping else (key, mapping.get(key))


def with_lists(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a workflow's values, a single value of a key that holds a list as the list of that one."""
    whole = _listed(data, _LISTS)
    steps = whole.get("steps", ())
    if isinstance(steps, tuple):
        whole["steps"] = tuple(_listed(step, _STEP_LISTS) if isinstance(step, dict) else step for step in steps)
    return whole


def _listed(mapping: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    names = {*keys, *map(snake_case, keys)}
    return {key: (value,) if key in names and not isinstance(value, tuple) else value for key, value in mapping.items()}


def merged(document: Document) -> Document:
    """Return a document with the mappings that `<<` names merged in; a mapping's own keys win, then the first named."""
    if not any(path and path[-1] == MERGE for path in document.positions):
        return document
    merger = _Merger(document.positions)
    data = merger.value(document.data, (), ())
    return Document(data, merger.positions, document.problems + merger.problems)


class _Merger:
    def __init__(self, written: Mapping[KeyPath, Position]) -> None:
        self.written = written
        self.positions: dict[KeyPath, Position] = {}
        self.problems: list[Problem] = []

    def value(self, value: Any, source: KeyPath, target: KeyPath) -> Any:
        """Return a value that is written at `source` and will be at `target`."""
        if source in self.written:
            self.positions[target] = self.written[source]
        if isinstance(value, tuple):
            return tuple(self.value(item, (*source, n), (*target, n)) for n, item in enumerate(value))
        if not isinstance(value, dict):
            return value
        found: dict[str, tuple[Any, KeyPath]] = {}
        for mapping, place in self.layers(value, source):
            for key, item in mapping.items():
                if key != MERGE:
                    found.setdefault(key, (item, (*place, key)))
        return {key: self.value(item, place, (*target, key)) for key, (item, place) in found.items()}

    def layers(self, mapping: Mapping[str, Any], source: KeyPath) -> Iterator[tuple[Mapping[str, Any], KeyPath]]:
        """Yield a mapping, then those that it names, then those that these name."""
        yield mapping, source
        named = mapping.get(MERGE, ())
        place: KeyPath = (*source, MERGE)
        entries = (
            [(item, (*place, n)) for n, item in enumerate(named)] if isinstance(named, tuple) else [(named, place)]
        )
        for item, where in entries:
            if isinstance(item, dict):
                yield from self.layers(item, where)
            else:
                text = f"needs a mapping or a list of them, not {shown_value(item)}; write an alias such as *step"
                self.problems.append(Problem(where, text, self.written.get(where)))
