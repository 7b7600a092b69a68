"""Templates of Packer as specs that have been checked, with the files that go with them."""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import InputError, SpecError
from shared.names import nearest
from shared.spec.document import Document, Position, Problem, with_texts
from shared.spec.packer.draft import PackerDraft, draft_template_build, spec_names
from shared.spec.packer.json_template import is_json_template, read_json_template
from shared.spec.packer.steps import FILES, TemplatePlaces
from shared.spec.packer.syntax import TEMPLATE_LIMIT, TemplateFiles
from shared.spec.packer.template import PackerBuild, PackerTemplate, Surroundings, read_template
from shared.spec.read import ParsedSpec, decode, read_specs
from shared.spec.write import spec_text

HCL, VALUES, AUTOMATIC = ".pkr.hcl", ".pkrvars.hcl", ".auto.pkrvars.hcl"
FILES_LIMIT = 200
_REFERENCE = re.compile(r"\$\{")


@dataclass(frozen=True)
class TemplateRequest:
    """What a person asks to be converted, and how."""

    path: Path
    given: Mapping[str, str]
    variable_files: Sequence[Path]
    only: Sequence[str]
    source: Path  # the folder in which packer is run
    output: Path | None


@dataclass(frozen=True)
class ConvertedTemplate:
    """One image of a template: the name of its spec, its text, the files that go with it, and its notes."""

    name: str
    text: str
    made: Mapping[str, str]
    notes: tuple[str, ...]


def is_template(path: Path) -> bool:
    """Return whether a path is a template: a file in HCL, a folder of such, or a file in JSON with builders."""
    if path.is_dir():
        return any(path.glob(f"*{HCL}"))
    if path.name.endswith(HCL):
        return True
    return path.suffix == ".json" and path.is_file() and is_json_template(_text(path))


def convert_template(request: TemplateRequest) -> list[ConvertedTemplate]:
    """Convert the images of a template that are asked for. SpecError has all problems; InputError."""
    template = _template(request)
    parts = tuple(template.files.first_lines())
    name = next(iter(template.files.texts))
    builds = _chosen(template.builds, request.only)
    drafts = [_draft(build, spec, request) for build, spec in zip(builds, spec_names(builds), strict=True)]
    problems = [*template.problems, *(problem for draft in drafts for problem in draft.document.problems)]
    if problems:
        placed = ParsedSpec(name, "", Document(), is_workflow=False, parts=parts)
        told = sorted(problems, key=lambda each: each.position or Position(1, 1))
        raise SpecError(list(dict.fromkeys(_line(placed, problem) for problem in told)))
    return [_checked(draft, name, parts, template) for draft in drafts]


def _line(parsed: ParsedSpec, problem: Problem) -> str:
    return f"{parsed.placed(problem.position or Position(1, 1))}: {problem.shown}: {problem.text}"


def _template(request: TemplateRequest) -> PackerTemplate:
    path, folder = request.path, request.source.resolve()
    home = path if path.is_dir() else path.parent
    automatic = sorted(home.glob(f"*{AUTOMATIC}")) if path.is_dir() else []
    around = Surroundings(
        request.given,
        {str(file): _text(file) for file in [*automatic, *request.variable_files]},
        os.environ,
        lambda name: _readable(folder / name),
        str(folder),
        os.path.relpath(home.resolve(), folder),
    )
    if path.suffix == ".json":
        return read_json_template(_text(path), str(path), around)
    files = sorted(path.glob(f"*{HCL}")) if path.is_dir() else [path]
    if len(files) > FILES_LIMIT:
        raise InputError(f"{path} holds more than {FILES_LIMIT} templates; name one of them")
    return read_template(TemplateFiles({str(file): _text(file) for file in files}), around)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return decode(file.read(TEMPLATE_LIMIT * 4 + 1), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; check the path") from error


def _readable(path: Path) -> str:
    """Return the text of a file that a template names. ValueError."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        with path.open("rb") as file:
            data = file.read(TEMPLATE_LIMIT + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > TEMPLATE_LIMIT:
        raise ValueError(f"{path} is longer than {TEMPLATE_LIMIT >> 10} KiB")
    return data.decode()


def _chosen(builds: Sequence[PackerBuild], only: Sequence[str]) -> list[PackerBuild]:
    """Return the builds that --only names, as Packer's -only does. InputError."""
    if not only:
        return list(builds)
    names = [{each.full_name, f"{each.source.kind}.{each.source.name}", each.source.name} for each in builds]
    for pattern in only:
        if builds and not any(fnmatch.fnmatchcase(name, pattern) for each in names for name in each):
            known = [each.full_name for each in builds]
            raise InputError(f"--only {pattern} is no image of the template; {nearest(pattern, known)}")
    return [
        build
        for build, each in zip(builds, names, strict=True)
        if any(fnmatch.fnmatchcase(name, pattern) for name in each for pattern in only)
    ]


def _draft(build: PackerBuild, spec: str, request: TemplateRequest) -> PackerDraft:
    """Return the draft of a spec whose context is the folder that holds all files of it."""
    folder, output = request.source.resolve(), (request.output or Path()).resolve()
    made = output / f"{spec}{FILES}"

    def drafted(context: Path) -> PackerDraft:
        places = TemplatePlaces(
            lambda path: os.path.relpath(folder / path, context),
            lambda name: os.path.relpath(made / name, context),
            lambda path: (folder / path).is_dir() if (folder / path).exists() else None,
            lambda path: _script(folder / path),
        )
        return draft_template_build(build, spec, places, lambda path: os.path.relpath(folder / path, output))

    first = drafted(folder)
    anchors = [os.path.normpath(folder / path) for path in first.named if not _is_source(first, path)]
    anchors += [str(made)] if first.made else []
    if not anchors:
        first.document.data = {key: value for key, value in first.document.data.items() if key != "context"}
        return first
    context = Path(os.path.commonpath([str(folder), *anchors]))
    if context == Path("/") or context == Path.home() != folder:
        text = f"names files that only {context} holds together; write the specs into a folder below {folder}"
        first.document.problems.append(Problem((), text, build.source.place.position, build.source.place.shown))
        return first
    found = drafted(context)
    found.document.data = {**found.document.data, "context": os.path.relpath(context, output)}
    if context != folder:
        found.notes.append((build.source.place.position, f"context: {context}, which holds all files that are named"))
    return found


def _is_source(draft: PackerDraft, path: str) -> bool:
    file = draft.document.data["source"].get("file") if isinstance(draft.document.data, dict) else None
    return file is not None and posixpath.basename(file) == posixpath.basename(path)


def _script(path: Path) -> str:
    """Return the text of a script, to look for words in it; nothing where it is no text."""
    try:
        return _readable(path)
    except ValueError:
        return ""


def _checked(
    draft: PackerDraft, name: str, parts: tuple[tuple[int, str], ...], template: PackerTemplate
) -> ConvertedTemplate:
    """Check a document as a spec. SpecError."""
    document, data = draft.document, draft.document.data
    document.data = with_texts(data, (), _REFERENCE, lambda text, _: text.replace("${", "$${"))
    parsed = ParsedSpec(name, "", document, is_workflow=False, parts=parts)
    read_specs(parsed)
    notes = tuple(f"{parsed.placed(place)}: {text}" for place, text in sorted([*template.notes, *draft.notes]))
    files = ", ".join(Path(file).name for file in template.files.texts)
    comments = [f"From {files}, the image {draft.full_name}."]
    return ConvertedTemplate(data["name"], spec_text(data, (*comments, *notes)), draft.made, notes)
