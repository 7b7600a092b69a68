"""provisioner.pyz: the same bytes every time, and all that a machine needs."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from shared import bundle
from shared.bundle import SOURCES, bootstrap_script, provisioner_pyz, provisioner_version, start_script

ROOT = SOURCES.parent


@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_bytes_are_the_same_every_time(tmp_path: Path, seed: str) -> None:
    target = tmp_path / "deep/provisioner.pyz"
    command = [sys.executable, "-m", "shared.bundle", str(target)]
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
    assert (ended.returncode, ended.stderr.startswith("Do the job on a cidata")) == (2, True)
    other = tmp_path / "other.pyz"
    with zipfile.ZipFile(target) as archive, zipfile.ZipFile(other, "w") as copy:
        for name in archive.namelist():
            data = archive.read(name)
            copy.writestr(name, b"\0\0\0\0" + data[4:] if name.endswith(".pyc") else data)
    ended = subprocess.run([sys.executable, str(other)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.startswith("Do the job on a cidata")) == (2, True)


def test_the_version_is_that_of_the_sources(tmp_path: Path) -> None:
    version = provisioner_version()
    assert len(version) == len(hashlib.sha256().hexdigest())
    assert version == provisioner_version()


@pytest.mark.parametrize(("script", "name"), [(bootstrap_script, "bootstrap.sh"), (start_script, "start.sh")])
def test_the_scripts_are_posix_shell_scripts(script: Callable[[], bytes], name: str) -> None:
    assert script() == (SOURCES / name).read_bytes()
    subprocess.run(["shellcheck", "--shell=sh", str(SOURCES / name)], check=True)


def test_main_wants_one_target() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        bundle.main([])
