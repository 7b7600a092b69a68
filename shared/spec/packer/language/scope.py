"""What expressions of templates come to, and what they can name.

A value is a text, a number, a boolean, None, a list, a dict, or one of two marks: Varying for what is another text each
time that Packer runs, and Confidential for what a sensitive variable has, which no spec must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ....names import shown_value
from ...document import Position
from .syntax import TemplateError

STEPS_LIMIT = 50_000
LENGTH_LIMIT = 256 << 10  # characters of one text
ITEMS_LIMIT = 10_000

TemplateFunction = Callable[..., Any]
NameLookUp = Callable[[str, str, Position], Any]
"""Returns what `var.x`, `local.x` and the like have, by the two names. TemplateError."""


@dataclass(frozen=True)
class Varying:
    """A text that is another one each time; `prefix` is how it begins, as far as that is fixed."""

    prefix: str = ""


@dataclass(frozen=True)
class Confidential:
    """What a sensitive variable has, or a text in which it is; `value` is None where none was given."""

    variable: str
    value: Any = field(repr=False)  # not in a message, nor in a text
    is_whole: bool = True
    before: str = ""  # the plain texts around it, where it is in a text
    after: str = ""
    place: str = ""  # of a secret, as specs say it; empty: the variable of Packer's


@dataclass
class Scope:
    """All that expressions can name. The steps of all of its expressions are counted together."""

    look_up: NameLookUp
    functions: Mapping[str, TemplateFunction]
    names: dict[str, Any] = field(default_factory=dict)  # of for expressions and templates
    steps: int = 0
    is_file: bool = False  # whether it is that of a file for templatefile(), which cannot read another one

    def within(self, names: Mapping[str, Any], look_up: NameLookUp | None = None) -> Scope:
        """Return a scope that has further names."""
        look_up = look_up or self.look_up
        return _Inner(look_up, self.functions, {**self.names, **names}, is_file=self.is_file, outer=self)

    def count(self, position: Position, steps: int = 1) -> None:
        """Count steps. TemplateError when there are too many."""
        self.steps += steps
        if self.steps > STEPS_LIMIT:
            what = "takes too many steps to work out, or comes after something that does; write its value"
            raise TemplateError(what, position)


@dataclass
class _Inner(Scope):
    outer: Scope | None = None

    def count(self, position: Position, steps: int = 1) -> None:
        if self.outer is not None:
            self.outer.count(position, steps)


def joined_parts(parts: list[Any], at: Position) -> Any:
    """Return the text of parts one after the other. TemplateError."""
    secret = next((part for part in parts if isinstance(part, Confidential)), None)
    if len(parts) == 1 and not isinstance(parts[0], str):
        return parts[0]
    if secret is not None and not any(isinstance(part, Varying) for part in parts):
        rest = [part for part in parts if part != ""]
        if len(rest) == 1:
            return secret
        values = [part.value if isinstance(part, Confidential) else part for part in parts]
        known = None if None in values else joined_parts(values, at)
        before, after = _around(parts, secret, at)
        return replace(secret, value=known, is_whole=False, before=before, after=after)
    text = ""
    for part in parts:
        if isinstance(part, (Varying, Confidential)):
            return Varying(text + (part.prefix if isinstance(part, Varying) else ""))
        text += template_text(part, at)
        if len(text) > LENGTH_LIMIT:
            raise TemplateError(f"is longer than {LENGTH_LIMIT} characters; put it into a file", at)
    return text


def _around(parts: list[Any], secret: Confidential, at: Position) -> tuple[str, str]:
    """Return the texts around the only confidential part; nothing where there are several, or a part of one."""
    if not secret.is_whole or sum(isinstance(part, Confidential) for part in parts) > 1:
        return "", ""
    index = parts.index(secret)
    return str(joined_parts(parts[:index], at)), str(joined_parts(parts[index + 1 :], at))


def template_text(value: Any, at: Position) -> str:
    """Return a value as a text, as HCL turns numbers and booleans into some. TemplateError."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(int(value)) if value == int(value) else repr(value)
    raise TemplateError(f"needs a text, not {shown_value(value)}; write one", at)


def is_true(value: Any, place: Position) -> bool:
    """Return a condition's value. TemplateError."""
    if value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        raise TemplateError(f"needs true or false, not {shown_value(value)}; write one of them", place)
    return value


def plain_value(value: Any) -> Any:
    """Return a value of a document with lists in place of tuples."""
    if isinstance(value, tuple):
        return [plain_value(item) for item in value]
    return {key: plain_value(item) for key, item in value.items()} if isinstance(value, dict) else value
