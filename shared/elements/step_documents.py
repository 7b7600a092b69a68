"""What the plan of a step of elements adds to its inputs: the documents of the elements, read from the packed context.

The packed context is what the build machine gets, whatever it was packed from: a folder, an archive, or folders
outside. Elements that cannot be used are found here, before anything is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ..build.plan import AskedElements
from ..errors import InputError
from .chosen import choose
from .packed_links import PackedContext
from .packed_path import unpacked_path

ELEMENTS = "elements"


class SpecifiedStep(Protocol):
    """A step of a spec."""

    name: str
    action: str
    inputs: dict[str, Any]


def asked_of(inputs: Mapping[str, Any]) -> AskedElements:
    """Return what a step of elements asks for."""
    return tuple(inputs["elements"]), tuple(inputs["path"])


def step_documents(
    steps: Iterable[SpecifiedStep], archive: PackedContext | None, beside: Path
) -> dict[AskedElements, str]:
    """Return the documents of each step of elements as JSON, by what it asks for. InputError tells all problems.

    `archive` is the packed context; what is needed of it is unpacked in `beside` for a moment.
    """
    found: dict[AskedElements, str] = {}
    problems: list[str] = []
    for step in steps:
        if step.action == ELEMENTS and archive is not None and asked_of(step.inputs) not in found:
            try:
                found[asked_of(step.inputs)] = _documents(step.inputs, archive, beside)
            except InputError as error:
                problems += [f"step {step.name!r}: {line}" for line in str(error).splitlines()]
    if problems:
        raise InputError("\n".join(problems))
    return found


def check_elements(steps: Iterable[SpecifiedStep], context: Path) -> None:
    """Check the elements of steps in a context that is a folder. InputError tells all problems."""
    problems: list[str] = []
    for step in steps if context.is_dir() else ():
        if step.action == ELEMENTS:
            try:
                choose(step.inputs["elements"], [str(context / place) for place in step.inputs["path"]], on_image=True)
            except InputError as error:
                problems += [f"step {step.name!r}: {line}" for line in str(error).splitlines()]
    if problems:
        raise InputError("\n".join(problems))


def _documents(inputs: Mapping[str, Any], archive: PackedContext, beside: Path) -> str:
    """Return the documents of the elements that a step chooses. InputError, with places as the spec has them."""
    with unpacked_path(inputs["path"], archive, beside) as folders:
        chosen = choose(inputs["elements"], [str(folder) for folder in folders], on_image=True)
    return json.dumps(chosen.documents, sort_keys=True)
