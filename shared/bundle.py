"""The provisioner as one file: provisioner.pyz, the same bytes whenever and wherever it is built from the same sources.

Beside each source lies its byte code for the Python that builds, since compiling takes long on an emulated CPU. Another
Python takes the sources.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import marshal
import os
import re
import sys
import zipfile
from functools import cache
from pathlib import Path

import provisioner.protocol

from .errors import EnvironmentFault

SOURCES = Path(provisioner.protocol.__file__).parent
MEMBER_TIME = (1980, 1, 1, 0, 0, 0)  # the oldest that a zip archive can hold
UNCHECKED = (1).to_bytes(4, "little")  # PEP 552: the byte code goes with a hash of the source, which nobody compares
ENTRY = "from provisioner.__main__ import main\n\nraise SystemExit(main(__import__('sys').argv[1:]))\n"


@cache
def provisioner_pyz() -> bytes:
    """Give provisioner.pyz. EnvironmentFault when the sources cannot be read."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, source in {"__main__.py": ENTRY.encode(), **_lightened(_sources("*.py"))}.items():
            _add(archive, name + "c", _byte_code(name, source))
            _add(archive, name, source)
    return packed.getvalue()


def bootstrap_script() -> bytes:
    """Give the script that starts provisioner.pyz. EnvironmentFault when it cannot be read."""
    return _read(SOURCES / "bootstrap.sh")


def start_script() -> bytes:
    """Give what a VM of Compute Engine starts first. EnvironmentFault when it cannot be read."""
    return _read(SOURCES / "start.sh")


@cache
def provisioner_version() -> str:
    """Give the SHA-256 over the provisioner's sources, in hex; it is the same for every Python."""
    digest = hashlib.sha256()
    for name, source in {**_sources("*.py"), **_sources("*.sh")}.items():
        digest.update(f"{name}\0{len(source)}\0".encode() + source)
    return digest.hexdigest()


def _sources(pattern: str) -> dict[str, bytes]:
    """Give the sources, sorted, by their names in the archive."""
    paths = {path.relative_to(SOURCES.parent).as_posix(): path for path in SOURCES.rglob(pattern)}
    return {name: _read(paths[name]) for name in sorted(paths)}


def _lightened(sources: dict[str, bytes]) -> dict[str, bytes]:
    """Let the wire contract do without dataclasses and typing, which take longer to import than all else together.

    Annotations are text there, so that nothing misses typing. Lines stay where they are.
    """
    name = "provisioner/protocol.py"
    source = re.sub(rb"(?m)^from dataclasses import", b"from .light_dataclasses import", sources[name])
    return {**sources, name: re.sub(rb"(?m)^from typing import .*$", b"", source)}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EnvironmentFault(f"{path}: {error.strerror}; the installation is incomplete: fetch it again") from error


def _byte_code(name: str, source: bytes) -> bytes:
    """Give a .pyc. Version 2 of marshal has no references between objects, which differ from run to run."""
    code = compile(source, name, "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + UNCHECKED + importlib.util.source_hash(source) + marshal.dumps(code, 2)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name, MEMBER_TIME)
    member.create_system = 3  # Unix, whatever this is
    member.external_attr = 0o100644 << 16
    archive.writestr(member, data)


def main(arguments: list[str]) -> int:
    """Write the archive to the file named, for `make bundle`."""
    [target] = [Path(argument) for argument in arguments]
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{os.getpid()}")
    temporary.write_bytes(provisioner_pyz())
    temporary.replace(target)
    sys.stdout.write(f"{target}: provisioner {provisioner_version()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
