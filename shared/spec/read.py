"""The way of a spec from its bytes to checked specs, from top to bottom.

    bytes      read from a file here, or from an object by the caller
    text       decode(): UTF-8, at most 1 MiB
    document   document.read_document(): YAML or JSON as values, each with its line and column
    values     parameters.substitute(): ${name} replaced; a Cloud Build workflow becomes one document for each image
               that it makes, by cloudbuild.workflow.read_workflow()
    model      model.Spec: the keys, the checks of single values (fields, actions), the rules between keys
    files      files.check_files(), or another check of the caller's: the files that the spec names

Each stage continues where the one before found faults, as far as that makes sense. So all problems are reported at
once, each with its place, in the order of the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from ..errors import InputError, SpecError
from .closed import problems_of
from .cloudbuild.workflow import Note, Workflow, is_workflow, read_workflow
from .document import TEXT_LIMIT, Document, Position, Problem, key_path, read_document
from .files import check_files
from .model import Spec
from .parameters import substitute
from .source_elements import lend_elements

Check = Callable[[Mapping[str, Any]], list[Problem]]
"""A check of a spec's values, their parameters replaced; they may be wrong in any way."""

NOTHING_GIVEN: Mapping[str, str] = MappingProxyType({})

PROBLEM_LIMIT = 100


@dataclass(frozen=True)
class ParsedSpec:
    """A spec or a Cloud Build workflow that has been parsed and not yet checked."""

    filename: str  # begins each of its problems: a path, or the URI of an object
    text: str
    document: Document
    is_workflow: bool
    parts: tuple[tuple[int, str], ...] = ()  # of several files: the line that each begins behind, and its name

    def placed(self, position: Position) -> str:
        """Return a place as `FILE:LINE:COLUMN`."""
        before, name = next((part for part in reversed(self.parts) if part[0] < position.line), (0, self.filename))
        return f"{name}:{position.line - before}:{position.column}"


@dataclass(frozen=True)
class SpecBuild:
    """One build of a text: the only one of a spec, one of several of a workflow, in an order in which they may run."""

    spec: Spec
    after: tuple[int, ...] = ()  # indexes of builds of the same text that must have succeeded before this one begins
    data: Mapping[str, Any] = field(default_factory=dict)  # the spec's values, as a person would write them
    notes: tuple[str, ...] = ()  # what the workflow says beside that and has no effect: `FILE:LINE:COLUMN: ...`
    of_workflow: bool = False


@dataclass(frozen=True)
class SpecFile:
    """A spec or workflow in a file, checked together with the files that it names."""

    parsed: ParsedSpec
    folder: Path  # at which the places in it start
    builds: tuple[SpecBuild, ...]


# From bytes to a document


def parse_file(path: Path) -> ParsedSpec:
    """Parse a file. Raises InputError when it cannot be read, SpecError when it is too long or not UTF-8."""
    try:
        with path.open("rb") as file:  # a shell's <(...) and devices have no known size
            data = file.read(TEXT_LIMIT + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: the spec cannot be read: {why}; check the path") from error
    return parse(decode(data, str(path)), str(path))


def refuse_long(size: int, filename: str) -> None:
    """Raise SpecError for a text of more than TEXT_LIMIT bytes."""
    if size > TEXT_LIMIT:
        raise SpecError([f"{filename}:1:1: spec: is longer than 1 MiB; move data into files of the context"])


def decode(data: bytes, filename: str) -> str:
    """Return the text of a spec's bytes. Raises SpecError when they are too many or not UTF-8."""
    refuse_long(len(data), filename)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise SpecError([f"{filename}:{line}:{column}: spec: is not UTF-8; save the file as UTF-8"]) from error


def parse(text: str, filename: str) -> ParsedSpec:
    """Parse a text. Never raises: the document holds the problems, and read_specs reports them."""
    document = read_document(text)
    return ParsedSpec(filename, text, document, is_workflow(document.data))


# From a document to checked specs


def check_file(
    parsed: ParsedSpec,
    overrides: Mapping[str, str] = NOTHING_GIVEN,
    builtin: Mapping[str, str] = NOTHING_GIVEN,
    source: Path | None = None,
) -> SpecFile:
    """Check a spec or workflow that parse_file has read, with the files that it names. Raises InputError, SpecError.

    `source` is the folder that a workflow is built from; see read_specs for the values.
    """
    folder = _folder(parsed, source)
    builds = read_specs(parsed, overrides, builtin, lambda data: check_files(data, folder))
    return SpecFile(parsed, folder, builds)


def _folder(parsed: ParsedSpec, source: Path | None) -> Path:
    """Return the folder at which the places in a file start.

    For a spec it is the file's own. For a workflow it is its source, by default the current folder, as
    `gcloud builds submit --config=FILE` has it.
    """
    if parsed.is_workflow:
        return source or Path()
    if source is not None:
        raise InputError(
            f"--source goes with a Cloud Build workflow; what {parsed.filename} names is beside it: leave it out"
        )
    return Path(parsed.filename).parent


def read_specs(
    parsed: ParsedSpec,
    overrides: Mapping[str, str] = NOTHING_GIVEN,
    builtin: Mapping[str, str] = NOTHING_GIVEN,
    check: Check = lambda data: [],
) -> tuple[SpecBuild, ...]:
    """Return the build of a spec, or all builds of a Cloud Build workflow. Raises SpecError.

    `overrides` are values for the spec's parameters or the workflow's substitutions, `builtin` those of Cloud Build's
    own, such as PROJECT_ID. `check` gets the values of one build after the other.
    """
    document = parsed.document
    if parsed.is_workflow:
        workflow = read_workflow(document, PurePosixPath(parsed.filename).stem, overrides, builtin)
        return _workflow_builds(workflow, parsed, check)
    if document.data is None:
        raise SpecError(_lines(parsed.placed, _told(document, document.problems)))
    data, parameter_problems = substitute(document.data, overrides)
    data, lent = lend_elements(data, document.positions)
    spec, problems = _modelled(data, document.problems + parameter_problems, check)
    problems = [each for each in problems if not any(each.path[: len(path)] == path for path in lent)]
    if spec is None or problems:
        raise SpecError(_lines(parsed.placed, _told(document, problems)))
    return (SpecBuild(spec, data=document.data),)


def _workflow_builds(workflow: Workflow, parsed: ParsedSpec, check: Check) -> tuple[SpecBuild, ...]:
    document = workflow.document
    told = _told(document, document.problems + workflow.problems)
    specs = []
    for build in workflow.builds:
        spec, problems = _modelled(build.document.data, build.document.problems, check)
        specs.append(spec)
        told += _told(build.document, problems)
    if told:
        raise SpecError(_lines(parsed.placed, told + _told(document, workflow.empty)))
    ends = [document.position(("steps", build.last)) for build in workflow.builds]
    return tuple(
        SpecBuild(spec, build.after, build.document.data, notes, of_workflow=True)
        for spec, build, notes in zip(specs, workflow.builds, _notes(workflow.notes, ends, parsed), strict=True)
        if spec is not None  # a build without a spec has problems
    )


def _notes(notes: Iterable[Note], ends: list[Position], parsed: ParsedSpec) -> list[tuple[str, ...]]:
    """Return the notes for each build: those up to its end; the last build gets the rest."""
    found: list[list[str]] = [[] for _ in ends]
    for note in sorted(notes):
        build = next((number for number, end in enumerate(ends) if note.position <= end), len(ends) - 1)
        found[build].append(f"{parsed.placed(note.position)}: {note.text}")
    return [tuple(each) for each in found]


def _modelled(data: Any, known: list[Problem], check: Check) -> tuple[Spec | None, list[Problem]]:
    """Return the spec of a document's values, None where they are none, and all that is wrong with them."""
    problems, spec = list(known), None
    try:
        spec = Spec.model_validate(data)
    except ValidationError as error:
        problems += _news((Problem(loc, what) for loc, what in problems_of(error)), problems)
    problems += _news(check(data), problems)
    return spec, problems


def _news(found: Iterable[Problem], known: list[Problem]) -> list[Problem]:
    """Drop problems that only follow from a known one: those at the same key, or at a key above it."""
    paths = {problem.path[:length] for problem in known for length in range(1, len(problem.path) + 1)}
    return [problem for problem in found if problem.path not in paths]


# From problems to the lines that a person reads


def _told(document: Document, problems: Iterable[Problem]) -> list[tuple[Position, str, str]]:
    """Return the place, name and text of each problem of a document."""
    return [
        (found.position or document.position(found.path), found.shown or document.name(found.path), found.text)
        for found in problems
    ]


def _lines(placed: Callable[[Position], str], told: list[tuple[Position, str, str]]) -> list[str]:
    """Return the first PROBLEM_LIMIT problems in the order of the file, each once, as lines."""
    told = list(dict.fromkeys(sorted(told, key=lambda problem: problem[0])))
    if len(told) > PROBLEM_LIMIT:
        more = f"has {len(told) - PROBLEM_LIMIT} more problems; mend those above first"
        told[PROBLEM_LIMIT:] = [(told[PROBLEM_LIMIT][0], key_path(()), more)]
    return [f"{placed(place)}: {name}: {text}" for place, name, text in told]
