"""The functions of Packer's templates that are worked out here. None of them takes long, whatever it is given.

What reaches the outside (`env`, `file`) is a function that the caller gives. Functions of time and chance give Varying.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote_plus

from ...document import read_values
from .scope import ITEMS_LIMIT, LENGTH_LIMIT, TemplateFunction, Varying, plain_value

_TEXT_LIMIT = 20_000  # characters that a pattern is looked for in: two quantifiers take the square of it
_POSIX = {
    "[:alnum:]": "a-zA-Z0-9",
    "[:alpha:]": "a-zA-Z",
    "[:digit:]": "0-9",
    "[:lower:]": "a-z",
    "[:upper:]": "A-Z",
    "[:space:]": "\\s",
}
_TOO_MUCH = "the pattern '{}' is more than characters, classes and one quantifier"
_VERB = re.compile(r"%(%|0?[1-9]?[0-9]?[dsvqf])")


def functions(
    environment: Callable[[str], str], read: Callable[[str], str], files: Callable[[str, str], list[str]], folder: str
) -> Mapping[str, TemplateFunction]:
    """Return the functions by their names.

    `environment` returns a variable, `read` a file's text, `files` the paths of a folder's files that a pattern is for;
    `folder` is where Packer runs.
    """
    return {
        **_TEXTS,
        **_LISTS,
        **_NUMBERS,
        **dict.fromkeys(("timestamp", "formatdate", "timeadd", "uuidv4", "uuidv5", "legacy_isotime"), _varying),
        **dict.fromkeys(("strftime", "legacy_strftime", "isotime"), _varying),
        "env": environment,
        "file": read,
        "fileset": files,
        "fileexists": lambda path: bool(
            files(posixpath.dirname(path) or ".", re.sub(r"([*?[])", r"[\1]", posixpath.basename(path)))
        ),
        "pathexpand": lambda path: re.sub(r"^~(?=/|$)", lambda _: environment("HOME"), path),
        "abspath": lambda path: posixpath.normpath(posixpath.join(folder, path)),
    }


def _varying(*arguments: object) -> Varying:
    return Varying()


def _replace(text: str, old: str, new: str) -> str:
    if len(old) > 1 and old.startswith("/") and old.endswith("/"):
        return _regex_replace(text, old[1:-1], new)
    if len(text) // max(1, len(old)) * len(new) > LENGTH_LIMIT:
        raise ValueError("its result is too long")
    return text.replace(old, new)


def _regex_replace(text: str, pattern: str, new: str) -> str:
    pattern = _of_python(pattern)
    if not _is_quick(pattern) or "$" in new:
        raise ValueError(_TOO_MUCH.format(pattern[:40]))
    if len(text) * (len(new) + 1) > _TEXT_LIMIT:
        raise ValueError("the text is too long for a pattern")
    return re.sub(pattern, new.replace("\\", r"\\"), text)


def _regex_all(pattern: str, text: str) -> list[str]:
    pattern = _of_python(pattern)
    if not _is_quick(pattern):
        raise ValueError(_TOO_MUCH.format(pattern[:40]))
    if len(text) > _TEXT_LIMIT:
        raise ValueError("the text is too long for a pattern")
    return re.findall(pattern, text)


def _regex(pattern: str, text: str) -> str:
    found = _regex_all(pattern, text)
    if not found:
        raise ValueError("the pattern is not found")
    return found[0]


def _of_python(pattern: str) -> str:
    for name, letters in _POSIX.items():
        pattern = pattern.replace(name, letters)
    return pattern


def _is_quick(pattern: str) -> bool:
    """Return whether a pattern has no groups, and one quantifier without an end at most."""
    kinds, place = "", 0
    while place < len(pattern):
        letter = pattern[place]
        if letter == "\\":
            place += 1
        elif letter == "[":
            place = pattern.find("]", place + 2)
            if place < 0:
                return False
        else:
            kinds += letter
        place += 1
    return not set("(){}|") & set(kinds) and kinds.count("*") + kinds.count("+") <= 1 and kinds.count("?") < 9


def _format(text: str, *values: Any) -> str:
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        if match[1] == "%":
            return "%"
        value = rest.pop(0)
        if match[1][-1] == "d":
            return str(f"%{match[1]}" % int(value))
        if match[1][-1] == "f":
            return str(f"%{match[1]}" % float(value))
        return json.dumps(value) if match[1][-1] == "q" else _plain(value)

    if "%" in _VERB.sub("", text):
        raise ValueError("it knows %s, %d, %f, %v and %q alone, with two digits at most")
    return _VERB.sub(one, text)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    return json.dumps(value)


def _indent(spaces: int, text: str) -> str:
    if not 0 <= spaces <= 100 or len(text) * (spaces + 1) > LENGTH_LIMIT * 4:
        raise ValueError("it indents too far")
    return text.replace("\n", "\n" + " " * spaces)


def _substr(text: str, offset: int, length: int) -> str:
    start = offset + len(text) if offset < 0 else offset
    return text[start:] if length < 0 else text[start : start + length]


def _yaml_decode(text: str) -> Any:
    document = read_values(text)
    for problem in document.problems:
        raise ValueError(problem.text)
    return plain_value(document.data)


def _trim(text: str, letters: str) -> str:
    return text.strip(letters)


_TEXTS: Mapping[str, TemplateFunction] = {
    "lower": lambda text: str(text).lower(),
    "upper": lambda text: str(text).upper(),
    "title": lambda text: re.sub(r"\b[a-z]", lambda match: match[0].upper(), str(text)),
    "trimspace": lambda text: str(text).strip(),
    "trim": _trim,
    "trimprefix": lambda text, part: str(text).removeprefix(part),
    "trimsuffix": lambda text, part: str(text).removesuffix(part),
    "chomp": lambda text: str(text).rstrip("\r\n"),
    "replace": _replace,
    "regex_replace": _regex_replace,
    "regex": _regex,
    "regexall": _regex_all,
    "strcontains": lambda text, part: part in str(text),
    "split": lambda mark, text: str(text).split(mark) if mark else list(text),
    "join": lambda mark, *lists: mark.join(_plain(item) for each in lists for item in each),
    "format": _format,
    "indent": _indent,
    "substr": _substr,
    "strrev": lambda text: str(text)[::-1],
    "startswith": lambda text, part: str(text).startswith(part),
    "endswith": lambda text, part: str(text).endswith(part),
    "basename": posixpath.basename,
    "dirname": lambda path: posixpath.dirname(path) or ".",
    "jsonencode": lambda value: json.dumps(value, separators=(",", ":"), sort_keys=True),
    "jsondecode": json.loads,
    "yamldecode": _yaml_decode,
    "base64encode": lambda text: base64.b64encode(str(text).encode()).decode(),
    "base64decode": lambda text: base64.b64decode(text, validate=True).decode(),
    "md5": lambda text: hashlib.md5(str(text).encode(), usedforsecurity=False).hexdigest(),
    "sha1": lambda text: hashlib.sha1(str(text).encode(), usedforsecurity=False).hexdigest(),
    "sha256": lambda text: hashlib.sha256(str(text).encode()).hexdigest(),
    "urlencode": lambda text: quote_plus(str(text)),
    "tostring": lambda value: value if value is None else _plain(value),
    "tobool": lambda value: {"true": True, "false": False}.get(value, value),
}


def _coalesce(*values: Any) -> Any:
    found = [value for value in values if value not in (None, "")]
    if not found:
        raise ValueError("none of its arguments has a value")
    return found[0]


def _flatten(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        found += _flatten(value) if isinstance(value, list) else [value]
    return found


def _lookup(mapping: dict[str, Any], key: str, *default: Any) -> Any:
    return mapping[key] if key in mapping or not default else default[0]


def _merge(*mappings: dict[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for mapping in mappings:
        found |= mapping or {}
    return found


def _distinct(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values[:1000]:
        if value not in found:
            found.append(value)
    return found


def _range(*numbers: float) -> list[Any]:
    start, end, *steps = numbers if len(numbers) > 1 else (0, *numbers)
    step = steps[0] if steps else 1 if end >= start else -1
    count = max(0, math.ceil((end - start) / step))
    if count > ITEMS_LIMIT:
        raise ValueError("it gives too much")
    return [start + number * step for number in range(count)]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("it needs a list")
    return value


_LISTS: Mapping[str, TemplateFunction] = {
    "length": len,
    "concat": lambda *lists: [item for each in lists for item in _list(each)],
    "contains": lambda values, item: item in values,
    "element": lambda values, index: values[int(index) % len(values)],
    "index": lambda values, item: values.index(item),
    "flatten": _flatten,
    "compact": lambda values: [value for value in values if value not in (None, "")],
    "distinct": _distinct,
    "reverse": lambda values: _list(values)[::-1],
    "range": _range,
    "sum": sum,
    "alltrue": lambda values: all(value in (True, "true") for value in values),
    "anytrue": lambda values: any(value in (True, "true") for value in values),
    "setunion": lambda *lists: sorted({item for each in lists for item in each}),
    "setsubtract": lambda one, other: sorted(set(one) - set(other)),
    "setintersection": lambda one, *lists: sorted(set(one).intersection(*lists)),
    "sort": lambda values: sorted(map(str, values)),
    "slice": lambda values, start, end: _list(values)[int(start) : int(end)],
    "keys": lambda mapping: sorted(mapping),
    "values": lambda mapping: [mapping[key] for key in sorted(mapping)],
    "lookup": _lookup,
    "merge": _merge,
    "zipmap": lambda keys, values: dict(zip(keys, values, strict=True)),
    "coalesce": _coalesce,
    "coalescelist": lambda *lists: next(each for each in lists if each),
    "tolist": list,
    "toset": lambda values: sorted(set(values)),
    "tomap": dict,
    "convert": lambda value, kind: value,
}


def _to_number(value: Any) -> Any:
    if isinstance(value, str):
        return float(value) if "." in value else int(value[:18])
    return value


_NUMBERS: Mapping[str, TemplateFunction] = {
    "abs": abs,
    "ceil": math.ceil,
    "floor": math.floor,
    "max": max,
    "min": min,
    "tonumber": _to_number,
    "parseint": lambda text, base: int(str(text)[:60], int(base)),
}

KEEPS_PARTS = frozenset(_LISTS) - {"sort", "toset", "setunion", "setsubtract", "setintersection", "sum", "distinct"}
"""Functions whose results have parts of their arguments as they are, with their marks."""
