"""Modules and functions stay small enough to be read in one go."""

import ast
from pathlib import Path

from tests.project.source_tree import ROOT, modules

MODULE_LINES = 600
FUNCTION_LINES = 60
LONG = {"shared/engine/lifecycle.py": 841}  # all that decides a transition is read and reviewed in one place

Function = ast.FunctionDef | ast.AsyncFunctionDef


def too_long(root: Path) -> list[str]:
    """Find modules of more than MODULE_LINES lines, and functions of more than FUNCTION_LINES.

    A function is counted from its `def` to its last line, without its docstring and without its decorators.
    """
    found: list[str] = []
    for module in modules(root):
        lines = len(module.text.splitlines())
        most = LONG.get(str(module.path), MODULE_LINES)
        if lines > most:
            found.append(f"{module.path}:1: the module has {lines} lines, {lines - most} too many: divide it")
        for node in ast.walk(module.tree):
            if (
                isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
                and (over := _length(node) - FUNCTION_LINES) > 0
            ):
                found.append(
                    f"{module.path}:{node.lineno}: {node.name}() has {_length(node)} lines without its docstring, "
                    f"{over} too many: divide it"
                )
    return found


def _length(function: Function) -> int:
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        length -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return length


def test_modules_and_functions_are_short() -> None:
    found = too_long(ROOT)
    assert not found, "\n".join(found)


def test_long_module_is_found(tmp_path: Path) -> None:
    (tmp_path / "fits.py").write_text("x = 1\n" * 600)
    (tmp_path / "long.py").write_text("x = 1\n" * 603)
    assert too_long(tmp_path) == ["long.py:1: the module has 603 lines, 3 too many: divide it"]


def test_long_function_is_found(tmp_path: Path) -> None:
    body = "    x = 1\n" * 59
    (tmp_path / "some.py").write_text(
        "def fits():\n"
        + '    """One\n    two\n    three."""\n'
        + body
        + "\n\nasync def long():\n"
        + body
        + "    y = 2\n"
    )
    assert too_long(tmp_path) == ["some.py:66: long() has 61 lines without its docstring, 1 too many: divide it"]


def test_long_method_within_a_function_is_found(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text("class A:\n    @property\n    def b(self):\n" + "        x = 1\n" * 60)
    assert too_long(tmp_path) == ["some.py:3: b() has 61 lines without its docstring, 1 too many: divide it"]
