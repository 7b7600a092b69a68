"""Pack what makes roots from nothing into one file, maker.zip, for a build VM with Python's library alone.

It is the module MAIN with all modules of ours that it imports, also lazily or in the text of a program that it runs,
and the files beside them; and the whole
provisioner, whose sources are the version of provisioner.pyz. The list is computed from the sources, so that it cannot
be out of date. The VM unpacks it: programs read its files by path.
"""

from __future__ import annotations

import ast
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ..errors import EnvironmentFault
from .bundle import SOURCES

MAKER = "maker.zip"
MAIN = "shared.maker.main"
TREE = SOURCES.parent
_OF_PROGRAMS = re.compile(r"^from ((?:shared|provisioner)\.[\w.]+) import ", re.MULTILINE)  # of the texts of programs
_CACHES = "__pycache__"
_MEMBER_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time of a zip archive


@cache
def maker_zip() -> bytes:
    """Return maker.zip, the same bytes for the same sources. EnvironmentFault when they cannot be read."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in maker_files().items():
            member = zipfile.ZipInfo(name, _MEMBER_TIME)
            member.create_system = 3  # Unix, on every system
            member.external_attr = 0o100644 << 16
            archive.writestr(member, data, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


@cache
def maker_version() -> str:
    """Return the SHA-256 over all that is in maker.zip, in hex."""
    digest = hashlib.sha256()
    for name, data in maker_files().items():
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


@cache
def maker_files() -> dict[str, bytes]:
    """Return the files, sorted, by their names in the archive. EnvironmentFault."""
    modules = _modules()
    paths = {
        *modules.values(),
        *SOURCES.rglob("*.py"),
        *(file for module in modules.values() for file in _data_beside(module.parent)),
    }
    try:
        return {path.relative_to(TREE).as_posix(): path.read_bytes() for path in sorted(paths)}
    except OSError as error:
        what = f"{error.filename}: {error.strerror}; the installation is incomplete: fetch it again"
        raise EnvironmentFault(what) from error


def _modules() -> dict[str, Path]:
    """Return the source of MAIN and of each module of ours that it needs, by dotted name."""
    found: dict[str, Path] = {}
    waiting = [MAIN]
    while waiting:
        name = waiting.pop()
        source = _source(name)
        if name in found or source is None:
            continue
        found[name] = source
        waiting += _imported(name, source)
        waiting += [name.rpartition(".")[0]] if "." in name else []  # a package runs before what is in it
    return found


def _source(name: str) -> Path | None:
    """Return the file of a module of ours; None for one of another's, and for what is no module."""
    path = TREE.joinpath(*name.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((each for each in candidates if each.is_file()), None)


def _imported(name: str, source: Path) -> Iterator[str]:
    package = name.split(".") if source.name == "__init__.py" else name.split(".")[:-1]
    try:
        tree = ast.parse(source.read_bytes())
    except OSError as error:
        raise EnvironmentFault(f"{source}: {error.strerror}; the installation is incomplete: fetch it again") from error
    for text in (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)):
        yield from _OF_PROGRAMS.findall(text) if isinstance(text, str) else ()
    for node in _imports(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            continue
        above = package[: len(package) - node.level + 1] if node.level else []
        module = ".".join([*above, *([node.module] if node.module else [])])
        yield module
        yield from (f"{module}.{alias.name}" for alias in node.names)


def _imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield all imports but those for types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from (each for other in node.orelse for each in _imports(other))
        else:
            yield from _imports(node)


def _data_beside(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder that are no modules, and those of folders in it without any."""
    for path in folder.iterdir():
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            yield path
        elif path.is_dir() and path.name != _CACHES and not any(path.rglob("*.py")):
            yield from (file for file in path.rglob("*") if file.is_file())
