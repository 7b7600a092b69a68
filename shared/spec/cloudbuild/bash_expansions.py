"""Bash's parameter expansions, as Cloud Build has them in the values of substitutions.

`$A`, `${A}`, `${A:-default}`, `${A-default}`, `${A:=default}`, `${A^}`, `${A^^}`, `${A,}`, `${A,,}`, `${#A}`,
`${A:2}`, `${A:2:3}`, `${A#pattern}`, `${A##pattern}`, `${A%pattern}`, `${A%%pattern}`, `${A/pattern/text}`,
`${A//pattern/text}`. Defaults, patterns and texts may hold further expansions. In patterns `*`, `?` and `[...]` mean
what they mean in a shell.
https://cloud.google.com/build/docs/configuring-builds/use-bash-and-bindings-in-substitutions
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

from ...names import quoted

LENGTH_LIMIT = 4000  # characters of one value, as in Cloud Build
TRIES_LIMIT = 20_000  # how often patterns are compared for one value: `//` takes the square of a value's length
DEPTH_LIMIT = 10

_WILD = re.compile(r"[*?\[]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = (":-", ":=", "^^", ",,", "##", "%%", "//", "-", "=", "^", ",", "#", "%", "/", ":")

LookUp = Callable[[str], str]


class ExpansionError(ValueError):
    """A value that cannot be expanded; the text says why, and what to write instead."""


def expand(text: str, look_up: LookUp) -> str:
    """Return a text with all its expansions carried out. Raises ExpansionError.

    `look_up` returns a variable's value.
    """
    return _Expander(look_up).text(text, 0)


class _Expander:
    def __init__(self, look_up: LookUp) -> None:
        self.look_up = look_up
        self.tries = 0

    def text(self, text: str, depth: int) -> str:
        if depth > DEPTH_LIMIT:
            raise ExpansionError(f"nests expansions more than {DEPTH_LIMIT} deep; write it flatter")
        result, place = [], 0
        while place < len(text):
            if not text.startswith("$", place):
                end = text.find("$", place)
                end = len(text) if end < 0 else end
                result.append(text[place:end])
                place = end
            elif text.startswith("$$", place):
                result.append("$")
                place += 2
            elif text.startswith("${", place):
                end = _closing(text, place + 2)
                result.append(self.expansion(text[place + 2 : end], depth))
                place = end + 1
            elif name := _NAME.match(text, place + 1):
                result.append(self.look_up(name[0]))
                place = name.end()
            else:
                result.append("$")
                place += 1
        whole = "".join(result)
        if len(whole) > LENGTH_LIMIT:
            raise ExpansionError(f"is longer than {LENGTH_LIMIT} characters once expanded; write less")
        return whole

    def expansion(self, inside: str, depth: int) -> str:
        """Carry out what stands between braces."""
        counted = inside.startswith("#") and _NAME.fullmatch(inside, 1)
        if counted:
            return str(len(self.look_up(counted[0])))
        name = _NAME.match(inside)
        if name is None:
            raise _unknown(inside)
        value, rest = self.look_up(name[0]), inside[name.end() :]
        operator = next((operator for operator in _OPERATORS if rest.startswith(operator)), "")
        if rest and not operator:
            raise _unknown(inside)
        argument = self.text(rest[len(operator) :], depth + 1)
        return self.changed(value, operator, argument, inside) if rest else value

    def changed(self, value: str, operator: str, argument: str, inside: str) -> str:
        """Carry out one operation on a variable's value."""
        if operator in (":-", ":=", "-", "="):
            return value or argument
        if operator in ("^", "^^", ",", ",,") and not argument:
            return _cased(value, operator)
        if operator in ("#", "##", "%", "%%"):
            return self.trimmed(value, operator, argument)
        if operator in ("/", "//"):
            return self.replaced(value, operator, argument)
        if operator == ":":
            return _part(value, argument, inside)
        raise _unknown(inside)

    def trimmed(self, value: str, operator: str, pattern: str) -> str:
        """Take the shortest match away at the beginning (#) or end (%); doubled, the longest."""
        lengths = range(len(value), -1, -1) if len(operator) == 2 else range(len(value) + 1)
        for length in lengths:
            if operator[0] == "#" and self.matches(pattern, value[:length]):
                return value[length:]
            if operator[0] == "%" and self.matches(pattern, value[len(value) - length :]):
                return value[: len(value) - length]
        return value

    def replaced(self, value: str, operator: str, argument: str) -> str:
        """Replace the first match, or with `//` all of them; the longest at each place, as bash does."""
        pattern, _, text = argument.partition("/")
        if not pattern:
            return value
        if not _WILD.search(pattern):
            return value.replace(pattern, text, -1 if operator == "//" else 1)
        result, place, is_done = [], 0, False
        while place < len(value):
            ends = () if is_done else range(len(value), place, -1)
            end = next((end for end in ends if self.matches(pattern, value[place:end])), None)
            if end is None:
                result.append(value[place])
                place += 1
            else:
                result.append(text)
                place, is_done = end, operator == "/"
        return "".join(result)

    def matches(self, pattern: str, text: str) -> bool:
        """Compare as a shell does; so often and no more."""
        self.tries += 1
        if self.tries > TRIES_LIMIT:
            raise ExpansionError("compares patterns with too long a value; write the value out")
        return fnmatch.fnmatchcase(text, pattern)


def _closing(text: str, place: int) -> int:
    """Find the brace that closes the expansion whose inside begins at `place`."""
    open_braces = 1
    for index in range(place, len(text)):
        if text.startswith("${", index):
            open_braces += 1
        elif text[index] == "}":
            open_braces -= 1
            if not open_braces:
                return index
    raise ExpansionError(f"{quoted(text[place - 2 :])} has no closing brace; close it, or write $${{ for text")


def _unknown(inside: str) -> ExpansionError:
    return ExpansionError(f"{quoted('${' + inside + '}')} is no expansion that is known here; write its value out")


def _cased(value: str, operator: str) -> str:
    end = len(value) if len(operator) == 2 else 1
    head = value[:end]
    return (head.upper() if operator[0] == "^" else head.lower()) + value[end:]


def _part(value: str, argument: str, inside: str) -> str:
    start, _, length = argument.partition(":")
    try:
        first = int(start)
        count = int(length) if length else len(value)
    except ValueError as error:
        raise _unknown(inside) from error
    first = max(0, len(value) + first) if first < 0 else first
    return value[first : first + count] if count >= 0 else value[first:count]
