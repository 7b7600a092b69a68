"""Command lines as Go's flag package takes them apart.

One dash or two; `-flag=value` or `-flag value`, but a boolean's value only after `=`; `--` or the first argument that
is no flag ends the flags. Where Go stops at the first mistake, this goes on, so that all of them are reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import Any

from ...names import nearest, quoted

ITEM_LIMIT = 1000  # that all uses of one flag may have: a machine of ours reads them, not the caller's

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


class Kind(Enum):
    """The kind of a flag's value."""

    TEXT = "text"
    SWITCH = "switch"
    NUMBER = "number"
    DURATION = "duration"
    PAIRS = "pairs"  # A=1,B=2; repeated flags merge
    LIST = "list"  # a,b; repeated flags add up


@dataclass(frozen=True)
class Use:
    """One use of a flag: its value, and the index of the argument that begins it."""

    value: Any  # str, bool, int, Fraction (seconds), dict or tuple of texts
    argument: int


@dataclass(frozen=True)
class Fault:
    """A problem with an argument; `flag` is the flag's name, "" for an argument that is no flag."""

    flag: str
    argument: int
    text: str


@dataclass
class Parsed:
    """A command line taken apart; `rest` is the index of the first argument after the flags."""

    uses: dict[str, list[Use]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    rest: int = 0


def parse_flags(arguments: Sequence[str], start: int, flags: Mapping[str, Kind]) -> Parsed:
    """Take `arguments` apart from index `start` on, as far as they are flags."""
    parsed = Parsed(rest=start)
    while parsed.rest < len(arguments):
        text = arguments[parsed.rest]
        if len(text) < 2 or text[0] != "-":
            break
        if text == "--":
            parsed.rest += 1
            break
        parsed.rest += 1
        _take(arguments, parsed, flags)
    return parsed


def _take(arguments: Sequence[str], parsed: Parsed, flags: Mapping[str, Kind]) -> None:
    """Take the flag before `parsed.rest`, with the argument that is its value."""
    argument = parsed.rest - 1
    text = arguments[argument]
    name, equals, value = text[2 if text.startswith("--") else 1 :].partition("=")
    if not name or name[0] in "-=":
        parsed.faults.append(Fault("", argument, f"{quoted(text)} is not written as a flag is; write -FLAG=VALUE"))
        return
    kind = flags.get(name)
    if kind is None:
        hint = nearest(f"-{name}", [f"-{flag}" for flag in flags]) if flags else "leave it out, there are no flags here"
        parsed.faults.append(Fault(name, argument, f"unknown flag; {hint}"))
        if not equals and parsed.rest < len(arguments) and not arguments[parsed.rest].startswith("-"):
            parsed.rest += 1  # most likely its value
        return
    if not equals and kind is Kind.SWITCH:
        value = "true"
    elif not equals:
        if parsed.rest == len(arguments):
            parsed.faults.append(Fault(name, argument, f"has no value; write -{name}=VALUE"))
            return
        value = arguments[parsed.rest]
        parsed.rest += 1
    try:
        use = Use(_read(value, kind), argument)
        _refuse_many([*parsed.uses.get(name, ()), use], kind)
    except ValueError as error:
        parsed.faults.append(Fault(name, argument, str(error)))
    else:
        parsed.uses.setdefault(name, []).append(use)


def _refuse_many(uses: Sequence[Use], kind: Kind) -> None:
    if kind in (Kind.PAIRS, Kind.LIST) and sum(len(use.value) for use in uses) > ITEM_LIMIT:
        raise ValueError(f"has more than {ITEM_LIMIT} items; write less")


def _read(text: str, kind: Kind) -> Any:
    if kind is Kind.SWITCH:
        return go_bool(text)
    if kind is Kind.NUMBER:
        return go_int(text)
    if kind is Kind.DURATION:
        return go_duration(text)
    if kind is Kind.LIST:
        return tuple(text.split(","))
    return _pairs(text) if kind is Kind.PAIRS else text


def _pairs(text: str) -> dict[str, str]:
    pairs = {}
    for item in text.split(","):
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"the item {quoted(item)} has no equals sign; write it as NAME=VALUE")
        pairs[key] = value
    return pairs


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
