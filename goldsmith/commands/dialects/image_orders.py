"""What convert and dib share: from command lines and lists of diskimage-builder to specs that have been checked."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.elements.ordered import configured_disk, element_disk, known_variables, ordered_elements
from shared.elements.original import fetched_elements, installed_elements
from shared.errors import SpecError
from shared.spec.diskimage_builder.draft import (
    FoundElements,
    OrderDraft,
    chosen_elements,
    draft_order,
)
from shared.spec.diskimage_builder.options import ImageOrder
from shared.spec.diskimage_builder.variables import (
    BLOCK_DEVICE_CONFIG,
    ELEMENTS_PATH,
    OF_FILES,
    take_environment,
    take_known,
)
from shared.spec.document import Position, Problem, key_path, with_texts
from shared.spec.files import check_files
from shared.spec.read import ParsedSpec, SpecBuild, read_specs
from shared.spec.write import spec_text

from ...home import home
from ...screen.text import complain

COMMAND_LINE = "command line"
"""What the problems of a command's own words begin with, in the place of a file."""

_REFERENCE = re.compile(r"\$\{")


@dataclass(frozen=True)
class ConvertedOrder:
    """One image of an order: its spec, as a text and checked."""

    draft: OrderDraft
    build: SpecBuild
    parsed: ParsedSpec
    text: str


def convert_orders(
    orders: Sequence[ImageOrder],
    name: str,
    environment: Mapping[str, str],
    path: Sequence[Path],
    folder: Path,
    written: Callable[[str], Path] = Path,
) -> list[ConvertedOrder]:
    """Return the specs of orders, which will be in a folder. SpecError has all problems; InputError, EnvironmentFault.

    `name` begins each problem; `path` are folders of elements beside those of ELEMENTS_PATH; `written` says where the
    files of an image go, by the name that is asked for.
    """
    for order in orders:
        take_environment(order, environment)
    _refuse_problems(name, [draft_order(order, FoundElements(".")) for order in orders])
    found = [_found(order, environment, path, folder) for order in orders]
    drafts = [
        draft_order(order, each, lambda file: _from_folder(written(file), folder))
        for order, each in zip(orders, found, strict=True)
    ]
    _name_apart(orders, drafts)
    _refuse_problems(name, drafts)
    counted = zip(drafts, found, range(1, len(drafts) + 1), strict=True)
    return [_checked(draft, each, name, folder, f"{number} of {len(drafts)}") for draft, each, number in counted]


def _refuse_problems(name: str, drafts: Sequence[OrderDraft]) -> None:
    problems = [problem for draft in drafts for problem in draft.document.problems]
    if problems:
        placed = sorted(problems, key=lambda problem: problem.position or Position(1, 1))
        raise SpecError(list(dict.fromkeys(placed_problem(name, problem) for problem in placed)))


def placed_problem(name: str, problem: Problem) -> str:
    """Return a problem that has a place as a line."""
    place = problem.position or Position(1, 1)
    return f"{name}:{place.line}:{place.column}: {problem.shown or key_path(problem.path)}: {problem.text}"


def _found(order: ImageOrder, environment: Mapping[str, str], path: Sequence[Path], folder: Path) -> FoundElements:
    """Look for the elements of an order, and for the disk that they bring. InputError; EnvironmentFault."""
    own = [each.text for each in order.path] + [str(each) for each in path]
    listed = order.environment.get(ELEMENTS_PATH)
    own += [each for each in (listed.text if listed else "").split(":") if each]
    places, chosen = ordered_elements(chosen_elements(order), own, original_elements)
    take_known(order, environment, known_variables(chosen))
    configured = order.environment.get(BLOCK_DEVICE_CONFIG)
    if configured is not None and configured.text:
        disk, where = configured_disk(configured.text), BLOCK_DEVICE_CONFIG
    else:
        disk, where = element_disk(chosen.elements)
    first, *others = (os.path.realpath(place) for place in places)
    context = os.path.relpath(first, os.path.realpath(folder))
    files = {
        name: os.path.relpath(os.path.realpath(order.environment[name].text), first)
        for name in OF_FILES
        if name in order.environment and Path(order.environment[name].text).is_file()
    }
    return FoundElements(context, tuple(os.path.relpath(other, first) for other in others), disk, where, files)


def original_elements() -> Path:
    """Return the elements of diskimage-builder itself; they are fetched where they are not there. EnvironmentFault."""
    found = installed_elements()
    if found is None:
        home().mkdir(mode=0o700, parents=True, exist_ok=True)
        found = fetched_elements(home() / "elements", complain)
    return found


def _from_folder(path: Path, folder: Path) -> str:
    """Return a path as a spec in a folder says it."""
    return os.path.relpath(path, folder)


def _name_apart(orders: Sequence[ImageOrder], drafts: Sequence[OrderDraft]) -> None:
    """Note images whose specs would have one name."""
    first: dict[str, str] = {}
    for order, draft in zip(orders, drafts, strict=True):
        name, file = draft.document.data["name"], draft.files.name
        if name in first:
            given = order.last("imagename")
            place = given.place if given else order.place
            text = f"{file} and {first[name]} would both be the spec {name}; choose another name"
            draft.document.problems.append(Problem((), text, place.position, place.shown))
        first[name] = file


def _checked(draft: OrderDraft, found: FoundElements, name: str, folder: Path, which: str) -> ConvertedOrder:
    """Check a document as a spec, with the files that it names. SpecError."""
    document = draft.document
    data: Any = document.data
    document.data = with_texts(data, (), _REFERENCE, lambda text, _: text.replace("${", "$${"))
    parsed = ParsedSpec(name, "", document, is_workflow=False)
    context = os.path.normpath(os.path.join(os.path.realpath(folder), found.context))  # noqa: PTH118 - may not be there
    (build,) = read_specs(parsed, check=lambda values: check_files({**values, "context": context}, folder))
    comments = [f"From {name}{f', image {which}' if which != '1 of 1' else ''}."]
    if found.disk_from:
        comments.append(f"The disk is that of {found.disk_from}.")
    comments.append("Findings in the image are told and do not fail the build; leave hygiene out to be strict.")
    return ConvertedOrder(draft, build, parsed, spec_text(data, (*comments, *draft.notes_of_spec())))
