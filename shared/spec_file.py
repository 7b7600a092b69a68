"""A spec in a file, checked together with the files that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from .context import missing_file, scan
from .errors import InputError, SpecError
from .sbom_input import LIMIT, problems
from .spec import Spec
from .spec_document import TEXT_LIMIT, KeyPath, Problem
from .spec_inputs import CONTEXT_FILES, INSTALLER
from .spec_text import NO_OVERRIDES, WorkflowBuild, read_spec, read_specs

SBOM_INPUT: KeyPath = ("output", "sbom", "input")

__all__ = ["beside", "check_context", "decoded", "load_spec", "load_specs", "read_spec", "read_text", "refuse_long"]


def load_spec(path: Path, overrides: Mapping[str, str] = NO_OVERRIDES) -> Spec:
    """Read a spec and check it together with the files beside it. Raises InputError, SpecError."""
    return read_spec(read_text(path), str(path), overrides, lambda data: check_files(data, path.parent))


def load_specs(
    path: Path, overrides: Mapping[str, str] = NO_OVERRIDES, builtin: Mapping[str, str] = NO_OVERRIDES
) -> tuple[WorkflowBuild, ...]:
    """Read a spec or a Cloud Build workflow, and check it together with the files beside it. InputError, SpecError."""
    return read_specs(read_text(path), str(path), overrides, lambda data: check_files(data, path.parent), builtin)


def read_text(path: Path) -> str:
    """Give the text of a spec. Raises InputError, SpecError."""
    try:
        with path.open("rb") as file:  # which may be no file: of a shell's <(...) and of a device no size is known
            data = file.read(TEXT_LIMIT + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: the spec cannot be read: {why}; check the path") from error
    refuse_long(len(data), str(path))
    return decoded(data, str(path))


def refuse_long(size: int, filename: str) -> None:
    """Raise SpecError for a text of more than TEXT_LIMIT bytes: nobody needs to read it first."""
    if size > TEXT_LIMIT:
        raise SpecError([f"{filename}:1:1: spec: is longer than 1 MiB; move data into files of the context"])


def decoded(data: bytes, filename: str) -> str:
    """Give a spec's text. SpecError where it is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise SpecError([f"{filename}:{line}:{column}: spec: is not UTF-8; save the file as UTF-8"]) from error


def beside(spec_path: Path, place: str) -> Path:
    """Give the path of what a spec names: relative to the spec's own folder."""
    return spec_path.parent / place


def check_files(data: Mapping[str, Any], folder: Path) -> list[Problem]:
    """Give the problems of all that a spec's values name in `folder`. The values may be wrong in any way."""
    return check_context(data, folder) + _check_sbom_input(data, folder)


def _check_sbom_input(data: Mapping[str, Any], folder: Path) -> list[Problem]:
    value: Any = data
    for key in SBOM_INPUT:
        value = value.get(key) if isinstance(value, Mapping) else None
    if not _is_local(value):
        return []
    if (folder / value).exists() and not _is_file(folder / value):
        return [Problem(SBOM_INPUT, f"{folder / value} is no file; write the path of a file beside the spec")]
    try:
        with (folder / value).open("rb") as file:
            return [Problem(SBOM_INPUT, text) for text in problems(file.read(LIMIT + 1))]
    except OSError as error:
        text = f"{folder / value} cannot be read: {error.strerror}; write the path of a file beside the spec"
        return [Problem(SBOM_INPUT, text)]


def check_context(data: Mapping[str, Any], folder: Path) -> list[Problem]:
    """Give the problems of what a spec's values name in `folder`. The values may be wrong in any way."""
    found: list[Problem] = []
    source = data.get("source")
    file = source.get("file") if isinstance(source, dict) else None
    if _is_local(file) and not _is_file(folder / file):
        found.append(Problem(("source", "file"), f"there is no file {folder / file}; write a path beside the spec"))
    wanted = list(_named_files(data))
    context = data.get("context")
    if context is None:
        text = "is a file of the context, and the spec has no context; write context: . for the spec's own folder"
        return found + [Problem(path, text) for path, _, _ in wanted]
    if not _is_local(context):
        return found
    members, faults = scan(folder / context)
    found += [Problem(("context",), fault) for fault in faults]
    if members is None:
        return found
    missing_folders: list[str] = []  # what lies in them needs no further word
    for path, name, kinds in wanted:
        fault = missing_file(members, name, kinds, folder / context)
        if fault and not any(name.startswith(f"{missing}/") for missing in missing_folders):
            found.append(Problem(path, fault))
        if fault and kinds == ("dir",):
            missing_folders.append(name)
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file system takes
        return False


def _is_local(place: Any) -> TypeGuard[str]:
    return isinstance(place, str) and bool(place) and "\0" not in place and not place.startswith("gs:")


def _named_files(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str, tuple[str, ...]]]:
    """Give the path and the text of every input that names something of the context, and what may be there."""
    verify = data.get("verify")
    lists: list[tuple[KeyPath, Any]] = [(("steps",), data.get("steps"))]
    lists += [(("verify", "steps"), verify.get("steps"))] if isinstance(verify, dict) else []
    for where, steps in lists:
        for index, step in enumerate(steps if isinstance(steps, tuple) else ()):
            action, inputs = (step.get("action"), step.get("inputs")) if isinstance(step, dict) else (None, None)
            named = CONTEXT_FILES.get(action) if isinstance(action, str) else None
            if not named or not isinstance(inputs, dict):
                continue
            name, version = inputs.get(named.key), inputs.get("version")
            if not isinstance(name, str) or (named.or_url and "://" in name):
                continue
            yield (*where, index, "inputs", named.key), name, named.kinds
            if action == "install-gpu" and isinstance(version, str) and INSTALLER.fullmatch(version):
                yield (*where, index, "inputs", "version"), f"{name}/{version}", ("file",)
