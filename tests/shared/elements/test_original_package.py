"""The elements of diskimage-builder are those of its package on this machine, or fetched once, by hash."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.elements.original import REQUIREMENT, VERSION, fetched_elements, installed_elements
from shared.errors import EnvironmentFault
from tests.project.source_tree import ROOT


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set variables of this process for a block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def wheel(folder: Path) -> str:
    """Make a package with one element; return what asks for it."""
    path = folder / "diskimage_builder-9.9-py3-none-any.whl"
    info = "diskimage_builder-9.9.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("diskimage_builder/__init__.py", "raise SystemExit('nothing of it is run')\n")
        file.writestr("diskimage_builder/elements/vm/element-deps", "base\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: diskimage-builder\nVersion: 9.9\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return f"diskimage-builder==9.9 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_it_is_fetched_once(tmp_path: Path) -> None:
    requirement, told = wheel(tmp_path), list[str]()
    with environment(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path)):
        found = fetched_elements(tmp_path / "home" / "elements", told.append, requirement)
    assert (found / "vm" / "element-deps").read_text() == "base\n"
    assert told == ["fetching diskimage-builder-9.9 with pip: its elements are needed"]
    assert fetched_elements(tmp_path / "home" / "elements", told.append, requirement) == found
    assert len(told) == 1
    assert [each.name for each in (tmp_path / "home" / "elements").iterdir()] == ["diskimage-builder-9.9"]


def test_another_file_of_that_name_is_refused(tmp_path: Path) -> None:
    wheel(tmp_path)
    with (
        environment(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path)),
        pytest.raises(EnvironmentFault, match=r"cannot be fetched.*pip download --no-deps diskimage-builder.*--path"),
    ):
        fetched_elements(
            tmp_path / "home", lambda _: None, f"diskimage-builder==9.9 --hash=sha256:{hashlib.sha256(b'').hexdigest()}"
        )
    assert list((tmp_path / "home").iterdir()) == []


def test_the_package_on_path_is_found_and_not_run(tmp_path: Path) -> None:
    site = tmp_path / "site" / "diskimage_builder"
    (site / "elements" / "vm").mkdir(parents=True)
    (site / "__init__.py").write_text("raise SystemExit('nothing of it is run')\n")
    python = tmp_path / "bin" / "python-of-it"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path}/site exec /usr/bin/python3 "$@"\n')
    python.chmod(0o755)
    program = tmp_path / "bin" / "disk-image-create"
    program.write_text(f"#!{python}\n")
    program.chmod(0o755)
    with environment(PATH=str(tmp_path / "bin")):
        assert installed_elements() == site / "elements"
    program.write_text("#!/bin/sh\n")
    with environment(PATH=str(tmp_path / "bin")):
        assert installed_elements() is None


def test_tests_and_people_use_the_same_package() -> None:
    text = (ROOT / "setup" / "original-elements.sh").read_text(encoding="utf-8")
    pinned, _, digest = REQUIREMENT.partition(" ")
    assert pinned in text
    assert digest in text
    assert pinned.endswith(f"=={VERSION}")
