"""Where diskimage-builder's own elements are: in its package on this machine, or one that is fetched from PyPI.

Elements of a person's own need them as a rule: vm, debian-minimal, package-installs. Of the package nothing is run.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import EnvironmentFault
from ..host.programs import ProgramFailed, run_tool

VERSION = "3.43.0"
REQUIREMENT = (
    f"diskimage-builder=={VERSION} --hash=sha256:ece951ea63ea0ea55ecb4c4a75d6d453dc5e77c5558aace3dee883fa0e2dd039"
)
"""What is fetched, with the digest of its only file."""
PACKAGE, ELEMENTS_FOLDER = "diskimage_builder", "elements"
REMEDY = (
    "pip download --no-deps diskimage-builder, unpack what that writes with unzip, and name its folder "
    f"{PACKAGE}/{ELEMENTS_FOLDER} with --path"
)

_PROGRAM = "disk-image-create"
_FIND = f"""import sys
sys.path[:] = [each for each in sys.path if each]
from importlib.util import find_spec
found = find_spec({PACKAGE!r})
print(list(found.submodule_search_locations or [""])[0] if found else "")
"""


def installed_elements() -> Path | None:
    """Return the elements of a diskimage-builder of this machine: that of python3, or of the program on PATH."""
    for python in dict.fromkeys(_pythons()):
        try:
            package = run_tool([python, "-B", "-c", _FIND]).strip()
        except (ProgramFailed, OSError):
            continue
        folder = Path(package) / ELEMENTS_FOLDER
        if package and folder.is_dir():
            return folder
    return None


def _pythons() -> Iterator[str]:
    """Yield the Python of the machine, and the one that the program's first line names."""
    if found := shutil.which("python3"):
        yield found
    program = shutil.which(_PROGRAM)
    if program is None:
        return
    try:
        with Path(program).open("rb") as file:
            first = file.readline(1024).decode("utf-8", "replace")
    except OSError:
        return
    words = first.removeprefix("#!").split()
    if first.startswith("#!") and words and os.access(words[0], os.X_OK) and "python" in Path(words[0]).name:
        yield words[0]


def fetched_elements(folder: Path, tell: Callable[[str], None], requirement: str = REQUIREMENT) -> Path:
    """Return the elements of the package below a folder of Goldsmith's, which is fetched once. EnvironmentFault."""
    name = requirement.partition(" ")[0].replace("==", "-")
    place = folder / name
    if not place.is_dir():
        tell(f"fetching {name} with pip: its elements are needed")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as scratch:
            _install(requirement, Path(scratch), name)
            try:
                (Path(scratch) / "unpacked").rename(place)
            except OSError:
                if not place.is_dir():  # else another process has done the same
                    raise
    return place / PACKAGE / ELEMENTS_FOLDER


def _install(requirement: str, scratch: Path, name: str) -> None:
    """Unpack the package with pip, which knows this machine's index, proxies and certificates."""
    asked = scratch / "requirements.txt"
    asked.write_text(requirement + "\n", encoding="utf-8")
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--require-hashes", "--no-deps", "--no-compile"]
    command = [sys.executable, "-m", "pip", "install", *options, "--only-binary", ":all:"]
    try:
        run_tool([*command, "--target", scratch / "unpacked", "-r", asked])
    except ProgramFailed as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise EnvironmentFault(
            f"{name}, whose elements are needed, cannot be fetched: {lines[-1] if lines else error}; "
            f"install it (pip install diskimage-builder), or: {REMEDY}"
        ) from error
