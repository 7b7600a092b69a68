"""COS Customizer's command line: its subcommands with their flags, and one step of a workflow that runs one of them."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ...names import nearest, quoted
from ..document import Document, KeyPath, Problem
from .go_flags import Fault, Kind, Use, parse_flags
from .native_draft import Origin

START, FINISH = "start-image-build", "finish-image-build"
RUN_SCRIPT, INSTALL_GPU, INSTALL_ANTHOS = "run-script", "install-gpu", "anthos-installer-install"
SEAL_OEM, DISABLE_AUTO_UPDATE = "seal-oem", "disable-auto-update"
ASIDE = ("help", "flags")  # they only print

STATE = "local-state-workdir"
ENDPOINT = "compute-endpoint"
GLOBAL_FLAGS: Mapping[str, Kind] = {STATE: Kind.TEXT, ENDPOINT: Kind.TEXT}

SUBCOMMANDS: Mapping[str, Mapping[str, Kind]] = {
    START: {
        "build-context": Kind.TEXT,
        "gcs-bucket": Kind.TEXT,
        "gcs-workdir": Kind.TEXT,
        "image-project": Kind.TEXT,
        "image-name": Kind.TEXT,
        "image-milestone": Kind.NUMBER,
        "image-family": Kind.TEXT,
    },
    RUN_SCRIPT: {"script": Kind.TEXT, "env": Kind.PAIRS},
    INSTALL_GPU: {
        "version": Kind.TEXT,
        "md5sum": Kind.TEXT,
        "install-dir": Kind.TEXT,
        "gpu-type": Kind.TEXT,
        "get-valid-drivers": Kind.SWITCH,
        "deps-dir": Kind.TEXT,
        "installer-container": Kind.TEXT,
    },
    INSTALL_ANTHOS: {"pkgspec-url": Kind.TEXT, "top-workdir": Kind.TEXT},
    SEAL_OEM: {},
    DISABLE_AUTO_UPDATE: {},
    FINISH: {
        "image-project": Kind.TEXT,
        "project": Kind.TEXT,
        "zone": Kind.TEXT,
        "image-name": Kind.TEXT,
        "image-suffix": Kind.TEXT,
        "image-family": Kind.TEXT,
        "deprecate-old-images": Kind.SWITCH,
        "old-image-ttl": Kind.NUMBER,
        "labels": Kind.PAIRS,
        "licenses": Kind.LIST,
        "inherit-labels": Kind.SWITCH,
        "disk-size-gb": Kind.NUMBER,
        "disk-type": Kind.TEXT,
        "machine-type": Kind.TEXT,
        "service-account": Kind.TEXT,
        "network": Kind.TEXT,
        "subnet": Kind.TEXT,
        "gpu-type": Kind.TEXT,
        "oem-size": Kind.TEXT,
        "timeout": Kind.DURATION,
        "enable-cleanup": Kind.SWITCH,
        "sbom-input-path": Kind.TEXT,
        "sbom-output-path": Kind.TEXT,
    },
}

WORKSPACE = "/workspace"  # where Cloud Build unpacks the source and starts every step
_STATE_FOLDER = ".cos-customizer-workdir"  # where the flag is not given


@dataclass(frozen=True)
class Command:
    """A subcommand with its flags; a flag with an empty value, or 0, counts as not given, as it does there."""

    index: int  # of the workflow's step
    name: str
    step: Mapping[str, Any]
    state: tuple[str, ...]  # steps with the same belong to one build
    document: Document  # the workflow's
    uses: Mapping[str, Sequence[Use]] = field(default_factory=dict)
    faulty: Mapping[str, str] = field(default_factory=dict)  # flags whose value cannot be read, and why
    wrong: Mapping[str, int] = field(default_factory=dict)  # the arguments that these are
    endpoint: Use | None = None  # of Compute Engine's API, where the step names one
    installer: str = ""  # of Anthos, where the workflow is given another one

    @property
    def path(self) -> KeyPath:
        """The step's place among the workflow's values."""
        return ("steps", self.index)

    @property
    def place(self) -> Origin:
        """The place of the step."""
        return Origin(self.document.position(self.path), f"steps[{self.index}]")

    def at(self, flag: str, use: int = -1) -> Origin:
        """Return the place of a flag's last use, or of its use of that number; the step's if it is absent."""
        if flag in self.wrong:
            path: KeyPath = (*self.path, "args", self.wrong[flag])
        else:
            path = (*self.path, "args", self.uses[flag][use].argument) if flag in self.uses else self.path
        return Origin(self.document.position(path), f"{self.place.shown} -{flag}")

    def beside(self, key: str) -> Origin:
        """Return the place of another key of the step."""
        return Origin(self.document.position((*self.path, key)), f"{self.place.shown}.{key}")

    def lacks(self, flag: str) -> bool:
        """Return whether a flag is not given."""
        return flag not in self.faulty and not self._last(flag, None)

    def text(self, flag: str) -> str:
        """Return the value of a flag that takes text."""
        return str(self._last(flag, ""))

    def number(self, flag: str) -> int:
        """Return the value of a flag that takes a whole number."""
        return int(self._last(flag, 0))

    def switch(self, flag: str) -> bool:
        """Return the value of a boolean flag."""
        return bool(self._last(flag, False))

    def seconds(self, flag: str) -> Fraction | None:
        """Return the value of a flag that takes a duration, in seconds; None when it is not given."""
        value = self._last(flag, None)
        return value if isinstance(value, Fraction) else None

    def pairs(self, flag: str) -> dict[str, tuple[str, Origin]]:
        """Return the names and values of all uses of a flag, with the place of each; later uses win."""
        found: dict[str, tuple[str, Origin]] = {}
        for number, use in enumerate(self.uses.get(flag, ())):
            found |= {name: (value, self.at(flag, number)) for name, value in use.value.items()}
        return found

    def items(self, flag: str) -> list[tuple[str, Origin]]:
        """Return the entries of all uses of a flag that takes a list, with the place of each."""
        uses = enumerate(self.uses.get(flag, ()))
        return [(item, self.at(flag, number)) for number, use in uses for item in use.value]

    def in_workspace(self, path: str) -> str | None:
        """Return a path on the builder relative to the workflow's folder; None where it leads out of it."""
        whole = posixpath.normpath(posixpath.join(WORKSPACE, str(self.step.get("dir", "")), path))
        if whole != WORKSPACE and not whole.startswith(WORKSPACE + "/"):
            return None
        return posixpath.relpath(whole, WORKSPACE)

    def _last(self, flag: str, default: Any) -> Any:
        return self.uses[flag][-1].value if flag in self.uses else default


def read_command(index: int, step: Mapping[str, Any], document: Document) -> tuple[Command | None, list[Problem]]:
    """Read the arguments of a step, its references replaced; None where it names no subcommand."""
    arguments: tuple[str, ...] = step.get("args", ())
    path: KeyPath = ("steps", index)
    before = parse_flags(arguments, 0, GLOBAL_FLAGS)
    problems = [_problem(fault, path, document) for fault in before.faults]
    if before.rest == len(arguments):
        text = f"names no subcommand; write one of: {', '.join(SUBCOMMANDS)}"
        return None, [*problems, Problem((*path, "args"), text)]
    name = arguments[before.rest]
    if name in ASIDE:
        return Command(index, name, step, (), document), problems
    if name not in SUBCOMMANDS:
        text = f"{quoted(name)} is no subcommand; {nearest(name, SUBCOMMANDS)}"
        return None, [*problems, Problem((*path, "args", before.rest), text)]
    parsed = parse_flags(arguments, before.rest + 1, SUBCOMMANDS[name])
    problems += [_problem(fault, path, document) for fault in parsed.faults]
    if parsed.rest < len(arguments):
        text = f"{quoted(arguments[parsed.rest])} is no flag, and {name} takes nothing else; remove it"
        problems.append(Problem((*path, "args", parsed.rest), text))
    folder = before.uses[STATE][-1].value if STATE in before.uses else _STATE_FOLDER
    state = (*_homes(step), posixpath.normpath(folder))
    faulty = {fault.flag: fault.text for fault in parsed.faults}
    wrong = {fault.flag: fault.argument for fault in parsed.faults}
    endpoint = before.uses[ENDPOINT][-1] if ENDPOINT in before.uses else None
    return Command(index, name, step, state, document, parsed.uses, faulty, wrong, endpoint), problems


def _homes(step: Mapping[str, Any]) -> list[str]:
    """Return the step's settings of HOME, in which the folder of its state is."""
    env = step.get("env")
    return [item for item in env if str(item).startswith("HOME=")] if isinstance(env, tuple) else []


def _problem(fault: Fault, path: KeyPath, document: Document) -> Problem:
    where: KeyPath = (*path, "args", fault.argument)
    shown = f"steps[{path[1]}] -{fault.flag}" if fault.flag else f"steps[{path[1]}]"
    return Problem(where, fault.text, document.position(where), shown)
