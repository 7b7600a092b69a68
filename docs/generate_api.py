"""Write the tables of docs/api.md, the JSON of the dashboard, from the OpenAPI document that it serves.

python -m docs.generate_api
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.dashboard.app import AREAS
from shared.dashboard.openapi import openapi_document

PAGE = Path(__file__).parent / "api.md"
MARKED = re.compile(r"(<!-- (routes|fields): python -m docs\.generate_api -->\n).*?(<!-- end of \2 -->)", re.DOTALL)
WORDS = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "object"}
ALIKE = 5  # fields, from which on an object is shown once
LIMITS = {"minimum": "from", "maximum": "to", "default": "default"}
Described = Mapping[str, Any]


def text() -> str:
    """Return the page with its tables written anew."""
    document = openapi_document(AREAS)
    tables = {"routes": _routes(document), "fields": _fields(document)}
    return MARKED.sub(lambda found: f"{found[1]}\n{tables[found[2]]}\n{found[3]}", PAGE.read_text(encoding="utf-8"))


def _routes(document: Described) -> str:
    """Return one table with all routes, and one with the parameters of queries and paths."""
    lines = ["| route | answers | parameters |", "| --- | --- | --- |"]
    meanings: dict[tuple[str, str, str], list[str]] = {}
    for route, operation in _operations(document):
        names = [each["name"] for each in operation["parameters"]]
        lines.append(f"| `{route}` | {operation['summary']}{_kinds(operation)} | {_code(names)} |")
        for each in operation["parameters"]:
            key = (each["name"], _type(each["schema"]), each["description"])
            meanings.setdefault(key, []).append(route.partition(" ")[2])
    lines += ["", "| parameter | type | meaning | of |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{name}` | {kind} | {meaning} | {_code(routes)} |" for (name, kind, meaning), routes in meanings.items()
    ]
    return "\n".join(lines) + "\n"


def _kinds(operation: Described) -> str:
    """Return the media types of an answer that is not JSON alone."""
    kinds = [kind for answer in _answers(operation) for kind in answer["content"]]
    return "" if set(kinds) == {"application/json"} else f" ({_code(dict.fromkeys(kinds))})"


def _fields(document: Described) -> str:
    """Return a table for each route whose answer is JSON, a row for each object in it."""
    lines: list[str] = []
    seen: dict[str, str] = {}
    for route, operation in _operations(document):
        for answer in _answers(operation):
            schema = _joined(answer["content"].get("application/json", {}).get("schema", {}))
            if schema["properties"]:
                lines += [f"### {route}", "", "| in | fields |", "| --- | --- |"]
                lines += [f"| {place} | {fields} |" for place, fields in _objects(schema, "", route, seen)]
                lines.append("")
    return "\n".join(lines)


def _joined(schema: Described) -> Described:
    """Return the schema of an object whose fields several schemas have, as one."""
    parts = schema.get("allOf", [schema])
    return {
        "properties": {name: field for part in parts for name, field in part.get("properties", {}).items()},
        "required": [name for part in parts for name in part.get("required", ())],
    }


def _objects(schema: Described, place: str, route: str, seen: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield where each object is and its fields; one that an earlier row has is named by that row."""
    where = f"`{place}`" if place else "the answer"
    known = repr(schema)
    if place and len(schema["properties"]) >= ALIKE and known in seen:
        yield where, f"as {seen[known]}"
        return
    seen.setdefault(known, f"{where} of `{route}`")
    required = schema.get("required", ())
    yield (
        where,
        ", ".join(
            f"`{name}` {_type(field)}{'' if name in required else ' (may be absent)'}"
            for name, field in schema["properties"].items()
        ),
    )
    for name, field in schema["properties"].items():
        inner, path = field, f"{place}.{name}".removeprefix(".")
        while "items" in inner or isinstance(inner.get("additionalProperties"), Mapping):
            path += "[]" if "items" in inner else ".KEY"
            inner = inner["items"] if "items" in inner else inner["additionalProperties"]
        if inner.get("properties"):
            yield from _objects(inner, path, route, seen)


def _type(schema: Described) -> str:
    """Return in words what a value can be."""
    if "enum" in schema:
        return "one of " + " ".join(f"`{value}`" for value in schema["enum"] if value != "")
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    kinds = schema.get("type", "any value")
    words = " or ".join(WORDS.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))
    limits = [f"{word} {schema[key]}" for key, word in LIMITS.items() if key in schema]
    return f"{words} ({', '.join(limits)})" if limits else words


def _operations(document: Described) -> Iterator[tuple[str, Described]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def _answers(operation: Described) -> list[Described]:
    """Return the answers that are no refusals: 200, and 303 of a form."""
    return [answer for status, answer in operation["responses"].items() if str(status) < "400"]


def _code(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
