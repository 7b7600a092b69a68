"""What the plan of a step of elements adds to its inputs: the documents of the elements, read from the packed context.

The packed context is what the build machine gets, whatever it was packed from: a folder, an archive, or folders
outside. Elements that cannot be used are found here, before anything is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from ..build.plan import AskedElements
from ..errors import InputError
from .chosen import choose
from .packed_links import PackedContext
from .packed_path import unpacked_path

ELEMENTS = "elements"
NAMES_SHOWN = 3


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

    `archive` is the packed context. What all steps need of it is unpacked in `beside` for a moment, and at once: it may
    be large, and the steps many.
    """
    wanted: dict[AskedElements, list[str]] = {}
    for step in steps:
        if step.action == ELEMENTS and archive is not None:
            wanted.setdefault(asked_of(step.inputs), []).append(step.name)
    if archive is None or not wanted:
        return {}
    path = sorted({place for _, places in wanted for place in places}, key=lambda place: (-len(place), place))
    with ExitStack() as stack:
        try:
            folders = stack.enter_context(unpacked_path(path, archive, beside))
        except InputError as error:
            names = [name for each in wanted.values() for name in each]
            more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            who = f"step{'s' * (len(names) > 1)} {', '.join(map(repr, names[:NAMES_SHOWN]))}{more}"
            raise InputError("\n".join(f"{who}: {line}" for line in str(error).splitlines())) from error
        return _documents(wanted, dict(zip(path, map(str, folders), strict=True)))


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


def _documents(wanted: Mapping[AskedElements, list[str]], folders: Mapping[str, str]) -> dict[AskedElements, str]:
    """Return the documents of the elements that steps choose, which have these names. InputError."""
    found: dict[AskedElements, str] = {}
    problems: list[str] = []
    for asked, names in wanted.items():
        elements, path = asked
        try:
            chosen = choose(elements, [folders[place] for place in path], on_image=True)
            found[asked] = json.dumps(chosen.documents, sort_keys=True)
        except InputError as error:
            problems += [f"step {names[0]!r}: {line}" for line in str(error).splitlines()]
    if problems:
        raise InputError("\n".join(problems))
    return found
