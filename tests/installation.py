"""Installs the wheel, as people do, into an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def installed_goldsmith(folder: Path, python: str = sys.executable, *, from_index: bool = False) -> Path:
    """Build the wheel and install it below `folder`; return the command.

    The packages that it needs are installed from the index, or else are those of the tests' own environment.
    """
    _run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder / "dist", ROOT)
    [wheel] = (folder / "dist").iterdir()
    environment = folder / "environment"
    _run(python, "-m", "venv", "--without-pip", environment)
    pip = (sys.executable, "-m", "pip", "--python", environment / "bin" / "python", "install", "--quiet")
    if from_index:
        _run(*pip, wheel)
    else:
        _run(*pip, "--no-deps", "--no-index", wheel)
        (site_packages(folder) / "packages-of-the-tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin" / "goldsmith"


def site_packages(folder: Path) -> Path:
    """Return where the packages of the environment below `folder` are."""
    [found] = (folder / "environment" / "lib").glob("python3.*/site-packages")
    return found


def _run(*words: str | Path) -> None:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
