"""goldsmith convert: prints what a Cloud Build workflow comes to as specs, or writes each into a file of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.errors import InputError
from shared.names import LOCAL
from shared.spec.cloudbuild.substitutions import builtin_substitutions
from shared.spec.document import KeyPath
from shared.spec.read import SpecBuild, parse_file, read_specs
from shared.spec.write import spec_text

from ..screen.text import complain, say

_PATHS: tuple[KeyPath, ...] = (("context",), ("output", "sbom", "input"), ("output", "sbom", "to"))
"""What a spec says relative to its own folder."""


def convert(path: Path, parameters: Mapping[str, str], output: Path | None, source: Path | None) -> None:
    """Convert a workflow; the files that it names are not looked at. InputError."""
    parsed = parse_file(path)
    if parsed.document.data is not None and not parsed.is_workflow:
        raise InputError(f"{path}: is no Cloud Build workflow; check a spec with: goldsmith validate {path}")
    asked = f"goldsmith convert {parsed.text}"  # so that the same text gives the same specs
    builtin = builtin_substitutions(LOCAL, asked)
    builds = read_specs(parsed, parameters, builtin)
    for note in (note for build in builds for note in build.notes):
        complain(note)
    back = os.path.relpath(source or Path(), output or Path())
    specs = [spec_text(_moved(build.data, back), _comments(build, builds, path)) for build in builds]
    if any(builtin["BUILD_ID"] in spec for spec in specs):
        complain(f"{path}: a spec has no BUILD_ID: {builtin['BUILD_ID']} stands for it; write something else there")
    if output is None:
        say("---\n".join(specs).removesuffix("\n"))
        return
    targets = [output / f"{build.spec.name}.yaml" for build in builds]
    for target in targets:
        if target.exists():
            raise InputError(f"{target} exists already; remove it, or choose another folder")
    output.mkdir(parents=True, exist_ok=True)
    for target, spec in zip(targets, specs, strict=True):
        with target.open("x", encoding="utf-8") as file:
            file.write(spec)
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
