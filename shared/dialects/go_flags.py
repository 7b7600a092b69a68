"""Command lines as Go's flag package takes them apart.

One dash or two; `-flag=value` or `-flag value`, but a boolean's value only after `=`; `--` or the first argument that
is no flag ends the flags. Where Go stops at the first mistake, this goes on, so that all of them are told at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..closed import nearest
from ..names import quoted
from .go_values import go_bool, go_duration, go_int


class Kind(Enum):
    """What a flag's value is."""

    TEXT = "text"
    SWITCH = "switch"
    NUMBER = "number"
    DURATION = "duration"
    PAIRS = "pairs"  # A=1,B=2; repeated flags merge
    LIST = "list"  # a,b; repeated flags add up


ITEM_LIMIT = 1000  # that all uses of one flag may have: a machine of ours reads them, not the caller's


@dataclass(frozen=True)
class Use:
    """One use of a flag: its value, and the index of the argument that begins it."""

    value: Any  # str, bool, int, Fraction (seconds), dict or tuple of texts
    argument: int


@dataclass(frozen=True)
class Fault:
    """What is wrong with an argument; `flag` is the flag's name, "" where it is none."""

    flag: str
    argument: int
    text: str


@dataclass
class Parsed:
    """A command line taken apart; `rest` is the index of the first argument after the flags."""

    uses: dict[str, list[Use]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    rest: int = 0


def parse(arguments: Sequence[str], start: int, flags: Mapping[str, Kind]) -> Parsed:
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
