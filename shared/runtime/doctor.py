"""Check this machine for everything that builds need."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..architectures import ARM64
from ..errors import GoldsmithError, MissingTool
from ..host.programs import PACKAGES, find_tool, run_tool
from ..host.scratch import temporary_folder
from ..machines.accelerator import accelerator
from ..machines.start import find_uefi

FOREIGN_PROGRAMS = frozenset([ARM64.emulator, f"qemu-{ARM64.kernel}-static"])
"""Programs that only images for another processor need."""
INSTALLER = Path(__file__).resolve().parents[2] / "setup" / "apt-packages.sh"
_STANDARD_ERROR = 2  # what apt-get says is no result
ROOM = 4_000_000_000  # bytes: a base image, a build VM's disk and an archive, with some to spare


@dataclass(frozen=True)
class HostCheck:
    """One thing that was looked at."""

    what: str
    good: bool
    text: str


def examine(home: Path) -> list[HostCheck]:
    """Look at programs, packages, accelerator, what emulates other processors, user namespaces and room."""
    place = _home(home)
    if place.good:
        return [*_programs(), _packages(), _accelerator(home), _foreign(), _namespaces(), place]
    with temporary_folder() as elsewhere:  # the answer cannot be kept at home
        return [*_programs(), _packages(), _accelerator(elsewhere), _foreign(), _namespaces(), place]


def lacking_packages() -> list[str]:
    """Return the packages of Debian and Ubuntu that builds need and this machine lacks."""
    return run_tool([INSTALLER, "--missing", "base"]).split()


def install_lacking_packages() -> bool:
    """Install what lacking_packages() names, as root or by sudo, with apt-get's output; return whether it was done."""
    return subprocess.run([INSTALLER, "base"], stdout=_STANDARD_ERROR, check=False).returncode == 0


def _programs() -> Iterator[HostCheck]:
    for program in sorted(set(PACKAGES) - FOREIGN_PROGRAMS):
        try:
            yield HostCheck(program, True, find_tool(program))
        except MissingTool as error:
            yield HostCheck(program, False, str(error))


def _packages() -> HostCheck:
    missing = lacking_packages()
    if missing:
        return HostCheck("packages", False, f"{' '.join(missing)}; install them by: goldsmith doctor --install")
    return HostCheck("packages", True, "all that Debian and Ubuntu have of it")


def _accelerator(home: Path) -> HostCheck:
    try:
        found = accelerator(home)
    except GoldsmithError as error:
        return HostCheck("accelerator", False, str(error))
    return HostCheck("accelerator", True, f"{found.name}: {found.reason}")


def _foreign() -> HostCheck:
    """Tell what there is of all that images for arm64 need. Where there are no such images, nothing is missed."""
    lacking = []
    for program in sorted(FOREIGN_PROGRAMS):
        try:
            find_tool(program)
        except MissingTool as error:
            lacking.append(str(error))
    try:
        firmware = str(find_uefi(ARM64)[0])
    except MissingTool as error:
        firmware = ""
        lacking.append(str(error))
    if lacking:
        return HostCheck(ARM64.name, True, f"not all that images for {ARM64.name} need: {'; '.join(lacking)}")
    return HostCheck(ARM64.name, True, f"VMs by {find_tool(ARM64.emulator)}, firmware {firmware}")


def _namespaces() -> HostCheck:
    if os.geteuid() == 0:
        return HostCheck("bootstrap", True, "as root")
    done = subprocess.run(["unshare", "--user", "--map-auto", "true"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return HostCheck("bootstrap", True, "rootless, in a user namespace")
    remedy = "allow user namespaces and give yourself ranges in /etc/subuid and /etc/subgid, or bootstrap as root"
    return HostCheck("bootstrap", False, f"no user namespace ({done.stderr.strip()}); {remedy}")


def _home(folder: Path) -> HostCheck:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if not existing.is_dir():
        return HostCheck("home", False, f"{existing} is not a folder; set GOLDSMITH_HOME to one")
    if not os.access(existing, os.W_OK | os.X_OK):
        return HostCheck("home", False, f"{existing}: you may not write there; set GOLDSMITH_HOME to another folder")
    if existing == folder and folder.stat().st_uid != os.geteuid():
        return HostCheck("home", False, f"{folder} belongs to another user; set GOLDSMITH_HOME to a folder of your own")
    if free < ROOM:
        return HostCheck("home", False, f"{folder}: {free / 1e9:.1f} GB free; a build may need {ROOM / 1e9:.0f} GB")
    return HostCheck("home", True, f"{folder}, {free / 1e9:.0f} GB free")
