"""Everything that the documents name exists: links, headings, files in `code`, make targets. Tables are complete."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project.documents import CODE_SPAN, Line, documents, headings, lines
from tests.project.source_tree import ROOT, files

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
OUTSIDE = re.compile(r"[a-z][a-z0-9+.-]*:")  # a URL's scheme
OUR_FOLDERS = frozenset(
    """.ci benchmarks docs emulator examples functions goldsmith provisioner setup shared terraform
    tests""".split()  # noqa: SIM905 - readable
)
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")
SOURCE_FILE = re.compile(r"[\w-]+\.(?:py|md|sh|toml)")
DEFINED = re.compile(r"\b(?:def|class) (\w+)")
CALLED = re.compile(r"\b(\w+)\(\)")
RULE = re.compile(r"\|(?: ?:?-+:? ?\|)+")
CELL_END = re.compile(r"(?<!\\)\|")
TARGETS = re.compile(r"^([a-z][a-z -]*):(?!=)", re.MULTILINE)


def dead_links(root: Path) -> list[str]:
    """Find relative links to files, or to headings in files, that do not exist."""
    return [
        line.at(f"the link to {target} leads nowhere")
        for path in documents(root)
        for line in lines(path, root)
        if not line.is_code
        for target in LINK.findall(CODE_SPAN.sub("", line.text))
        if not OUTSIDE.match(target) and not _leads_somewhere(target, path, root)
    ]


def _leads_somewhere(target: str, path: Path, root: Path) -> bool:
    name, _, anchor = target.partition("#")
    linked = (path.parent / name) if name else path
    if not linked.exists() or not linked.resolve().is_relative_to(root.resolve()):
        return False
    if not anchor or linked.suffix != ".md":
        return True
    return anchor in {_anchor(heading.text) for level in range(1, 7) for heading in headings(linked, level, root)}


def _anchor(heading: str) -> str:
    """Return a heading's name in links, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def missing_files(root: Path) -> list[str]:
    """Find files and folders of this project that are named in `code` and do not exist."""
    names = {path.name for path in files(root, "")}
    return [
        line.at(f"there is no {span}")
        for path in documents(root)
        for line in lines(path, root)
        for span in line.spans()
        if _is_ours(name := re.sub(r":\d+$", "", span)) and not (root / name).exists()
        if "/" in name or name not in names
    ]


def _is_ours(name: str) -> bool:
    if not PATH.fullmatch(name):
        return False
    return (name.split("/")[0] in OUR_FOLDERS and "/" in name) or bool(SOURCE_FILE.fullmatch(name))


def unknown_targets(root: Path) -> list[str]:
    """Find make targets that are named in code and that the Makefile does not have."""
    known = set(" ".join(TARGETS.findall((root / "Makefile").read_text(encoding="utf-8"))).split())
    return [
        line.at(f"the Makefile has no target {target}")
        for path in documents(root)
        for line in lines(path, root)
        for target in _make_targets(line)
        if target not in known
    ]


def _make_targets(line: Line) -> Iterator[str]:
    for code in [line.text] if line.is_code else line.spans():
        for command in re.split(r"&&|;|\|", code.partition("#")[0]):
            words = command.strip().removeprefix("$ ").split()
            if words[:1] == ["make"]:
                yield from (word for word in words[1:] if re.fullmatch(r"[a-z][a-z-]*", word))


def unknown_functions(root: Path) -> list[str]:
    """Find functions and classes that are named as `name()` and that no module defines."""
    known = set(DEFINED.findall("".join(path.read_text(encoding="utf-8") for path in files(root, ".py"))))
    return [
        line.at(f"no module defines {name}()")
        for path in documents(root)
        for line in lines(path, root)
        for span in line.spans()
        for name in CALLED.findall(span)
        if name not in known
    ]


def test_named_functions_exist() -> None:
    found = unknown_functions(ROOT)
    assert not found, "\n".join(found)


def test_unknown_function_is_found(tree: Path) -> None:
    (tree / "shared" / "plan.py").write_text("class Plan:\n    def make(self) -> None: ...\n")
    (tree / "docs" / "code.md").write_text("# Code\n\n`Plan()`, `plan.make()`, `chmod(2)` and `made()`\n")
    assert unknown_functions(tree) == ["docs/code.md:3: no module defines made()"]


def broken_tables(root: Path) -> list[str]:
    """Find rows that no renderer shows as a table: rows without a head, or with another number of columns."""
    found = []
    for path in documents(root):
        before, columns = "", 0
        table = [line for line in lines(path, root) if not line.is_code]
        for line, after in zip(table, [*(line.text for line in table[1:]), ""], strict=True):
            if line.text.startswith("|"):
                if not before.startswith("|"):
                    columns = _columns(after) if RULE.fullmatch(after) else 0
                if _columns(line.text) != columns:
                    found.append(line.at("this row is of no table, or has other columns than its head"))
            before = line.text
    return found


def _columns(row: str) -> int:
    return len(CELL_END.findall(row))


def test_tables_are_whole() -> None:
    found = broken_tables(ROOT)
    assert not found, "\n".join(found)


def test_links_lead_somewhere() -> None:
    found = dead_links(ROOT)
    assert not found, "\n".join(found)


def test_named_files_exist() -> None:
    found = missing_files(ROOT)
    assert not found, "\n".join(found)


def test_named_make_targets_exist() -> None:
    found = unknown_targets(ROOT)
    assert not found, "\n".join(found)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "plan.py").write_text("")
    (tmp_path / "docs" / "good.md").write_text("# The good: a page\n\n## Second part\n")
    (tmp_path / "Makefile").write_text("setup:\n\ttrue\ncheck test: setup\nNAME := x\n")
    return tmp_path


GOOD_TABLE = "| a | b |\n| --- | --- |\n| c | `d \\| e` |\n"


@pytest.mark.parametrize(
    ("text", "faults"), [("", 0), ("\n| f | g |\n", 1), ("| f |\n", 1), ("| f | g | h |\n", 1), ("| f | g |\n", 0)]
)
def test_broken_table_is_found(tree: Path, text: str, faults: int) -> None:
    (tree / "docs" / "table.md").write_text(f"# Table\n\n{GOOD_TABLE}{text}")
    assert len(broken_tables(tree)) == faults


@pytest.mark.parametrize("link", ["docs/bad.md", "docs/good.md#third-part", "#nowhere", "../README.md"])
def test_dead_link_is_found(tree: Path, link: str) -> None:
    (tree / "README.md").write_text(f"# Title\n\nSee [this]({link}) page.\n")
    assert dead_links(tree) == [f"README.md:3: the link to {link} leads nowhere"]


def test_live_links_are_not_found(tree: Path) -> None:
    links = ["docs/good.md", "docs/", "docs/good.md#second-part", "docs/good.md#the-good-a-page", "#title"]
    outside = ["https://example.org/x", "mailto:a@example.org"]
    text = "".join(f"[x]({link}) and " for link in links + outside)
    (tree / "README.md").write_text(f"# Title\n\n{text} `[x](no.md)`\n\n```\n[x](no.md)\n```\n")
    assert dead_links(tree) == []


@pytest.mark.parametrize("name", ["shared/plans.py", "docs/none/", "lifecycle.py", "shared/plan.py/x", "emulator/"])
def test_missing_file_is_found(tree: Path, name: str) -> None:
    (tree / "README.md").write_text(f"It is in `{name}`.\n")
    assert missing_files(tree) == [f"README.md:1: there is no {name}"]


def test_other_code_is_not_taken_for_a_file(tree: Path) -> None:
    spans = [
        "shared/plan.py",
        "shared/plan.py:12",
        "plan.py",
        "shared/",
        "out/NAME.tar.gz",
        "/var/lib/hello",
        "disk.raw",
    ]
    (tree / "README.md").write_text(" ".join(f"`{span}`" for span in [*spans, "goldsmith build x", "gs://b/o"]) + "\n")
    assert missing_files(tree) == []


@pytest.mark.parametrize("text", ["Run `make tests`.", "```\nmake setup && make tests  # all\n```", "    $ make tests"])
def test_unknown_target_is_found(tree: Path, text: str) -> None:
    (tree / "README.md").write_text(text + "\n")
    [found] = unknown_targets(tree)
    assert found.endswith(": the Makefile has no target tests")


def test_known_targets_are_not_found(tree: Path) -> None:
    (tree / "README.md").write_text("`make`, `make test` and `make setup PYTHON=python3.12`; make sure of it.\n")
    assert unknown_targets(tree) == []
