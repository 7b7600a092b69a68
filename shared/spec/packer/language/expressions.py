"""The values of a template's expressions, within bounds of depth, steps and size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ....names import quoted, shown_value
from ...document import Position
from .functions import KEEPS_PARTS
from .scope import (
    ITEMS_LIMIT,
    LENGTH_LIMIT,
    Confidential,
    Scope,
    TemplateFunction,
    Varying,
    is_true,
    joined_parts,
    template_text,
)
from .strings import StringPiece, flushed, loop_rounds, parts_of, string_pieces
from .syntax import Attribute, TemplateError, position_of, read_expression, string_text

DEPTH_LIMIT = 120  # of trees within trees
PARSER_STEPS = 5  # that an expression of a text counts for, beside its own: reading it takes 1 ms
WEIGHT_LIMIT = 20_000  # values within one another


def value_of(attribute: Attribute, scope: Scope) -> Any:
    """Work out an attribute's expression. TemplateError."""
    try:
        return _Reader(scope, attribute.lines).value(attribute.expression, 0)
    except RecursionError as error:  # bounds above should keep it from getting here
        raise TemplateError("nests too deep; write it flatter", attribute.position) from error


def template_value(text: str, at: Position, scope: Scope, *, is_trimmed: bool = False) -> Any:
    """Work out a text with `${...}` in it, such as a heredoc's or a file's for templatefile(). TemplateError."""
    pieces = string_pieces(text, at, partial(_expression, scope))
    return joined_parts(parts_of(flushed(pieces) if is_trimmed else pieces, scope) or [""], at)


def _expression(scope: Scope, text: str, at: Position) -> Callable[[Scope], Any]:
    scope.count(at, PARSER_STEPS)
    attribute = read_expression(text, at)
    return lambda scope: value_of(attribute, scope)


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
        inside = [part.children[0] for part in tree.children if getattr(part, "data", "") == "string_part"]
        pieces = [self.piece(part, depth) for part in inside]
        return joined_parts(parts_of(pieces, self.scope) or [""], self.place(tree))

    def piece(self, tree: Any, depth: int) -> StringPiece:
        """Return a piece of a string: a text, an interpolation, or a directive."""
        data = getattr(tree, "data", None)
        if data is None:
            return StringPiece("text", self.place(tree), string_text(str(tree)))
        place = self.place(tree)
        if data == "interpolation":
            return StringPiece("value", place, work_out=self.later(tree.children[1], depth))
        kind: Any = str(data).removeprefix("template_").removesuffix("_start")
        names = tuple(str(child.children[0]) for child in tree.children if getattr(child, "data", "") == "identifier")
        over = [child for child in _values(tree) if child.data != "identifier"]
        marks = [str(child) for child in tree.children if not hasattr(child, "data")]
        trims = marks[1:2] == ["~"], marks[-2:-1] == ["~"]
        return StringPiece(kind, place, "", self.later(over[0], depth) if over else _nothing, names, trims)

    def later(self, tree: Any, depth: int) -> Callable[[Scope], Any]:
        """Return what works out a tree in a scope."""
        return lambda scope: _Reader(scope, self.lines).value(tree, depth)

    def read_heredoc_template(self, tree: Any, depth: int) -> Any:
        return self.heredoc(tree, is_trimmed=False)

    def read_heredoc_template_trim(self, tree: Any, depth: int) -> Any:
        return self.heredoc(tree, is_trimmed=True)

    def heredoc(self, tree: Any, *, is_trimmed: bool) -> Any:
        _, *lines = str(tree.children[0]).replace("\r\n", "\n").rstrip("\n").split("\n")
        text = "".join(f"{line}\n" for line in lines[:-1])  # the last has the delimiter
        place = self.place(tree)
        return template_value(text, Position(place.line + 1, 1), self.scope, is_trimmed=is_trimmed)

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
        return self.value(yes if is_true(found, self.place(tree)) else no, depth)

    def read_unary_op(self, tree: Any, depth: int) -> Any:
        found = self.value(tree.children[1], depth)
        if str(tree.children[0]) == "!":
            return not is_true(found, self.place(tree))
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
            one, other = is_true(left, place), is_true(right, place)
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
        if self.scope.is_file:
            raise TemplateError("a file of templatefile() cannot read another one; write what it comes to", place)
        scope = self.scope.within(names)
        scope.is_file = True
        try:
            return template_value(text, Position(1, 1), scope)
        except TemplateError as error:
            raise TemplateError(f"{values[0]}, line {error.position.line}: {error}", place) from error

    def read_for_tuple_expr(self, tree: Any, depth: int) -> Any:
        rounds, values = self.rounds(tree, depth)
        return [self.inner(values[0], names, depth) for names in rounds]

    def read_for_object_expr(self, tree: Any, depth: int) -> Any:
        rounds, values = self.rounds(tree, depth)
        place = self.place(tree)
        return {
            template_text(self.inner(values[0], names, depth), place): self.inner(values[1], names, depth)
            for names in rounds
        }

    def loop(self, tree: Any, depth: int) -> tuple[list[str], Any, list[Any], Any]:
        """Return the parts of a for expression: names, what it goes through, values, condition."""
        intro = next(child for child in tree.children if getattr(child, "data", "") == "for_intro")
        names = [str(child.children[0]) for child in intro.children if getattr(child, "data", "") == "identifier"]
        over = [child for child in _values(intro) if child.data != "identifier"]
        rest = [child for child in _values(tree) if child.data not in ("for_intro", "for_cond")]
        condition = next((child for child in tree.children if getattr(child, "data", "") == "for_cond"), None)
        return names, self.value(over[0], depth), rest, condition

    def rounds(self, tree: Any, depth: int) -> tuple[list[dict[str, Any]], list[Any]]:
        """Return the rounds that a for expression's condition lets through, and the trees of its values."""
        names, items, values, condition = self.loop(tree, depth)
        rounds = loop_rounds(names, items, self.place(tree))
        if condition is not None:
            (wanted,) = _values(condition)
            rounds = [names for names in rounds if self.inner(wanted, names, depth) is True]
        return rounds, values

    def inner(self, tree: Any, names: Mapping[str, Any], depth: int) -> Any:
        return _Reader(self.scope.within(names), self.lines).value(tree, depth)


def called(name: str, function: TemplateFunction, values: list[Any], place: Position) -> Any:
    """Call a function of templates. TemplateError."""
    marks = [mark for value in values for mark in _marks(value, within=name not in KEEPS_PARTS)]
    if any(isinstance(mark, Varying) for mark in marks):
        return Varying()
    secret = next((mark for mark in marks if isinstance(mark, Confidential)), None)
    if secret is not None:
        return Confidential(secret.variable, None, is_whole=False)
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


def _marks(value: Any, *, within: bool) -> list[Any]:
    """Return the marks that a value is or, `within`, has as parts."""
    if isinstance(value, (Varying, Confidential)):
        return [value]
    parts = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return [mark for part in parts for mark in _marks(part, within=True)] if within else []


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


def _nothing(scope: Scope) -> None:
    """Return what else and the ends of directives have."""


def _values(tree: Any) -> list[Any]:
    return [child for child in tree.children if hasattr(child, "data") and child.data != "new_line_or_comment"]


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
