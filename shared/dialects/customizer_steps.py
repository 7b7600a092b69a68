"""From COS Customizer's optional steps to the steps of a spec."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any

from ..names import quoted
from .customizer_command import Command
from .customizer_flags import DISABLE_AUTO_UPDATE, INSTALL_ANTHOS, INSTALL_GPU, RUN_SCRIPT, SEAL_OEM
from .native_draft import Draft

INTERPRETER = "/bin/bash"  # what ran every script, whatever its first line said
STEP_NAME_LENGTH = 63  # of a spec's step

ACTIONS: Mapping[str, str] = {
    RUN_SCRIPT: "run-script",
    INSTALL_GPU: "install-gpu",
    INSTALL_ANTHOS: "install-anthos",
    SEAL_OEM: "seal-oem",
    DISABLE_AUTO_UPDATE: "disable-auto-update",
}
"""For each optional subcommand, the action that does its work."""

_INSTALLER = ".run"  # how the name of NVIDIA's own installer ends


def draft_step(draft: Draft, command: Command, context: str) -> None:
    """Add the step of an optional subcommand. `context` is the build's, below the workflow's folder."""
    steps: list[Any] = draft.document.data["steps"]
    if command.name == DISABLE_AUTO_UPDATE and any(step["action"] == ACTIONS[command.name] for step in steps):
        return  # done once, it is done
    number = len(steps)
    draft.put(("steps", number, "name"), _step_name(command, steps), command.place)
    draft.put(("steps", number, "action"), ACTIONS[command.name], command.place)
    draft.locate(("steps", number), command.place)
    if command.name == RUN_SCRIPT:
        _run_script(draft, command, number)
    elif command.name == INSTALL_GPU:
        _install_gpu(draft, command, number, context)
    elif command.name == INSTALL_ANTHOS:
        _install_anthos(draft, command, number)


def _run_script(draft: Draft, command: Command, number: int) -> None:
    _put_required(draft, command, "script", number, "script")
    draft.put(("steps", number, "inputs", "interpreter"), INTERPRETER, command.place)
    for name, (value, place) in command.pairs("env").items():
        draft.locate(("steps", number, "inputs", "env"), place)
        draft.put(("steps", number, "inputs", "env", name), value, place)


def _install_gpu(draft: Draft, command: Command, number: int, context: str) -> None:
    if any(step["action"] == ACTIONS[command.name] for step in draft.document.data["steps"][:number]):
        text = "is the second install-gpu of this build, and an image holds one driver; remove one of them"
        draft.fault(("steps", number, "action"), text, command.place)
    _put_required(draft, command, "version", number, "version")
    for flag, key in (("md5sum", "md5sum"), ("install-dir", "install_dir"), ("installer-container",) * 2):
        if not command.lacks(flag):
            draft.put(("steps", number, "inputs", key.replace("-", "_")), command.text(flag), command.at(flag))
    path = ("steps", number, "inputs", "deps_dir")
    if command.lacks("deps-dir"):
        if command.text("version").endswith(_INSTALLER):
            text = f"is missing; write -deps-dir=FOLDER, the folder of {quoted(command.text('version'))}"
            draft.fault(path, text, command.at("deps-dir"))
        return
    folder = command.in_workspace(command.text("deps-dir"))
    inside = None if folder is None else _below(folder, context)
    if inside is None:
        text = f"{quoted(command.text('deps-dir'))} lies outside the build context; move it there, and name it here"
        draft.fault(path, text, command.at("deps-dir"))
    else:
        draft.put(path, inside, command.at("deps-dir"))


def _install_anthos(draft: Draft, command: Command, number: int) -> None:
    _put_required(draft, command, "pkgspec-url", number, "package_spec")
    if not command.lacks("top-workdir"):
        draft.put(("steps", number, "inputs", "workdir"), command.text("top-workdir"), command.at("top-workdir"))


def _put_required(draft: Draft, command: Command, flag: str, number: int, key: str) -> None:
    path = ("steps", number, "inputs", key)
    if flag in command.faulty:
        draft.fault(path, command.faulty[flag], command.at(flag))
    elif command.lacks(flag):
        draft.fault(path, f"is missing; write -{flag}=VALUE", command.at(flag))
    else:
        draft.put(path, command.text(flag), command.at(flag))


def _below(path: str, folder: str) -> str | None:
    """Give a path relative to a folder; both are below the workflow's folder, and normal."""
    if folder in (".", path):
        return "." if path == folder else path
    return posixpath.relpath(path, folder) if path.startswith(folder + "/") else None


def _step_name(command: Command, steps: list[Any]) -> str:
    """Name a step by its id, else its script, else what it does; no two alike."""
    script = posixpath.splitext(posixpath.basename(command.text("script")))[0] if command.name == RUN_SCRIPT else ""
    wanted = str(command.step.get("id") or script or ACTIONS[command.name])
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", wanted).lstrip("-_.")[:STEP_NAME_LENGTH] or ACTIONS[command.name]
    return unique(name, {step["name"] for step in steps}, STEP_NAME_LENGTH)


def unique(name: str, taken: set[str], longest: int) -> str:
    """Give a name, with a number behind it where it is taken."""
    result, number = name, 1
    while result in taken:
        number += 1
        end = f"-{number}"
        result = name[: longest - len(end)].rstrip("-") + end
    return result
