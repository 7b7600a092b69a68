"""`make setup` installs what the code says to install: every package that an error message names."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.project.source_tree import ROOT, Module, modules

SCRIPT = Path("setup/apt-packages.sh")
PACKAGE_LINE = re.compile(r"^\t\t([a-z0-9][a-z0-9.+-]+) \S+(?: optional)?$", re.MULTILINE)
EVERYWHERE = ("apt", "coreutils", "libc-bin", "tar", "gzip", "util-linux")  # on every Debian and Ubuntu


def forgotten_packages(root: Path) -> list[str]:
    """Find packages that the code asks people to install and that the set-up script does not have."""
    listed = {*EVERYWHERE, *PACKAGE_LINE.findall((root / SCRIPT).read_text(encoding="utf-8"))}
    return [
        f"{module.path}:{line}: {package} is not in {SCRIPT}"
        for module in modules(root, "goldsmith", "shared")
        for line, package in _named_packages(module)
        if package not in listed
    ]


def _named_packages(module: Module) -> Iterator[tuple[int, str]]:
    """Yield the packages in tables called PACKAGES, and in errors about a missing tool."""
    for node in ast.walk(module.tree):
        values: list[ast.expr] = []
        if (
            isinstance(node, ast.AnnAssign)
            and ast.unparse(node.target) == "PACKAGES"
            and isinstance(node.value, ast.Dict)
        ):
            values = node.value.values
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "MissingTool":
            values = node.args[1:2]
        for value in values:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.lineno, value.value


def test_setup_installs_what_errors_name() -> None:
    found = forgotten_packages(ROOT)
    assert not found, "\n".join(found)


def test_forgotten_package_is_found(tmp_path: Path) -> None:
    (tmp_path / "setup").mkdir()
    (tmp_path / SCRIPT).write_text("base() {\n\t\tmtools mcopy\n\t\tmkosi mkosi optional\n}\n")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "programs.py").write_text(
        'PACKAGES: Mapping[str, str] = {\n    "mcopy": "mtools",\n    "tar": "tar",\n    "swtpm": "swtpm",\n}\n'
        'raise MissingTool("mkosi", "mkosi")\nraise errors.MissingTool("xorriso", "libisoburn")\n'
    )
    assert forgotten_packages(tmp_path) == [
        "shared/programs.py:4: swtpm is not in setup/apt-packages.sh",
        "shared/programs.py:7: libisoburn is not in setup/apt-packages.sh",
    ]
