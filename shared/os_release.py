"""os-release, as os-release(5) describes it: which distribution an image is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping


def read_os_release(text: str) -> Mapping[str, str]:
    """Give its fields; lines that are none are left out."""
    fields = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and name.isidentifier():
            fields[name] = _unquoted(value)
    return fields


def distribution(fields: Mapping[str, str]) -> str:
    """Give what package URLs call the distribution: `debian-12`, `cos-117`, or "arch" where there is no version."""
    return "-".join(filter(None, (fields.get("ID", ""), fields.get("VERSION_ID", ""))))


def _unquoted(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError:  # a quotation mark too many
        return value
    return words[0] if words else ""
