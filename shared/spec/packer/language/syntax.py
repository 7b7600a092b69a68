"""The text of templates as blocks and attributes, each with its place.

A template is one file or all files of a folder. Their lines are counted through, so that a Position says file and line
at once; `TemplateFiles.placed` tells them apart again. The grammar is python-hcl2's, which takes 0.1 s to import and up
to 2 s to make its parser: it is imported only here, and only when a template is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ....names import quoted
from ...cloudbuild.native_draft import Origin
from ...document import Position, Problem

TEMPLATE_LIMIT = 128 << 10  # characters of all files of a template; the parser reads some 30,000 a second
BRACKETS_LIMIT = 60  # open at once

_KEYS = ("identifier", "keyword", "literal_value")
_ESCAPES = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|\$\$\{|%%\{", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_BRACKET = re.compile(r"[\[({]|[\])}]")


class TemplateError(Exception):
    """Something of a template that cannot be read or worked out; `position` is its place."""

    def __init__(self, text: str, position: Position, shown: str = "") -> None:
        super().__init__(text)
        self.position = position
        self.shown = shown

    def problem(self, shown: str) -> Problem:
        """Return it as a problem; `shown` is what a person calls the place where it says nothing better."""
        return Problem((), str(self), self.position, self.shown or shown)


@dataclass(frozen=True)
class Attribute:
    """A name and its expression, a tree of python-hcl2 or, in JSON, a value."""

    name: str
    expression: Any
    position: Position
    lines: int = 0  # of the files before the one that the tree counts the lines of


@dataclass
class Block:
    """A block: its type, labels, attributes and blocks."""

    kind: str
    labels: tuple[str, ...]
    position: Position
    attributes: dict[str, Attribute] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    names: Mapping[str, Any] = field(default_factory=dict)  # of the dynamic blocks that it comes from

    @property
    def shown(self) -> str:
        """What a person calls it: `provisioner "shell"`."""
        return " ".join([self.kind, *(f'"{label}"' for label in self.labels)])

    @property
    def place(self) -> Origin:
        """Its place, with its name."""
        return Origin(self.position, self.shown)

    def of_kind(self, kind: str) -> Iterator[Block]:
        """Yield the blocks of a type that it holds."""
        return (block for block in self.blocks if block.kind == kind)


@dataclass(frozen=True)
class TemplateFiles:
    """The texts of a template by their names, in the order in which Packer reads them."""

    texts: Mapping[str, str]

    def first_lines(self) -> list[tuple[int, str]]:
        """Return the line that each file begins before, and its name."""
        found, line = [], 0
        for name, text in self.texts.items():
            found.append((line, name))
            line += text.count("\n") + 2
        return found

    def blocks(self) -> tuple[list[Block], list[Problem]]:
        """Return the blocks of all files, and what cannot be read."""
        problems: list[Problem] = []
        found: list[Block] = []
        if sum(map(len, self.texts.values())) > TEMPLATE_LIMIT:
            text = f"is longer than {TEMPLATE_LIMIT >> 10} KiB; move texts into files, and name those by file()"
            return [], [Problem((), text, Position(1, 1), "the template")]
        for (line, _), text in zip(self.first_lines(), self.texts.values(), strict=True):
            try:
                body = read_body(text, line)
                found += body.blocks
                for attribute in body.attributes.values():
                    what = "stands outside of a block; write it into one, such as locals"
                    problems.append(Problem((), what, attribute.position, attribute.name))
            except TemplateError as error:
                problems.append(error.problem("the template"))
        return found, problems


def read_body(text: str, lines: int = 0) -> Block:
    """Read a text as the contents of a block. TemplateError."""
    return _body(Block("", (), Position(lines + 1, 1)), _parsed(text, lines).children[0], lines)


def read_expression(text: str, at: Position) -> Attribute:
    """Read a text, which stands at a place, as an expression. TemplateError."""
    body = _body(Block("", (), at), _parsed(f"x = ({text}\n)", at.line - 1).children[0], at.line - 1)
    return body.attributes["x"]


def position_of(tree: Any, lines: int = 0) -> Position:
    """Return the place of a tree, behind so many lines of other files."""
    meta = getattr(tree, "meta", tree)
    return Position(lines + (getattr(meta, "line", None) or 1), getattr(meta, "column", None) or 1)


def string_text(text: str) -> str:
    """Return what the characters of a quoted string stand for."""
    return _ESCAPES.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    if match[0] in ("$${", "%%{"):
        return match[0][1:]
    code = match[1] or match[2]
    if code:
        number = int(code, 16)
        return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else "\N{REPLACEMENT CHARACTER}"
    return _LETTERS.get(match[3], match[0])


def _parsed(text: str, lines: int) -> Any:
    _refuse_depth(text, lines)
    from hcl2.api import parses_to_tree

    try:
        return parses_to_tree(text)
    except Exception as error:
        if not hasattr(error, "line"):  # those of lark have one, and python-hcl2 has no errors of its own
            raise
        line, column = getattr(error, "line", 1), getattr(error, "column", 1)
        found = str(getattr(error, "token", "") or getattr(error, "char", ""))
        shown = f"at {quoted(found[:20])} " if found.strip() and isinstance(line, int) and line > 0 else ""
        place = Position(lines + max(1, line if isinstance(line, int) else 1), column if isinstance(column, int) else 1)
        what = f"is not HCL {shown}for python-hcl2; check it with: packer validate"
        raise TemplateError(what, place) from error


def _refuse_depth(text: str, lines: int) -> None:
    """Refuse brackets that nest too deep for those that walk the tree."""
    depth = 0
    for number, line in enumerate(text.split("\n"), lines + 1):
        if not line.lstrip().startswith(("#", "//")):
            for match in _BRACKET.finditer(line):
                depth = max(0, depth + (1 if match[0] in "[({" else -1))
        if depth > BRACKETS_LIMIT:
            what = f"nests brackets more than {BRACKETS_LIMIT} deep; write it flatter"
            raise TemplateError(what, Position(number, 1))


def _body(block: Block, tree: Any, lines: int) -> Block:
    for child in tree.children:
        kind = getattr(child, "data", "")
        if kind == "attribute":
            name = str(child.children[0].children[0])
            place = position_of(child, lines)
            if name in block.attributes:
                first = block.attributes[name].position.line - lines
                raise TemplateError(f"is written twice, first on line {first}; keep one of them", place, name)
            block.attributes[name] = Attribute(name, child.children[-1], place, lines)
        elif kind == "block":
            block.blocks.append(_block(child, lines))
    return block


def _block(tree: Any, lines: int) -> Block:
    words = [child for child in tree.children if getattr(child, "data", "") in (*_KEYS, "string")]
    names = [_word(word, lines) for word in words]
    inside = next(child for child in tree.children if getattr(child, "data", "") == "body")
    return _body(Block(names[0], tuple(names[1:]), position_of(tree, lines)), inside, lines)


def _word(tree: Any, lines: int) -> str:
    if tree.data != "string":
        return str(tree.children[0])
    parts = [part for part in tree.children if getattr(part, "data", "") == "string_part"]
    if any(getattr(part.children[0], "data", None) for part in parts):
        raise TemplateError("a label cannot have a reference; write it out", position_of(tree, lines))
    return string_text("".join(str(part.children[0]) for part in parts))
