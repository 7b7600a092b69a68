"""The text of a spec as plain values, each with its line and column.

YAML as people expect it, which is YAML 1.2's core schema cut to what a spec needs: only `true` and `false` are
booleans (`on`, `no` and `y` are text), only decimal whole numbers are numbers (`1:30`, `0644` and dates are text), no
tags, no merge keys, one document. JSON is a subset of it. PyYAML's resolver speaks YAML 1.1 and its composer recurses
as deep as the input says, so this module goes by the parser's events and resolves them itself.

Values are str, int, float, bool, tuple and dict; a value that is left empty is a problem, never None. The documents of
others, such as those of elements, may have empty values: there they are None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from ..names import quoted

KeyPath = tuple[str | int, ...]
"""Keys and indexes from the root to a value: `("steps", 0, "name")`."""

TEXT_LIMIT = 1 << 20  # characters of one spec
DEPTH_LIMIT = 20  # a spec that uses every key is 6 deep
VALUE_LIMIT = 20_000  # values once aliases are expanded: the answer to "billion laughs"

_LOADER: type = getattr(
    yaml, "CBaseLoader", yaml.BaseLoader
)  # libyaml where PyYAML was built with it: 10 times as fast
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
_ESCAPED_PAIR = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_NOTHING = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, order=True)
class Position:
    """A place in the text; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Problem:
    """Something wrong at `path`, worded `what is wrong; what to write instead`."""

    path: KeyPath
    text: str
    position: Position | None = None  # None: where `path` is, or its nearest ancestor that is written
    shown: str | None = None  # what a person calls the place; None: as the document does


@dataclass
class Document:
    """The contents of a text, as far as it could be read."""

    data: Any = None  # None: nothing could be read, and `problems` says why
    positions: dict[KeyPath, Position] = field(default_factory=dict)  # of the key, for what has one, else of the value
    problems: list[Problem] = field(default_factory=list)
    names: dict[KeyPath, str] = field(
        default_factory=dict
    )  # of what is written in another language: `steps[2] -labels`

    def position(self, path: KeyPath) -> Position:
        """Return the place of `path`, or of its nearest ancestor that is written."""
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path, Position(1, 1))

    def name(self, path: KeyPath) -> str:
        """Return the name of `path` for people: its keys, or its name in the language that it is written in."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.names:
                return self.names[path[:length]]
        return key_path(path)


def key_path(path: KeyPath) -> str:
    """Write a path as people do: `steps[0].inputs.script`; the root is `spec`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _PLAIN_KEY.fullmatch(part) else quoted(part))
    return text or "spec"


def with_texts(value: Any, path: KeyPath, pattern: re.Pattern[str], change: Callable[[str, KeyPath], str]) -> Any:
    """Return a document's value with each text that `pattern` is found in, but keys, changed.

    `change` gets the text and its path.
    """
    if isinstance(value, str):
        return change(value, path) if pattern.search(value) else value
    if isinstance(value, tuple):
        return tuple(with_texts(item, (*path, index), pattern, change) for index, item in enumerate(value))
    if isinstance(value, dict):
        return {key: with_texts(item, (*path, key), pattern, change) for key, item in value.items()}
    return value


def read_document(text: str) -> Document:
    """Read a text; never raises, whatever the text is."""
    document = _read(text, may_be_empty=False)
    if not document.problems and not document.positions:
        what = "is empty; start with the lines name: and source:"
        document.problems = [Problem((), what, Position(1, 1))]
    elif document.data is not None and not isinstance(document.data, dict):
        document.problems = [Problem((), "is not keys and values; write lines such as name: hello")]
        document.data = None
    return document


def read_values(text: str) -> Document:
    """Read a text that is no spec: one value of any kind, in which values may be empty. It never raises.

    `data` is None for a text that is empty, too.
    """
    return _read(text, may_be_empty=True)


def _read(text: str, *, may_be_empty: bool) -> Document:
    """Read a text; of an empty one, not even the root has a position."""
    document = Document()
    try:
        root = _parse(text.removeprefix("\ufeff"))
        if root is not None:
            document.positions[()] = root.position
            document.data = _Reader(document, may_be_empty).value(root, ())
    except _Unreadable as fault:
        document.problems = [fault.problem]
        document.data = None
    return document


class _Unreadable(Exception):
    def __init__(self, text: str, position: Position, path: KeyPath = ()) -> None:
        super().__init__(text)
        self.problem = Problem(path, text, position)


@dataclass
class _Node:
    kind: Literal["scalar", "list", "map"]
    position: Position
    text: str = ""
    plain: bool = False  # written without quotes, so it may mean a number or a boolean
    anchor: str | None = None
    children: list[_Node] = field(default_factory=list)  # of a map: key, value, key, value


def _parse(text: str) -> _Node | None:
    """Build the tree of a text's only document, without recursion; None for an empty one. Raises _Unreadable."""
    if len(text) > TEXT_LIMIT:
        raise _Unreadable(
            f"is longer than {TEXT_LIMIT} characters; move data into files of the context", Position(1, 1)
        )
    if strange := _UNPRINTABLE.search(text):
        place = _position_of(text, strange.start())
        raise _Unreadable(f"holds the unprintable character U+{ord(strange[0]):04X}; remove it", place)
    if text.lstrip().startswith("{"):
        text = _ESCAPED_PAIR.sub(_join_pair, text)
    try:
        return _tree(yaml.parse(text, Loader=_LOADER))
    except yaml.YAMLError as error:
        raise _syntax_fault(text, error) from error


def _join_pair(match: re.Match[str]) -> str:
    """Return the character of two escaped UTF-16 halves: JSON writes them, YAML refuses them."""
    return bytes.fromhex(match[1] + match[2]).decode("utf-16-be")


def _position_of(text: str, offset: int) -> Position:
    return Position(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def _syntax_fault(text: str, error: yaml.YAMLError) -> _Unreadable:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = _position(mark) if mark else Position(1, 1)
    lines = text.split("\n")
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    if "cannot start any token" in what and "\t" in line[: len(line) - len(line.lstrip())]:
        return _Unreadable("a tab cannot indent YAML; use spaces", place)
    return _Unreadable(f"is not YAML: {what}; check the indentation, quotes and brackets here", place)


def _position(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def _tree(events: Iterator[Any]) -> _Node | None:
    """Turn parser events into the document's root node; None where it is empty."""
    root: _Node | None = None
    open_nodes: list[_Node] = []
    anchors: dict[str, _Node] = {}
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent) and root:
            raise _Unreadable("a second document starts here; write one in a file", _position(event.start_mark))
        if isinstance(event, yaml.CollectionEndEvent):
            node = open_nodes.pop()
            if node.anchor:  # only now, so that nothing can contain itself
                anchors[node.anchor] = node
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        node = _node(event, anchors)
        if open_nodes:
            open_nodes[-1].children.append(node)
        else:
            root = node
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append(node)
            if len(open_nodes) > DEPTH_LIMIT + 1:  # now, as libyaml's time grows with the square of the depth
                raise _too_deep(node)
    if root is None or (root.kind == "scalar" and root.plain and root.text in _NOTHING):
        return None
    return root


def _too_deep(node: _Node, path: KeyPath = ()) -> _Unreadable:
    return _Unreadable(f"is nested more than {DEPTH_LIMIT} deep; write it flatter", node.position, path)


def _node(event: Any, anchors: dict[str, _Node]) -> _Node:
    """Make the node of one event; an alias gives the node that it names."""
    place = _position(event.start_mark)
    if isinstance(event, yaml.AliasEvent):
        if event.anchor not in anchors:
            raise _Unreadable(f"the alias *{event.anchor} stands before the end of its anchor; move it down", place)
        return anchors[event.anchor]
    if event.tag is not None:
        raise _Unreadable(f"the tag {event.tag} is not allowed; leave it out, and quote what must be text", place)
    if isinstance(event, yaml.ScalarEvent):
        node = _Node("scalar", place, text=event.value, plain=not event.style or event.style == " ")
        if event.anchor:
            anchors[event.anchor] = node
        return node
    kind: Literal["list", "map"] = "list" if isinstance(event, yaml.SequenceStartEvent) else "map"
    return _Node(kind, place, anchor=event.anchor)


class _Reader:
    """Turns nodes into values, collecting what is wrong with single values."""

    def __init__(self, document: Document, may_be_empty: bool) -> None:
        self.document = document
        self.may_be_empty = may_be_empty
        self.count = 0

    def value(self, node: _Node, path: KeyPath) -> Any:
        self.count += 1
        if self.count > VALUE_LIMIT:
            raise _Unreadable(
                f"holds more than {VALUE_LIMIT} values, aliases expanded; write less", node.position, path
            )
        if len(path) > DEPTH_LIMIT:
            raise _too_deep(node, path)
        if node.kind == "map":
            return self.mapping(node, path)
        if node.kind == "list":
            return self.sequence(node, path)
        return self.scalar(node, path)

    def mapping(self, node: _Node, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in zip(node.children[::2], node.children[1::2], strict=True):
            if key.kind != "scalar":
                raise _Unreadable("a key must be text, not a list or a mapping; quote it", key.position, path)
            place = (*path, key.text)
            if place in self.document.positions:
                first = self.document.positions[place].line
                text = f"is written twice, first on line {first}; keep one of them"
                self.document.problems.append(Problem(place, text, key.position))
                continue
            self.document.positions[place] = key.position
            content = self.value(value, place)
            if content is not None or self.may_be_empty:
                result[key.text] = content
        return result

    def sequence(self, node: _Node, path: KeyPath) -> tuple[Any, ...]:
        result = []
        for index, item in enumerate(node.children):
            place = (*path, index)
            self.document.positions[place] = item.position
            result.append(self.value(item, place))
        return tuple(result)

    def scalar(self, node: _Node, path: KeyPath) -> str | int | float | bool | None:
        """Resolve one scalar; None when it is empty or cannot be held, which is then a problem."""
        text = node.text
        if not node.plain:
            return text
        if text in _NOTHING:
            if self.may_be_empty:
                return None
            what = 'has no value; give it one, leave the key out, or write "" for empty text'
            self.document.problems.append(Problem(path, what))
            return None
        if _INTEGER.fullmatch(text):
            if len(text) > 18:
                self.document.problems.append(Problem(path, "is too large a number; quote it if it is text"))
                return None
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        return _BOOLEANS.get(text, text)
