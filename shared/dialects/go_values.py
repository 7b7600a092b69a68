"""Values as Go's flag package reads them: booleans, whole numbers, durations. Each function raises ValueError."""

from __future__ import annotations

import re
from fractions import Fraction

from ..names import quoted

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_INT_LIMIT = 1 << 63
_INT_LENGTH = 200  # digits, leading zeros too; Python converts no more than some thousands
_DIGITS = {
    16: re.compile(r"0[xX](_?[0-9a-fA-F])+"),
    2: re.compile(r"0[bB](_?[01])+"),
    8: re.compile(r"0[oO]?(_?[0-7])+"),
    10: re.compile(r"0|[1-9](_?[0-9])*"),
}
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,  # the micro sign
    "\u03bcs": 10**3,  # the Greek letter
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]+)")


def go_bool(text: str) -> bool:
    """Read a boolean: 1, t, T, TRUE, true, True and their opposites."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"{quoted(text)} is neither true nor false; write one of them, or the flag alone for true")


def go_int(text: str) -> int:
    """Read a whole number of 64 bits in Go's own notation: 10, 0x1F, 0b101, 0o17, 017, 1_000, with a sign or not."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    for base, pattern in _DIGITS.items():
        if pattern.fullmatch(digits):
            if len(digits) > _INT_LENGTH:
                break
            number = int(re.sub(r"^0[xXbBoO]|_", "", digits), base)
            number = -number if text.startswith("-") else number
            if -_INT_LIMIT <= number < _INT_LIMIT:
                return number
            break
    else:
        raise ValueError(f"{quoted(text)} is not a whole number; write one such as 10")
    raise ValueError(f"{quoted(text)} is too large a number; write a smaller one")


def go_duration(text: str) -> Fraction:
    """Read a duration such as 1h30m, 1.5h, 90s or 100ms, with a sign or not; give its seconds."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return Fraction(0)
    total, place = 0, 0
    while place < len(rest):
        part = _PART.match(rest, place)
        if part is None or not (part[1] or part[2]) or part[3] not in _NANOSECONDS:
            raise _not_a_duration(text)
        if len(part[1]) > _INT_LENGTH:
            raise _too_long(text)
        unit = _NANOSECONDS[part[3]]
        fraction = (part[2] or "")[:_INT_LENGTH]
        total += int(part[1] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        place = part.end()
    if not rest:
        raise _not_a_duration(text)
    if total >= _INT_LIMIT:
        raise _too_long(text)
    return Fraction(-total if text.startswith("-") else total, 10**9)


def _not_a_duration(text: str) -> ValueError:
    return ValueError(f"{quoted(text)} is not a duration; write one with its units, such as 90s, 45m or 1h30m")


def _too_long(text: str) -> ValueError:
    return ValueError(f"{quoted(text)} is too long a time; write a shorter one")
