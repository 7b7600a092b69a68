"""Keys of a workflow: camelCase, as Cloud Build's API has them, or snake_case, which gcloud takes as well."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])")


def snake_case(key: str) -> str:
    """Write `waitFor` as `wait_for`."""
    return _WORD_START.sub("_", key).lower()


def entry(mapping: Mapping[str, Any], key: str) -> tuple[str, Any]:
    """Give a camelCase key as it is written in `mapping`, and its value; None where it is not there."""
    other = snake_case(key)
    return (other, mapping[other]) if other in mapping and key not in mapping else (key, mapping.get(key))
