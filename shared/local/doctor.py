"""What builds need of this machine, looked at for real."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import GoldsmithError, MissingTool
from .accelerator import accelerator
from .programs import PACKAGES, find
from .scratch import temporary_folder

ROOM = 4_000_000_000  # bytes: a base image, a build VM's disk and an archive, with some to spare


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool
    text: str


def examine(home: Path) -> list[Finding]:
    """Look at programs, accelerator, user namespaces and room."""
    place = _home(home)
    if place.good:
        return [*_programs(), _accelerator(home), _namespaces(), place]
    with temporary_folder() as elsewhere:  # the answer cannot be kept at home
        return [*_programs(), _accelerator(elsewhere), _namespaces(), place]


def _programs() -> Iterator[Finding]:
    for program in sorted(PACKAGES):
        try:
            yield Finding(program, True, find(program))
        except MissingTool as error:
            yield Finding(program, False, str(error))


def _accelerator(home: Path) -> Finding:
    try:
        found = accelerator(home)
    except GoldsmithError as error:
        return Finding("accelerator", False, str(error))
    return Finding("accelerator", True, f"{found.name}: {found.reason}")


def _namespaces() -> Finding:
    if os.geteuid() == 0:
        return Finding("bootstrap", True, "as root")
    done = subprocess.run(["unshare", "--user", "--map-auto", "true"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Finding("bootstrap", True, "rootless, in a user namespace")
    remedy = "allow user namespaces and give yourself ranges in /etc/subuid and /etc/subgid, or bootstrap as root"
    return Finding("bootstrap", False, f"no user namespace ({done.stderr.strip()}); {remedy}")


def _home(folder: Path) -> Finding:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if not existing.is_dir():
        return Finding("home", False, f"{existing} is not a folder; set GOLDSMITH_HOME to one")
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding("home", False, f"{existing}: you may not write there; set GOLDSMITH_HOME to another folder")
    if existing == folder and folder.stat().st_uid != os.geteuid():
        return Finding("home", False, f"{folder} belongs to another user; set GOLDSMITH_HOME to a folder of your own")
    if free < ROOM:
        return Finding("home", False, f"{folder}: {free / 1e9:.1f} GB free; a build may need {ROOM / 1e9:.0f} GB")
    return Finding("home", True, f"{folder}, {free / 1e9:.0f} GB free")
