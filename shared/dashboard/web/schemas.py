"""Pieces of JSON Schema that the answers of several areas are made of."""

from __future__ import annotations

from typing import Any

from .pages import Schema

TEXT: Schema = {"type": "string"}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
NUMBER: Schema = {"type": "number"}
MAYBE_NUMBER: Schema = {"type": ["number", "null"]}
COUNT: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
ANY_OBJECT: Schema = {"type": "object"}


def listing(of: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": of}


def record(optional: tuple[str, ...] = (), /, **fields: Schema) -> Schema:
    """Return the schema of an object with these fields, of which some may be absent."""
    required: list[str] = [name for name in fields if name not in optional]
    found: dict[str, Any] = {"type": "object", "properties": fields, "required": required}
    return found
