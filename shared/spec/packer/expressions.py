"""The values of a template's expressions, within bounds of depth, steps and size.

A value is a text, a number, a boolean, None, a list, a dict, or one of two marks: Varying for what is another text each
time that Packer runs, and Confidential for what a sensitive variable has, which no spec must hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...names import quoted, shown_value
from ..document import Position
from .syntax import Attribute, TemplateError, position_of, read_expression, string_text

DEPTH_LIMIT = 120  # of trees within trees
STEPS_LIMIT = 50_000
LENGTH_LIMIT = 256 << 10  # characters of one text
ITEMS_LIMIT = 10_000
WEIGHT_LIMIT = 20_000  # values within one another

TemplateFunction = Callable[..., Any]
NameLookUp = Callable[[str, str, Position], Any]
"""Returns what `var.x`, `local.x` and the like have, by the two names. TemplateError."""

_HOLE = re.compile(r"\$\$\{|%%\{|\$\{|%\{")


@dataclass(frozen=True)
class Varying:
    """A text that is another one each time; `prefix` is how it begins, as far as that is fixed."""

    prefix: str = ""


@dataclass(frozen=True)
class Confidential:
    """What a sensitive variable has, or a text in which it is; `value` is None where none was given."""

    variable: str
    value: Any
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

    def within(self, names: Mapping[str, Any]) -> Scope:
        """Return a scope that has further names."""
        return _Inner(self.look_up, self.functions, {**self.names, **names}, outer=self)

    def count(self, position: Position, steps: int = 1) -> None:
        """Count steps. TemplateError when there are too many."""
        self.steps += steps
        if self.steps > STEPS_LIMIT:
            raise TemplateError("takes too many steps to work out; write its value", position)


@dataclass
class _Inner(Scope):
    outer: Scope | None = None

    def count(self, position: Position, steps: int = 1) -> None:
        if self.outer is not None:
            self.outer.count(position, steps)


def value_of(attribute: Attribute, scope: Scope) -> Any:
    """Work out an attribute's expression. TemplateError."""
    try:
        return _Reader(scope, attribute.lines).value(attribute.expression, 0)
    except RecursionError as error:  # bounds above should keep it from getting here
        raise TemplateError("nests too deep; write it flatter", attribute.position) from error


def template_value(text: str, at: Position, scope: Scope) -> Any:
    """Work out a text with `${...}` in it, such as a heredoc's or a file's for templatefile(). TemplateError."""
    parts, place = [], 0
    while match := _HOLE.search(text, place):
        parts.append(text[place : match.start()])
        if len(match[0]) == 3:
            parts.append(match[0][1:])
            place = match.end()
            continue
        here = Position(at.line + text.count("\n", 0, match.start()), 1)
        if match[0] == "%{":
            raise TemplateError("has a directive %{...}, which is not worked out here; write what it comes to", here)
        end = _closing(text, match.end(), here)
        parts.append(value_of(read_expression(text[match.end() : end], here), scope))
        place = end + 1
    parts.append(text[place:])
    return joined_parts(parts, at)


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


def _closing(text: str, start: int, at: Position) -> int:
    """Return the place of the brace that closes an interpolation."""
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
    raise TemplateError("has ${ without its end; close it, or write $${ for text", at)


class _Reader:
    """Works out trees of one file."""

    def __init__(self, scope: Scope, lines: int) -> None:
        self.scope = scope
        self.lines = lines

    def place(self, tree: Any) -> Position:
        return position_of(tree, self.lines)

    def value(self, tree: Any, depth: int) -> Any:
        place = self.place(tree)
        self.scope.count(place)
        if depth > DEPTH_LIMIT:
            raise TemplateError("nests too deep; write it flatter", place)
        kind = str(getattr(tree, "data", ""))
        method = getattr(self, f"read_{kind}", None)
        if method is None:
            raise TemplateError(f"is not worked out here ({kind.replace('_', ' ')}); write its value", place)
        found = method(tree, depth + 1)
        if isinstance(found, (str, list, dict)):
            self.scope.count(place, _weight(found, place) // 4)
        return found

    # Terms

    def read_expr_term(self, tree: Any, depth: int) -> Any:
        inside = [child for child in tree.children if hasattr(child, "data") and child.data != "new_line_or_comment"]
        return self.value(inside[0], depth)

    def read_int_lit(self, tree: Any, depth: int) -> Any:
        text = str(tree.children[0])
        if len(text) > 18:
            raise TemplateError("is too large a number; quote it if it is text", self.place(tree))
        return int(text)

    def read_float_lit(self, tree: Any, depth: int) -> Any:
        return float(str(tree.children[0]))

    def read_literal_value(self, tree: Any, depth: int) -> Any:
        return {"true": True, "false": False}.get(str(tree.children[0]))

    def read_string(self, tree: Any, depth: int) -> Any:
        parts = []
        for part in tree.children:
            if getattr(part, "data", "") != "string_part":
                continue
            inside = part.children[0]
            parts.append(self.value(inside, depth) if hasattr(inside, "data") else string_text(str(inside)))
        return joined_parts(parts, self.place(tree))

    def read_interpolation(self, tree: Any, depth: int) -> Any:
        return self.value(tree.children[1], depth)

    def read_heredoc_template(self, tree: Any, depth: int) -> Any:
        return self.heredoc(tree, is_trimmed=False)

    def read_heredoc_template_trim(self, tree: Any, depth: int) -> Any:
        return self.heredoc(tree, is_trimmed=True)

    def heredoc(self, tree: Any, *, is_trimmed: bool) -> Any:
        _, *lines = str(tree.children[0]).replace("\r\n", "\n").rstrip("\n").split("\n")
        text = "".join(f"{line}\n" for line in lines[:-1])  # the last has the delimiter
        if is_trimmed:
            lines = text.split("\n")
            cut = min((len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()), default=0)
            text = "\n".join(line[cut:] for line in lines)
        place = self.place(tree)
        return template_value(text, Position(place.line + 1, 1), self.scope)

    def read_tuple(self, tree: Any, depth: int) -> Any:
        return [self.value(child, depth) for child in _values(tree)]

    def read_object(self, tree: Any, depth: int) -> Any:
        found = {}
        for element in tree.children:
            if getattr(element, "data", "") == "object_elem":
                key = self.key(element.children[0].children[0], depth)
                found[key] = self.value(element.children[-1], depth)
        return found

    def key(self, tree: Any, depth: int) -> str:
        """Return the key of an object: a plain word stands for itself."""
        inside = tree.children[0] if getattr(tree, "data", "") == "expr_term" else tree
        if getattr(inside, "data", "") in ("identifier", "keyword"):
            return str(inside.children[0])
        key = self.value(tree, depth)
        if isinstance(key, (Varying, Confidential)):
            raise TemplateError("cannot be a key, since it is no fixed text; write it out", self.place(tree))
        return template_text(key, self.place(tree))

    # References

    def read_identifier(self, tree: Any, depth: int) -> Any:
        name = str(tree.children[0])
        if name in self.scope.names:
            return self.scope.names[name]
        return self.scope.look_up(name, "", self.place(tree))

    def read_get_attr_expr_term(self, tree: Any, depth: int) -> Any:
        base, name = tree.children[0], str(tree.children[1].children[-1].children[0])
        root: Any = base.children[0] if getattr(base, "data", "") == "expr_term" else None
        if getattr(root, "data", "") == "identifier" and str(root.children[0]) not in self.scope.names:
            return self.scope.look_up(str(root.children[0]), name, self.place(tree))
        return self.item(self.value(base, depth), name, tree)

    def read_index_expr_term(self, tree: Any, depth: int) -> Any:
        index = tree.children[1]
        if index.data == "short_index":
            return self.item(self.value(tree.children[0], depth), int(str(index.children[-1])), tree)
        (key,) = _values(index)
        return self.item(self.value(tree.children[0], depth), self.value(key, depth), tree)

    def item(self, value: Any, key: Any, tree: Any) -> Any:
        if isinstance(value, (Varying, Confidential)):
            return Confidential(value.variable, None, is_whole=False) if isinstance(value, Confidential) else Varying()
        try:
            if isinstance(value, list):
                return value[int(key)]
            if isinstance(value, dict):
                return value[template_text(key, self.place(tree))]
        except (LookupError, TypeError, ValueError) as error:
            raise TemplateError(f"has no {quoted(str(key))}; write one that is there", self.place(tree)) from error
        raise TemplateError(f"{shown_value(value)} has no parts; write the value", self.place(tree))

    def read_attr_splat_expr_term(self, tree: Any, depth: int) -> Any:
        return self.read_full_splat_expr_term(tree, depth)

    def read_full_splat_expr_term(self, tree: Any, depth: int) -> Any:
        found = self.value(tree.children[0], depth)
        items = found if isinstance(found, list) else [] if found is None else [found]
        for part in tree.children[1].children[1:]:
            name: Any = str(part.children[-1].children[0]) if part.data == "get_attr" else None
            if name is None:
                raise TemplateError("is not worked out here (splat); write its value", self.place(tree))
            items = [self.item(item, name, tree) for item in items]
        return items

    # Operators

    def read_conditional(self, tree: Any, depth: int) -> Any:
        condition, yes, no = _values(tree)
        found = self.value(condition, depth)
        if isinstance(found, (Varying, Confidential)):
            raise TemplateError("depends on a value that is not known here; write what it comes to", self.place(tree))
        return self.value(yes if _is_true(found, self.place(tree)) else no, depth)

    def read_unary_op(self, tree: Any, depth: int) -> Any:
        found = self.value(tree.children[1], depth)
        if str(tree.children[0]) == "!":
            return not _is_true(found, self.place(tree))
        return -_number(found, self.place(tree))

    def read_binary_op(self, tree: Any, depth: int) -> Any:
        left, term = _values(tree)
        operator = str(term.children[0].children[0]).split()[-1]
        right = _values(term)[-1]
        return self.operated(operator, self.value(left, depth), self.value(right, depth), self.place(tree))

    def operated(self, operator: str, left: Any, right: Any, place: Position) -> Any:
        if any(isinstance(each, (Varying, Confidential)) for each in (left, right)):
            raise TemplateError("depends on a value that is not known here; write what it comes to", place)
        if operator in ("==", "!="):
            return (left == right) == (operator == "==")
        if operator in ("&&", "||"):
            one, other = _is_true(left, place), _is_true(right, place)
            return one and other if operator == "&&" else one or other
        return _calculated(operator, _number(left, place), _number(right, place), place)

    # Calls and loops

    def read_function_call(self, tree: Any, depth: int) -> Any:
        name = str(tree.children[0].children[0])
        place = self.place(tree)
        arguments = [child for child in tree.children if getattr(child, "data", "") == "arguments"]
        trees = _values(arguments[0]) if arguments else []
        if name in ("try", "can"):
            return self.tried(name, trees, depth)
        values = [self.value(each, depth) for each in trees]
        if arguments and any(str(child) == "..." for child in arguments[0].children if not hasattr(child, "data")):
            last = values.pop()
            values += last if isinstance(last, list) else [last]
        if name == "templatefile":
            return self.template_file(values, place)
        function = self.scope.functions.get(name)
        if function is None:
            raise TemplateError(f"{name}() is not worked out here; write its value", place)
        return called(name, function, values, place)

    def tried(self, name: str, trees: list[Any], depth: int) -> Any:
        for tree in trees:
            try:
                value = self.value(tree, depth)
            except TemplateError:
                continue
            return True if name == "can" else value
        if name == "can":
            return False
        raise TemplateError("no argument of try() can be worked out; write the value", self.place(trees[0]))

    def template_file(self, values: list[Any], place: Position) -> Any:
        names = values[1] if len(values) == 2 else {}
        if not values or not isinstance(values[0], str) or not isinstance(names, dict):
            raise TemplateError("templatefile() needs a path and an object; write those", place)
        text = called("file", self.scope.functions["file"], values[:1], place)
        try:
            return template_value(text, Position(1, 1), self.scope.within(names))
        except TemplateError as error:
            raise TemplateError(f"{values[0]}, line {error.position.line}: {error}", place) from error

    def read_for_tuple_expr(self, tree: Any, depth: int) -> Any:
        names, items, values, condition = self.loop(tree, depth)
        return [self.inner(values[0], found, depth) for found in self.rounds(names, items, condition, depth)]

    def read_for_object_expr(self, tree: Any, depth: int) -> Any:
        names, items, values, condition = self.loop(tree, depth)
        place = self.place(tree)
        return {
            template_text(self.inner(values[0], found, depth), place): self.inner(values[1], found, depth)
            for found in self.rounds(names, items, condition, depth)
        }

    def loop(self, tree: Any, depth: int) -> tuple[list[str], Any, list[Any], Any]:
        """Return the parts of a for expression: names, what it goes through, values, condition."""
        intro = next(child for child in tree.children if getattr(child, "data", "") == "for_intro")
        names = [str(child.children[0]) for child in intro.children if getattr(child, "data", "") == "identifier"]
        over = [child for child in _values(intro) if child.data != "identifier"]
        rest = [child for child in _values(tree) if child.data not in ("for_intro", "for_cond")]
        condition = next((child for child in tree.children if getattr(child, "data", "") == "for_cond"), None)
        return names, self.value(over[0], depth), rest, condition

    def rounds(self, names: list[str], items: Any, condition: Any, depth: int) -> list[dict[str, Any]]:
        pairs = (
            list(items.items())
            if isinstance(items, dict)
            else list(enumerate(items if isinstance(items, list) else []))
        )
        found = []
        for key, item in pairs[:ITEMS_LIMIT]:
            here = {names[0]: key, names[1]: item} if len(names) > 1 else {names[0]: item}
            if condition is None or self.inner(_values(condition)[0], here, depth) is True:
                found.append(here)
        return found

    def inner(self, tree: Any, names: Mapping[str, Any], depth: int) -> Any:
        return _Reader(self.scope.within(names), self.lines).value(tree, depth)


def called(name: str, function: TemplateFunction, values: list[Any], place: Position) -> Any:
    """Call a function of templates. TemplateError."""
    if any(isinstance(value, Varying) for value in values):
        return Varying()
    secret = next((value for value in values if isinstance(value, Confidential)), None)
    if secret is not None:
        plain = [value.value if isinstance(value, Confidential) else value for value in values]
        known = None if None in plain else called(name, function, plain, place)
        return Confidential(secret.variable, known, is_whole=False)
    try:
        found = function(*values)
    except TemplateError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        StopIteration,
        TypeError,
        ValueError,
    ) as error:
        raise TemplateError(f"{name}() cannot be worked out: {error}; write its value", place) from error
    if (isinstance(found, str) and len(found) > LENGTH_LIMIT) or (
        isinstance(found, (list, dict)) and len(found) > ITEMS_LIMIT
    ):
        raise TemplateError(f"{name}() gives too much; write less", place)
    return found


def _weight(value: Any, place: Position) -> int:
    """Return how many values are in a value, long texts as several. TemplateError: parts that are shared grow fast."""
    weight, rest = 0, [value]
    while rest:
        part = rest.pop()
        weight += 1 + (len(part) // 256 if isinstance(part, str) else 0)
        rest += part if isinstance(part, list) else part.values() if isinstance(part, dict) else ()
        if weight + len(rest) > WEIGHT_LIMIT:
            raise TemplateError("is too large; write less", place)
    return weight


def _values(tree: Any) -> list[Any]:
    return [child for child in tree.children if hasattr(child, "data") and child.data != "new_line_or_comment"]


def _is_true(value: Any, place: Position) -> bool:
    if value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        raise TemplateError(f"needs true or false, not {shown_value(value)}; write one of them", place)
    return value


def _number(value: Any, place: Position) -> Any:
    if isinstance(value, str):
        try:
            return float(value) if "." in value else int(value[:18])
        except ValueError:
            pass
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TemplateError(f"needs a number, not {shown_value(value)}; write one", place)
    return value


def _calculated(operator: str, left: Any, right: Any, place: Position) -> Any:
    if operator in ("/", "%") and right == 0:
        raise TemplateError("is divided by zero; write another number", place)
    results: Mapping[str, Callable[[], Any]] = {
        "+": lambda: left + right,
        "-": lambda: left - right,
        "*": lambda: left * right,
        "/": lambda: left / right,
        "%": lambda: left % right,
        "<": lambda: left < right,
        ">": lambda: left > right,
        "<=": lambda: left <= right,
        ">=": lambda: left >= right,
    }
    found = results[operator]()
    if abs(found) > 1e18:
        raise TemplateError("is too large a number; write a smaller one", place)
    return int(found) if isinstance(found, float) and found == int(found) else found
