"""Pack the provisioner into one file, provisioner.pyz. The same sources give the same bytes, wherever it is built.

Beside each source lies its byte code for the Python that builds the archive, since compiling takes long on an emulated
CPU. Another Python compiles the sources. They are lowered to Python 3.6, the oldest in a supported image (0038).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import marshal
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import provisioner.protocol

from ..errors import EnvironmentFault
from ..host.scratch import scratch_folder

SOURCES = Path(provisioner.protocol.__file__).parent
MEMBER_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time of a zip archive
UNCHECKED = (1).to_bytes(4, "little")  # PEP 552: byte code with a hash of its source that Python does not check
_KEPT = "provisioner.pyz.kept"
ENTRY = "from provisioner.__main__ import main\n\nraise SystemExit(main(__import__('sys').argv[1:]))\n"


@cache
def provisioner_pyz() -> bytes:
    """Return provisioner.pyz. Raises EnvironmentFault when the sources cannot be read."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, source in {"__main__.py": ENTRY.encode(), **lowered_sources()}.items():
            _add(archive, name + "c", _byte_code(name, source))
            _add(archive, name, source)
    return packed.getvalue()


def kept_pyz(folder: Path) -> bytes:
    """Return provisioner.pyz, which takes a third of a second to make, as an earlier process has left it in `folder`.

    One of other sources, or a damaged one, is made and written anew. EnvironmentFault.
    """
    key, file = _kept_key(), folder / _KEPT
    with suppress(OSError):
        kept = file.read_bytes()
        pyz = kept[2 * len(key) :]
        if kept == key + hashlib.sha256(pyz).digest() + pyz:
            return pyz
    pyz = provisioner_pyz()
    with suppress(OSError):  # the next build makes it again
        keep_pyz(folder, pyz)
    return pyz


def keep_pyz(folder: Path, pyz: bytes) -> None:
    """Keep provisioner.pyz of these sources for kept_pyz(), whichever Python has made it. OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder) as scratch:
        written = scratch.path / _KEPT
        written.write_bytes(_kept_key() + hashlib.sha256(pyz).digest() + pyz)
        written.replace(folder / _KEPT)


def _kept_key() -> bytes:
    code = _read(Path(__file__)) + str(sys.implementation.cache_tag).encode()
    return hashlib.sha256(provisioner_version().encode() + code).digest()


def lowered_sources() -> dict[str, bytes]:
    """Return the provisioner's modules as they ship, by their names in the archive. Raises EnvironmentFault."""
    return {name: lowered(source) for name, source in _sources("*.py").items()}


def lowered(source: bytes) -> bytes:
    """Rewrite a module for Python 3.6, which has neither dataclasses nor `from __future__ import annotations`.

    Annotations become text, as that import makes them. dataclasses are taken from provisioner.light_dataclasses, and
    imports from typing go where only annotations use them. Newer Pythons get the same: importing dataclasses and typing
    takes longer than everything else together. Nothing else changes, and lines stay where they are.
    """
    lines = source.split(b"\n")
    for node in sorted(_newer(ast.parse(source)), key=lambda node: (node.lineno, node.col_offset), reverse=True):
        assert node.end_lineno == node.lineno, f"line {node.lineno}: {ast.unparse(node)} stands on several lines"
        line, start, end = lines[node.lineno - 1], node.col_offset, node.end_col_offset  # in bytes of UTF-8
        lines[node.lineno - 1] = line[:start] + _older(node, line[start:end]) + line[end:]
    return b"\n".join(lines)


def _newer(tree: ast.Module) -> Iterator[ast.expr | ast.ImportFrom]:
    """Yield the annotations and imports to rewrite. Imports within `if TYPE_CHECKING` never run, and stay."""
    used: set[str] = set()
    typing: list[ast.ImportFrom] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        annotation = getattr(node, "annotation", None) or getattr(node, "returns", None)
        if annotation is not None:
            yield annotation
        if isinstance(node, ast.Name):
            used.add(node.id)
        elif isinstance(node, ast.ImportFrom) and node.col_offset == 0 and node.module in ("__future__", "dataclasses"):
            yield node
        elif isinstance(node, ast.ImportFrom) and node.col_offset == 0 and node.module == "typing":
            typing.append(node)
        waiting.extend(part for part in ast.iter_child_nodes(node) if part is not annotation)
    yield from (node for node in typing if used.isdisjoint(alias.asname or alias.name for alias in node.names))


def _older(node: ast.expr | ast.ImportFrom, text: bytes) -> bytes:
    """Return the text that replaces a node's."""
    if isinstance(node, ast.ImportFrom):
        return (
            text.replace(b"dataclasses", b"provisioner.light_dataclasses", 1) if node.module == "dataclasses" else b""
        )
    return repr(text.decode()).encode()


def bootstrap_script() -> bytes:
    """Return the script that starts provisioner.pyz. Raises EnvironmentFault when it cannot be read."""
    return _read(SOURCES / "bootstrap.sh")


def start_script() -> bytes:
    """Return the script that a VM of Compute Engine starts first. Raises EnvironmentFault when it cannot be read."""
    return _read(SOURCES / "start.sh")


@cache
def provisioner_version() -> str:
    """Return the SHA-256 over the provisioner's sources, in hex. It is the same for every Python."""
    digest = hashlib.sha256()
    for name, source in {**_sources("*.py"), **_sources("*.sh")}.items():
        digest.update(f"{name}\0{len(source)}\0".encode() + source)
    return digest.hexdigest()


def _sources(pattern: str) -> dict[str, bytes]:
    """Return the sources, sorted, by their names in the archive."""
    paths = {path.relative_to(SOURCES.parent).as_posix(): path for path in SOURCES.rglob(pattern)}
    return {name: _read(paths[name]) for name in sorted(paths)}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EnvironmentFault(f"{path}: {error.strerror}; the installation is incomplete: fetch it again") from error


def _byte_code(name: str, source: bytes) -> bytes:
    """Return a .pyc. Version 2 of marshal has no references between objects, which differ from run to run."""
    code = compile(source, name, "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + UNCHECKED + importlib.util.source_hash(source) + marshal.dumps(code, 2)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name, MEMBER_TIME)
    member.create_system = 3  # Unix, on every system
    member.external_attr = 0o100644 << 16
    archive.writestr(member, data)


def main(arguments: list[str]) -> int:
    """Write the archive to the file that is named, for `make bundle`."""
    [target] = [Path(argument) for argument in arguments]
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{os.getpid()}")
    temporary.write_bytes(provisioner_pyz())
    temporary.replace(target)
    sys.stdout.write(f"{target}: provisioner {provisioner_version()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
