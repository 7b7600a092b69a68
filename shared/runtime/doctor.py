"""Check this machine for everything that builds need."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
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
INSTALL = "goldsmith doctor --install"
OWN_HOME = 'export GOLDSMITH_HOME="$HOME/goldsmith"'
SUB_IDS = "100000-165535"
ROOM = 4_000_000_000  # bytes: a base image, a build VM's disk and an archive, with some to spare


@dataclass(frozen=True)
class HostCheck:
    """One thing that was looked at."""

    what: str
    good: bool
    text: str
    remedy: str = ""  # a command for the shell that mends it; "": it is good, or there is none


def examine(home: Path) -> list[HostCheck]:
    """Look at programs, packages, accelerator, what emulates other processors, user namespaces and room."""
    place = _home(home)
    if place.good:
        return [*_programs(), _packages(), _accelerator(home), _foreign(), _namespaces(), place]
    with temporary_folder() as elsewhere:  # the answer cannot be kept at home
        return [*_programs(), _packages(), _accelerator(elsewhere), _foreign(), _namespaces(), place]


def mending(checks: Sequence[HostCheck]) -> str:
    """Return the one command line that mends all that can be; "" where nothing is to be mended, or can be."""
    return " && ".join(dict.fromkeys(check.remedy for check in checks if check.remedy))


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
            yield HostCheck(program, False, str(error), INSTALL)


def _packages() -> HostCheck:
    try:
        missing = lacking_packages()
    except GoldsmithError as error:  # a machine without cat, or a PATH without it
        why = " ".join(str(error).split())
        return HostCheck("packages", False, f"{why}; check PATH, which is {os.environ.get('PATH', 'not set')}")
    if missing:
        return HostCheck("packages", False, f"{' '.join(missing)}; install them by: {INSTALL}", INSTALL)
    return HostCheck("packages", True, "all that Debian and Ubuntu have of it")


def _accelerator(home: Path) -> HostCheck:
    try:
        found = accelerator(home)
    except GoldsmithError as error:
        return HostCheck("accelerator", False, str(error), INSTALL if isinstance(error, MissingTool) else "")
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
    try:
        done = subprocess.run(["unshare", "--user", "--map-auto", "true"], capture_output=True, text=True, check=False)
    except OSError as error:
        text = f"unshare cannot be run ({error.strerror}); install util-linux, and check PATH"
        return HostCheck("bootstrap", False, text)
    if done.returncode == 0:
        return HostCheck("bootstrap", True, "rootless, in a user namespace")
    remedy = "allow user namespaces and give yourself ranges in /etc/subuid and /etc/subgid, or bootstrap as root"
    mended = " && ".join(namespace_commands(Path("/proc/sys/kernel"), Path("/etc")))
    return HostCheck("bootstrap", False, f"no user namespace ({done.stderr.strip()}); {remedy}", mended)


def namespace_commands(kernel: Path, etc: Path) -> Iterator[str]:
    """Yield the commands that allow user namespaces where the kernel forbids them, and that give the user ranges."""
    for name, allowed in (("unprivileged_userns_clone", "1"), ("apparmor_restrict_unprivileged_userns", "0")):
        setting = kernel / name
        if setting.exists() and setting.read_text().strip() != allowed:
            yield f"sudo sysctl -w kernel.{name}={allowed}"
    user = pwd.getpwuid(os.geteuid()).pw_name
    files = [etc / "subuid", etc / "subgid"]
    if not all(
        file.exists() and any(line.startswith(f"{user}:") for line in file.read_text().splitlines()) for file in files
    ):
        yield f"sudo usermod --add-subuids {SUB_IDS} --add-subgids {SUB_IDS} {shlex.quote(user)}"


def _has_range(file: Path, user: str) -> bool:
    return file.exists() and any(line.startswith(f"{user}:") for line in file.read_text().splitlines())


def _home(folder: Path) -> HostCheck:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if not existing.is_dir():
        return HostCheck("home", False, f"{existing} is not a folder; set GOLDSMITH_HOME to one", OWN_HOME)
    if not os.access(existing, os.W_OK | os.X_OK):
        where = f"{existing}: you may not write there; set GOLDSMITH_HOME to another folder"
        return HostCheck("home", False, where, OWN_HOME)
    if existing == folder and folder.stat().st_uid != os.geteuid():
        where = f"{folder} belongs to another user; set GOLDSMITH_HOME to a folder of your own"
        return HostCheck("home", False, where, OWN_HOME)
    if free < ROOM:
        room = f"{folder}: {free / 1e9:.1f} GB free; a build may need {ROOM / 1e9:.0f} GB"
        return HostCheck("home", False, room, "goldsmith cache prune")
    return HostCheck("home", True, f"{folder}, {free / 1e9:.0f} GB free")
