r"""The `filter` of a list request: what Compute Engine documents, and the older words that gcloud sends.

labels.goldsmith-build:*            there is such a label
family = x, name != y, id > 5       also with * for any text
name eq "gs-.*", name ne x          regular expressions over the whole value
(a = b) AND ((c = d) OR NOT e:*)    terms side by side are joined by AND
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase

from .refusals import Document, Refusal

Test = Callable[[Document], bool]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<bracket>[()])
      | (?P<operator><=|>=|!=|=|<|>|:|eq\b|ne\b)
      | "(?P<double>(?:\\.|[^"\\])*)" | '(?P<single>(?:\\.|[^'\\])*)'
      | (?P<word>[^\s()"'=<>!:]+)
    )""",
    re.VERBOSE,
)
_MISSING = object()
_MOST_LETTERS = 4096


def compiled(text: str) -> Test:
    """Turn a filter into a test of documents. Raises Refusal when it is none."""
    if not text.strip():
        return lambda document: True
    if len(text) > _MOST_LETTERS:
        raise _invalid(f"{text[:80]}...")
    reader = _Reader(list(_tokens(text)), text)
    try:
        test = reader.any_of()
    except RecursionError as error:
        raise _invalid(text) from error
    if reader.rest:
        raise reader.refusal()
    return test


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while text[position:].strip():
        found = _TOKEN.match(text, position)
        if found is None:
            raise _invalid(text)
        kind = str(found.lastgroup)
        value = found[kind]
        yield (kind, value) if kind not in ("double", "single") else ("text", re.sub(r"\\([\"'])", r"\1", value))
        position = found.end()


def _invalid(text: str) -> Refusal:
    return Refusal(400, "invalid", f"Invalid value for field 'filter': '{text}'. Invalid list filter expression.")


class _Reader:
    """Reads tokens from the front: alternatives of conjunctions of terms."""

    def __init__(self, tokens: list[tuple[str, str]], text: str) -> None:
        self.rest = tokens
        self._text = text

    def refusal(self) -> Refusal:
        return _invalid(self._text)

    def any_of(self) -> Test:
        tests = [self._all_of()]
        while self._take("word", "OR"):
            tests.append(self._all_of())
        return lambda document: any(test(document) for test in tests)

    def _all_of(self) -> Test:
        tests = [self._term()]
        while self.rest and self.rest[0] not in (("word", "OR"), ("bracket", ")")):
            self._take("word", "AND")
            tests.append(self._term())
        return lambda document: all(test(document) for test in tests)

    def _term(self) -> Test:
        if self._take("word", "NOT") or self._take_minus():
            negated = self._term()
            return lambda document: not negated(document)
        if self._take("bracket", "("):
            inner = self.any_of()
            if not self._take("bracket", ")"):
                raise self.refusal()
            return inner
        return self._comparison()

    def _comparison(self) -> Test:
        field = self._value()
        if not self.rest or self.rest[0][0] != "operator":
            raise self.refusal()
        _, operator = self.rest.pop(0)
        value = self._value()
        if operator in ("eq", "ne"):
            try:
                re.compile(value)
            except re.error as error:
                raise self.refusal() from error
        return lambda document: _holds(_field(document, field), operator, value)

    def _take(self, kind: str, value: str) -> bool:
        if self.rest and self.rest[0] == (kind, value):
            self.rest.pop(0)
            return True
        return False

    def _take_minus(self) -> bool:
        if self.rest and self.rest[0][0] == "word" and self.rest[0][1].startswith("-"):
            _, word = self.rest.pop(0)
            self.rest[:0] = [("word", word[1:])] if word[1:] else []
            return True
        return False

    def _value(self) -> str:
        if not self.rest or self.rest[0][0] not in ("word", "text"):
            raise self.refusal()
        return self.rest.pop(0)[1]


def _field(document: Document, name: str) -> object:
    value: object = document
    for part in name.split("."):
        value = value.get(part, _MISSING) if isinstance(value, dict) else _MISSING
    return value


def _holds(found: object, operator: str, wanted: str) -> bool:
    """Return whether a comparison holds; a field that is not there is equal to nothing."""
    if operator in ("!=", "ne"):
        return not _holds(found, {"!=": "=", "ne": "eq"}[operator], wanted)
    if found is _MISSING:
        return False
    if isinstance(found, list):
        return any(_holds(entry, operator, wanted) for entry in found)
    text = str(found).lower() if isinstance(found, bool) else str(found)
    if operator == "eq":
        return re.fullmatch(wanted, text) is not None
    if operator == "=":
        return fnmatchcase(text, _glob(wanted))
    if operator == ":":
        return wanted == "*" or fnmatchcase(text.lower(), f"*{_glob(wanted.lower())}*")
    return _compared(text, operator, wanted)


def _glob(wanted: str) -> str:
    """Return the pattern in which only * is special."""
    return wanted.replace("[", "[[]").replace("?", "[?]")


def _compared(found: str, operator: str, wanted: str) -> bool:
    try:
        order = float(found) - float(wanted)
    except ValueError:
        order = (found > wanted) - (found < wanted)
    return {"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[operator]
