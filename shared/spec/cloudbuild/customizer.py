"""From the steps of one COS Customizer build to a native document: what each flag means as a key of the spec."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from ...build.block_devices.disk_layout import (
    COS_DISK_GB,
    LARGEST_DISK_GB,
    RECLAIMING,
    SEAL,
    SMALLEST_OEM,
    needed_disk_gb,
)
from ...names import COS_PROJECT, compute_path, quoted
from ...quantities import format_size, parse_size
from ..document import Document
from .commands import DISABLE_AUTO_UPDATE, INSTALL_ANTHOS, INSTALL_GPU, RUN_SCRIPT, SEAL_OEM, Command
from .native_draft import Draft, Origin

DEFAULT_TIMEOUT = Fraction(3600)  # seconds, of finish-image-build
DEFAULT_GPU = "nvidia-tesla-p100"  # of install-gpu, which has the driver tried on one
STEP_LIMIT = 100  # of a spec
SECTOR = 512  # bytes; what a size without a unit counts

_OF_ZONE = re.compile(r"(?:projects/[^/]+/)?zones/[^/]+/(?:diskTypes|machineTypes)/([^/]+)")
_OEM_SIZE = re.compile(r"([0-9]{1,15})([BKMG]?)")
_NAMED_TEXTS = (  # flags of finish-image-build whose text is the key's
    ("image-project", ("output", "project")),
    ("image-family", ("output", "family")),
    ("project", ("build", "project")),
    ("disk-type", ("build", "disk_type")),
    ("machine-type", ("build", "machine_type")),
    ("service-account", ("build", "service_account")),
    ("network", ("build", "network")),
    ("subnet", ("build", "subnet")),
)

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


def draft_build(
    name: str, start: Command, steps: Sequence[Command], finish: Command, limits: Sequence[tuple[Fraction, Origin]]
) -> Document:
    """Return the document of one build. `limits` are the timeouts that the workflow sets, beside -timeout."""
    draft = Draft()
    draft.locate((), start.place)
    draft.put(("name",), name, start.place)
    _source(draft, start)
    context = _context(draft, start)
    draft.put(("steps",), [], start.place)
    if len(steps) > STEP_LIMIT:
        draft.fault(("steps",), f"starts a build of {len(steps)} steps; write {STEP_LIMIT} at most", start.place)
    sealing = [step for step in steps if step.name == SEAL_OEM]
    for step in steps:
        if step not in sealing[:-1]:  # what is sealed last is what boots
            _step(draft, step, context)
    _output(draft, finish)
    _disk(draft, finish, {step["action"] for step in draft.document.data["steps"]})
    _deprecation(draft, finish)
    _machine(draft, finish, steps)
    _timeout(draft, finish, limits)
    _sbom(draft, finish, context)
    return draft.finished()


def _source(draft: Draft, start: Command) -> None:
    for flag in ("gcs-bucket", "gcs-workdir"):  # not used here, but a workflow without them is wrong
        if start.lacks(flag):
            draft.fault((f"-{flag}",), f"is missing; write -{flag}=VALUE", start.at(flag))
    draft.locate(("source",), start.place)
    if start.lacks("image-project"):
        draft.fault(("source", "project"), "is missing; write -image-project=PROJECT", start.at("image-project"))
    else:
        draft.put(("source", "project"), start.text("image-project"), start.at("image-project"))
    flags = ("image-name", "image-milestone", "image-family")
    given = [flag for flag in flags if not start.lacks(flag)]
    if not given:
        text = f"names no image; write exactly one of {', '.join('-' + flag for flag in flags)}"
        draft.fault(("source", "image"), text, start.place)
    for flag in given[1:]:
        draft.fault(("source", "image"), f"cannot stand beside -{given[0]}; keep one of them", start.at(flag))
    if given[:1] == ["image-milestone"] and start.text("image-project") not in ("", COS_PROJECT):
        text = f"only images of {COS_PROJECT} have milestones; write -image-project={COS_PROJECT}, or -image-family"
        draft.fault(("source", "milestone"), text, start.at("image-milestone"))
    elif len(given) == 1 and given[0] in start.faulty:
        draft.fault(("source", "milestone"), start.faulty[given[0]], start.at(given[0]))
    elif len(given) == 1:
        flag = given[0]
        key = {"image-name": "image", "image-milestone": "milestone", "image-family": "family"}[flag]
        value = start.number(flag) if flag == "image-milestone" else start.text(flag)
        draft.put(("source", key), value, start.at(flag))


def _context(draft: Draft, start: Command) -> str:
    """Set the context, and return its path below the workflow's folder."""
    wanted = "." if start.lacks("build-context") else start.text("build-context")
    context = start.in_workspace(wanted)
    if context is None:
        text = f"{quoted(wanted)} leads out of the workflow's folder; write a path in it"
        draft.fault(("context",), text, start.at("build-context"))
        context = "."
    draft.put(("context",), context, start.at("build-context") if "build-context" in start.uses else start.place)
    return context


def _image_name(draft: Draft, finish: Command) -> None:
    if finish.lacks("image-name") and finish.lacks("image-suffix"):
        draft.fault(("output", "name"), "names no image; write -image-name or -image-suffix", finish.place)
    elif finish.lacks("image-suffix"):
        draft.put(("output", "name"), finish.text("image-name"), finish.at("image-name"))
    else:
        draft.put(("output", "name_suffix"), finish.text("image-suffix"), finish.at("image-suffix"))
        if not finish.lacks("image-name"):
            text = "cannot stand beside -image-name; keep one of them"
            draft.fault(("output", "name_suffix"), text, finish.at("image-suffix"))


def _output(draft: Draft, finish: Command) -> None:
    draft.locate(("output",), finish.place)
    draft.locate(("build",), finish.place)
    _image_name(draft, finish)
    for flag in ("project", "zone"):
        if finish.lacks(flag):
            draft.fault(("build", flag), f"is missing; write -{flag}=VALUE", finish.at(flag))
    for flag, path in _NAMED_TEXTS:
        if not finish.lacks(flag):
            named = _OF_ZONE.fullmatch(compute_path(finish.text(flag)))
            draft.put(path, named[1] if named else finish.text(flag), finish.at(flag))
    for name, (value, place) in finish.pairs("labels").items():
        draft.put(("output", "labels", name), value, place)
        draft.locate(("output", "labels"), place)
    draft.put(("output", "own_labels"), False, finish.place)  # scripts compare the labels of what they have asked for
    if finish.switch("inherit-labels"):
        draft.put(("output", "inherit_labels"), True, finish.at("inherit-labels"))
    licences = [(text, place) for text, place in finish.items("licenses") if text]
    for number, (licence, place) in enumerate(licences):
        draft.put(("output", "licenses", number), licence, place)


def _disk(draft: Draft, finish: Command, actions: set[str]) -> None:
    draft.locate(("output", "disk_size_gb"), finish.at("disk-size-gb"))
    if not finish.lacks("disk-size-gb") and finish.number("disk-size-gb"):
        draft.put(("output", "disk_size_gb"), finish.number("disk-size-gb"), finish.at("disk-size-gb"))
    if finish.lacks("oem-size"):
        return
    text = finish.text("oem-size")
    size = _OEM_SIZE.fullmatch(text)
    if size is None:
        remedy = "write a whole number with B, K, M or G, such as 500M, or a count of 512-byte sectors"
        draft.fault(("output", "oem_size"), f"{quoted(text)} is not a size; {remedy}", finish.at("oem-size"))
        return
    written = text if size[2] else format_size(int(text) * SECTOR)
    draft.put(("output", "oem_size"), written, finish.at("oem-size"))
    _room(draft, finish, parse_size(written), actions)


def _room(draft: Draft, finish: Command, oem_size: int, actions: set[str]) -> None:
    """Hold the disk to the size of the OEM partition, as the spec's own rule does, and name the flags."""
    asked = finish.number("disk-size-gb") or None
    needed = needed_disk_gb(oem_size, sealed=SEAL in actions, reclaim=not actions.isdisjoint(RECLAIMING))
    size = quoted(finish.text("oem-size"))
    if "disk-size-gb" in finish.faulty or oem_size < SMALLEST_OEM or needed <= (asked or COS_DISK_GB):
        return
    if needed > LARGEST_DISK_GB:
        text = f"{size} fits on no disk, of which the largest has {LARGEST_DISK_GB} GB; write a smaller size"
        draft.fault(("output", "oem_size"), text, finish.at("oem-size"))
    elif asked is None:
        text = f"{size} does not fit on the {COS_DISK_GB} GB of the source; write -disk-size-gb={needed} beside it"
        draft.fault(("output", "oem_size"), text, finish.at("oem-size"))
    elif asked > 0:
        text = f"{asked} GB cannot hold -oem-size={finish.text('oem-size')}; write at least {needed}"
        draft.fault(("output", "disk_size_gb"), text, finish.at("disk-size-gb"))


def _deprecation(draft: Draft, finish: Command) -> None:
    path = ("output", "deprecate_old")
    is_asked = finish.switch("deprecate-old-images")
    if is_asked:
        draft.put(path, {}, finish.at("deprecate-old-images"))
        if finish.lacks("image-family"):
            text = "needs -image-family, whose older images it deprecates; add it"
            draft.fault(path, text, finish.at("deprecate-old-images"))
    if finish.lacks("old-image-ttl") or not (seconds := finish.number("old-image-ttl")):
        return
    place = finish.at("old-image-ttl")
    if not is_asked:
        draft.fault((*path, "ttl"), "needs -deprecate-old-images; add it, or leave this out", place)
    elif seconds > 0:  # a negative one counted as none
        draft.put((*path, "ttl"), f"{seconds}s", place)


def _machine(draft: Draft, finish: Command, steps: Sequence[Command]) -> None:
    if not finish.lacks("zone"):
        draft.put(("build", "zones", 0), finish.text("zone"), finish.at("zone"))
        draft.locate(("build", "zones"), finish.at("zone"))
    draft.put(("build", "external_ip"), True, finish.place)  # as its VMs always had
    installing = next((step for step in steps if step.name == INSTALL_GPU), None)
    if not finish.lacks("gpu-type"):
        draft.put(("build", "gpu_type"), finish.text("gpu-type"), finish.at("gpu-type"))
    elif installing is not None and "gpu-type" not in installing.uses:
        draft.put(("build", "gpu_type"), DEFAULT_GPU, installing.place)
    elif installing is not None and not installing.lacks("gpu-type"):
        draft.put(("build", "gpu_type"), installing.text("gpu-type"), installing.at("gpu-type"))


def _timeout(draft: Draft, finish: Command, limits: Sequence[tuple[Fraction, Origin]]) -> None:
    own = finish.seconds("timeout")
    if own is not None and own <= 0:
        draft.fault(("build", "timeout"), "leaves no time; write a longer one, such as 1h", finish.at("timeout"))
        return
    if own is not None:
        limits = [(own, finish.at("timeout")), *limits]
    else:
        limits = [limit for limit in limits if limit[0] < DEFAULT_TIMEOUT]
    if limits:
        seconds, place = min(limits, key=lambda limit: limit[0])
        draft.put(("build", "timeout"), f"{math.ceil(seconds)}s", place)


def _leads_out(path: str, folder: str) -> bool:
    """Return whether a path of the workflow's folder lies outside of one that is below it, or is it."""
    return posixpath.relpath("/" + path, "/" + folder).split("/")[0] in ("..", ".") or path.startswith(("/", ".."))


def _sbom(draft: Draft, finish: Command, context: str) -> None:
    """Set the list that is read from the build context, and the folder that the bill of materials is written to."""
    for flag, other, key in (
        ("sbom-input-path", "sbom-output-path", "input"),
        ("sbom-output-path", "sbom-input-path", "to"),
    ):
        if finish.lacks(flag):
            continue
        path, place, text = ("output", "sbom", key), finish.at(flag), finish.text(flag)
        draft.locate(("output", "sbom"), place)
        found = posixpath.normpath(posixpath.join(context, text)) if key == "input" else text.rstrip("/") + "/"
        if finish.lacks(other):
            draft.fault(path, f"needs -{other} as well; add it, or leave this out", place)
        elif key == "input" and _leads_out(found, context):
            draft.fault(path, f"{quoted(text)} leads out of the build context; write a path in it", place)
        elif key == "to" and not text.startswith("gs://"):
            draft.fault(path, f"{quoted(text)} is no folder of Cloud Storage; write gs://bucket/folder", place)
        else:
            draft.put(path, found, place)


def _step(draft: Draft, command: Command, context: str) -> None:
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
    if folder is None:
        text = f"{quoted(command.text('deps-dir'))} leads out of the workflow's folder; write a path in it"
        draft.fault(path, text, command.at("deps-dir"))
    else:  # which may be outside of the build context: its files go along
        draft.put(path, posixpath.relpath("/" + folder, "/" + context), command.at("deps-dir"))


def _install_anthos(draft: Draft, command: Command, number: int) -> None:
    _put_required(draft, command, "pkgspec-url", number, "package_spec")
    if not command.lacks("top-workdir"):
        folder = posixpath.normpath(posixpath.join("/", command.text("top-workdir")))  # its provisioner ran in /
        draft.put(("steps", number, "inputs", "workdir"), folder, command.at("top-workdir"))
    if command.installer:
        draft.put(("steps", number, "inputs", "installer"), command.installer, command.place)


def _put_required(draft: Draft, command: Command, flag: str, number: int, key: str) -> None:
    path = ("steps", number, "inputs", key)
    if flag in command.faulty:
        draft.fault(path, command.faulty[flag], command.at(flag))
    elif command.lacks(flag):
        draft.fault(path, f"is missing; write -{flag}=VALUE", command.at(flag))
    else:
        draft.put(path, command.text(flag), command.at(flag))


def _step_name(command: Command, steps: list[Any]) -> str:
    """Name a step by its id, else its script, else what it does; no two alike."""
    script = posixpath.splitext(posixpath.basename(command.text("script")))[0] if command.name == RUN_SCRIPT else ""
    wanted = str(command.step.get("id") or script or ACTIONS[command.name])
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", wanted).lstrip("-_.")[:STEP_NAME_LENGTH] or ACTIONS[command.name]
    return unique(name, {step["name"] for step in steps}, STEP_NAME_LENGTH)


def unique(name: str, taken: set[str], longest: int) -> str:
    """Return a name, with a number behind it where it is taken."""
    result, number = name, 1
    while result in taken:
        number += 1
        end = f"-{number}"
        result = name[: longest - len(end)].rstrip("-") + end
    return result
