"""The provisioner that ships runs on Python 3.6, the oldest that a supported image has, whatever builds it.

tests/provisioner/test_pythons.py runs it with the Pythons that are here; these checks need none of them.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from shared.delivery.bundle import lowered_sources

OLDEST = (3, 6)
ASKED_FOR = ("os.posix_spawn", "os.POSIX_SPAWN_OPEN", "os.POSIX_SPAWN_DUP2")  # where there is none, process.py knows


def newer_syntax(source: str) -> list[str]:
    """Find what Python 3.6 could not parse; ast leaves stars without parentheses to us."""
    try:
        tree = ast.parse(source, feature_version=OLDEST)
    except SyntaxError as error:
        return [f"{error.lineno}: {error.msg}"]
    return [f"{node.lineno}: a star without parentheses" for node in _bare_stars(tree, source)]


def _bare_stars(tree: ast.Module, source: str) -> Iterator[ast.expr]:
    """Find `return a, *b` and its like, which came with 3.8."""
    for node in ast.walk(tree):
        value = node.value if isinstance(node, (ast.Return, ast.Yield)) else None
        stars = isinstance(value, ast.Tuple) and any(isinstance(item, ast.Starred) for item in value.elts)
        if value and stars and not (ast.get_source_segment(source, value) or "").startswith("("):
            yield value


def newer_features(folder: Path) -> str:
    """Return vermin's list of what Python 3.6's syntax and library do not have; empty when there is nothing."""
    vermin = Path(sys.executable).with_name("vermin")
    excluded = [argument for name in ASKED_FOR for argument in ("--exclude", name)]
    done = subprocess.run(
        [vermin, "--target={}.{}-".format(*OLDEST), "--violations", "--no-tips", *excluded, folder],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_bundle_parses_as_python_3_6() -> None:
    found = {name: newer_syntax(source.decode()) for name, source in lowered_sources().items()}
    assert {name: places for name, places in found.items() if places} == {}


def test_the_bundle_uses_what_python_3_6_has(tmp_path: Path) -> None:
    for name, source in lowered_sources().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source)
    assert newer_features(tmp_path) == ""


def test_newer_syntax_is_found() -> None:
    assert newer_syntax("def f(x):\n    return (1, *x)\n") == []
    assert newer_syntax("def f(x):\n    return 1, *x\n") == ["2: a star without parentheses"]
    [found] = newer_syntax("while x := 1:\n    pass\n")
    assert found.startswith("1: Assignment expressions are only")


def test_newer_library_is_found(tmp_path: Path) -> None:
    (tmp_path / "new.py").write_text("import dataclasses\nimport os\nos.memfd_create('x')\n")
    found = newer_features(tmp_path)
    assert "dataclasses" in found
    assert "memfd_create" in found
