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
from shared.spec.cloudbuild.native_draft import Origin
from shared.spec.document import Document, Position, Problem, with_texts
from shared.spec.packer.draft import PackerDraft, draft_template_build, spec_names
from shared.spec.packer.hcl_template import read_hcl_template
from shared.spec.packer.json_template import is_json_template, read_json_template
from shared.spec.packer.language.syntax import TEMPLATE_LIMIT, TemplateFiles
from shared.spec.packer.options import BUILDERS
from shared.spec.packer.parts import PackerBuild, PackerTemplate, Surroundings
from shared.spec.packer.step_maker import FILES, TemplatePlaces
from shared.spec.read import ParsedSpec, decode, read_specs
from shared.spec.write import spec_text

from .template_files import TemplateFolders, template_file_text

HCL, HCL_IN_JSON = ".pkr.hcl", ".pkr.json"
AUTOMATIC = (".auto.pkrvars.hcl", ".auto.pkrvars.json")
FILES_LIMIT = 200
SECRET_LENGTH = 8  # of the shortest value that is looked for: shorter ones, such as ubuntu, are found anywhere
_LEAK = "its value stands in the spec or in its files: write sensitive = true, and give it to a step alone"
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
    if path.is_dir() or path.name.endswith((HCL, HCL_IN_JSON)):
        return True
    return path.suffix == ".json" and path.is_file() and is_json_template(_text(path))


def convert_template(request: TemplateRequest) -> list[ConvertedTemplate]:
    """Convert the images of a template that are asked for. SpecError has all problems; InputError."""
    home = request.path if request.path.is_dir() else request.path.parent
    folders = TemplateFolders(request.source.resolve(), home)
    template = _template(request, folders)
    parts = tuple(template.files.first_lines())
    name = next(iter(template.files.texts))
    builds = _chosen(template, request.only)
    drafts = [_draft(build, spec, request) for build, spec in zip(builds, spec_names(builds), strict=True)]
    problems = [*template.problems, *(problem for draft in drafts for problem in draft.document.problems)]
    if problems:
        placed = ParsedSpec(name, "", Document(), is_workflow=False, parts=parts)
        told = sorted(problems, key=lambda each: each.position or Position(1, 1))
        raise SpecError(list(dict.fromkeys(_line(placed, problem) for problem in told)))
    start = Origin(Position(1, 1), "the template")
    for file in folders.outside:
        template.note(start, f"reads {file}, which is in another folder: see what of it is in the spec and its files")
    return [_checked(draft, name, parts, template) for draft in drafts]


def _line(parsed: ParsedSpec, problem: Problem) -> str:
    return f"{parsed.placed(problem.position or Position(1, 1))}: {problem.shown}: {problem.text}"


def _template(request: TemplateRequest, folders: TemplateFolders) -> PackerTemplate:
    path = request.path
    other = sorted(path.glob(f"*{HCL_IN_JSON}")) if path.is_dir() else [path] if path.name.endswith(HCL_IN_JSON) else []
    if other:
        raise InputError(f"{other[0]}: is HCL in JSON, which is not read; write it as *{HCL}")
    if path.is_dir() and not any(path.glob(f"*{HCL}")):
        raise InputError(f"{path}: is a folder without *{HCL}; name a file, or a folder of templates")
    automatic = [file for ending in AUTOMATIC for file in sorted(path.glob(f"*{ending}"))] if path.is_dir() else []
    around = Surroundings(
        request.given,
        {str(file): _text(file) for file in [*automatic, *request.variable_files]},
        os.environ,
        folders.read,
        folders.files,
        str(folders.run),
        os.path.relpath(folders.template.resolve(), folders.run),
    )
    if path.suffix == ".json":
        return read_json_template(_text(path), str(path), around)
    files = sorted(path.glob(f"*{HCL}")) if path.is_dir() else [path]
    if len(files) > FILES_LIMIT:
        raise InputError(f"{path} holds more than {FILES_LIMIT} templates; name one of them")
    return read_hcl_template(TemplateFiles({str(file): _text(file) for file in files}), around)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return decode(file.read(TEMPLATE_LIMIT * 4 + 1), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; check the path") from error


def _chosen(template: PackerTemplate, only: Sequence[str]) -> list[PackerBuild]:
    """Return the builds that --only names, as Packer's -only does, or else those of builders here. InputError."""
    builds = template.builds
    if not only:
        found = [build for build in builds if build.source.kind in BUILDERS]
        for build in builds if found else ():
            if build not in found:
                template.note(build.source.place, "not taken over: its builder makes no images here")
        return found or builds
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
    output = (request.output or Path()).resolve()
    found = _draft_for(build, spec, request, output)
    if found is None and request.output is None:  # it is only printed
        output = (request.path if request.path.is_dir() else request.path.parent).resolve()
        found = _draft_for(build, spec, request, output)
        if found is not None:
            text = f"its paths are for a file in {output}: --output FOLDER writes it for another place"
            found.notes.append((build.source.place.position, text))
    if found is not None:
        return found
    draft = _drafted(build, spec, request, output, request.source.resolve())
    named = ", ".join([*dict.fromkeys(draft.named), *([f"{spec}{FILES}"] if draft.made else [])][:5])
    text = f"names files that no folder holds together ({named}); bring them below one, and write the specs there"
    place = build.source.place
    draft.document.problems.append(Problem((), text, place.position, place.shown))
    return draft


def _draft_for(build: PackerBuild, spec: str, request: TemplateRequest, output: Path) -> PackerDraft | None:
    """Return the draft of a spec in a folder; None where no folder would be its context."""
    folder = request.source.resolve()
    first = _drafted(build, spec, request, output, folder)
    anchors = [os.path.normpath(folder / path) for path in first.named if not _is_source(first, path)]
    anchors += [str(output / f"{spec}{FILES}")] if first.made else []
    if not anchors:
        first.document.data = {key: value for key, value in first.document.data.items() if key != "context"}
        return first
    context = Path(os.path.commonpath(anchors))
    context = folder if context.is_relative_to(folder) else context if context.is_dir() else context.parent
    if context == Path("/") or context == Path.home() != folder:
        return None
    found = _drafted(build, spec, request, output, context)
    found.document.data = {**found.document.data, "context": os.path.relpath(context, output)}
    if context != folder:
        found.notes.append((build.source.place.position, f"context: {context}, which holds all files that are named"))
    return found


def _drafted(build: PackerBuild, spec: str, request: TemplateRequest, output: Path, context: Path) -> PackerDraft:
    folder, made = request.source.resolve(), output / f"{spec}{FILES}"
    places = TemplatePlaces(
        lambda path: os.path.relpath(folder / path, context),
        lambda name: os.path.relpath(made / name, context),
        lambda path: (folder / path).is_dir() if (folder / path).exists() else None,
        lambda path: _script(folder / path),
    )
    return draft_template_build(build, spec, places, lambda path: os.path.relpath(folder / path, output))


def _is_source(draft: PackerDraft, path: str) -> bool:
    file = draft.document.data["source"].get("file") if isinstance(draft.document.data, dict) else None
    return file is not None and posixpath.basename(file) == posixpath.basename(path)


def _script(path: Path) -> str:
    """Return the text of a script, to look for words in it; nothing where it is no text."""
    try:
        return template_file_text(path)
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
    text = "\n".join([spec_text(data), *draft.made.values()])
    leaks = [(place.position, f"{place.shown}: {_LEAK}") for place, value in template.secrets if _is_in(value, text)]
    told = sorted(dict.fromkeys([*template.notes, *draft.notes, *leaks]))
    notes = tuple(f"{parsed.placed(place)}: {text}" for place, text in told)
    files = ", ".join(Path(file).name for file in template.files.texts)
    comments = [f"From {files}, the image {draft.full_name}."]
    return ConvertedTemplate(data["name"], spec_text(data, (*comments, *notes)), draft.made, notes)


def _is_in(value: str, text: str) -> bool:
    return len(value) >= SECRET_LENGTH and value in text
