"""goldsmith triggers: specs of this machine that are built again by themselves, once a timer calls `run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shared.build.damage import Damaged
from shared.build.trigger import CauseKind, Trigger, TriggeredBuild, request_of, spec_digest
from shared.context.outside import outside
from shared.context.packing import NOTICED_LIMIT, context_digest
from shared.errors import GoldsmithError, InputError
from shared.interruption import Interruption
from shared.json_values import to_document
from shared.planning.triggers import offer
from shared.quantities import format_duration, format_size
from shared.runtime import opening
from shared.spec.read import parse_file

from ..exit_status import INTERRUPTED, NOT_SUCCEEDED, of_error
from ..home import open_home, resume_all
from ..screen.tables import print_json, print_table, relative
from ..screen.text import complain, say
from .build import BuildFlags, build_all
from .specs import here, read_builds, spec_path, spec_place

_WHY: Mapping[CauseKind, str] = {
    "every": "its time has come",
    "spec": "it was changed",
    "source": "there is another source image",
    "revoked": "its source was revoked",
}

if TYPE_CHECKING:
    from shared.runtime.opening import LocalBackend
    from shared.spec.read import SpecBuild, SpecFile


def add_trigger(path: Path, parameters: Mapping[str, str]) -> None:
    """Keep a spec that has triggers. SpecError, InputError."""
    path = spec_path(path)
    file = _read(path, parameters, f"goldsmith triggers add {path}")
    spec = file.builds[0].spec
    if spec.triggers is None:
        raise InputError(f"{path}: triggers: is missing; write when the spec is built, such as {{every: 7d}}")
    with open_home() as backend:
        made = opening.triggers_here(backend).add(_offered(path, file, parameters, backend))
    say(f"{made.name} is built by the next `goldsmith triggers run`, then {_when_built(made)}")


def remove_trigger(path: Path) -> None:
    """Build a spec no more by itself. InputError for one that has not been added."""
    with open_home() as backend:
        opening.triggers_here(backend).remove(str(spec_path(path)))
    say(f"{path} is built no more by itself")


def resume_trigger(path: Path) -> None:
    """Build a spec by itself again. InputError for one that has not been added."""
    with open_home() as backend:
        opening.triggers_here(backend).resume(str(spec_path(path)))
    say(f"{path} is built by itself again")


def list_triggers(*, as_json: bool) -> None:
    """Print the specs that are built again by themselves."""
    with open_home() as backend:
        found = opening.triggers_here(backend).listed()
    if as_json:
        print_json([_document(each) for each in found])
        return
    rows = [
        (each.id, "damaged", "", each.why)
        if isinstance(each, Damaged)
        else (each.name, ("paused: " if each.paused else "") + _when_built(each), relative(each.since), each.spec)
        for each in found
    ]
    print_table(("NAME", "BUILT", "ADDED", "SPEC"), rows)


def run_triggers() -> int:
    """Build all that is due, one after the other; return the exit status of the first that did not succeed."""
    with open_home() as backend:
        found = opening.triggers_here(backend).listed()
        if any(isinstance(each, Trigger) and each.asked for each in found):
            resume_all(backend)  # a build that is over is counted, and one that was lost is asked for again
    failures, built = [], 0
    for each in found:
        if isinstance(each, Damaged):
            complain(each.why)
            failures.append(NOT_SUCCEEDED)
            continue
        try:
            wanted = _due(each)
            built += len(wanted)
            ended = [_build(each, build) for build in wanted]
        except GoldsmithError as error:
            complain(f"{each.name}: {error}")
            ended = [of_error(error)]
        if INTERRUPTED in ended:
            return INTERRUPTED
        failures += [status for status in (*ended, _count(each)) if status]
    if not built and not failures:
        say("nothing is due")
    return next(iter(failures), 0)


def _due(trigger: Trigger) -> tuple[TriggeredBuild, ...]:
    """Return what has to be built of a spec now. GoldsmithError."""
    path = Path(trigger.spec)
    file = _read(path, trigger.parameters, f"goldsmith triggers run {path}")
    spec = file.builds[0].spec
    with open_home() as backend:
        offered = _offered(path, file, trigger.parameters, backend)
        source = opening.images_here(backend).source_of(spec, file.folder).id if offered.source_changed else ""
        formerly = spec_digest(file.parsed.text, trigger.parameters, None)
        return opening.triggers_here(backend).due(trigger, offered, source, formerly)


def _offered(path: Path, file: SpecFile, parameters: Mapping[str, str], backend: LocalBackend) -> Trigger:
    """Return the trigger of a file as it is now; the text is left where it is."""
    spec, text = file.builds[0].spec, file.parsed.text
    context = None
    if spec.triggers is not None and spec.triggers.spec_changed and spec.context is not None:
        with opening.temporary_folder() as spool:
            context = context_digest(file.folder / spec.context, spool, outside(spec.steps))
        if context is None:
            size = format_size(NOTICED_LIMIT)
            complain(f"{path}: its context is larger than {size}; changes of files there are not noticed by themselves")
    digest = spec_digest(text, parameters, context)
    return replace(offer(spec, str(path), text, parameters, backend.clock.now(), digest=digest), text="")


def _count(trigger: Trigger) -> int:
    """Count the builds that have ended, and say once that too many have failed; return the exit status of that."""
    with open_home() as backend:
        announcement = opening.triggers_here(backend).count(trigger)
        if announcement is None:
            return 0
        opening.builds_here(backend).run(announcement, lambda _build, _event: None, Interruption())
    complain(f"{trigger.name}: {announcement.reason}")
    return NOT_SUCCEEDED


def _build(trigger: Trigger, build: TriggeredBuild) -> int:
    """Run a build that a trigger has asked for; return its exit status. GoldsmithError."""
    path, asked = Path(trigger.spec), request_of(trigger, build)

    def read() -> tuple[SpecFile, tuple[SpecBuild, ...]]:
        file = _read(path, trigger.parameters, asked)
        return file, here(file.builds, path)

    complain(f"{trigger.name}: {_WHY[build.kind]}")
    now = read()
    place = spec_place(path, trigger.parameters, now[0])
    flags = BuildFlags(None, None, None, anew=build.kind == "every", place=place)
    return build_all(read, asked, flags, now)


def _read(path: Path, parameters: Mapping[str, str], asked: str) -> SpecFile:
    """Read a spec, and no workflow. SpecError, InputError."""
    if parse_file(path).is_workflow:
        raise InputError(f"{path} is a workflow, which has no triggers; write it as specs, with: goldsmith convert")
    return read_builds(path, parameters, asked, None)


def _when_built(trigger: Trigger) -> str:
    ways = [f"every {format_duration(trigger.every)}"] if trigger.every else []
    ways += ["for each new source image"] if trigger.source_changed else []
    ways += ["when it was changed"] if trigger.spec_changed else []
    return " and ".join(ways)


def _document(trigger: Trigger | Damaged) -> object:
    if isinstance(trigger, Damaged):
        return {"id": trigger.id, "damaged": trigger.why}
    return to_document(trigger)
