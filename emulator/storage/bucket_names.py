"""Which names a bucket may have."""

from __future__ import annotations

import re

from .failures import invalid

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,61}[a-z0-9](?:\.[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?)*")


def check_bucket_name(name: object) -> None:
    """Raise ApiError 400 for a name that Cloud Storage would refuse; the others are safe as names of folders."""
    if not isinstance(name, str) or not 3 <= len(name) <= 222 or not _NAME.fullmatch(name):
        raise invalid(f"Invalid bucket name: {name!r}")
