"""Every environment variable stands in one of two tables, and in the page that lists the table's variables."""

import re
from pathlib import Path

import pytest

from goldsmith.home import COMMAND_VARIABLES
from shared.gcp.settings import VARIABLES
from tests.project.source_tree import ROOT, modules

READERS = ("shared", "goldsmith", "functions")
READ = re.compile(r"""environ(?:\.get\(|\[)"(\w+)"|\b(GOLDSMITH_[A-Z]\w*)""")
OTHERS = {
    "FUNCTION_TARGET": "which function a process is: the functions framework's",
    "PATH": "where programs are",
    "PYDANTIC_DISABLE_PLUGINS": "whether Pydantic looks for plug-ins: Pydantic's",
    "TERM": "what kind of terminal a person has",
}
"""Variables that are read and belong to the system, not to Goldsmith."""

HEAD = re.compile(r"^\| environment variable \|.*\n\|.*\n((?:\|.*\n)+)", re.MULTILINE)
ROW = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
PAGES = {
    "docs/command-line.md": {variable.name for variable in COMMAND_VARIABLES},
    "docs/deployment.md": {variable.name for variable in VARIABLES.values()},
}


def listed(page: Path) -> list[str]:
    """Return the variables that the tables of a page list."""
    return [name for rows in HEAD.findall(page.read_text(encoding="utf-8")) for name in ROW.findall(rows)]


def unlisted_variables(root: Path, known: set[str]) -> list[str]:
    """Find environment variables that our code reads or speaks of, and that no table has."""
    return [
        f"{module.path}:{number}: {name} stands in no table of variables"
        for module in modules(root, *READERS)
        for number, line in enumerate(module.text.splitlines(), 1)
        for name in map("".join, READ.findall(line))
        if name not in known
    ]


@pytest.mark.parametrize("page", PAGES)
def test_page_lists_the_variables_that_there_are(page: str) -> None:
    found = listed(ROOT / page)
    assert sorted(found) == sorted(PAGES[page])


def test_every_variable_stands_in_a_table() -> None:
    found = unlisted_variables(ROOT, set().union(*PAGES.values(), OTHERS))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line", ['os.environ.get("NEW_HOME")', 'os.environ["NEW_HOME"]', 'told = "set GOLDSMITH_NEW to 1"']
)
def test_unlisted_variable_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "new.py").write_text(f"import os\n\n{line}\n")
    [found] = unlisted_variables(tmp_path, {"GOLDSMITH_HOME"})
    assert re.fullmatch(r"shared/new\.py:3: (NEW_HOME|GOLDSMITH_NEW) stands in no table of variables", found)
    assert unlisted_variables(tmp_path, {"NEW_HOME", "GOLDSMITH_NEW"}) == []


def test_missing_row_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "| environment variable | meaning |\n| --- | --- |\n| `A` | Of `B`. |\n\n| other | x |\n| `C` | x |\n"
    )
    assert listed(page) == ["A"]
