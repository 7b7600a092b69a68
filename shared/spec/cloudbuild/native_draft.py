"""A native document in the making, whose places are in another language's text.

Problems of what is drafted are found by the native model later, at native keys. So each value is put together with its
place: where it stands in the text, and what people call it there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ..document import Document, KeyPath, Position, Problem


@dataclass(frozen=True)
class Origin:
    """The place of a value in the other language's text."""

    position: Position
    shown: str  # what a message calls it: `steps[2] -labels`


@dataclass
class Draft:
    """A native document, filled in value by value."""

    document: Document = field(default_factory=lambda: Document(data={}))

    def locate(self, path: KeyPath, place: Origin) -> None:
        """Set where a key comes from, and all below it that has no place of its own."""
        self.document.positions[path] = place.position
        self.document.names[path] = place.shown

    def put(self, path: KeyPath, value: Any, place: Origin) -> None:
        """Set a key, and the mappings above it; an index is that of a list that ends before it, or of an entry."""
        self.locate(path, place)
        here = self.document.data
        for part, following in pairwise(path):
            empty: Any = [] if isinstance(following, int) else {}
            if isinstance(part, int) and part == len(here):
                here.append(empty)
            here = here[part] if isinstance(part, int) else here.setdefault(part, empty)
        if isinstance(path[-1], int) and path[-1] == len(here):
            here.append(value)
        else:
            here[path[-1]] = value

    def fault(self, path: KeyPath, text: str, place: Origin) -> None:
        """Note a problem; `path` is the key that now has no value, or none that counts."""
        self.document.problems.append(Problem(path, text, place.position, place.shown))

    def finished(self) -> Document:
        """Return the document, its lists as tuples."""
        self.document.data = _frozen(self.document.data)
        return self.document


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
