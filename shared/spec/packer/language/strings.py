"""Texts with `${...}` and `%{...}`, as pieces one after the other, and which of the pieces count."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ....names import quoted
from ...document import Position
from .scope import ITEMS_LIMIT, Confidential, Scope, Varying, is_true
from .syntax import TemplateError

ExpressionReader = Callable[[str, Position], Callable[[Scope], Any]]
"""Reads the text of an expression at a place; what it returns works it out. TemplateError."""

PieceKind = Literal["text", "value", "if", "else", "endif", "for", "endfor"]

_HOLE = re.compile(r"\$\$\{|%%\{|\$\{|%\{")
_DIRECTIVE = re.compile(r"(if|else|endif|for|endfor)\b(.*)", re.DOTALL)
_LOOP = re.compile(r"\s*([A-Za-z_][-\w]*)\s*(?:,\s*([A-Za-z_][-\w]*)\s*)?\sin\s(.*)", re.DOTALL)


@dataclass(frozen=True)
class StringPiece:
    """A text, an interpolation or a directive; `work_out` gives its value, its condition or what it goes through."""

    kind: PieceKind
    position: Position
    text: str = ""
    work_out: Callable[[Scope], Any] = lambda scope: None
    names: tuple[str, ...] = ()  # of a loop
    trims: tuple[bool, bool] = (False, False)  # the texts before and after it, by `~`


def string_pieces(
    text: str, at: Position, expression: Callable[[str, Position], Callable[[Scope], Any]]
) -> list[StringPiece]:
    """Return the pieces of a heredoc or of a file, whose expressions `expression` reads. TemplateError."""
    found: list[StringPiece] = []
    place, line = 0, at.line
    while match := _HOLE.search(text, place):
        before = text[place : match.start()]
        found += _texts(before, Position(line, 1))
        line += before.count("\n")
        here = Position(line, 1)
        if len(match[0]) == 3:
            found.append(StringPiece("text", here, match[0][1:]))
            place = match.end()
            continue
        end = _closing(text, match.end(), here)
        inside = text[match.end() : end]
        line += inside.count("\n")
        trims = inside.startswith("~"), inside.endswith("~") and len(inside) > 1
        inside = inside[trims[0] : len(inside) - trims[1]]
        made = _directive(inside, here, expression) if match[0] == "%{" else None
        piece = made or StringPiece("value", here, work_out=expression(inside, here))
        found.append(replace(piece, trims=trims))
        place = end + 1
    return [*found, *_texts(text[place:], Position(line, 1))]


def flushed(pieces: Sequence[StringPiece]) -> list[StringPiece]:
    """Return the pieces of a heredoc `<<-` without the indent that its lines share.

    As in HCL, lines behind one whose break `~` has taken away keep their indent: it is no beginning of a line any more.
    https://github.com/hashicorp/terraform/issues/23710
    """
    found = _trimmed(pieces)
    begins, cut, indents = True, [], []
    for index, piece in enumerate(found):
        text = piece.text if piece.kind == "text" else ""
        if begins and (text.strip() or not text.endswith("\n")):  # no blank line
            indents.append(len(text) - len(text.lstrip()))
            cut.append(index)
        begins = text.endswith("\n")
    for index in cut:
        found[index] = replace(found[index], text=found[index].text[min(indents) :])
    return found


def parts_of(pieces: Sequence[StringPiece], scope: Scope) -> list[Any]:
    """Return the texts and values that the pieces come to. TemplateError."""
    return _parts(_trimmed(pieces), scope)


def loop_rounds(names: Sequence[str], items: Any, position: Position) -> list[dict[str, Any]]:
    """Return what the one or two names of a loop have in each round. TemplateError."""
    if isinstance(items, (Varying, Confidential)):
        raise TemplateError("goes through a value that is not known here; write what it comes to", position)
    if not isinstance(items, (list, dict)):
        raise TemplateError("goes through something that is no list or object; write one", position)
    pairs = list(items.items() if isinstance(items, dict) else enumerate(items))[:ITEMS_LIMIT]
    return [dict(zip(names, pair if len(names) > 1 else pair[1:], strict=True)) for pair in pairs]


def _texts(text: str, at: Position) -> list[StringPiece]:
    """Return a piece for each line: `~` trims one line, as in HCL."""
    lines = text.splitlines(keepends=True)
    return [StringPiece("text", Position(at.line + number, 1), line) for number, line in enumerate(lines)]


def _directive(inside: str, at: Position, expression: ExpressionReader) -> StringPiece:
    match = _DIRECTIVE.fullmatch(inside.strip())
    if match is None:
        raise TemplateError(f"has {quoted('%{' + inside[:40] + '}')}, which is no directive; write if or for", at)
    kind: Any = match[1]
    loop = _LOOP.fullmatch(match[2]) if kind == "for" else None
    if kind == "for" and loop is None:
        raise TemplateError("has a for without `in`; write %{ for NAME in LIST }", at)
    if loop is not None:
        names = tuple(name for name in loop.group(1, 2) if name)
        return StringPiece(kind, at, work_out=expression(loop[3], at), names=names)
    return StringPiece(kind, at, work_out=expression(match[2], at)) if kind == "if" else StringPiece(kind, at)


def _closing(text: str, start: int, at: Position) -> int:
    """Return the place of the brace that closes an interpolation or a directive."""
    depth, place = 1, start
    while place < len(text):
        if text[place] == '"':
            place += 1
            while place < len(text) and text[place] != '"':
                place += 2 if text[place] == "\\" else 1
            place += 1
            continue
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return place
        place += 1
    raise TemplateError("has ${ or %{ without its end; close it, or write $${ or %%{ for text", at)


def _trimmed(pieces: Sequence[StringPiece]) -> list[StringPiece]:
    found: list[StringPiece] = []
    for piece in pieces:
        if piece.kind == "text" and found and found[-1].trims[1]:
            piece = replace(piece, text=piece.text.lstrip())
        if piece.trims[0] and found and found[-1].kind == "text":
            found[-1] = replace(found[-1], text=found[-1].text.rstrip())
        found.append(piece)
    return found


def _parts(pieces: Sequence[StringPiece], scope: Scope) -> list[Any]:
    parts: list[Any] = []
    index = 0
    while index < len(pieces):
        piece = pieces[index]
        scope.count(piece.position)
        if piece.kind in ("text", "value"):
            parts.append(piece.text if piece.kind == "text" else piece.work_out(scope))
        elif piece.kind in ("if", "for"):
            middle, end = _ends(pieces, index)
            parts += _chosen(piece, pieces[index + 1 : middle], pieces[middle + 1 : end], scope)
            index = end
        else:
            raise TemplateError(f"has %{{{piece.kind}}} without its beginning; write that", piece.position)
        index += 1
    return parts


def _chosen(piece: StringPiece, first: Sequence[StringPiece], second: Sequence[StringPiece], scope: Scope) -> list[Any]:
    value = piece.work_out(scope)
    if piece.kind == "for":
        rounds = loop_rounds(piece.names, value, piece.position)
        return [part for names in rounds for part in _parts(first, scope.within(names))]
    if isinstance(value, (Varying, Confidential)):
        raise TemplateError("depends on a value that is not known here; write what it comes to", piece.position)
    return _parts(first if is_true(value, piece.position) else second, scope)


def _ends(pieces: Sequence[StringPiece], start: int) -> tuple[int, int]:
    """Return the places of the else and of the end of a directive; without an else, both are the end. TemplateError."""
    depth, middle = 0, 0
    for index in range(start + 1, len(pieces)):
        kind = pieces[index].kind
        if kind in ("if", "for"):
            depth += 1
        elif kind in ("endif", "endfor"):
            if not depth:
                if kind != f"end{pieces[start].kind}":
                    break
                return middle or index, index
            depth -= 1
        elif kind == "else" and not depth and pieces[start].kind == "if":
            middle = middle or index
    raise TemplateError(f"has %{{ {pieces[start].kind} }} without its end; write that", pieces[start].position)
