"""No regular expression of ours takes time that grows faster than the text that it is given."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import pytest

from provisioner.hygiene import hygiene, secret_shapes, secret_values
from provisioner.hygiene.rules import HYGIENE_RULES, either
from tests.project.regular_expressions import superlinear
from tests.project.source_tree import ROOT, Module, modules

SOURCES = ("emulator", "functions", "goldsmith", "provisioner", "shared")
METHODS = frozenset({"fullmatch", "match", "search", "sub", "subn", "split", "findall", "finditer"})
TESTS_OWN = ""  # what a test asks the emulator to do wrong: nothing is known of it here
# What is made while the program runs: by its file and how it is written there, one of it, or what it is made of.
MADE: Mapping[tuple[str, str], tuple[str | bytes, ...]] = {
    ("emulator/compute/rest/faults.py", "pattern"): (TESTS_OWN,),
    ("emulator/storage/rest/faults.py", "matching"): (TESTS_OWN,),
    # The expression in a filter is the caller's own, who has the emulator for himself, and is put to his own names.
    ("emulator/compute/rest/filters.py", "wanted"): (),
    ("emulator/compute/rest/filters.py", "value"): (),
    ("emulator/compute/google_apis.py", "topic"): (r"/v1/projects/(?P<a>[^/]+)/topics/(?P<b>[^/:]+):publish",),
    ("emulator/compute/methods.py", "pattern"): (r"(?P<scope>zones/[^/]+)/disks/(?P<name>[^/]+)/resize",),
    ("emulator/storage/rest/multipart.py", r"b'\\r?\\n' + re.escape(self._dashes) + b'[ \\t]{0,32}\\r?\\n'"): (
        *(rb"\r?\n" + re.escape(b"--" + boundary) + rb"[ \t]{0,32}\r?\n" for boundary in (b"-", b" ", b"--  --", b"a")),
    ),
    ("emulator/storage/rest/multipart.py", r"re.escape(self._dashes) + b'[ \\t]{0,32}(\\r?\\n)'"): (
        *(re.escape(b"--" + boundary) + rb"[ \t]{0,32}(\r?\n)" for boundary in (b"-", b" ", b"--  --", b"a")),
    ),
    ("provisioner/hygiene/rules.py", r"'/(?:' + '|'.join(rooted) + ')\\Z'"): (
        *(either(patterns).pattern for rule in HYGIENE_RULES for patterns in (rule.patterns, rule.but)),
    ),
    ("provisioner/hygiene/rules.py", "expression"): (
        *(
            cell.cell_contents
            for rule in HYGIENE_RULES
            for cell in getattr(rule.holds, "__closure__", None) or ()
            if isinstance(cell.cell_contents, bytes)
        ),
    ),
    ("provisioner/hygiene/secret_shapes.py", "re.escape(letters) + rest"): (
        *(re.escape(letters) + rest for letters, rest, *_ in secret_shapes._SHAPES),
    ),
    ("provisioner/hygiene/secret_values.py", "letters + rest + _ASSIGNED"): (
        *(letters + rest + secret_values._ASSIGNED for letters, rest in secret_values._NAMES),
    ),
    ("provisioner/hygiene/secret_values.py", "letters + rest"): (
        *(letters + rest for letters, rest in secret_values._NAMES),
    ),
    ("provisioner/hygiene/secret_values.py", "form"): (*secret_values._QUOTED.values(), secret_values._BARE),
    ("shared/spec/packer/language/functions.py", "pattern"): (
        "[- TZ:]",
        "^[^a-z0-9]+$",
        "[a-z]?x*[0-9]?",
    ),  # as _is_quick has it
    ("shared/names.py", "OWN_NAMES + re.escape(build_id) + _OF_ATTEMPT"): (
        "gs-hello-0123456789ab-a[0-9]+-[a-z]+[0-9]?",
    ),
}


@dataclass(frozen=True)
class Expression:
    place: str
    pattern: str | bytes
    flags: int
    method: str


def expressions(module: Module, everywhere: Mapping[str, set[str]]) -> Iterator[Expression]:
    """Yield what a module hands to `re`, and each way in which that is used."""
    names = {
        id(inner): node.targets[0].id
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        for inner in ast.walk(node.value)
    }
    own = _uses(module)
    passed_on = set().union(*(methods for name, methods in own.items() if name not in names.values()))
    passed_on.discard("split")  # of texts
    for node in ast.walk(module.tree):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.")):
            continue
        method = ast.unparse(node.func).removeprefix("re.")
        if method not in METHODS | {"compile"}:
            continue
        name = names.get(id(node), "")
        uses = (own if name.startswith("_") else everywhere).get(name) or passed_on or {"search"}
        methods = uses if method == "compile" else {method}
        flags = [one for one in (*node.args[1:], *(word.value for word in node.keywords)) if "re." in ast.unparse(one)]
        number = int(_value(module.name, flags[0]) or 0) if flags else 0
        for pattern in _patterns(module, node.args[0]):
            yield from (Expression(f"{module.path}:{node.lineno}", pattern, number, one) for one in sorted(methods))


def _patterns(module: Module, node: ast.expr) -> list[str | bytes]:
    """Return what an argument may be: a constant, those that its function is called with, or what MADE says."""
    value = _value(module.name, node)
    if value is not None:
        return [value]
    for function in ast.walk(module.tree):
        if not (isinstance(function, ast.FunctionDef) and any(node is inner for inner in ast.walk(function))):
            continue
        if ast.unparse(node) in [argument.arg for argument in function.args.args]:
            calls = [one for one in ast.walk(module.tree) if isinstance(one, ast.Call) and one.args]
            given = [_value(module.name, one.args[0]) for one in calls if ast.unparse(one.func) == function.name]
            if given and None not in given:
                return given
    made = MADE.get((str(module.path), ast.unparse(node)))
    assert made is not None, (
        f"{module.path}:{node.lineno}: {ast.unparse(node)} is made at run time: say in MADE what it is"
    )
    return list(made)


def _value(module: str, node: ast.expr) -> Any:
    """Return the value of a constant, or of what is made of constants of the module; None for what is no constant."""
    space = vars(import_module(module))
    names = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
    return (
        eval(compile(ast.Expression(node), module, "eval"), dict(space)) if names <= {*space, *dir(builtins)} else None
    )


def _uses(module: Module) -> dict[str, set[str]]:
    """Return the methods that are called of each name."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in METHODS
            and isinstance(node.value, (ast.Name, ast.Attribute))
        ):
            name = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if name != "re":
                found.setdefault(name, set()).add(node.attr)
    return found


@cache
def all_expressions() -> tuple[Expression, ...]:
    sources = [one for one in modules(ROOT, *SOURCES) if one.path.name != "__main__.py"]
    everywhere: dict[str, set[str]] = {}
    for module in sources:
        for name, methods in _uses(module).items():
            everywhere.setdefault(name, set()).update(methods)
    return tuple(one for module in sources for one in expressions(module, everywhere))


def test_no_expression_is_superlinear() -> None:
    found = {one: superlinear(one.pattern, one.flags, one.method) for one in all_expressions()}
    assert [f"{one.place}: {one.pattern!r} ({one.method}): {why}" for one, why in found.items() if why] == []


def test_all_expressions_are_looked_at() -> None:
    """Those of `re` that are called by another name would be missed."""
    assert len(all_expressions()) > 250
    assert not any("from re import" in one.text or "import re as" in one.text for one in modules(ROOT, *SOURCES))
    assert hygiene.PUBLISHED.pattern in {one.pattern for one in all_expressions()}


@pytest.mark.parametrize(
    ("pattern", "flags", "method"),
    [
        (r"(a+)+", 0, "fullmatch"),
        (r"(a|ab|b)*c", 0, "match"),
        (r"(?:[a-z]+[0-9]*)*:", 0, "match"),
        (r"a*a*", 0, "fullmatch"),
        (r"\s*x?\s*y", 0, "match"),
        (r"([^<]*)(?:<([^<>\s]+@[^<>\s]+)>)?.*", re.DOTALL, "fullmatch"),
        (r"-+$", 0, "sub"),
        (r"a*b", 0, "search"),
        (r"a{0,5000}b", 0, "search"),
        (r"(?=a*b)a", 0, "search"),
        (r"^\s*options", re.MULTILINE, "findall"),
        (r"[A-Z]*b", re.IGNORECASE, "sub"),
    ],
)
def test_what_is_superlinear_is_seen(pattern: str, flags: int, method: str) -> None:
    assert superlinear(pattern, flags, method)


@pytest.mark.parametrize(
    ("pattern", "flags", "method"),
    [
        (r"a*b", 0, "match"),
        (r"a+", 0, "sub"),
        (r"(a*)(.*)", re.DOTALL, "fullmatch"),
        (r"[a-z]([-a-z0-9]*[a-z0-9])?", 0, "fullmatch"),
        (r"(_?[0-9])+", 0, "fullmatch"),
        (r"^[ \t]*options[ \t]+(.*)$", re.MULTILINE, "findall"),
        (r"a{0,60}b", 0, "search"),
        (r"^[a-z]*:", 0, "search"),
        (r"[^\d\W]+", 0, "findall"),
    ],
)
def test_what_is_linear_passes(pattern: str, flags: int, method: str) -> None:
    assert superlinear(pattern, flags, method) == ""
