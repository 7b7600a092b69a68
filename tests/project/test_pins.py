"""Packages: exact versions with hashes, nothing imported that is not listed, nothing needed that is not locked."""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from tests.project.source_tree import ROOT, imports, modules

LISTS = ("requirements.in", "requirements-dev.in")  # what we choose
LOCKS = ("requirements.txt", "requirements-dev.txt")  # what is installed; the second is all of the first and more
PIN = re.compile(r"([A-Za-z][\w.-]*)==(\d[\w.]*)")
NAME = re.compile(r"[A-Za-z][\w.-]*")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
OPTION = "--only-binary :all:"
OF_THE_ENVIRONMENT = {"pip", "setuptools"}  # what Python's venv puts there itself

RUNNING = ("goldsmith", "functions", "shared", "provisioner", "main.py")  # may import what is in requirements.in alone


@dataclass(frozen=True)
class Locked:
    """One package of a lock."""

    place: str  # FILE:LINE
    requirement: str  # without its marker
    hashes: tuple[str, ...]
    rest: str  # what is neither


def logical_lines(root: Path, name: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a requirements file with their numbers, continued ones as one, comments left out."""
    text, start = "", 0
    for number, line in enumerate((root / name).read_text(encoding="utf-8").splitlines(), 1):
        start = start if text else number
        text += line.partition("#")[0].strip()
        if text.endswith("\\"):
            text = text[:-1]
            continue
        if text:
            yield start, text
        text = ""


def requirement_lines(root: Path, name: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a requirements file that name a package."""
    for number, text in logical_lines(root, name):
        if not text.startswith("-"):
            yield number, text


def locked(root: Path, name: str) -> list[Locked]:
    """Read the packages of a lock."""
    found = []
    for number, text in requirement_lines(root, name):
        named, _, options = text.partition("--")
        options = "--" + options if options else ""
        rest = " ".join(word for word in options.split() if not HASH.fullmatch(word))
        requirement = named.partition(";")[0].strip()
        found.append(Locked(f"{name}:{number}", requirement, tuple(HASH.findall(options)), rest))
    return found


def loose_versions(root: Path) -> list[str]:
    """Find packages that are not pinned to one version."""
    lines = [(f"{name}:{number}", line) for name in LISTS for number, line in requirement_lines(root, name)]
    lines += [(each.place, each.requirement) for name in LOCKS for each in locked(root, name)]
    return [f"{place}: {line} is not PACKAGE==VERSION" for place, line in lines if not PIN.fullmatch(line)]


def unhashed(root: Path) -> list[str]:
    """Find what a lock would have pip install without knowing its bytes, or from elsewhere."""
    found = []
    for name in LOCKS:
        options = [(number, text) for number, text in logical_lines(root, name) if text.startswith("-")]
        found += [f"{name}:{number}: {text} is not {OPTION}" for number, text in options if text != OPTION]
        if not options:
            found.append(f"{name}:1: {OPTION} is missing")
        for each in locked(root, name):
            if not each.hashes or each.rest:
                found.append(f"{each.place}: {each.requirement} {each.rest or 'has no hash'}; run: make lock")
    return found


def pins(root: Path, *names: str) -> dict[str, str]:
    """Return the versions in some requirements files, by normalized package name."""
    found = (PIN.match(line) for name in names for _, line in requirement_lines(root, name))
    return {normalized(match[1]): match[2] for match in found if match}


def disagreements(root: Path) -> list[str]:
    """Find packages that a lock lacks, or has in another version or with other hashes than it should."""
    found = []
    for wanted, name in ((pins(root, LISTS[0]), LOCKS[0]), (pins(root, *LISTS), LOCKS[1])):
        has = pins(root, name)
        found += [
            f"{name}: {package} is {has.get(package, 'not there')}, and {version} is asked for; run: make lock"
            for package, version in wanted.items()
            if has.get(package) != version
        ]
    runs, checks = ({each.requirement: each.hashes for each in locked(root, name)} for name in LOCKS)
    return found + [
        f"{LOCKS[1]}: {requirement} is not as in {LOCKS[0]}; run: make lock"
        for requirement, hashes in runs.items()
        if checks.get(requirement) != hashes
    ]


def normalized(package: str) -> str:
    """Return a package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", package).lower()


def unlisted_imports(root: Path, packages: Mapping[str, list[str]]) -> list[str]:
    """Find imports of packages that are not in the list they should be in.

    `packages` gives the installed packages that provide a top-level module. What runs may use requirements.in alone;
    tests and benchmarks may use both lists.
    """
    ours = {path.name.removesuffix(".py") for path in root.iterdir()}
    found: list[str] = []
    for module in modules(root):
        running = module.path.parts[0] in RUNNING
        listed = pins(root, *LISTS[:1]) if running else pins(root, *LISTS)
        beside = {path.stem for path in (root / module.path).parent.glob("*.py")}
        for item in imports(module):
            top = item.target.split(".")[0]
            if top in ours or top in beside or top in sys.stdlib_module_names:
                continue
            if not any(normalized(package) in listed for package in packages.get(top, [top])):
                found.append(item.at(f"{top} is in no package of {' or '.join(LISTS[: 1 if running else 2])}"))
    return found


def unlocked_needs(root: Path, name: str, needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Find packages that those of a lock need themselves, and that it lacks."""
    has = pins(root, name)
    return [
        f"{name}: {need}, which {package} needs, is not there; run: make lock"
        for package in sorted(has)
        for need in needs.get(package, [])
        if need not in has
    ]


def installed_needs() -> dict[str, list[str]]:
    """Return what each installed package needs of the other installed ones, extras left out."""
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


def test_every_package_is_locked_by_hash() -> None:
    found = unhashed(ROOT)
    assert not found, "\n".join(found)
    assert all(len(locked(ROOT, name)) > 50 for name in LOCKS)


def test_what_scripts_of_setup_fetch_is_pinned_by_hash() -> None:
    fetched = {
        found.requirement: len(found.hashes)
        for path in sorted((ROOT / "setup").glob("*.sh"))
        if "--require-hashes" in path.read_text(encoding="utf-8")
        for found in locked(ROOT, str(path.relative_to(ROOT)))
        if PIN.fullmatch(found.requirement)
    }
    assert {name.partition("==")[0]: count > 0 for name, count in fetched.items()} == {
        "diskimage-builder": True,
        "uv": True,
    }


def test_locks_are_of_what_is_asked_for() -> None:
    found = disagreements(ROOT)
    assert not found, "\n".join(found)


def test_imported_packages_are_listed() -> None:
    found = unlisted_imports(ROOT, metadata.packages_distributions())
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", LOCKS)
def test_locks_are_complete(name: str) -> None:
    found = unlocked_needs(ROOT, name, installed_needs())
    assert not found, "\n".join(found)


def test_the_wheel_needs_what_the_command_runs_with() -> None:
    described = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = dict(line.split("==") for line in described["project"]["dependencies"])
    wanted = pins(ROOT, LISTS[0])
    del wanted["functions-framework"]
    assert {normalized(name): version for name, version in named.items()} == wanted
    [backend] = described["build-system"]["requires"]
    assert backend == f"hatchling=={pins(ROOT, *LISTS)['hatchling']}"


def test_what_is_installed_is_what_is_locked() -> None:
    """No package less, none in another version, and none that came from elsewhere."""
    installed = {normalized(found.name): found.version for found in metadata.distributions()}
    ours = {name: version for name, version in installed.items() if name not in OF_THE_ENVIRONMENT}
    assert ours == pins(ROOT, LOCKS[1]), "make it anew: rm -r .venv && make setup"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "requirements.in").write_text("# What runs.\nPyYAML==6.0.3\n")
    (tmp_path / "requirements-dev.in").write_text("-r requirements.in\npytest==9.2.0 # tests\n")
    yaml = f"{OPTION}\npyyaml==6.0.3 ; python_version < '4' \\\n    --hash=sha256:{'a' * 64} \\\n" + (
        f"    --hash=sha256:{'b' * 64}\n    # via -r requirements.in\n"
    )
    (tmp_path / "requirements.txt").write_text(yaml)
    more = "".join(f"{name} \\\n    --hash=sha256:{'c' * 64}\n" for name in ("pytest==9.2.0", "pluggy==1.7.0"))
    (tmp_path / "requirements-dev.txt").write_text(yaml + more)
    (tmp_path / "shared").mkdir()
    (tmp_path / "tests").mkdir()
    return tmp_path


def change(tree: Path, name: str, before: str, after: str) -> None:
    text = (tree / name).read_text()
    assert before in text
    (tree / name).write_text(text.replace(before, after))


def test_nothing_is_found_where_all_is_well(tree: Path) -> None:
    assert loose_versions(tree) == unhashed(tree) == disagreements(tree) == []


@pytest.mark.parametrize(
    "line", ["rich", "rich>=1.0", "rich==1.*", "rich==1.0,!=1.1", "rich @ https://example.org/rich"]
)
def test_loose_version_is_found(tree: Path, line: str) -> None:
    (tree / "requirements-dev.in").write_text(f"-r requirements.in\n{line}\n")
    assert loose_versions(tree) == [f"requirements-dev.in:2: {line} is not PACKAGE==VERSION"]
    change(tree, "requirements-dev.txt", "pluggy==1.7.0", line)
    assert f"requirements-dev.txt:8: {line} is not PACKAGE==VERSION" in loose_versions(tree)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (f" \\\n    --hash=sha256:{'c' * 64}\npluggy", "\npluggy", "pytest==9.2.0 has no hash"),
        ("c" * 64, "c" * 63, "pytest==9.2.0 --hash=sha256:" + "c" * 63),
        ("sha256:" + "c" * 64, "md5:" + "c" * 32, "pytest==9.2.0 --hash=md5:"),
        (OPTION, "--extra-index-url https://example.org/simple", f"is not {OPTION}"),
        (OPTION + "\n", "", f"{OPTION} is missing"),
        (OPTION, f"{OPTION}\n-r other.txt", f"-r other.txt is not {OPTION}"),
    ],
)
def test_what_no_hash_covers_is_found(tree: Path, before: str, after: str, told: str) -> None:
    change(tree, "requirements-dev.txt", before, after)
    assert told in unhashed(tree)[0]


@pytest.mark.parametrize(
    ("name", "before", "after", "told"),
    [
        ("requirements.in", "6.0.3", "6.0.4", "requirements.txt: pyyaml is 6.0.3, and 6.0.4 is asked for"),
        ("requirements-dev.in", "pytest", "hypothesis", "requirements-dev.txt: hypothesis is not there, and 9.2.0"),
        ("requirements.txt", "b" * 64, "d" * 64, "requirements-dev.txt: pyyaml==6.0.3 is not as in requirements.txt"),
    ],
)
def test_lock_of_something_else_is_found(tree: Path, name: str, before: str, after: str, told: str) -> None:
    change(tree, name, before, after)
    assert disagreements(tree)[0].startswith(told)


def test_unlisted_import_is_found(tree: Path) -> None:
    (tree / "shared" / "spec.py").write_text(
        "import json\nimport yaml\nfrom shared import x\nimport pytest, rich.live\n"
    )
    (tree / "tests" / "test_spec.py").write_text("import pytest\nimport yaml\n\ndef f():\n    import attrs\n")
    assert unlisted_imports(tree, {"yaml": ["PyYAML"]}) == [
        "shared/spec.py:4: pytest is in no package of requirements.in",
        "shared/spec.py:4: rich is in no package of requirements.in",
        "tests/test_spec.py:5: attrs is in no package of requirements.in or requirements-dev.in",
    ]


def test_unlocked_need_is_found(tree: Path) -> None:
    needs = {"pytest": ["pluggy", "iniconfig"], "pluggy": ["deeper"], "other": ["unknown"]}
    assert sorted(unlocked_needs(tree, "requirements-dev.txt", needs)) == [
        "requirements-dev.txt: deeper, which pluggy needs, is not there; run: make lock",
        "requirements-dev.txt: iniconfig, which pytest needs, is not there; run: make lock",
    ]
