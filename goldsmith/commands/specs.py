"""goldsmith validate and plan; and what build shares with them: from a spec's path to a plan."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.build.build import Build
from shared.build.cost.estimate import Estimate, estimate_build
from shared.build.events import BuildRequested, to_json
from shared.build.identity import build_id
from shared.build.plan import MachinePlan, Plan, SpecPlace
from shared.delivery.bundle import provisioner_version
from shared.elements.step_documents import check_elements
from shared.errors import InputError, SpecError
from shared.names import LOCAL, SECRET_IN_FILE, SECRET_OF_MANAGER
from shared.planning.plan import make_plan
from shared.planning.requests import admit
from shared.planning.triggers import source_keys
from shared.quantities import format_duration
from shared.runtime import opening
from shared.spec.cloudbuild.substitutions import builtin_substitutions
from shared.spec.model import Spec
from shared.spec.read import SpecBuild, SpecFile, check_file, parse_file

from ..home import SOURCE_DATE, open_home, source_date
from ..screen.progress import shown
from ..screen.tables import print_json
from ..screen.text import complain, say

if TYPE_CHECKING:
    from shared.runtime.opening import CachedSteps, LocalBackend

LOOKED_AT = 200  # of the newest builds, for an estimate
ENGINES = ("vm", "chroot", "auto")


def read_builds(
    path: Path, parameters: Mapping[str, str], asked: str, source: Path | None, project: str = LOCAL
) -> SpecFile:
    """Read and check a spec or workflow and the files that it names. SpecError has all its problems.

    A workflow may say where it is built: `asked` is what asks for its builds, `source` the folder that it is built
    from, `project` where its images are made.
    """
    parsed = parse_file(path)
    try:
        file = check_file(parsed, parameters, builtin_substitutions(project, asked), source)
    except SpecError:
        elsewhere = source is None and path.parent.absolute() != Path().absolute()
        if elsewhere and parsed.is_workflow:
            complain(f"{path} is a workflow, built from the current folder; --source FOLDER names another one")
        raise
    for build in file.builds:
        for note in build.notes:
            complain(note)
    return file


def spec_path(path: Path) -> Path:
    """Return the one path by which a spec is called; links stay, since they may lead elsewhere by the next build."""
    path = path.absolute()
    return path.parent.resolve() / path.name if ".." in path.parts else path


def spec_place(path: Path, parameters: Mapping[str, str], file: SpecFile) -> SpecPlace | None:
    """Return where a spec lies; None for a workflow, whose builds depend on each other."""
    if file.parsed.is_workflow:
        return None
    return SpecPlace(str(spec_path(path)), dict(parameters), source=source_keys(file.builds[0].spec.source))


def here(builds: tuple[SpecBuild, ...], path: Path) -> tuple[SpecBuild, ...]:
    """Return the builds for this machine, which takes the place of the projects that a workflow names."""
    projects = {project for build in builds if build.of_workflow for project in _projects(build.spec)} - {LOCAL}
    if not projects:
        return builds
    complain(f"{path}: on this machine its own images stand for those of {', '.join(sorted(projects))}")
    return tuple(replace(build, spec=_on_this_machine(build.spec)) for build in builds)


def with_engine(builds: tuple[SpecBuild, ...], engine: str | None) -> tuple[SpecBuild, ...]:
    """Return the builds with the engine that the command line names instead of the specs', if it does. InputError."""
    if engine is None:
        return builds
    if engine not in ENGINES:
        raise InputError(f"--engine {engine}: write {' or '.join(ENGINES)}")
    return tuple(replace(build, spec=_on_engine(build.spec, engine)) for build in builds)


def _on_engine(spec: Spec, engine: str) -> Spec:
    return spec.model_copy(update={"local": spec.local.model_copy(update={"engine": engine})})


def _projects(spec: Spec) -> set[str]:
    return {name for name in (spec.source.project, spec.output.project, spec.build.project) if name is not None}


def _on_this_machine(spec: Spec) -> Spec:
    project = {"project": LOCAL}
    parts = {"source": spec.source, "output": spec.output, "build": spec.build}
    return spec.model_copy(update={key: part.model_copy(update=project) for key, part in parts.items()})


def plan_for(spec: Spec, folder: Path, backend: LocalBackend, request: str) -> Plan:
    """Return the plan of a build that the caller holds; its places start at a folder, and its context is packed."""
    builds = opening.builds_here(backend)
    source = opening.images_here(backend).source_of(spec, folder)
    context = builds.packed_context(spec, folder, build_id(spec.name, request))
    return make_plan(
        spec,
        source=source,
        context=context,
        request=request,
        requested=backend.clock.now(),
        provisioner_version=provisioner_version(),
        date=source_date(os.environ.get(SOURCE_DATE.name, "")),
        documents=builds.documents(spec, context),
    )


def with_absolute_paths(plan: Plan, folder: Path) -> Plan:
    """Return the plan with the paths in it made absolute: a relative one starts at the folder. InputError."""
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
    steps, verify_steps = (
        tuple(replace(step, secrets=_secret_places(step.name, step.secrets, folder)) for step in each)
        for each in (plan.steps, plan.verify_steps or ())
    )
    proxy = plan.machine.proxy
    if proxy is not None:
        proxy = replace(proxy, ca=_absolute(folder, proxy.ca), credentials=_absolute(folder, proxy.credentials))
    return replace(
        plan,
        steps=steps,
        verify_steps=None if plan.verify_steps is None else verify_steps,
        machine=replace(plan.machine, proxy=proxy),
        image=replace(
            image,
            export_to=_absolute(folder, image.export_to),
            sbom_input=_absolute(folder, image.sbom_input),
            sbom_to=_absolute(folder, image.sbom_to),
        ),
    )


def _secret_places(step: str, secrets: Mapping[str, str], folder: Path) -> Mapping[str, str]:
    """Return the places of a step's secrets with absolute paths. InputError for those that are not of this machine."""
    found = {}
    for name, place in secrets.items():
        if place.startswith(SECRET_OF_MANAGER):
            raise InputError(
                f"steps: {step}: secrets.{name}: {place} is on Google Cloud, and builds on one machine fetch nothing "
                "there; write env:NAME or file:PATH, or a parameter that can be either: ${token} with --set token=env:T"
            )
        path = place.removeprefix(SECRET_IN_FILE)
        found[name] = place if path == place else f"{SECRET_IN_FILE}{(folder / path).absolute()}"
    return found


def _absolute(folder: Path, place: str | None) -> str | None:
    """Return a place below a folder as a path that means the same everywhere; a folder's ends with a slash."""
    if place is None:
        return None
    path = (folder / place).absolute()
    return f"{path}/" if place.endswith("/") or path.is_dir() else str(path)


def validate(path: Path, parameters: Mapping[str, str], source: Path | None, *, as_json: bool) -> None:
    """Print that a spec, or each build of a workflow, is good. SpecError if it is not, also printed as JSON then."""
    try:
        specs = _valid_specs(path, parameters, source)
    except SpecError as error:
        if as_json:
            print_json({"spec": str(path), "good": False, "builds": [], "problems": error.problems})
        raise
    if as_json:
        builds = [{"name": spec.name, "steps": [step.name for step in spec.steps]} for spec in specs]
        print_json({"spec": str(path), "good": True, "builds": builds, "problems": []})
        return
    for spec in specs:
        count = len(spec.steps)
        say(f"{path}: good: {spec.name}, {count} {'step' if count == 1 else 'steps'}")


def _valid_specs(path: Path, parameters: Mapping[str, str], source: Path | None) -> Sequence[Spec]:
    file = read_builds(path, parameters, f"goldsmith validate {uuid.uuid4()}", source)
    for build in file.builds:
        if build.spec.context is not None and not build.spec.context.startswith("gs:"):
            check_elements(build.spec.steps, file.folder / build.spec.context)
    return [build.spec for build in file.builds]


@dataclass(frozen=True)
class PlannedHere:
    """A build of this machine as its request would be."""

    request: BuildRequested
    cached: CachedSteps | None  # None: no step is run
    estimate: Estimate

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON, with what is beside it."""
        unchanged = self.request.unchanged
        return {
            **to_json(self.request)["plan"],
            "unchanged": unchanged.name if unchanged is not None else None,
            "cached": asdict(self.cached) if self.cached is not None else None,
            "estimate": self.estimate.to_json(),
        }


def plan(path: Path, parameters: Mapping[str, str], source: Path | None, engine: str | None, *, as_json: bool) -> None:
    """Print what a build would make; of a workflow of several, what each would."""
    asked = f"goldsmith plan {uuid.uuid4()}"
    file = read_builds(path, parameters, asked, source)
    builds = with_engine(here(file.builds, path), engine)
    planned = []
    with shown() as progress, open_home(progress) as backend:
        local = opening.builds_here(backend)
        local.tidy()  # what a killed plan has left
        earlier = [build for build in backend.store.builds(limit=LOOKED_AT) if isinstance(build, Build)]
        for build in builds:
            with local.building(build_id(build.spec.name, asked)):
                request = _admitted(build, builds, file.folder, backend, asked)
                runs = request.unchanged is None and request.taken_up is None
                cached = local.cached_steps(request.plan) if runs else None
                planned.append(PlannedHere(request, cached, estimate_build(request.plan, earlier)))
    if as_json:
        print_json([each.to_json() for each in planned] if len(builds) > 1 else planned[0].to_json())
        return
    for number, each in enumerate(planned):
        if number:
            say("")
        _print_plan(each)


def _admitted(
    build: SpecBuild, builds: tuple[SpecBuild, ...], folder: Path, backend: LocalBackend, asked: str
) -> BuildRequested:
    try:
        return admit(with_absolute_paths(plan_for(build.spec, folder, backend, asked), folder), backend)
    except InputError as error:
        if not build.after:
            raise
        waits = ", ".join(builds[index].spec.name for index in build.after)
        raise InputError(f"{error}; {build.spec.name} comes after {waits}: plan it when that is built") from error


def _described(machine: MachinePlan) -> str:
    if machine.engine == "chroot":
        return f"a sandbox on this host, {machine.memory_mb} MB"
    return f"{machine.cpus} CPUs, {machine.memory_mb} MB, {machine.boot} boot"


def _print_plan(planned: PlannedHere) -> None:
    made = planned.request.plan
    source, image, machine = made.source, made.image, made.machine
    lines = [
        ("image", f"{image.project}/{image.name}" + (f", family {image.family}" if image.family else "")),
        ("from", f"{source.project}/{source.name}, {source.architecture}, {source.disk_size_gb} GB"),
        ("disk", f"{image.disk_size_gb} GB"),
        ("labels", ", ".join(f"{key}={value}" for key, value in sorted(image.published_labels.items()))),
        ("machine", _described(machine)),
        ("context", f"{made.context.size} bytes, {made.context.digest[:12]}" if made.context else "none"),
        ("steps", ", ".join(f"{step.name} ({step.action})" for step in made.steps) or "none"),
        *_cached_lines(planned),
        ("deadline", f"{format_duration(made.timeout)} after the request, {made.attempts} attempts"),
        ("time", planned.estimate.text),
        ("digest", made.content_digest),
    ]
    if planned.request.unchanged is not None:
        lines.append(("unchanged", "an image with this content is there; nothing will be built"))
    for name, value in lines:
        say(f"{name + ':' if name else '':<10} {value}")


def _cached_lines(planned: PlannedHere) -> Iterator[tuple[str, str]]:
    made, cached = planned.request.plan, planned.cached
    if planned.request.taken_up is not None:
        yield "cached", "all steps: an earlier build has kept its image, which is this one"
    if cached is None or not made.steps:
        return
    if cached.steps:
        end = None if cached.until is None else datetime.fromtimestamp(cached.until, UTC)
        until = "" if end is None else f", until {end:%Y-%m-%d %H:%M} UTC"
        names = ", ".join(cached.steps)
        yield (
            "cached",
            (
                f"{len(cached.steps)} of {len(made.steps)} steps: {names} "
                f"(layer {cached.layer[:12]} of build {cached.build}{until})"
            ),
        )
    else:
        yield "cached", f"0 of {len(made.steps)} steps"
    if cached.why_not:
        yield "", cached.why_not
