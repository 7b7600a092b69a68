"""The JSON Schema of a dataclass, so that what a query returns and what is said of it are written once."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number", types.NoneType: "null"}


def schema_of(shape: Any, around: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Return the schema of what json_values.to_document() makes of a value of this type, which is in those `around`."""
    origin, arguments = get_origin(shape), get_args(shape)
    if shape is Any or shape is object:
        return {}
    if shape in around:  # a tree: what is below is of the same kind
        return {"type": "object"}
    if is_dataclass(shape):
        around = (*around, shape)
        hints = get_type_hints(shape)
        names = [field.name for field in fields(shape)]
        properties = {name: schema_of(hints[name], around) for name in names}
        return {"type": "object", "properties": properties, "required": names}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(each, around) for each in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if isinstance(origin, type) and issubclass(origin, tuple | list):
        return {"type": "array", "items": schema_of(arguments[0], around)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(arguments[1], around)}
    if isinstance(shape, type) and issubclass(shape, StrEnum):
        return {"enum": [each.value for each in shape]}
    return {"type": _PLAIN[shape]}
