"""The steps of one spec in the making, and the files that go with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...names import quoted
from ..cloudbuild.native_draft import Draft, Origin
from ..document import Position
from .option_reader import OptionReader

FILES = ".files"
"""Ends the name of the folder, beside a spec, of the files that are made for it."""

SHARED = re.compile(r"/(?:tmp|run|var/run)\b")
"""What a step leaves there is gone for the next one, unless that goes on without a cached result."""

_NAME = re.compile(r"[^-A-Za-z0-9_.]+")


def fit_name(text: str) -> str:
    """Return a text as part of a name of a step or a file."""
    return _NAME.sub("-", text)


@dataclass(frozen=True)
class TemplatePlaces:
    """The files that a template names, as the spec's context has them."""

    of_source: Callable[[str], str]  # of a path that the template says, relative to where Packer runs
    of_made: Callable[[str], str]  # of a file that is made for the spec, by its name
    is_folder: Callable[[str], bool | None] = lambda path: None  # None: nothing is there
    text: Callable[[str], str] = lambda path: ""  # of a file; empty where it is no text


@dataclass
class StepMaker:
    """Makes the steps of one spec, in the order of its provisioners."""

    draft: Draft
    places: TemplatePlaces
    names: Mapping[str, str] = field(default_factory=dict)  # variables of scripts, such as PACKER_BUILD_NAME
    made: dict[str, str] = field(default_factory=dict)  # texts of files that go with the spec, by name
    named: list[str] = field(default_factory=list)  # paths that the template says
    readers: list[OptionReader] = field(default_factory=list)
    notes: list[tuple[Position, str]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    shares: bool = False  # whether a step before has left something in /tmp or /run
    runs_as_user: Origin | None = None  # the first provisioner whose scripts Packer ran without sudo

    def put(self, name: str, action: str, inputs: Mapping[str, Any], place: Origin, **more: Any) -> None:
        """Add one step; its name is made unique."""
        name = fit_name(name).strip("-.")[:50] or "step"
        unique, number = name, 2
        while unique in self.steps:
            unique, number = f"{name}-{number}", number + 1
        path = ("steps", len(self.steps))
        self.steps.append(unique)
        step = {"name": unique, "action": action, **({"inputs": dict(inputs)} if inputs else {}), **more}
        if self.shares and action != "reboot":
            step["cache"] = False
        self.draft.put(path, step, place)

    def make(self, name: str, text: str) -> str:
        """Add a file that goes with the spec; return its path in the context."""
        unique, number = name, 2
        stem, dot, ending = name.partition(".")
        while self.made.get(unique, text) != text:
            unique, number = f"{stem}-{number}{dot}{ending}", number + 1
        self.made[unique] = text
        return self.places.of_made(unique)

    def path(self, options: OptionReader, name: str, path: str) -> str | None:
        """Return a path of the template as the context has it; one that is not there is a problem."""
        if self.places.is_folder(path) is None:
            what = f"{quoted(path)} is not there; name the folder in which packer is run by --source, or make it"
            options.fault(name, what)
            return None
        self.named.append(path)
        return self.places.of_source(path)
