"""Pub/Sub's filters, which its emulator takes and does not apply.

    attributes.order = "clean_up"     attributes.order != "clean_up"     attributes:order
    hasPrefix(attributes.order, "cl")     NOT ...     ( ... )     ... AND ...     ... OR ...

https://cloud.google.com/pubsub/docs/subscription-message-filter#filtering_syntax
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Filter = Callable[[Mapping[str, str]], bool]
"""Return whether a subscription gets a message of these attributes."""

MOST_LETTERS = 256  # as Pub/Sub has it
_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|([A-Za-z_][A-Za-z0-9_-]*)|(!=|[=:.(),-]))')


def message_filter(text: str) -> Filter:
    """Read a filter; "" lets everything through. ValueError."""
    if not text.strip():
        return lambda _attributes: True
    if len(text) > MOST_LETTERS:
        raise ValueError(f"a filter has {MOST_LETTERS} characters at most, and this one {len(text)}")
    parser = _Parser(_tokens(text))
    found = parser.expression()
    if parser.rest:
        raise ValueError(f"filter {text!r} does not end before {parser.rest[0]!r}")
    return found


def _tokens(text: str) -> list[str]:
    tokens, place = [], 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"filter {text!r} cannot be read from {text[place:]!r} on")
        tokens.append(match[0].strip())
        place = match.end()
    return tokens


class _Parser:
    """Reads from the front of `rest`. AND and OR may not be mixed without parentheses, as in Pub/Sub."""

    def __init__(self, tokens: list[str]) -> None:
        self.rest = tokens

    def expression(self) -> Filter:
        parts, operator = [self._term()], ""
        while self.rest and self.rest[0] in ("AND", "OR"):
            word = self.rest.pop(0)
            if operator not in ("", word):
                raise ValueError("a filter mixes AND and OR; add parentheses")
            operator = word
            parts.append(self._term())
        return _combined(parts, any if operator == "OR" else all)

    def _term(self) -> Filter:
        if self._is_next("NOT") or self._is_next("-"):
            inner = self._term()
            return lambda attributes: not inner(attributes)
        if self._is_next("("):
            inner = self.expression()
            self._expect(")")
            return inner
        if self._is_next("hasPrefix"):
            self._expect("(")
            key = self._attribute(".")
            self._expect(",")
            prefix = self._string()
            self._expect(")")
            return lambda attributes: attributes.get(key, "").startswith(prefix) and key in attributes
        return self._comparison()

    def _comparison(self) -> Filter:
        if self.rest[:2] == ["attributes", ":"]:
            key = self._attribute(":")
            return lambda attributes: key in attributes
        key = self._attribute(".")
        different = self._is_next("!=")
        if not different:
            self._expect("=")
        value = self._string()
        return lambda attributes: (attributes.get(key) == value) is not different

    def _attribute(self, link: str) -> str:
        self._expect("attributes")
        self._expect(link)
        name = self._take()
        return _unquoted(name) if name.startswith('"') else name

    def _string(self) -> str:
        token = self._take()
        if not token.startswith('"'):
            raise ValueError(f"a filter has {token!r} where a text in double quotes belongs")
        return _unquoted(token)

    def _is_next(self, token: str) -> bool:
        found = self.rest[:1] == [token]
        if found:
            self.rest.pop(0)
        return found

    def _expect(self, token: str) -> None:
        if (found := self._take()) != token:
            raise ValueError(f"a filter has {found!r} where {token!r} belongs")

    def _take(self) -> str:
        if not self.rest:
            raise ValueError("a filter ends too early")
        return self.rest.pop(0)


def _combined(parts: list[Filter], how: Callable[[list[bool]], bool]) -> Filter:
    return lambda attributes: how([part(attributes) for part in parts])


def _unquoted(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1])
