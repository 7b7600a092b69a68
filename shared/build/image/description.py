"""`${source.name}` and its like in the description of an image: what is only known when a build is planned."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...errors import InputError

KEY = "description"
LONGEST_DESCRIPTION = 2048  # characters, Compute Engine's limit
FACTS = ("source.project", "source.name", "source.family", "build.id", "build.date", "build.digest")
"""The names; none of them can be that of a parameter. A source without a family has "" there."""

_REFERENCE = re.compile(r"\$(\$?)\{(" + "|".join(map(re.escape, FACTS)) + r")\}")


def without_facts(value: str) -> str:
    """Return the value of a parameter so that with_facts() leaves it as it is."""
    return _REFERENCE.sub(lambda match: "$" + match[0], value)


def with_facts(text: str, facts: Mapping[str, str]) -> str:
    """Return a description with its references replaced; `$${name}` stays as `${name}`. InputError if it gets long."""
    result = _REFERENCE.sub(lambda match: match[0][1:] if match[1] else facts[match[2]], text)
    if len(result) > LONGEST_DESCRIPTION:
        raise InputError(
            f"{KEY}: it has {len(result)} characters with what it refers to; write {LONGEST_DESCRIPTION} at most"
        )
    return result
