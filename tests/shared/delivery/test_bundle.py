"""provisioner.pyz: the same bytes every time, complete, and lowered to Python 3.6."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.delivery import bundle
from shared.delivery.bundle import (
    SOURCES,
    bootstrap_script,
    kept_pyz,
    lowered,
    lowered_sources,
    provisioner_pyz,
    provisioner_version,
    start_script,
)

ROOT = SOURCES.parent


@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_bytes_are_the_same_every_time(tmp_path: Path, seed: str) -> None:
    target = tmp_path / "deep/provisioner.pyz"
    command = [sys.executable, "-m", "shared.delivery.bundle", str(target)]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo" if seed == "1" else "UTC"}
    told = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    assert target.read_bytes() == provisioner_pyz()
    assert told == f"{target}: provisioner {provisioner_version()}\n"
    assert [path.name for path in target.parent.iterdir()] == ["provisioner.pyz"]


def test_every_source_is_in_with_its_byte_code() -> None:
    with zipfile.ZipFile(io.BytesIO(provisioner_pyz())) as archive:
        names = archive.namelist()
        times = {member.date_time for member in archive.infolist()}
        modes = {member.external_attr >> 16 for member in archive.infolist()}
    sources = {path.relative_to(ROOT).as_posix() for path in SOURCES.rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources | {"__main__.py"}
    assert {name for name in names if name.endswith(".pyc")} == {name + "c" for name in (*sources, "__main__.py")}
    assert times == {(1980, 1, 1, 0, 0, 0)}
    assert modes == {0o100644}


def test_it_runs_as_an_archive_and_with_another_python(tmp_path: Path) -> None:
    target = tmp_path / "provisioner.pyz"
    target.write_bytes(provisioner_pyz())
    ended = subprocess.run([sys.executable, str(target)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.startswith("Do the job of a cidata")) == (2, True)
    other = tmp_path / "other.pyz"
    with zipfile.ZipFile(target) as archive, zipfile.ZipFile(other, "w") as copy:
        for name in archive.namelist():
            data = archive.read(name)
            copy.writestr(name, b"\0\0\0\0" + data[4:] if name.endswith(".pyc") else data)
    ended = subprocess.run([sys.executable, str(other)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.startswith("Do the job of a cidata")) == (2, True)


def test_the_version_is_that_of_the_sources(tmp_path: Path) -> None:
    version = provisioner_version()
    assert len(version) == len(hashlib.sha256().hexdigest())
    assert version == provisioner_version()


def test_a_kept_archive_is_used_until_it_is_damaged_or_of_other_sources(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    pyz = provisioner_pyz()
    assert kept_pyz(folder) == pyz
    [file] = folder.iterdir()
    whole, written = file.read_bytes(), file.stat()
    assert kept_pyz(folder) == pyz
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    of_other_sources = hashlib.sha256(b"").digest() + hashlib.sha256(b"other").digest() + b"other"
    for damaged in (whole[:-1], whole[:-1] + b"x", b"", b"\0" + whole[1:], of_other_sources):
        file.write_bytes(damaged)
        assert kept_pyz(folder) == pyz
        assert file.read_bytes() == whole
    assert [path.name for path in folder.iterdir()] == [file.name]


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert kept_pyz(tmp_path / "cache") == provisioner_pyz()


def annotations_of(source: str) -> Iterator[ast.expr]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns is not None:
            yield node.returns


def test_annotations_ship_as_text_where_they_stood() -> None:
    for name, source in lowered_sources().items():
        assert b"__future__" not in source, name
        before, after = (SOURCES.parent / name).read_text(), source.decode()
        assert len(before.split("\n")) == len(after.split("\n"))
        texts = [ast.literal_eval(node) for node in annotations_of(after)]
        assert texts == [ast.unparse(node) for node in annotations_of(before)]


def test_lowering_changes_only_what_python_3_6_lacks_and_what_takes_long_to_import() -> None:
    source = """\
'''from __future__ import annotations'''
from __future__ import annotations

import json  # and dataclasses
from dataclasses import dataclass, field as entry
from typing import Any, Dict
from typing import NamedTuple
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional
é: dict[str, int] = {'é': 1}; x: int | None
def f(é: list[int], /, *rest: str, y: 'Text' = None, **named: Any) -> tuple[int, ...]: return {1: 2}[1]
class Pair(NamedTuple):
    async def g(self: Pair, n: Dict[str, Any] = {}, plain=lambda x: x) -> None: dataclasses: Optional[int] = 1
"""
    assert (
        lowered(source.encode()).decode()
        == """\
'''from __future__ import annotations'''


import json  # and dataclasses
from provisioner.light_dataclasses import dataclass, field as entry

from typing import NamedTuple
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional
é: 'dict[str, int]' = {'é': 1}; x: 'int | None'
def f(é: 'list[int]', /, *rest: 'str', y: "'Text'" = None, **named: 'Any') -> 'tuple[int, ...]': return {1: 2}[1]
class Pair(NamedTuple):
    async def g(self: 'Pair', n: 'Dict[str, Any]' = {}, plain=lambda x: x) -> 'None': dataclasses: 'Optional[int]' = 1
"""
    )


def test_an_import_of_typing_stays_where_more_than_annotations_use_it() -> None:
    source = b"from typing import Any, NamedTuple as Row\nclass Pair(Row):\n    first: Any\n"
    assert lowered(source) == source.replace(b": Any", b": 'Any'")


@pytest.mark.parametrize("source", ["x: dict[\n    int, str\n] = {}\n", "from dataclasses import (\n    field,\n)\n"])
def test_what_is_lowered_stands_on_one_line(source: str) -> None:
    with pytest.raises(AssertionError, match=r"^line 1: .* stands on several lines"):
        lowered(source.encode())


@pytest.mark.parametrize(("script", "name"), [(bootstrap_script, "bootstrap.sh"), (start_script, "start.sh")])
def test_the_scripts_are_posix_shell_scripts(script: Callable[[], bytes], name: str) -> None:
    assert script() == (SOURCES / name).read_bytes()
    subprocess.run(["shellcheck", "--shell=sh", str(SOURCES / name)], check=True)


def test_main_wants_one_target() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        bundle.main([])
