"""Schemas of dataclasses: what to_document() makes of a value is what its schema says, and nothing else is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import jsonschema
import pytest

from shared.dashboard.web.shapes import schema_of
from shared.json_values import to_document


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Branch:
    name: str
    below: tuple[Branch, ...] = ()


@dataclass(frozen=True)
class Everything:
    text: str = "a"
    count: int = 1
    size: float = 1.5
    flag: bool = True
    colour: Colour = Colour.RED
    choice: Literal["x", "y"] = "x"
    maybe: str | None = None
    several: tuple[int, ...] = (1, 2)
    by_name: dict[str, float] = field(default_factory=lambda: {"a": 1.0})
    tree: Branch = Branch("a", (Branch("b"),))


def test_a_value_is_what_its_schema_says() -> None:
    jsonschema.validate(to_document(Everything()), schema_of(Everything))
    jsonschema.validate(to_document(Everything(maybe="b", several=())), schema_of(Everything))


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": 1},
        {"count": "1"},
        {"flag": "yes"},
        {"choice": "z"},
        {"maybe": 1},
        {"several": ["a"]},
        {"colour": "blue"},
        {"by_name": {"a": "b"}},
        {"tree": {"below": []}},
        {"tree": {"name": "a", "below": [1]}},
    ],
)
def test_another_value_is_not(wrong: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(to_document(Everything()) | wrong, schema_of(Everything))


def test_nothing_may_lack() -> None:
    document = to_document(Everything())
    for name in list(document):
        less = {key: value for key, value in document.items() if key != name}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(less, schema_of(Everything))
