"""One thing has one name, and one name stands for one thing, over all public names."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project.source_tree import ROOT, Module, imports, modules

FOLDERS = ("shared", "provisioner", "goldsmith", "functions")
HANDED_ON = ("functions/", "goldsmith/cli/", "shared/runtime/opening.py")
"""What gives a thing of another file to the outside by that thing's own name: a function, a command, what opens it."""
EXEMPT: dict[str, str] = {
    "main": "what `python -m` runs",
    "act": "what each step's file has: provisioner/steps/actions.py calls it",
}
"""Names that stand for several things, each with its reason."""


def ambiguous_names(root: Path) -> list[str]:
    """Find public classes, functions and types of one name, and constants that others import, defined twice."""
    ours = modules(root, *FOLDERS)
    taken = {found.target for module in modules(root) for found in imports(module)}
    defined: dict[str, list[Module]] = defaultdict(list)
    for module in ours:
        for name, is_constant in _definitions(module):
            if not is_constant or f"{module.name}.{name}" in taken:
                defined[name].append(module)
    return [
        f"{name} is defined in {' and in '.join(str(module.path) for module in found)}: "
        "give each thing a name of its own"
        for name, found in sorted(defined.items())
        if len(found) > 1 and name not in EXEMPT and not _is_one_thing(found)
    ]


def _definitions(module: Module) -> Iterator[tuple[str, bool]]:
    """Yield the public names that a module defines, and whether each is a constant."""
    for node in module.tree.body:
        found: list[tuple[str, bool]] = []
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found = [(node.name, False)]
        elif isinstance(node, ast.Assign):
            found = [(name.id, name.id.isupper()) for name in node.targets if isinstance(name, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found = [(node.target.id, node.target.id.isupper())]
        yield from ((name, constant) for name, constant in found if not name.startswith("_"))


def _is_one_thing(found: list[Module]) -> bool:
    """Return whether all but one of the modules only hand the thing on."""
    return len([module for module in found if not str(module.path).startswith(HANDED_ON)]) == 1


def test_one_name_stands_for_one_thing() -> None:
    found = ambiguous_names(ROOT)
    assert not found, "\n".join(found)


def write(root: Path, texts: dict[str, str]) -> None:
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


@pytest.mark.parametrize(
    "texts",
    [
        {"shared/a.py": "def send(): ...\n", "provisioner/b.py": "class send: ...\n"},
        {
            "shared/a.py": "LIMIT = 1\n",
            "shared/b.py": "LIMIT = 2\nfrom .a import LIMIT\n",
            "shared/c.py": "from .b import LIMIT\n",
        },
        {"shared/a.py": "Progress = int\n", "goldsmith/b.py": "class Progress: ...\n"},
    ],
)
def test_a_name_of_two_things_is_found(tmp_path: Path, texts: dict[str, str]) -> None:
    write(tmp_path, texts)
    [found] = ambiguous_names(tmp_path)
    assert found.endswith("give each thing a name of its own")


@pytest.mark.parametrize(
    "texts",
    [
        {"shared/workers/clean_up.py": "def clean_up(): ...\n", "functions/clean_up.py": "def clean_up(): ...\n"},
        {"shared/a.py": "CHUNK = 1\n", "shared/b.py": "CHUNK = 2\n"},
        {"shared/a.py": "def _send(): ...\n", "shared/b.py": "def _send(): ...\n"},
    ],
)
def test_what_stands_for_one_thing_is_not_found(tmp_path: Path, texts: dict[str, str]) -> None:
    write(tmp_path, texts)
    assert ambiguous_names(tmp_path) == []
