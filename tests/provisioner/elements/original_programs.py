"""What diskimage-builder's own code says of its elements, for comparison. A process of its own runs this file.

It reads questions as JSON from standard input, and answers them in the same order.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.provisioner.elements.element_folders import ORIGINAL, PACKAGE

ROOT = Path(__file__).resolve().parents[3]


def ask_original(questions: list[dict[str, Any]]) -> list[Any]:
    """Return its answers; a question is the keyword arguments of a function below, and its name as `ask`."""
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(questions),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{PACKAGE}", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=True,
    )
    answers: list[Any] = json.loads(done.stdout)
    return answers


def elements(names: list[str]) -> list[str] | str:
    """Return the elements that belong to an image, sorted; or the name of the exception."""
    module = runpy.run_path(str(PACKAGE / "diskimage_builder" / "element_dependencies.py"))
    try:
        return sorted(name for name, _ in module["get_elements"](names, str(ORIGINAL)))
    except Exception as error:  # noqa: BLE001 - it has several, of no common class
        return type(error).__name__


def packages(names: list[str], environment: Mapping[str, str]) -> dict[str, dict[str, list[list[str]]]] | str:
    """Return what package-installs-squash makes of elements in an environment; or the name of the exception."""
    os.environ.clear()
    os.environ.update(environment)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "packages.json")
        words = [f"--elements={' '.join(names)}", f"--path={ORIGINAL}", str(result)]
        try:
            _run(str(ORIGINAL / "package-installs" / "bin" / "package-installs-squash"), words)
        except Exception as error:  # noqa: BLE001
            return type(error).__name__
        found: dict[str, dict[str, list[list[str]]]] = json.loads(result.read_text())
        return found


def mapped(file: str, distro: str, release: str, names: list[str]) -> list[str]:
    """Return what pkg-map prints for packages."""
    words = ["--pkg-map", file, "--distro", distro, "--release", release, "--missing-ok", *names]
    return _run(str(ORIGINAL / "pkg-map" / "bin" / "pkg-map"), words).splitlines()


def _run(script: str, words: list[str]) -> str:
    out = io.StringIO()
    sys.argv = [script, *words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        runpy.run_path(script, run_name="__main__")
    return out.getvalue()


if __name__ == "__main__":
    functions: dict[str, Callable[..., Any]] = {"elements": elements, "packages": packages, "mapped": mapped}
    asked = json.loads(sys.stdin.read())
    sys.stdout.write(json.dumps([functions[each.pop("ask")](**each) for each in asked]))
