"""goldsmith convert: prints what another system's file comes to as specs, or writes each into a file of its own.

A Cloud Build workflow of COS Customizer, a command line of disk-image-create or a script of some, a list of images of
diskimage-builder, or a template of Packer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.errors import InputError, SpecError
from shared.names import LOCAL
from shared.spec.cloudbuild.substitutions import builtin_substitutions
from shared.spec.diskimage_builder.command_line import is_program, placed_words, read_image_command
from shared.spec.diskimage_builder.image_list import is_image_list, read_image_list
from shared.spec.diskimage_builder.options import ImageOrder
from shared.spec.diskimage_builder.script_lines import read_script, runs_program
from shared.spec.document import KeyPath, read_values
from shared.spec.packer.step_maker import FILES
from shared.spec.read import NOTHING_GIVEN, ParsedSpec, SpecBuild, parse_file, read_specs
from shared.spec.write import spec_text

from ...screen.text import complain, say
from .image_orders import COMMAND_LINE, convert_orders, placed_problem
from .packer_templates import TemplateRequest, convert_template, is_template

_PATHS: tuple[KeyPath, ...] = (("context",), ("output", "sbom", "input"), ("output", "sbom", "to"))
"""What a spec says relative to its own folder."""


def convert(
    words: Sequence[str],
    parameters: Mapping[str, str],
    output: Path | None,
    source: Path | None,
    path: Sequence[Path],
    variable_files: Sequence[Path] = (),
    only: Sequence[str] = (),
) -> None:
    """Convert a file, or a command of disk-image-create. InputError; EnvironmentFault."""
    if len(words) == 1 and is_template(Path(words[0])):
        _refuse_path(path, words[0])
        request = TemplateRequest(Path(words[0]), parameters, variable_files, only, source or Path(), output)
        _write_template(request)
        return
    if variable_files or only:
        option = "--var-file" if variable_files else "--only"
        raise InputError(f"{option} goes with a template of Packer, and {words[0]} is none; leave it out")
    if is_program(words[0]):
        _refuse_of_workflows(words[0], parameters, source)
        orders = [read_image_command(placed_words(words))]
        _write_orders(orders, COMMAND_LINE, path, output)
        return
    if len(words) > 1:
        raise InputError("convert takes one file, or a command: goldsmith convert -- disk-image-create -o NAME ...")
    file = Path(words[0])
    parsed = parse_file(file)
    found = _orders(parsed)
    if found is not None:
        _refuse_of_workflows(str(file), parameters, source)
        _write_orders(found, str(file), path, output)
        return
    _refuse_path(path, str(file))
    _convert_workflow(file, parsed, parameters, output, source)


def _refuse_path(path: Sequence[Path], name: str) -> None:
    if path:
        raise InputError(f"--path names elements of diskimage-builder, and {name} uses none; leave it out")


def _write_template(request: TemplateRequest) -> None:
    converted = convert_template(request)
    for note in dict.fromkeys(note for each in converted for note in each.notes):
        complain(note)
    made = {f"{each.name}{FILES}/{name}": text for each in converted for name, text in each.made.items()}
    if made and request.output is None:
        complain(f"--output FOLDER writes the files that go with it, too: {', '.join(made)}")
    _write([(each.name, each.text) for each in converted], request.output, made)


def _orders(parsed: ParsedSpec) -> list[ImageOrder] | None:
    """Return the images of a list or of a script; None for another file. SpecError."""
    listed = read_values(parsed.text)
    if is_image_list(listed.data):
        return read_image_list(listed)
    if isinstance(listed.data, dict) or not runs_program(parsed.text):
        return None
    script = read_script(parsed.text, os.environ)
    if script.orders:
        script.orders[0].problems[:0] = script.problems
    elif script.problems:
        raise SpecError([placed_problem(parsed.filename, found) for found in script.problems])
    return script.orders


def _refuse_of_workflows(name: str, parameters: Mapping[str, str], source: Path | None) -> None:
    if parameters or source is not None:
        option = "--set" if parameters else "--source"
        raise InputError(f"{option} goes with a Cloud Build workflow, and {name} is of diskimage-builder; leave it out")


def _write_orders(orders: Sequence[ImageOrder], name: str, path: Sequence[Path], output: Path | None) -> None:
    converted = convert_orders(orders, name, os.environ, path, output or Path())
    for note in (note for each in converted for note in each.draft.notes_of_spec()):
        complain(note)
    _write([(each.build.spec.name, each.text) for each in converted], output)


def _convert_workflow(
    path: Path, parsed: ParsedSpec, parameters: Mapping[str, str], output: Path | None, source: Path | None
) -> None:
    """Convert a workflow; the files that it names are not looked at. InputError."""
    if parsed.document.data is not None and not parsed.is_workflow:
        raise InputError(
            f"{path}: is neither a Cloud Build workflow nor of diskimage-builder or Packer; "
            f"check a spec with: goldsmith validate {path}"
        )
    asked = f"goldsmith convert {parsed.text}"  # so that the same text gives the same specs
    builtin = builtin_substitutions(LOCAL, asked)
    builds = read_specs(parsed, parameters, builtin)
    for note in (note for build in builds for note in build.notes):
        complain(note)
    back = os.path.relpath(source or Path(), output or Path())
    specs = [spec_text(_moved(build.data, back), _comments(build, builds, path)) for build in builds]
    if any(builtin["BUILD_ID"] in spec for spec in specs):
        complain(f"{path}: a spec has no BUILD_ID: {builtin['BUILD_ID']} stands for it; write something else there")
    _write([(build.spec.name, spec) for build, spec in zip(builds, specs, strict=True)], output)


def _write(specs: Sequence[tuple[str, str]], output: Path | None, made: Mapping[str, str] = NOTHING_GIVEN) -> None:
    """Print specs, or write each into a file by its name, with files that go with them. InputError for one there."""
    if output is None:
        say("---\n".join(text for _, text in specs).removesuffix("\n"))
        return
    files = {output / name: text for name, text in made.items()}  # before the specs that name them
    files |= {output / f"{name}.yaml": text for name, text in specs}
    for target in files:
        if os.path.lexists(target):
            raise InputError(f"{target} exists already; remove it, or choose another folder")
    for target, text in files.items():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise InputError(f"{target}: cannot be written: {error.strerror}; choose another folder") from error
        say(str(target))


def _comments(build: SpecBuild, builds: tuple[SpecBuild, ...], path: Path) -> tuple[str, ...]:
    """Return comments on the origin of a spec, and on what it leaves out."""
    which = f", image {builds.index(build) + 1} of {len(builds)}" if len(builds) > 1 else ""
    waits = ", ".join(builds[index].spec.name for index in build.after)
    order = (f"Comes after {waits}: build it when that has succeeded.",) if waits else ()
    return (f"From {path.name}{which}.", *order, *build.notes)


def _moved(data: Mapping[str, Any], back: str) -> Mapping[str, Any]:
    """Return a spec's values with paths that lead to the same files from the folder that it is written to."""
    for keys in _PATHS:
        data = _with_path(data, keys, back)
    return data


def _with_path(data: Mapping[str, Any], keys: KeyPath, back: str) -> Mapping[str, Any]:
    key, *others = keys
    value = data.get(str(key))
    if isinstance(value, Mapping):
        return {**data, str(key): _with_path(value, tuple(others), back)}
    if not isinstance(value, str) or value.startswith("gs://"):
        return data
    return {**data, str(key): os.path.normpath(os.path.join(back, value))}  # noqa: PTH118 - a spec's text
