"""The base of every model of the spec: closed, frozen, strict, and with all problems in plain words.

pydantic stops at a model's own rules when one of its fields is wrong, and words its errors for programmers. Here each
model collects unknown keys, broken rules between keys and wrong values in one go, each as a `problem` error whose text
reads `what is wrong; what to write instead`. A caller of `model_validate` takes them from `problems_of(error)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from ..names import shown_value, unknown_key

Loc = tuple[str | int, ...]
BrokenRule = tuple[Loc, str]
"""The key that a broken rule is about, and what is wrong."""

Rules = Callable[[Mapping[str, Any]], Iterator[BrokenRule]]
"""Yields what is wrong between the keys of a mapping: the known ones as written, their values not yet checked."""


def _no_rules(_keys: Mapping[str, Any]) -> Iterator[BrokenRule]:
    yield from ()


class Closed(BaseModel):
    """A mapping with known keys only."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    rules: ClassVar[Rules] = _no_rules

    @model_validator(mode="wrap")
    @classmethod
    def _collect(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(data, cls):
            return handler(data)
        if not isinstance(data, Mapping):
            raise problem(
                f"needs keys and values, not {shown_value(data)}; the keys here are: {', '.join(cls.model_fields)}"
            )
        known = {key: tuple(item) if isinstance(item, list) else item for key, item in data.items()}
        unknown = [key for key in known if key not in cls.model_fields]
        problems = [_details((key,), unknown_key(key, cls.model_fields)) for key in unknown]
        known = {key: item for key, item in known.items() if key in cls.model_fields}
        problems += [_details(loc, text) for loc, text in cls.rules(known)]
        result = None
        try:
            result = handler(known)
        except ValidationError as error:
            problems += [_details(loc, text) for loc, text in problems_of(error)]
        if result is None or problems:
            raise ValidationError.from_exception_data(cls.__name__, problems)
        return result


def problem(text: str) -> PydanticCustomError:
    """Make the error that a check raises; `text` reaches the person as it is."""
    return PydanticCustomError("problem", "{text}", {"text": text})


def _details(loc: Loc, text: str) -> InitErrorDetails:
    return InitErrorDetails(type=problem(text), loc=loc, input=None)


def problems_of(error: ValidationError) -> Iterator[BrokenRule]:
    """Yield each problem of a failed validation: its key, and its text in plain words."""
    for details in error.errors(include_url=False):
        loc = details["loc"]
        yield (loc[:-1] if loc and loc[-1] == "[key]" else loc), _plain(details)


def _plain(details: ErrorDetails) -> str:
    """Return one of pydantic's errors in plain words."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "problem":
        return str(context["text"])
    if kind == "value_error":  # raised by a check of ours; its text is worded already
        return str(context["error"])
    if kind == "missing":
        return "is missing; add this key"
    if kind == "literal_error":
        return f"cannot be {shown_value(value)}; write {context['expected']}"
    if kind in _NEEDS:
        return f"needs {_NEEDS[kind]}, not {shown_value(value)}{_remedy(kind)}"
    if kind in _LIMITS:
        limit = context[_LIMITS[kind][1]]
        return _LIMITS[kind][0].format(limit=limit)
    return f"cannot be {shown_value(value)}; see docs/spec.md for what can stand here"


def _remedy(kind: str) -> str:
    return '; put it in quotes: "..."' if kind == "string_type" else "; write that instead"


_NEEDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "mapping_type": "keys and values",
}
_LIMITS = {
    "greater_than_equal": ("is too small; write at least {limit}", "ge"),
    "less_than_equal": ("is too large; write at most {limit}", "le"),
    "string_too_long": ("is too long; write at most {limit} characters", "max_length"),
    "too_long": ("has too many entries; write at most {limit}", "max_length"),
}
