"""YAML's merge key `<<`, which gcloud takes in a workflow and a spec does not have: `{<<: *step, args: [...]}`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..closed import describe
from ..spec_document import Document, KeyPath, Position, Problem

MERGE = "<<"


def merged(document: Document) -> Document:
    """Give a document with the mappings that `<<` names taken over; a mapping's own keys win, then the first named."""
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
        """Give a value that is written at `source` and will stand at `target`."""
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
        """Give a mapping, then those that it names, then those that these name."""
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
                text = f"needs a mapping or a list of them, not {describe(item)}; write an alias such as *step"
                self.problems.append(Problem(where, text, self.written.get(where)))
