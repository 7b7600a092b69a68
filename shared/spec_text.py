"""From text to a Spec: all problems at once, each with its place, in the order of the text.

Reading has four stages, and each goes on where the one before found faults, as far as that makes sense: text to
values (spec_document), parameters (spec_parameters), models (spec), and what the caller checks beside that, such as
the files that the spec names (spec_file). A Cloud Build workflow takes another way to the models (dialects.cloudbuild),
and comes to as many specs as it makes images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from .closed import problems_of
from .dialects.cloudbuild import is_workflow, read_workflow
from .errors import SpecError
from .spec import Spec
from .spec_document import Document, Position, Problem, key_path, read_document
from .spec_parameters import substitute

__all__ = ["NO_OVERRIDES", "Check", "WorkflowBuild", "key_path", "read_spec", "read_specs"]

Check = Callable[[Mapping[str, Any]], list[Problem]]
"""Looks at a spec's values, parameters replaced; they may be wrong in any way, since all problems are told at once."""

NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})

TOLD_PROBLEMS = 100


@dataclass(frozen=True)
class WorkflowBuild:
    """One build of a file: of a spec the only one, of a workflow one of several, in the order in which they may run."""

    spec: Spec
    after: tuple[int, ...] = ()  # indexes of builds of the same file that must have succeeded before this one begins
    data: Mapping[str, Any] = field(default_factory=dict)  # the spec's values, as a person would write them
    notes: tuple[str, ...] = ()  # what the workflow says beside that and has no effect: `FILE:LINE:COLUMN: ...`
    of_workflow: bool = False  # whether the file is a Cloud Build workflow, and no spec


def read_spec(
    text: str, filename: str, overrides: Mapping[str, str] = NO_OVERRIDES, check: Check = lambda data: []
) -> Spec:
    """Read a spec from its text; `overrides` are values for its parameters. Raises SpecError."""
    return _native(read_document(text), filename, overrides, check).spec


def read_specs(
    text: str,
    filename: str,
    overrides: Mapping[str, str] = NO_OVERRIDES,
    check: Check = lambda data: [],
    builtin: Mapping[str, str] = NO_OVERRIDES,
) -> tuple[WorkflowBuild, ...]:
    """Read a spec, or all builds of a Cloud Build workflow. Raises SpecError.

    `overrides` are values for the spec's parameters or the workflow's substitutions, `builtin` those of Cloud Build's
    own, such as PROJECT_ID. `check` sees the values of one build after the other.
    """
    document = read_document(text)
    if not is_workflow(document.data):
        return (_native(document, filename, overrides, check),)
    workflow = read_workflow(document, PurePosixPath(filename).stem, overrides, builtin)
    document = workflow.document
    told = _told(document, document.problems + workflow.problems)
    specs = []
    for build in workflow.builds:
        spec, problems = _modelled(build.document.data, build.document.problems, check)
        specs.append(spec)
        told += _told(build.document, problems)
    if told:
        raise SpecError(_lines(filename, told + _told(document, workflow.empty)))
    ends = [document.position(("steps", build.last)) for build in workflow.builds]
    notes: list[list[str]] = [[] for _ in ends]
    for note in sorted(workflow.notes):
        belongs = next((number for number, end in enumerate(ends) if note.position <= end), len(ends) - 1)
        notes[belongs].append(f"{filename}:{note.position.line}:{note.position.column}: {note.text}")
    return tuple(
        WorkflowBuild(spec, build.after, build.document.data, tuple(of_it), of_workflow=True)
        for spec, build, of_it in zip(specs, workflow.builds, notes, strict=True)
        if spec is not None  # what has no spec has problems
    )


def _native(document: Document, filename: str, overrides: Mapping[str, str], check: Check) -> WorkflowBuild:
    if document.data is None:
        raise SpecError(_lines(filename, _told(document, document.problems)))
    data, parameter_problems = substitute(document.data, overrides)
    spec, problems = _modelled(data, document.problems + parameter_problems, check)
    if spec is None or problems:
        raise SpecError(_lines(filename, _told(document, problems)))
    return WorkflowBuild(spec, data=document.data)


def _modelled(data: Any, known: list[Problem], check: Check) -> tuple[Spec | None, list[Problem]]:
    """Give the spec of a document's values, as far as it is one, and all that is wrong with it."""
    problems, spec = list(known), None
    try:
        spec = Spec.model_validate(data)
    except ValidationError as error:
        problems += _news((Problem(loc, what) for loc, what in problems_of(error)), problems)
    problems += _news(check(data), problems)
    return spec, problems


def _news(found: Iterable[Problem], known: list[Problem]) -> list[Problem]:
    """Drop what only follows from a problem that is known: one at the same key, or at a key below it."""
    paths = {problem.path[:length] for problem in known for length in range(1, len(problem.path) + 1)}
    return [problem for problem in found if problem.path not in paths]


def _told(document: Document, problems: Iterable[Problem]) -> list[tuple[Position, str, str]]:
    """Give the place, name and text of each problem of a document."""
    return [
        (found.position or document.position(found.path), found.shown or document.name(found.path), found.text)
        for found in problems
    ]


def _lines(filename: str, told: list[tuple[Position, str, str]]) -> list[str]:
    """Write problems in the order of the file, the first TOLD_PROBLEMS of them, each once."""
    told = list(dict.fromkeys(sorted(told, key=lambda problem: problem[0])))
    if len(told) > TOLD_PROBLEMS:
        more = f"has {len(told) - TOLD_PROBLEMS} more problems; mend those above first"
        told[TOLD_PROBLEMS:] = [(told[TOLD_PROBLEMS][0], key_path(()), more)]
    return [f"{filename}:{place.line}:{place.column}: {name}: {text}" for place, name, text in told]
