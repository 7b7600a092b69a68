"""The bundle under every Python from 3.6 to 3.13 on this machine: it can be imported, and its whole suite passes.

The suite runs the bundle by the oldest Python (provisioning.py), build VMs by that of their image; `make soak` runs the
suite by all others.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.delivery.bundle import provisioner_pyz
from tests.provisioner.pythons import CHOSEN, chosen_python, pythons

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FOUND = pythons()
OTHERS = [version for version, program in FOUND.items() if program != chosen_python()]
RUNS_IT = re.compile(r"^from tests\.provisioner\.provisioning import (?:\([^)]*|.*)\bProvisioning\b", re.MULTILINE)
SUITE = sorted(str(path) for path in HERE.rglob("test_*.py") if RUNS_IT.search(path.read_text()))
IMPORTED = """
import importlib, sys, zipfile
sys.path.insert(0, sys.argv[1])
for name in zipfile.ZipFile(sys.argv[1]).namelist():
    if name.endswith(".py") and name != "__main__.py":
        importlib.import_module(name[:-3].replace("/", "."))
"""


def test_one_of_the_oldest_pythons_is_here_in_ci() -> None:
    """On other machines they may be absent; `make test` prints that."""
    assert {"3.6", "3.7", "3.8"} & set(FOUND) or "CI" not in os.environ


@pytest.mark.parametrize("version", FOUND)
def test_every_module_can_be_imported(version: str, tmp_path: Path) -> None:
    bundle = tmp_path / "provisioner.pyz"
    bundle.write_bytes(provisioner_pyz())
    command = [FOUND[version], "-I", "-S", "-W", "error", "-c", IMPORTED, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.soak
@pytest.mark.parametrize("version", OTHERS)
def test_the_suite_passes(version: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not vm"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*command, f"--basetemp={tmp_path / 'suite'}", *SUITE],
        cwd=ROOT,
        env={**environment, CHOSEN: FOUND[version]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
