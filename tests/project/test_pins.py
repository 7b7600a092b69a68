"""Packages: exact versions, nothing imported that is not listed, nothing needed that is not pinned."""

import re
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

import pytest

from tests.project.source_tree import ROOT, imports, modules

LISTS = ("requirements.txt", "requirements-dev.txt", "constraints.txt")
PIN = re.compile(r"([A-Za-z][\w.-]*)==(\d[\w.]*)")
NAME = re.compile(r"[A-Za-z][\w.-]*")

RUNNING = ("goldsmith", "functions", "shared", "provisioner", "main.py")  # may import what is in requirements.txt alone


def requirement_lines(root: Path, name: str) -> Iterator[tuple[int, str]]:
    """Give the lines of a requirements file that name a package."""
    for number, line in enumerate((root / name).read_text(encoding="utf-8").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if text and not text.startswith("-"):
            yield number, text


def loose_versions(root: Path) -> list[str]:
    """Find packages that are not pinned to one version."""
    return [
        f"{name}:{number}: {line} is not PACKAGE==VERSION"
        for name in LISTS
        for number, line in requirement_lines(root, name)
        if not PIN.fullmatch(line)
    ]


def pins(root: Path, *names: str) -> dict[str, str]:
    """Give the versions in some requirements files, by normalized package name."""
    found = (PIN.fullmatch(line) for name in names for _, line in requirement_lines(root, name))
    return {normalized(match[1]): match[2] for match in found if match}


def normalized(package: str) -> str:
    """Give a package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", package).lower()


def unlisted_imports(root: Path, packages: Mapping[str, list[str]]) -> list[str]:
    """Find imports of packages that are not in the list they should be in.

    `packages` gives the installed packages that provide a top-level module. What runs may use requirements.txt alone;
    tests and benchmarks may use both lists.
    """
    ours = {path.name.removesuffix(".py") for path in root.iterdir()}
    found: list[str] = []
    for module in modules(root):
        running = module.path.parts[0] in RUNNING
        listed = pins(root, *LISTS[:1]) if running else pins(root, *LISTS[:2])
        beside = {path.stem for path in (root / module.path).parent.glob("*.py")}
        for item in imports(module):
            top = item.target.split(".")[0]
            if top in ours or top in beside or top in sys.stdlib_module_names:
                continue
            if not any(normalized(package) in listed for package in packages.get(top, [top])):
                found.append(item.at(f"{top} is in no package of {' or '.join(LISTS[: 1 if running else 2])}"))
    return found


def unpinned_needs(root: Path, needs: Mapping[str, list[str]]) -> list[str]:
    """Find packages that the listed ones need themselves, and that are pinned nowhere."""
    pinned = pins(root, *LISTS)
    waiting, seen = sorted(pinned), set(pinned)
    found: list[str] = []
    while waiting:
        package = waiting.pop()
        for need in needs.get(package, []):
            if need not in pinned:
                found.append(f"constraints.txt: {need}, which {package} needs, is not pinned")
            if need not in seen:
                seen.add(need)
                waiting.append(need)
    return found


def installed_needs() -> dict[str, list[str]]:
    """Give what each installed package needs of the other installed ones, extras left out."""
    distributions = {normalized(found.name): found for found in metadata.distributions()}
    needs: dict[str, list[str]] = {}
    for name, found in distributions.items():
        lines = [line for line in found.requires or [] if "extra ==" not in line]
        named = [normalized(match[0]) for line in lines if (match := NAME.match(line))]
        needs[name] = [need for need in named if need in distributions]
    return needs


def test_versions_are_exact() -> None:
    found = loose_versions(ROOT)
    assert not found, "\n".join(found)


def test_imported_packages_are_listed() -> None:
    found = unlisted_imports(ROOT, metadata.packages_distributions())
    assert not found, "\n".join(found)


def test_what_packages_need_is_pinned() -> None:
    found = unpinned_needs(ROOT, installed_needs())
    assert not found, "\n".join(found)


def test_installed_versions_are_the_pinned_ones() -> None:
    pinned = pins(ROOT, *LISTS)
    assert {package: metadata.version(package) for package in pinned} == pinned


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "requirements.txt").write_text("# What runs.\n-c constraints.txt\nPyYAML==6.0.3\n")
    (tmp_path / "requirements-dev.txt").write_text("-r requirements.txt\npytest==9.2.0 # tests\n")
    (tmp_path / "constraints.txt").write_text("pluggy==1.7.0\n")
    (tmp_path / "shared").mkdir()
    (tmp_path / "tests").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "line", ["rich", "rich>=1.0", "rich==1.*", "rich==1.0,!=1.1", "rich @ https://example.org/rich"]
)
def test_loose_version_is_found(tree: Path, line: str) -> None:
    assert loose_versions(tree) == []
    (tree / "requirements-dev.txt").write_text(f"-r requirements.txt\n{line}\n")
    assert loose_versions(tree) == [f"requirements-dev.txt:2: {line} is not PACKAGE==VERSION"]


def test_unlisted_import_is_found(tree: Path) -> None:
    (tree / "shared" / "spec.py").write_text(
        "import json\nimport yaml\nfrom shared import x\nimport pytest, rich.live\n"
    )
    (tree / "tests" / "test_spec.py").write_text("import pytest\nimport yaml\n\ndef f():\n    import attrs\n")
    assert unlisted_imports(tree, {"yaml": ["PyYAML"]}) == [
        "shared/spec.py:4: pytest is in no package of requirements.txt",
        "shared/spec.py:4: rich is in no package of requirements.txt",
        "tests/test_spec.py:5: attrs is in no package of requirements.txt or requirements-dev.txt",
    ]


def test_unpinned_need_is_found(tree: Path) -> None:
    needs = {"pytest": ["pluggy", "iniconfig"], "iniconfig": ["deeper"], "other": ["unknown"]}
    assert sorted(unpinned_needs(tree, needs)) == [
        "constraints.txt: deeper, which iniconfig needs, is not pinned",
        "constraints.txt: iniconfig, which pytest needs, is not pinned",
    ]
