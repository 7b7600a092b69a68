"""The Pythons on this machine that an image may have: the tests' own, those of pyenv, those on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CHOSEN = "GOLDSMITH_TEST_PYTHON"  # the variable that names another than the oldest
VERSIONS = tuple(f"3.{minor}" for minor in range(6, 14))


def pythons() -> dict[str, str]:
    """Return the programs by their versions, such as 3.6, the oldest first; each version once."""
    return dict(_found())


@cache
def chosen_python() -> str:
    """Return the program that runs the bundle in tests: the oldest, which lacks most."""
    return os.environ.get(CHOSEN) or next(_found(), ("", sys.executable))[1]


def _found() -> Iterator[tuple[str, str]]:
    for version in VERSIONS:
        program = next(filter(runs, _candidates(version)), None)
        if program:
            yield version, program


def _candidates(version: str) -> list[str]:
    ours = [sys.executable] if "{}.{}".format(*sys.version_info) == version else []
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    of_pyenv = [str(path) for path in sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))]
    on_path = shutil.which(f"python{version}")  # pyenv puts programs there also for versions that it lacks
    return [*ours, *of_pyenv, *([on_path] if on_path else [])]


def runs(program: str) -> bool:
    return subprocess.run([program, "-I", "-S", "-c", ""], capture_output=True, check=False).returncode == 0


def main() -> int:
    """Print which versions are absent, for `make test`."""
    absent = [version for version in VERSIONS if version not in pythons()]
    if absent:
        sys.stderr.write(f"test: the provisioner is not tested with Python {', '.join(absent)}: not here\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
