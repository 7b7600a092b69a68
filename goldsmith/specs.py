"""goldsmith validate and plan; and what build shares with them: from a spec's path to a request."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shared.bundle import provisioner_version
from shared.dialects.builtin_substitutions import builtin_substitutions
from shared.errors import InputError
from shared.events import BuildRequested, to_json
from shared.identity import build_id
from shared.names import LOCAL
from shared.plan import Plan
from shared.quantities import format_duration
from shared.requests import request_build
from shared.spec import Spec
from shared.spec_file import beside, load_specs
from shared.spec_text import WorkflowBuild

from .home import open_factory
from .progress import shown
from .tables import print_json
from .text import complain, say

if TYPE_CHECKING:
    from shared.factory import LocalFactory


def read(path: Path, parameters: Mapping[str, str], asked: str, project: str = LOCAL) -> tuple[WorkflowBuild, ...]:
    """Read and check a spec or workflow and the files that it names. SpecError has all its problems.

    A workflow may say where it is built: `asked` is what asks for its builds, `project` where they are made.
    """
    builds = load_specs(path, parameters, builtin_substitutions(project, asked))
    for build in builds:
        for note in build.notes:
            complain(note)
    return builds


def here(builds: tuple[WorkflowBuild, ...], path: Path) -> tuple[WorkflowBuild, ...]:
    """Give what is built on this machine: the projects of a workflow stand for it, since nobody wrote them for it."""
    projects = {project for build in builds if build.of_workflow for project in _projects(build.spec)} - {LOCAL}
    if not projects:
        return builds
    complain(f"{path}: on this machine its own images stand for those of {', '.join(sorted(projects))}")
    return tuple(replace(build, spec=_on_this_machine(build.spec)) for build in builds)


def _projects(spec: Spec) -> set[str]:
    return {name for name in (spec.source.project, spec.output.project, spec.build.project) if name is not None}


def _on_this_machine(spec: Spec) -> Spec:
    project = {"project": LOCAL}
    parts = {"source": spec.source, "output": spec.output, "build": spec.build}
    return spec.model_copy(update={key: part.model_copy(update=project) for key, part in parts.items()})


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
    """Put what is read and written where the spec says: a relative path starts at the spec's folder, as all do."""
    image = plan.image
    if image.export_to is not None and image.export_to.startswith("gs:"):
        what = f"output.export.to: {image.export_to}"
        raise InputError(f"{what} is on Google Cloud; write a path, or build with --output FOLDER")
    if image.sbom_input is not None and image.sbom_input.startswith("gs:"):
        raise InputError(f"output.sbom.input: {image.sbom_input} is on Google Cloud; write a path beside the spec")
    if image.sbom_to is not None and image.sbom_to.startswith("gs:"):  # as in every workflow of COS Customizer
        complain(
            f"output.sbom.to: {image.sbom_to} is on Google Cloud; the bill of materials will be with the build's logs, "
            "and beside the archive"
        )
        image = replace(image, sbom_to=None)
    return replace(
        plan,
        image=replace(
            image,
            export_to=_absolute(path, image.export_to),
            sbom_input=_absolute(path, image.sbom_input),
            sbom_to=_absolute(path, image.sbom_to),
        ),
    )


def _absolute(spec: Path, place: str | None) -> str | None:
    """Give a place beside a spec as a path that means the same everywhere; a folder's ends with a slash."""
    if place is None:
        return None
    path = beside(spec, place).absolute()
    return f"{path}/" if place.endswith("/") or path.is_dir() else str(path)


def validate(path: Path, parameters: Mapping[str, str]) -> None:
    """Say that a spec, or each build of a workflow, is good; SpecError says why not."""
    for build in read(path, parameters, f"goldsmith validate {uuid.uuid4()}"):
        count = len(build.spec.steps)
        say(f"{path}: good: {build.spec.name}, {count} {'step' if count == 1 else 'steps'}")


def plan(path: Path, parameters: Mapping[str, str], *, as_json: bool) -> None:
    """Print what a build would make; of a workflow of several, what each would."""
    asked = f"goldsmith plan {uuid.uuid4()}"
    builds = here(read(path, parameters, asked), path)
    requests = []
    with shown() as progress, open_factory(progress) as factory:
        for build in builds:
            with factory.building(build_id(build.spec.name, asked)):
                requests.append(_planned(build, builds, path, factory, asked))
    if as_json:
        plans = [to_json(request)["plan"] for request in requests]
        print_json(plans if len(builds) > 1 else plans[0])
        return
    for number, request in enumerate(requests):
        if number:
            say("")
        _print_plan(request.plan, request.unchanged is not None)


def _planned(
    build: WorkflowBuild, builds: tuple[WorkflowBuild, ...], path: Path, factory: LocalFactory, asked: str
) -> BuildRequested:
    try:
        return prepare(build.spec, path, factory, asked)
    except InputError as error:
        if not build.after:
            raise
        waits = ", ".join(builds[index].spec.name for index in build.after)
        raise InputError(f"{error}; {build.spec.name} comes after {waits}: plan it when that is built") from error


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
