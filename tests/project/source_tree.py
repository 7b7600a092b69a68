"""How the project's rules see a source tree: its files, and what each Python module imports.

Each rule in this folder is a function from a tree to its violations, as `PATH:LINE: sentence`. Tests apply it to this
checkout, and to a small bad tree, which shows that it can fail.
"""

import ast
import gc
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

NOT_SOURCE = {"build", "out"}  # at the top of a tree; shared/build/ is a package


@dataclass(frozen=True)
class Module:
    """One Python file of a tree."""

    path: Path  # relative to the tree
    name: str  # dotted; a package's is that of its folder
    is_package: bool
    text: str

    @property
    def tree(self) -> ast.Module:
        """Return its syntax tree."""
        return _parse(self.text)


@dataclass(frozen=True)
class Import:
    """One name that a module imports."""

    module: Module
    target: str  # absolute and dotted; of `from a.b import c` it is a.b.c
    line: int
    lazy: bool  # inside a function or under TYPE_CHECKING: not done when the module is imported

    def at(self, sentence: str) -> str:
        """Put the place of the import before what is wrong with it."""
        return f"{self.module.path}:{self.line}: {sentence}"


def files(root: Path, *suffixes: str) -> list[Path]:
    """Return the tree's files whose names end in one of `suffixes`, sorted, without files made by tools and builds."""
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if name != "__pycache__" and (name == ".ci" or name[0] != ".")
            if name not in NOT_SOURCE or Path(folder) != root or Path(folder, name, "__init__.py").exists()
        ]
        found += [Path(folder, name) for name in names if name.endswith(suffixes)]
    return sorted(found)


def modules(root: Path, *folders: str) -> list[Module]:
    """Read the tree's Python files, or only those below some of its folders."""
    return [
        _module(path, root) for path in files(root, ".py") if not folders or path.relative_to(root).parts[0] in folders
    ]


def _module(path: Path, root: Path) -> Module:
    relative = path.relative_to(root)
    is_package = path.name == "__init__.py"
    parts = relative.parent.parts if is_package else relative.with_suffix("").parts
    text = path.read_text(encoding="utf-8")
    return Module(relative, ".".join(parts), is_package, text)


@cache
def _parse(text: str) -> ast.Module:
    """Parse each text once, for all rules; no rule changes the tree."""
    tree = ast.parse(text)
    gc.freeze()  # all trees stay: Python need not look through them again and again
    return tree


@cache
def imports(module: Module) -> tuple[Import, ...]:
    """Return everything that a module imports, at any place in it."""
    return tuple(_imports(module, module.tree.body, lazy=False))


def _imports(module: Module, nodes: Sequence[ast.AST], *, lazy: bool) -> Iterator[Import]:
    for node in nodes:
        for target in _targets(module, node):
            yield Import(module, target, getattr(node, "lineno", 0), lazy)
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or (
            isinstance(node, ast.If) and _last_name(node.test) == "TYPE_CHECKING"
        )
        yield from _imports(module, list(ast.iter_child_nodes(node)), lazy=lazy or inside)


def _targets(module: Module, node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = ".".join(part for part in (_base(module, node.level), node.module) if part)
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and _last_name(node.func) in {"__import__", "import_module"}:
        named = node.args[0] if node.args else None
        return [named.value] if isinstance(named, ast.Constant) and isinstance(named.value, str) else []
    return []


def _last_name(node: ast.expr) -> str:
    """Return `c` for `a.b.c` and for `c`, and an empty text for an expression that is not a name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _base(module: Module, level: int) -> str:
    """Return the package from which a relative import with `level` dots starts; empty for an absolute import."""
    if level == 0:
        return ""
    parts = module.name.split(".")
    return ".".join(parts[: len(parts) - level + module.is_package])


def is_within(name: str, package: str) -> bool:
    """Return whether a dotted name is the package or something in it."""
    return name == package or name.startswith(package + ".")
