"""The tree is written as .editorconfig tells editors to write it."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.project.source_tree import ROOT, files


def misfits(root: Path) -> list[str]:
    """Find files that are not written as the tree's .editorconfig says."""
    sections = ConfigParser(interpolation=None)
    sections.read_string("[.]\n" + (root / ".editorconfig").read_text(encoding="utf-8"))
    return [
        f"{path.relative_to(root)}: {fault}"
        for path in files(root, "")
        if path.suffix != ".png"
        for fault in _faults(path, root, sections)
    ]


def _faults(path: Path, root: Path, sections: ConfigParser) -> list[str]:
    rules: dict[str, str] = {}
    for pattern in sections.sections()[1:]:
        if _matches(path.relative_to(root), pattern):
            rules |= sections[pattern]
    data = path.read_bytes()
    text = data.decode("utf-8")
    indents = re.findall(r"^([ \t]+)[^\s*]", text, re.MULTILINE)  # what begins with a star goes on with a comment
    tabs = sum("\t" in indent for indent in indents)
    size = int(rules["indent_size"]) if rules.get("indent_size", "unset") != "unset" else 1
    found = {
        "a line ends with CR": rules["end_of_line"] == "lf" and b"\r\n" in data,
        "its last line does not end": rules["insert_final_newline"] == "true" and data[-1:] not in (b"", b"\n"),
        "a line ends with blanks": rules["trim_trailing_whitespace"] == "true"
        and re.search(r"[ \t]$", text, re.MULTILINE),
        "a line begins with a tab": rules["indent_style"] == "space" and tabs,
        "lines do not begin with tabs": rules["indent_style"] == "tab" and indents and tabs * 2 < len(indents),
        # Most lines, as texts of other languages stand within Python.
        f"its lines are not set in by {size}": rules["indent_style"] == "space"
        and sum(bool(len(indent) % size) for indent in indents) * 2 > len(indents),
    }
    return [fault for fault, is_there in found.items() if is_there]


def _matches(path: Path, pattern: str) -> bool:
    """Match as EditorConfig does, for the patterns that are used: names anywhere, and paths with * and **."""
    if "/" not in pattern:
        return Path(path.name).match(pattern)
    parts = (re.escape(part).replace(r"\*", "[^/]*") for part in pattern.split("**"))
    return re.fullmatch(".*".join(parts), path.as_posix()) is not None


def test_the_tree_is_written_so() -> None:
    found = misfits(ROOT)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.py", b"if x:\r\n    y\r\n", "a line ends with CR"),
        ("a.py", b"x", "its last line does not end"),
        ("a.md", b"x \n", "a line ends with blanks"),
        ("a.sql", b"x\n\ty\n", "a line begins with a tab"),
        ("Makefile", b"x:\n    y\n", "lines do not begin with tabs"),
        ("setup/a.sh", b"x\n    y\n", "lines do not begin with tabs"),
        ("a.tf", b"x {\n   y\n}\n", "its lines are not set in by 2"),
        ("b/a.py", b"if x:\n  y\n", "its lines are not set in by 4"),
    ],
)
def test_what_is_not_is_found(tmp_path: Path, name: str, text: bytes, fault: str) -> None:
    (tmp_path / ".editorconfig").write_bytes((ROOT / ".editorconfig").read_bytes())
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    assert misfits(tmp_path) == [f"{name}: {fault}"]


def test_what_programs_printed_may_be_anything(tmp_path: Path) -> None:
    (tmp_path / ".editorconfig").write_bytes((ROOT / ".editorconfig").read_bytes())
    path = tmp_path / "tests" / "shared" / "golden" / "a.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x \n\ty\n")
    assert misfits(tmp_path) == []
