"""Words that must not be in the source: empty names, work left for later, tests that do not test.

The rules read only names in the syntax tree, docstrings and comments, so that the lists below do not find themselves.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.project.source_tree import ROOT, Module, files, imports, is_within, modules

EMPTY_NAMES = ("utils", "util", "common", "helpers", "helper", "misc")
LEFT_FOR_LATER = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|\b[Ff]or now\b")
# The subject of a sentence is a thing: the caller, the VM, the function. `nobody` is a user's name as well.
SUBJECTS = re.compile(r"\b(?:[Ss]omebody|[Ww]hoever|[Ee]verybody|[Aa]nybody|Nobody)\b")
STIFF_VERB = re.compile(r"\A(?:Give|Gives|Tell whether) ")
UNFINISHED = ("NotImplementedError",)
PATCHING_MODULES = ("unittest.mock", "mock", "pytest_mock")
PATCHING_ARGUMENTS = ("monkeypatch", "mocker")
UNTESTED = ("skip", "skipif", "xfail", "importorskip", "skipTest", "expectedFailure", "skipIf", "skipUnless")
IN_A_TREE = re.compile("|".join((*UNFINISHED, *PATCHING_ARGUMENTS, *UNTESTED)))


def empty_names(root: Path) -> list[str]:
    """Find modules and packages whose names do not describe their contents."""
    return [
        f"{module.path}:1: {part} says nothing about what is in it: name it after that"
        for module in modules(root)
        for part in (module.name.split(".")[-1],)
        if part in EMPTY_NAMES or part.removeprefix("test_") in EMPTY_NAMES
    ]


def leftovers(root: Path) -> list[str]:
    """Find what was left for later, and tests that patch, skip or expect to fail."""
    found = [f"{module.path}:{line}: {what}" for module in modules(root) for line, what in sorted(_in_python(module))]
    for path in [*files(root, ".sh", ".yaml", ".yml", ".toml", ".tf", "Makefile", "run"), *files(root / "setup", "")]:
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if word := LEFT_FOR_LATER.search(text.partition("#")[2]):
                found.append(f"{path.relative_to(root)}:{number}: {word[0]}: do it, or leave it out")
    return found


def stiff_words(root: Path) -> list[str]:
    """Find subjects that name nothing, and docstrings that begin with another verb than those of the field."""
    found = [
        f"{module.path}:{line}: {word[0].strip()}: {remedy}"
        for module in modules(root)
        for pattern, remedy in (
            (SUBJECTS, "name the subject, such as the caller or the VM"),
            (STIFF_VERB, "begin with Return, Raise, Read, Write, Parse, Start, Yield ..."),
        )
        for line, word in _in_prose(module, pattern)
    ]
    for path in (path for path in files(root, ".md") if "decisions" not in path.parts and path.name != "CHANGELOG.md"):
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if word := SUBJECTS.search(text):
                found.append(f"{path.relative_to(root)}:{number}: {word[0]}: name the subject")
    return found


def _in_python(module: Module) -> Iterator[tuple[int, str]]:
    for line, word in _in_prose(module, LEFT_FOR_LATER):
        yield line, f"{word[0]}: do it, or leave it out"
    for found in imports(module):
        if any(is_within(found.target, patching) for patching in PATCHING_MODULES):
            yield found.line, f"{found.target}: pass a real local adapter or a fake in, patch nothing"
        if found.target.split(".")[0] in {"pytest", "unittest"} and found.target.split(".")[-1] in UNTESTED:
            yield found.line, f"{found.target}: a test runs or is not there"
    for node in ast.walk(module.tree) if IN_A_TREE.search(module.text) else ():
        if isinstance(node, ast.Name) and node.id in UNFINISHED:
            yield node.lineno, f"{node.id}: write it, or leave it out (a Protocol's method has `...`)"
        if isinstance(node, ast.arg) and node.arg in PATCHING_ARGUMENTS:
            yield node.lineno, f"{node.arg}: pass a real local adapter or a fake in, patch nothing"
        if isinstance(node, ast.Attribute) and node.attr in UNTESTED and _is_of_a_test_library(node.value):
            yield node.lineno, f"{ast.unparse(node)}: a test runs or is not there"


def _is_of_a_test_library(value: ast.expr) -> bool:
    return ast.unparse(value) in {"pytest", "pytest.mark", "unittest", "self"}


def _in_prose(module: Module, pattern: re.Pattern[str]) -> Iterator[tuple[int, re.Match[str]]]:
    """Yield what is found in comments and docstrings. Comments are only looked for where the whole text has a match."""
    texts = [*_docstrings(module), *(_comments(module.text) if pattern.search(module.text) else ())]
    yield from ((line, word) for line, text in texts if (word := pattern.search(text)))


@cache
def _docstrings(module: Module) -> list[tuple[int, str]]:
    return [
        (node.body[0].lineno, ast.get_docstring(node) or "")
        for node in ast.walk(module.tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.body
    ]


def _comments(text: str) -> Iterator[tuple[int, str]]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    yield from ((token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT)


def test_modules_have_telling_names() -> None:
    found = empty_names(ROOT)
    assert not found, "\n".join(found)


def test_nothing_is_left_for_later() -> None:
    found = leftovers(ROOT)
    assert not found, "\n".join(found)


def test_prose_is_plain() -> None:
    found = stiff_words(ROOT)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "text", "word"),
    [
        ("some.py", 'def f() -> int:\n    """Give a number."""\n', "Give"),
        ("some.py", "# whoever calls this\n", "whoever"),
        ("docs/some.md", "# Page\n\nNobody reads it.\n", "Nobody"),
    ],
)
def test_stiff_words_are_found(tmp_path: Path, path: str, text: str, word: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / path).write_text(text)
    [found] = stiff_words(tmp_path)
    assert f": {word}: " in found


def test_the_user_nobody_and_words_in_strings_are_not_found(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text("USER = 'nobody'  # of the group nobody\nTEXT = 'Somebody'\n")
    assert stiff_words(tmp_path) == []


@pytest.mark.parametrize("path", ["shared/utils.py", "tests/test_helpers.py", "shared/common/__init__.py"])
def test_empty_name_is_found(tmp_path: Path, path: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("")
    [found] = empty_names(tmp_path)
    assert found.startswith(f"{path}:1: ")


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("x = 1  # TODO: more", 1, "TODO"),
        ("# Good enough for now.", 1, "for now"),
        ('def f():\n    """Do it. FIXME soon."""', 2, "FIXME"),
        ("def f():\n    raise NotImplementedError", 2, "NotImplementedError"),
        ("from unittest import mock", 1, "unittest.mock"),
        ("def f():\n    import unittest.mock", 2, "unittest.mock"),
        ("def test_x(monkeypatch): ...", 1, "monkeypatch"),
        ("import pytest\n@pytest.mark.xfail\ndef test_x(): ...", 2, "pytest.mark.xfail"),
        ("import pytest\n@pytest.mark.skipif(True)\ndef test_x(): ...", 2, "pytest.mark.skipif"),
        ("import pytest\npytest.skip('no')", 2, "pytest.skip"),
        ("from pytest import importorskip", 1, "pytest.importorskip"),
    ],
)
def test_leftover_in_python_is_found(tmp_path: Path, text: str, line: int, word: str) -> None:
    (tmp_path / "some.py").write_text(text + "\n")
    [found] = leftovers(tmp_path)
    assert found.startswith(f"some.py:{line}: {word}: ")


def test_leftover_in_a_makefile_is_found(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("all: # TODO\n")
    assert leftovers(tmp_path) == ["Makefile:1: TODO: do it, or leave it out"]


def test_words_in_strings_and_other_skips_are_not_found(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text("WORDS = 'TODO monkeypatch'\ncursor.skip(3)\nreturns = NotImplemented\n")
    assert leftovers(tmp_path) == []
