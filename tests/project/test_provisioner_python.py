"""The provisioner runs on Python 3.9, the oldest that a supported image has (Rocky Linux 9), whatever runs here."""

import ast
import subprocess
import sys
from pathlib import Path

from tests.project.source_tree import ROOT, files

OLDEST = (3, 9)
POSTPONED = "from __future__ import annotations"


def newer_syntax(folder: Path) -> list[str]:
    """Find the files below `folder` that Python 3.9 could not parse."""
    found: list[str] = []
    for path in files(folder, ".py"):
        try:
            ast.parse(path.read_text(encoding="utf-8"), feature_version=OLDEST)
        except SyntaxError as error:
            found.append(f"{path.relative_to(folder)}:{error.lineno}: {error.msg}")
    return found


def newer_annotations(folder: Path) -> list[str]:
    """Find unions written with `|` in annotations that Python 3.9 evaluates, and fails on."""
    return [
        f"{path.relative_to(folder)}:{union.lineno}: {ast.unparse(union)} needs `{POSTPONED}` here"
        for path in files(folder, ".py")
        if POSTPONED not in (text := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if annotation
        for union in ast.walk(annotation)
        if isinstance(union, ast.BinOp) and isinstance(union.op, ast.BitOr)
    ]


def newer_features(folder: Path) -> str:
    """Give vermin's list of what Python 3.9's syntax or standard library does not have; empty when there is nothing."""
    done = subprocess.run(
        [
            Path(sys.executable).with_name("vermin"),
            "--target={}.{}-".format(*OLDEST),
            "--violations",
            "--no-tips",
            folder,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_provisioner_parses_as_python_3_9() -> None:
    found = newer_syntax(ROOT / "provisioner")
    assert not found, "\n".join(found)


def test_provisioner_evaluates_no_newer_annotation() -> None:
    found = newer_annotations(ROOT / "provisioner")
    assert not found, "\n".join(found)


def test_provisioner_uses_what_python_3_9_has() -> None:
    assert newer_features(ROOT / "provisioner") == ""


def test_newer_syntax_is_found(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("from __future__ import annotations\ndef f(x: int | None) -> None: ...\n")
    (tmp_path / "new.py").write_text("def f(x):\n    match x:\n        case 1: pass\n")
    [found] = newer_syntax(tmp_path)
    assert found.startswith("new.py:3: Pattern matching")


def test_newer_library_is_found(tmp_path: Path) -> None:
    (tmp_path / "new.py").write_text("from datetime import UTC\nimport tomllib\n")
    found = newer_features(tmp_path)
    assert "datetime.UTC" in found
    assert "tomllib" in found


def test_newer_annotation_is_found_where_it_is_evaluated(tmp_path: Path) -> None:
    annotated = "def f(x: int | None) -> None: ...\n"
    (tmp_path / "late.py").write_text("from __future__ import annotations\n" + annotated)
    (tmp_path / "early.py").write_text(annotated)
    [found] = newer_annotations(tmp_path)
    assert found.startswith("early.py:1: int | None needs ")
