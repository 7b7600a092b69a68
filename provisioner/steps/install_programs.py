"""install-programs: install what a maker VM needs to make a root, where it is not there."""

from __future__ import annotations

import os

from ..protocol import InstallPackages, InstallPrograms
from ..system.process import find_program
from .install_packages import act as install_packages
from .step_context import StepContext, StepError

SOURCES = ("etc/apt/sources.list", "etc/apt/sources.list.d")


def act(inputs: InstallPrograms, context: StepContext) -> int:
    """Return 0. StepError names the packages, and the mirrors that they were to come from."""
    missing = missing_packages(inputs, context.root)
    if not missing:
        return 0
    context.output.say("installing " + ", ".join(missing))
    status = install_packages(InstallPackages(tuple(missing)), context)
    left = missing_packages(inputs, context.root)
    if status or left:
        raise StepError(
            "the maker image lacks programs, and apt-get cannot install {} from {}: let the VM reach that mirror, or "
            "name a maker image that has them (maker_image of the deployment)".format(
                ", ".join(left or missing), ", ".join(mirrors(context.root)) or "any mirror"
            ),
            status,
        )
    return 0


def missing_packages(inputs: InstallPrograms, root: str) -> list[str]:
    """Return the packages of the programs and files that are not there, sorted."""
    return sorted({package for name, package in inputs.packages.items() if not _is_there(name, root)})


def _is_there(name: str, root: str) -> bool:
    if name.startswith("/"):
        return os.path.exists(os.path.join(root, name[1:]))
    return bool(find_program(name, root))


def mirrors(root: str) -> list[str]:
    """Return the hosts that apt takes packages from, as far as its files tell."""
    found: set[str] = set()
    for path in _source_files(root):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                words = [word for line in file if not line.lstrip().startswith("#") for word in line.split()]
        except OSError:
            continue
        found.update(word.split("/")[2] for word in words if word.startswith(("http://", "https://")))
    return sorted(found)


def _source_files(root: str) -> list[str]:
    files = []
    for place in SOURCES:
        path = os.path.join(root, place)
        if os.path.isdir(path):
            files += [os.path.join(path, name) for name in os.listdir(path) if name.endswith((".list", ".sources"))]
        else:
            files.append(path)
    return files
