"""Durations and sizes as people write them: `90s`, `1h30m`, `7d`; `500M`, `10G`.

A bare number is refused on purpose. Whether 90 means seconds or minutes, bytes or sectors, is a guess, and the
systems that this one replaces guess differently.
"""

from __future__ import annotations

import re

LATEST_DATE = (1 << 32) - 1  # Unix seconds that all formats can hold
MIB, GIB = 1 << 20, 1 << 30  # bytes; Compute Engine counts disks in GIB and calls them GB

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
DURATION_FORM = re.compile(r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")
_BYTES = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
SIZE_FORM = re.compile(r"([0-9]{1,15})(?:(B)|([KMGT])(?:i?B)?)")


def parse_duration(text: str) -> float:
    """Return the seconds of `7d`, `1h30m` or `90s`: whole numbers, units in falling order. Raises ValueError."""
    match = DURATION_FORM.fullmatch(text)
    if not match or not text:
        raise ValueError(f"{text[:40]!r} is not a duration; write one such as 90s, 5m, 1h30m or 7d")
    return float(sum(int(count or 0) * unit for count, unit in zip(match.groups(), _SECONDS.values(), strict=True)))


def format_duration(seconds: float) -> str:
    """Write seconds the way parse_duration reads them, fractions dropped: 5400.5 becomes `1h30m`."""
    left, text = int(seconds), ""
    for unit, length in _SECONDS.items():
        count, left = divmod(left, length)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_size(text: str) -> int:
    """Return the bytes of `500M`, `10GB`, `2GiB` or `5000B`, units binary as Compute Engine's. Raises ValueError."""
    match = SIZE_FORM.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:40]!r} is not a size; write a whole number and its unit, such as 500M or 10G")
    return int(match[1]) * _BYTES[match[2] or match[3]]


def format_size(count: int) -> str:
    """Write bytes the way parse_size reads them, with the largest unit that loses nothing: 1 << 30 becomes `1G`."""
    for unit in "TGMK":
        if count and count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return f"{count}B"


def parse_source_date(text: str) -> int | None:
    """Return the Unix seconds that SOURCE_DATE_EPOCH tells, None where it is empty. ValueError says what to write."""
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(LATEST_DATE)) and int(text) <= LATEST_DATE):
        raise ValueError(
            f"is no date: {text[:20]!r}; set it to whole seconds since 1970, such as 1700000000, at most "
            f"{LATEST_DATE}, or to nothing"
        )
    return int(text)
