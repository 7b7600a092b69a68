"""What is deployed as the functions' source: what runs on Google Cloud, whole, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from shared import topology
from tests.project.source_tree import ROOT, files
from tests.terraform.planning import Plan

DEPLOYED = ("functions", "shared", "provisioner")
SHOWN = "docs"  # whose pages the dashboard shows
IN_ROOT = ("main.py", "requirements.txt")


@pytest.fixture
def source(plan: Plan) -> Mapping[str, str]:
    """Return the archive's files, by their names."""
    [archive] = [found.values for found in plan.data if found.type == "archive_file"]
    return {entry["filename"]: entry["content"] for entry in archive["source"]}


def test_source_is_whole(source: Mapping[str, str]) -> None:
    wanted = {*IN_ROOT}
    for folder in DEPLOYED:
        wanted |= {str(path.relative_to(ROOT)) for path in files(ROOT / folder, "")}
    pages = [path for pattern in ("*.md", "how-to/*.md") for path in (ROOT / SHOWN).glob(pattern)]
    wanted |= {str(path.relative_to(ROOT)) for path in pages}
    assert {name for name in source if not name.endswith(".pyc")} == {n for n in wanted if not n.endswith(".pyc")}


def test_source_holds_no_byte_code_and_nothing_of_other_folders(source: Mapping[str, str]) -> None:
    assert not [name for name in source if "__pycache__" in name or name.endswith(".pyc")]
    assert {name.split("/")[0] for name in source} == {*DEPLOYED, *IN_ROOT, SHOWN}


def test_every_function_is_in_it(source: Mapping[str, str], tmp_path: Path) -> None:
    """In a process that has nothing but the archive, main.py has each function under its name."""
    for name, content in source.items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, encoding="utf-8")
    names = [function.name for function in topology.FUNCTIONS]
    program = f"import main, sys; [getattr(main, name) for name in {names}]; print(main.__file__)"
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "main.py")), done.stderr


def test_requirements_name_no_other_file(source: Mapping[str, str]) -> None:
    options = [line for line in source["requirements.txt"].splitlines() if line.startswith("-")]
    assert options == ["--only-binary :all:"]
