"""The text of a spec from its values: YAML as a person would write it, which reads back as the same values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

INDENT = "  "

_PLAIN = re.compile(r"\.|[A-Za-z_/][-A-Za-z0-9_./]*|[0-9]+[smhdBKMGT]")
_MEANT_OTHERWISE = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")  # by some reader of YAML
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def spec_text(data: Mapping[str, Any], comments: tuple[str, ...] = ()) -> str:
    """Write a spec's values, below comments of a line each. `${` in a text is kept from naming a parameter."""
    lines = [f"# {_printable(comment)}".rstrip() for comment in comments]
    return "\n".join([*lines, *_mapping(data, "")]) + "\n"


def _mapping(data: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in data.items():
        head = f"{indent}{_text(key)}:"
        if isinstance(value, Mapping) and value:
            yield head
            yield from _mapping(value, indent + INDENT)
        elif isinstance(value, (tuple, list)) and any(isinstance(item, Mapping) for item in value):
            yield head
            for item in value:
                first, *others = _mapping(item, indent + INDENT)
                yield f"{indent}- {first.lstrip()}"
                yield from others
        else:
            yield f"{head} {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value.replace("${", "$${"))
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(_scalar(item) for item in value)}]"
    return "{}" if isinstance(value, Mapping) else str(value)


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _MEANT_OTHERWISE:
        return text
    return f'"{"".join(_ESCAPES.get(letter, letter if letter.isprintable() else _escaped(letter)) for letter in text)}"'


def _escaped(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 1 << 16 else f"\\U{ord(letter):08x}"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
