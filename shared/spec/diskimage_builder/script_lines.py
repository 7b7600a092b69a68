r"""Shell scripts that run disk-image-create: its lines, and the variables that are set before it.

It is not a shell. It reads what such scripts are mostly made of: comments, `set` options, `export A=b`, `A=b`,
`A=b disk-image-create ...`, `\` at the end of a line, quotes, and `$NAME`, `${NAME}` and `${NAME:-default}` of what
is known. Anything else is a problem that names its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...names import quoted
from ..cloudbuild.native_draft import Origin
from ..document import Position, Problem
from .command_line import is_program, read_image_command
from .options import ImageOrder, OrderText

_STARTS = re.compile(r"^[^#\n]*(?<![\w.-])(?:disk|ramdisk)-image-create(?![\w.-])", re.MULTILINE)
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::?-([^${}`\"'\\]*))?\})")
_OPERATORS = ";&|<>()`"
_BEFORE = ("sudo", "env", "exec", "-E", "-H")


@dataclass
class ScriptOrders:
    """The images that a script makes, and what cannot be read of it."""

    orders: list[ImageOrder]
    problems: list[Problem]


@dataclass
class _Word:
    text: str
    position: Position
    plain: str  # the beginning of it that has no quotes


class _Unread(Exception):
    def __init__(self, text: str, position: Position) -> None:
        super().__init__(text)
        self.position = position


def runs_program(text: str) -> bool:
    """Return whether a text is a script that makes images."""
    return _STARTS.search(text) is not None


def read_script(text: str, environment: Mapping[str, str]) -> ScriptOrders:
    """Read a script; `environment` are the variables that it is run with."""
    found = ScriptOrders([], [])
    exported: dict[str, OrderText] = {}
    known = dict(environment)
    for words in _Lines(text, known).lines(found.problems):
        prefix: dict[str, OrderText] = {}
        is_export = bool(words) and words[0].text == "export"
        del words[: int(is_export)]
        while words and (assigned := _ASSIGNED.fullmatch(words[0].text)) and assigned[1] == _name_of(words[0]):
            prefix[assigned[1]] = OrderText(assigned[2], Origin(words[0].position, assigned[1]))
            known[assigned[1]] = assigned[2]
            words.pop(0)
        while words and words[0].text in _BEFORE:
            words.pop(0)
        if words and is_program(words[0].text) and not is_export:
            order = read_image_command([OrderText(each.text, Origin(each.position, each.text)) for each in words])
            order.environment = {**exported, **prefix}
            found.orders.append(order)
            continue
        if is_export:
            exported |= prefix | {
                each.text: OrderText(known[each.text], Origin(each.position, each.text))
                for each in words
                if each.text in known
            }
        elif not words:
            exported |= {name: value for name, value in prefix.items() if name in {*exported, *environment}}
        elif words[0].text not in ("set", "echo"):
            _refuse(found.problems, words[0])
    return found


def _refuse(problems: list[Problem], word: _Word) -> None:
    what = f"is not read here, only variables and disk-image-create; leave {quoted(word.text[:40])} out"
    problems.append(Problem((), what, word.position, "the script"))


def _name_of(word: _Word) -> str:
    return word.plain.partition("=")[0]


class _Lines:
    """Splits a text into the words of its lines."""

    def __init__(self, text: str, known: Mapping[str, str]) -> None:
        self.text = text
        self.known = known
        self.at = 0
        self.line, self.start = 1, 0  # of the place that `at` is in

    def position(self) -> Position:
        return Position(self.line, self.at - self.start + 1)

    def lines(self, problems: list[Problem]) -> Iterator[list[_Word]]:
        """Yield the words of each line. A line that cannot be read is passed over."""
        while self.at < len(self.text):
            try:
                words = self._words()
            except _Unread as error:
                problems.append(Problem((), str(error), error.position, "the script"))
                while self._peek() not in ("\n", ""):
                    self._next()
                continue
            if words:
                yield words

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _next(self) -> str:
        letter = self._peek()
        self.at += 1
        if letter == "\n":
            self.line, self.start = self.line + 1, self.at
        return letter

    def _words(self) -> list[_Word]:
        words: list[_Word] = []
        while (letter := self._peek()) not in ("\n", ""):
            if letter in " \t\r":
                self._next()
            elif self.text.startswith("\\\n", self.at) or self.text.startswith("\\\r\n", self.at):
                while self._next() != "\n":
                    pass
            elif letter == "#":
                while self._peek() not in ("\n", ""):
                    self._next()
            elif letter == ";" and self.text[self.at + 1 : self.at + 2] != ";":
                self._next()
                return words
            else:
                words.append(self._word())
        self._next()
        return words

    def _word(self) -> _Word:
        began, text, plain, is_plain = self.position(), "", "", True
        while (letter := self._peek()) not in ("", " ", "\t", "\r", "\n", ";"):
            if letter in "'\"":
                is_plain = False
                text += self._quoted(self._next())
            elif letter == "\\":
                if self.text.startswith("\\\n", self.at):
                    break
                self._next()
                text, is_plain = text + self._next(), False
            elif letter == "$":
                text, is_plain = text + self._variable(), False
            elif letter in _OPERATORS:
                raise _Unread(f"has {quoted(letter)}, which takes a shell; write what it comes to", self.position())
            else:
                text += self._next()
                plain += letter if is_plain else ""
        return _Word(text, began, plain)

    def _quoted(self, mark: str) -> str:
        began, text = self.position(), ""
        while (letter := self._peek()) != mark:
            if not letter:
                raise _Unread(f"has a quote {mark} without its end; write that", began)
            if letter == "\\" and mark == '"' and self.text[self.at + 1 : self.at + 2] in ('"', "\\", "$", "`", "\n"):
                self._next()
                escaped = self._next()
                text += "" if escaped == "\n" else escaped
            elif letter == "$" and mark == '"':
                text += self._variable()
            elif letter == "`" and mark == '"':
                raise _Unread("has '`', which takes a shell; write what it comes to", self.position())
            else:
                text += self._next()
        self._next()
        return text

    def _variable(self) -> str:
        match = _VARIABLE.match(self.text, self.at)
        if match is None:
            raise _Unread("has '$', which takes a shell; write what it comes to", self.position())
        name = match[1] or match[2]
        if not self.known.get(name) and match[3] is None:
            raise _Unread(f"uses {name}, which is not set; write its value", self.position())
        self.at = match.end()
        return self.known.get(name) or match[3]
