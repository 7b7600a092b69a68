"""Frozen dataclasses as JSON documents and back: builds, events and orders, as stores and messages hold them.

pydantic would do this too, and its import would be a sixth of every function's cold start; it reads specs, which people
write. What is read here we have written ourselves, perhaps by another version: keys that are unknown are left out, keys
that are missing get the field's default, and a value of the wrong type is Unreadable.
"""

from __future__ import annotations

import math
import reprlib
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

ValueReader = Callable[[Any], Any]

KIND = "kind"  # the field that tells the members of a union apart
LARGEST_BITS = 1023  # of a whole number that a float can hold
PLAIN = (str, int, float, bool, types.NoneType)


class Unreadable(ValueError):
    """A document that is not of the shape that it should have; the text says where, and what is wrong there."""


def to_document(value: Any) -> Any:
    """Return a value as JSON's own types."""
    shape: Any = type(value)
    if shape in PLAIN:
        return value
    if is_dataclass(value):
        return {name: to_document(getattr(value, name)) for name in _names(shape)}
    if isinstance(value, tuple | list):
        return [to_document(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_document(item) for key, item in value.items()}
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, str):  # such as what was put in for a parameter
        return str(value)
    raise TypeError(f"JSON has no {type(value).__name__}")


@cache
def reader(shape: Any) -> ValueReader:
    """Return the reader of a `shape` from JSON documents: a dataclass, or a union of some. It raises Unreadable."""
    origin, arguments = get_origin(shape), get_args(shape)
    if shape is Any:
        return lambda value: value
    if is_dataclass(shape):
        return _object(shape)
    if origin in (Union, types.UnionType):
        return _optional(arguments) if types.NoneType in arguments else _one_of(arguments)
    if origin is Literal:
        return _choice(arguments)
    if origin is tuple:
        return _list(reader(arguments[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _map(reader(arguments[1]))
    if isinstance(shape, type) and issubclass(shape, StrEnum):
        return shape  # ValueError, which is caught where its field is known
    return _plain(shape)


@cache
def _names(shape: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(shape))


def _object(shape: Any) -> ValueReader:
    hints = get_type_hints(shape)
    readers = {field.name: reader(hints[field.name]) for field in fields(shape)}
    needed = [field.name for field in fields(shape) if field.default is MISSING and field.default_factory is MISSING]

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Unreadable(f"needs an object of {shape.__name__}, not {_shown(value)}")
        if missing := [name for name in needed if name not in value]:
            raise Unreadable(f"{missing[0]} of {shape.__name__} is missing")
        found = {}
        for name, read_field in readers.items():
            if name in value:
                try:
                    found[name] = read_field(value[name])
                except ValueError as error:
                    raise Unreadable(f"{name}: {error}") from None
        return shape(**found)

    return read


def _one_of(shapes: tuple[Any, ...]) -> ValueReader:
    readers = {kind: reader(shape) for shape in shapes for kind in get_args(get_type_hints(shape)[KIND])}

    def read(value: Any) -> Any:
        kind = value.get(KIND) if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in readers:
            raise Unreadable(f"{KIND} {_shown(kind)} is none of {', '.join(readers)}")
        return readers[kind](value)

    return read


def _optional(shapes: tuple[Any, ...]) -> ValueReader:
    [shape] = [one for one in shapes if one is not types.NoneType]
    inner = reader(shape)
    return lambda value: None if value is None else inner(value)


def _choice(choices: tuple[Any, ...]) -> ValueReader:
    def read(value: Any) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise Unreadable(f"{_shown(value)} is none of {', '.join(choices)}")
        return value

    return read


def _list(item: ValueReader) -> ValueReader:
    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise Unreadable(f"needs a list, not {_shown(value)}")
        return tuple(item(each) for each in value)

    return read


def _map(item: ValueReader) -> ValueReader:
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Unreadable(f"needs an object, not {_shown(value)}")
        return {key: item(each) for key, each in value.items()}

    return read


def _plain(shape: type) -> ValueReader:
    def read(value: Any) -> Any:
        if shape is float and type(value) is int and value.bit_length() <= LARGEST_BITS:
            return float(value)
        if type(value) is not shape:
            raise Unreadable(f"needs {shape.__name__}, not {_shown(value)}")
        if isinstance(value, float) and not math.isfinite(value):  # which Python's JSON has, and no clock
            raise Unreadable(f"needs a number, not {_shown(value)}")
        return value

    return read


def _shown(value: Any) -> str:
    """Return the beginning of what a value looks like: all of it may be large, or nested deeper than Python writes."""
    return f"{reprlib.repr(value):.80}"
