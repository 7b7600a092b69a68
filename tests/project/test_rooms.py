"""The tree shows the architecture: packages describe themselves, and tests mirror the code that they test."""

import ast
from pathlib import Path

import pytest

from tests.project.source_tree import ROOT, files, modules

MIRRORED = ("emulator", "functions", "goldsmith", "provisioner", "shared")
MOST_ENTRIES = 15

EXECUTED = {"functions/__init__.py": "sets the garbage collector's threshold before a cold start imports anything"}
LARGE = {
    "provisioner/steps": "one action a file",
    "shared": "the files that every room stands on, and the rooms",
    "tests/project": "one rule a file",
}
HELPERS = {"golden"}  # folders of documents that tests of several rooms read


def talking_packages(root: Path) -> list[str]:
    """Find __init__.py files that hold more than a docstring, or none."""
    return [
        f"{module.path}:1: a package's __init__.py holds one docstring, and nothing else"
        for module in modules(root, "shared", "provisioner", "goldsmith", "functions", "emulator")
        if module.is_package and str(module.path) not in EXECUTED
        if len(module.tree.body) != 1 or not ast.get_docstring(module.tree)
    ]


def crowded_folders(root: Path) -> list[str]:
    """Find folders with too many entries for a reader, except plug-ins of one port."""
    entries: dict[str, set[str]] = {}
    for path in files(root, ".py"):
        relative = path.relative_to(root)
        for child, parent in zip([relative, *relative.parents], relative.parents, strict=False):
            if child.name != "__init__.py":
                entries.setdefault(str(parent), set()).add(child.name)
    return [
        f"{folder}: {len(names)} entries, and {MOST_ENTRIES} is the most; make a folder of what belongs together"
        for folder, names in sorted(entries.items())
        if folder.split("/")[0] in ("shared", "provisioner", "goldsmith", "functions", "emulator")
        if len(names) > MOST_ENTRIES and folder not in LARGE
    ]


def strayed_tests(root: Path) -> list[str]:
    """Find folders of tests that mirror no folder of the tree."""
    return [
        f"tests/{relative}: there is no {relative}, whose tests these could be"
        for top in MIRRORED
        for path in sorted((root / "tests" / top).rglob("*"))
        if any(path.rglob("*.py")) and not HELPERS.intersection(path.parts)
        if not (root / (relative := path.relative_to(root / "tests"))).is_dir()
    ]


def test_packages_say_what_they_are() -> None:
    found = talking_packages(ROOT)
    assert not found, "\n".join(found)


def test_folders_can_be_taken_in() -> None:
    found = crowded_folders(ROOT)
    assert not found, "\n".join(found)


def test_tests_mirror_the_tree() -> None:
    found = strayed_tests(ROOT)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("text", ["", '"""A room."""\n\nx = 1\n', "from .a import b\n"])
def test_a_package_that_does_something_is_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "__init__.py").write_text(text)
    assert talking_packages(tmp_path) == [
        "shared/__init__.py:1: a package's __init__.py holds one docstring, and nothing else"
    ]


def test_a_crowded_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "shared" / "build" / "more").mkdir(parents=True)
    for number in range(14):
        (tmp_path / "shared" / "build" / f"m{number}.py").write_text("")
    for path in ("__init__.py", "more/x.py"):
        (tmp_path / "shared" / "build" / path).write_text("")
    assert crowded_folders(tmp_path) == []
    (tmp_path / "shared" / "build" / "last.py").write_text("")
    assert crowded_folders(tmp_path)[0].startswith("shared/build: 16 entries")


def test_a_strayed_test_is_found(tmp_path: Path) -> None:
    (tmp_path / "tests" / "shared" / "old").mkdir(parents=True)
    (tmp_path / "tests" / "shared" / "old" / "test_x.py").write_text("")
    (tmp_path / "shared").mkdir()
    assert strayed_tests(tmp_path) == ["tests/shared/old: there is no shared/old, whose tests these could be"]
