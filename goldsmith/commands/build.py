"""goldsmith build: from a spec file to an image in the catalogue and, with --output, its archive and manifest.

goldsmith builds retry: the same, from the image that a build has kept which failed late.
"""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal, TypeAlias

from shared.build.build import Build, Outcome
from shared.build.events import BuildRequested, Event
from shared.build.identity import build_id
from shared.build.plan import CachePlan, Plan, SpecPlace
from shared.build.trigger import request_key
from shared.errors import NO_SPACE, GoldsmithError, InputError, NameTaken, NotFound
from shared.interruption import Interruption
from shared.planning.requests import admit
from shared.planning.retries import retry_id
from shared.planning.triggers import anew
from shared.quantities import parse_duration
from shared.runtime import opening

from ..exit_status import ENVIRONMENT, INTERRUPTED, NOT_SUCCEEDED, of_error
from ..home import home, open_home, resume_all
from ..places import Place
from ..screen.console import following
from ..screen.text import complain
from ..screen.view import View, view
from .builds import find_by_id
from .held import NO_HOLD, HoldFlags, holding
from .images import export_again
from .specs import here, plan_for, read_builds, spec_place, with_absolute_paths, with_engine

if TYPE_CHECKING:
    from shared.runtime.opening import LocalBackend
    from shared.spec.model import Spec
    from shared.spec.read import SpecBuild, SpecFile

    SpecAndFolder: TypeAlias = tuple[Spec, Path]


RETRY_SECONDS = 86_400.0  # unless --retry-for says otherwise
LONGEST_RETRY = 7 * 86_400.0  # as long as an image is kept that could not be published
TRIES = 5  # of a name that other builds take at the same moment


@dataclass(frozen=True)
class BuildFlags:
    """The options of the command line that change a plan; None leaves it to the spec."""

    output: Path | None
    boot: str | None
    compression: str | None
    formats: tuple[str, ...] = ()
    no_cache: bool = False
    first: str | None = None  # the name of the first step that is run, whatever the cache has
    check: bool = False  # whether it is built twice
    hold: HoldFlags = NO_HOLD
    retry_for: float = RETRY_SECONDS  # for which an image waits for a retry that could not be exported or verified
    anew: bool = False  # whether it is built even if nothing has changed, without earlier results of other hosts
    place: SpecPlace | None = None  # where the spec lies
    show: Callable[[bool], View] = view  # makes what shows a build, as JSON or for people

    @property
    def request_key(self) -> str:
        """Return what tells requests of one spec, of which newer ones supersede queued ones; "": none does.

        That is so for one that wants files, a shell or two builds: another build does not give these.
        """
        if self.place is None or self.output is not None or self.check or self.hold.seconds or self.first is not None:
            return ""
        return request_key(self.place.uri, self.place.parameters)

    def applied(self, plan: Plan) -> Plan:
        """Return the plan with the options in it; the archive is named for the image, below `output`."""
        image, machine = plan.image, plan.machine
        if self.output is not None:
            image = replace(image, export_to=str(self.output.absolute() / f"{image.name}.tar.gz"))
        if self.formats:
            image = replace(image, formats=self.formats)
        if self.formats and image.export_to is None:
            raise InputError("--format says how files are written, and nothing where; add --output FOLDER")
        if self.compression is not None:
            image = replace(image, compression=self.compression)
        if self.boot is not None:
            machine = replace(machine, boot=self.boot)
        machine = replace(machine, hold=self.hold.seconds)
        plan = replace(
            plan,
            image=image,
            machine=machine,
            cache=self._cache(plan),
            retry_for=self.retry_for,
            read_from=self.place,
        )
        return anew(plan) if self.anew else plan

    def _cache(self, plan: Plan) -> CachePlan:
        if self.no_cache or self.check:
            return CachePlan()
        if self.first is None:
            return plan.cache
        names = [step.name for step in plan.steps]
        if self.first not in names:
            raise InputError(f"--from {self.first}: {plan.name} has no such step; it has {', '.join(names) or 'none'}")
        return replace(plan.cache, first=names.index(self.first))


def build(
    path: Path,
    parameters: Mapping[str, str],
    source: Path | None,
    options: BuildFlags,
    *,
    engine: str | None,
    key: str | None,
    as_json: bool,
) -> int:
    """Build; give the exit status. InputError and EnvironmentFault come before anything is made.

    Builds of one workflow go on one after the other, whether those before succeed or not; one that waits for
    another that has not succeeded is not begun. The exit status is that of the first failure.
    """
    asked = f"goldsmith build {key or uuid.uuid4()}"

    def read() -> tuple[SpecFile, tuple[SpecBuild, ...]]:
        file = read_builds(path, parameters, asked, source)
        return file, with_engine(here(file.builds, path), engine)

    file, builds = read()
    if source is None:
        options = replace(options, place=spec_place(path, parameters, file))
    _one_of("--boot", options.boot, ("direct", "firmware"))
    _one_of("--compression", options.compression, ("fast", "best"))
    _go_together(options)
    return build_all(read, asked, options, (file, builds), as_json=as_json)


def build_all(
    read: Callable[[], tuple[SpecFile, tuple[SpecBuild, ...]]],
    asked: str,
    options: BuildFlags,
    now: tuple[SpecFile, tuple[SpecBuild, ...]],
    *,
    as_json: bool = False,
) -> int:
    """Build what has been read, one after the other; give the exit status. `read` reads it again, as it is then."""
    file, builds = now
    failures: dict[int, int] = {}  # exit status by index of what did not succeed
    for index, one in enumerate(builds):
        missed = [builds[other].spec.name for other in one.after if other in failures]
        if missed:
            complain(f"{one.spec.name} is not built: it comes after {', '.join(missed)}, which did not succeed")
            failures[index] = NOT_SUCCEEDED
            continue
        try:
            ended = _build((one.spec, file.folder), _reading(read, index), asked, options, as_json=as_json)
        except GoldsmithError as error:
            if len(builds) == 1:
                raise
            complain(f"{one.spec.name}: {error}")
            ended = of_error(error)
        if ended == INTERRUPTED:
            return INTERRUPTED
        if ended:
            failures[index] = ended
    return next(iter(failures.values()), 0)


def _go_together(options: BuildFlags) -> None:
    """Check that no two options exclude each other. InputError."""
    if options.no_cache and options.first is not None:
        raise InputError("--from names a step to go on with from the cache, and --no-cache uses none; leave one out")
    if options.check and options.first is not None:
        raise InputError(
            "--check-reproducible uses no cache, and --from names a step to go on with from it; leave one out"
        )
    if options.check and options.hold.seconds:
        raise InputError("--check-reproducible keeps nothing of a failed build, and a shell needs it; leave one out")


def _reading(read: Callable[[], tuple[SpecFile, tuple[SpecBuild, ...]]], index: int) -> Callable[[], SpecAndFolder]:
    """Return what reads one of a file's builds, as it is then. InputError."""

    def read_one() -> SpecAndFolder:
        file, builds = read()
        if index >= len(builds):
            raise InputError("the file has fewer builds than before")
        return builds[index].spec, file.folder

    return read_one


def _build(
    first: SpecAndFolder, read: Callable[[], SpecAndFolder], asked: str, options: BuildFlags, *, as_json: bool
) -> int:
    """Build one image, and anew as often as a person wants that in the shell of a failed step; give the exit status."""
    (spec, folder), ended = first, None
    while ended is None:
        ended = _build_once(spec, folder, asked, options, read, as_json=as_json)
        if ended is None:
            (spec, folder), asked = read(), f"{asked} again"
    return ended


def _build_once(
    spec: Spec,
    folder: Path,
    asked: str,
    options: BuildFlags,
    read: Callable[[], SpecAndFolder],
    *,
    as_json: bool,
) -> int | None:
    """Build one image; give the exit status, None where a person wants it anew."""
    opening.check_webhooks(home())
    screen = options.show(as_json)
    identity = build_id(spec.name, asked)
    with open_home(screen.progress) as backend:
        resume_all(backend)
        builds = opening.builds_here(backend)
        taken = 0
        while True:
            with builds.building(identity) as ours:
                if ours:
                    try:
                        plan = options.applied(plan_for(spec, folder, backend, asked))
                        if spec.triggers is not None:
                            plan = replace(plan, spec=options.request_key)
                        plan = with_absolute_paths(plan, folder)
                        if options.check:
                            return _run_twice(plan, backend, screen, None if as_json else options.show(as_json), read)
                        return _run(admit(plan, backend), backend, screen, options.hold, read)
                    except NameTaken:  # by a build that was begun at the same moment: planned again, it is seen
                        taken += 1
                        if taken == TRIES:
                            raise
                    continue
            with suppress(NotFound):  # who held it was only tidying up, or had bad input: it is ours then
                done = builds.wait_until_finished(identity)  # the same key, in another process
                screen.end(done, builds.logs_of(done.id))
                return status(done)


def _run(
    request: BuildRequested,
    backend: LocalBackend,
    screen: View,
    flags: HoldFlags,
    read: Callable[[], SpecAndFolder],
) -> int | None:
    interruption, builds = Interruption(), opening.builds_here(backend)
    with (
        _signals(interruption),
        screen,
        following(builds.console(request.build_id), screen.console),
        holding(flags, backend, screen, interruption, read) as held,
    ):

        def hear(build: Build, event: Event) -> None:
            screen.event(build, event)
            held.look(build)

        done = builds.run(request, hear, interruption)
    if done.outcome is Outcome.UNCHANGED and done.image is not None:
        wanted = (done.plan or request.plan).image
        export_again(backend, done.image.name, wanted)
    screen.end(done, builds.logs_of(done.id))
    if held.continues:
        return None
    return INTERRUPTED if interruption.asked and done.outcome is Outcome.CANCELLED else status(done)


def retry_seconds(text: str | None) -> float:
    """Return for how many seconds an image waits for a retry. InputError."""
    if text is None:
        return RETRY_SECONDS
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise InputError(f"--retry-for: {error}") from error
    if seconds > LONGEST_RETRY:
        raise InputError(f"--retry-for {text}: write at most 7d, or 0s to keep none")
    return seconds


def retry_build(
    build_id: str, start: str | None, output: Path | None, show: Callable[[bool], View] = view, *, as_json: bool
) -> int:
    """Run a new build that goes on where another one failed; give the exit status. InputError, EnvironmentFault."""
    opening.check_webhooks(home())
    screen = show(as_json)
    with open_home(screen.progress) as backend:
        resume_all(backend)
        builds = opening.builds_here(backend)
        first = find_by_id(builds, build_id, Place())
        with builds.building(retry_id(first)) as ours:
            if not ours:
                raise InputError(f"build {first.id} is being retried by another process, as build {retry_id(first)}")
            target = None
            if output is not None and first.plan is not None:
                target = str(output.absolute() / f"{first.plan.image.name}.tar.gz")
            request = builds.retry_request(first, start, target)
            try:
                ended = _run(request, backend, screen, NO_HOLD, _no_spec)
            except NameTaken as error:  # by a sweep or another build, since we have looked
                raise InputError(f"build {first.id} keeps nothing any more: {error}") from error
    return NOT_SUCCEEDED if ended is None else ended


def _no_spec() -> SpecAndFolder:
    raise InputError("a retry has no spec that could be read again")


def _run_twice(
    plan: Plan, backend: LocalBackend, screen: View, first: View | None, read: Callable[[], SpecAndFolder]
) -> int | None:
    """Build twice, without what is cached of steps; the second image is published if it is the same as the first.

    The first build is shown on `first`, if that is given. It is one of a home of its own, of which nothing is kept.
    """
    machine = replace(plan.machine, reproducible=plan.machine.engine == "chroot")
    plan = replace(plan, rebuild="always", machine=machine)
    if admit(plan, backend).unchanged is not None:
        raise InputError(
            f"output.name: image {plan.image.name} of this content is there already, and --check-reproducible builds "
            "it; delete it first, or choose another name"
        )
    kept = replace(plan.image, family=None, deprecate_old=None, export_to=None, formats=(), sbom_to=None)
    complain("building twice; the first image is only compared with the second")
    with opening.trial(backend, plan.source) as trial:
        builds, interruption = opening.builds_here(trial), Interruption()
        asked = admit(replace(plan, image=kept, verify_steps=None), trial)
        with ExitStack() as stack, _signals(interruption):
            if first is not None:
                stack.enter_context(first)
                stack.enter_context(following(builds.console(asked.build_id), first.console))
            done = builds.run(asked, _ignore if first is None else first.event, interruption)
        if done.outcome is not Outcome.SUCCEEDED or done.image is None:
            logs = opening.builds_here(backend).logs_of(done.id)
            shutil.copytree(builds.logs_of(done.id), logs, dirs_exist_ok=True)
            screen.end(done, logs)
            return INTERRUPTED if interruption.asked and done.outcome is Outcome.CANCELLED else status(done)
        same_as = str(trial.catalogue.disk(done.image.name))
        plan = replace(plan, image=replace(plan.image, same_as=same_as))
        complain("building again")
        return _run(admit(plan, backend), backend, screen, NO_HOLD, read)


def _ignore(build: Build, event: Event) -> None:
    """Show nothing."""


def status(done: Build) -> int:
    """Return the exit status of a build that has ended."""
    only_retiring = done.retiring and all(entry.keep for entry in done.ledger)  # a warning, and tried again
    if (done.finished or only_retiring) and done.outcome in (Outcome.SUCCEEDED, Outcome.UNCHANGED):
        return 0
    return ENVIRONMENT if done.outcome is Outcome.FAILED and done.reason.startswith(NO_SPACE) else NOT_SUCCEEDED


def _one_of(option: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise InputError(f"{option} {value}: choose {' or '.join(choices)}")


@contextmanager
def _signals(interruption: Interruption) -> Iterator[None]:
    """Take Ctrl-C, a closed terminal and `kill` as a wish to cancel; a third Ctrl-C ends at once."""
    presses = 0

    def ask(number: int, _frame: FrameType | None) -> Literal[None]:
        nonlocal presses
        presses += 1
        interruption.ask(f"cancelled by {signal.Signals(number).name}")
        if presses > 2:
            os._exit(INTERRUPTED)  # what is left is picked up by the next command

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
