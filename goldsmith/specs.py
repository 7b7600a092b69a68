"""goldsmith validate and plan; and what build shares with them: from a spec's path to a request."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shared.bundle import provisioner_version
from shared.errors import InputError
from shared.events import BuildRequested, to_json
from shared.identity import build_id
from shared.plan import Plan
from shared.quantities import format_duration
from shared.requests import request_build
from shared.spec import Spec
from shared.spec_file import beside, load_spec

from .home import open_factory
from .progress import shown
from .tables import print_json
from .text import say

if TYPE_CHECKING:
    from shared.factory import LocalFactory


def read(path: Path, parameters: Mapping[str, str]) -> Spec:
    """Read and check a spec and the files that it names. SpecError has all its problems."""
    return load_spec(path, parameters)


def prepare(
    spec: Spec, path: Path, factory: LocalFactory, request: str, amend: Callable[[Plan], Plan] = lambda plan: plan
) -> BuildRequested:
    """Give the request for a build that the caller holds; its context is packed."""
    return request_build(
        spec,
        factory,
        source=factory.resolve(spec.source, path.parent),
        context=factory.packed_context(spec, path, build_id(spec.name, request)),
        request=request,
        provisioner_version=provisioner_version(),
        amend=lambda plan: _placed(amend(plan), path),
    )


def _placed(plan: Plan, path: Path) -> Plan:
    """Put the archive where the spec says: a relative path starts at the spec's folder, as all of its paths do."""
    target = plan.image.export_to
    if target is None:
        return plan
    if target.startswith("gs:"):
        raise InputError(f"output.export.to: {target} is on Google Cloud; write a path, or build with --output FOLDER")
    return replace(plan, image=replace(plan.image, export_to=str(beside(path, target).absolute())))


def validate(path: Path, parameters: Mapping[str, str]) -> None:
    """Say that a spec is good; SpecError says why not."""
    spec = read(path, parameters)
    say(f"{path}: good: {spec.name}, {len(spec.steps)} steps")


def plan(path: Path, parameters: Mapping[str, str], *, as_json: bool) -> None:
    """Print what a build would make."""
    spec = read(path, parameters)
    asked = f"goldsmith plan {uuid.uuid4()}"
    with shown() as progress, open_factory(progress) as factory, factory.building(build_id(spec.name, asked)):
        request = prepare(spec, path, factory, asked)
    if as_json:
        print_json(to_json(request)["plan"])
        return
    _print_plan(request.plan, request.unchanged is not None)


def _print_plan(made: Plan, unchanged: bool) -> None:
    source, image, machine = made.source, made.image, made.machine
    lines = [
        ("image", f"{image.project}/{image.name}" + (f", family {image.family}" if image.family else "")),
        ("from", f"{source.project}/{source.name}, {source.architecture}, {source.disk_size_gb} GB"),
        ("disk", f"{image.disk_size_gb} GB"),
        ("labels", ", ".join(f"{key}={value}" for key, value in sorted(image.labels.items()))),
        ("machine", f"{machine.cpus} CPUs, {machine.memory_mb} MB, {machine.boot} boot"),
        ("context", f"{made.context.size} bytes, {made.context.digest[:12]}" if made.context else "none"),
        ("steps", ", ".join(f"{step.name} ({step.action})" for step in made.steps) or "none"),
        ("deadline", f"{format_duration(made.timeout)} after the request, {made.attempts} attempts"),
        ("digest", made.content_digest),
    ]
    if unchanged:
        lines.append(("unchanged", "an image with this content is there; nothing will be built"))
    for name, value in lines:
        say(f"{name + ':':<10} {value}")
