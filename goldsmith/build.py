"""goldsmith build: from a spec file to an image in the catalogue and, with --output, its archive and manifest."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal

from shared.build import Build, Outcome
from shared.errors import NO_SPACE, GoldsmithError, InputError, NameTaken, NotFound
from shared.events import BuildRequested
from shared.identity import build_id
from shared.interruption import Interruption
from shared.plan import Plan

from .console import following
from .exit_status import ENVIRONMENT, FAILED, INTERRUPTED, of_error
from .home import open_factory, resume_all
from .images import export_existing
from .specs import here, prepare, read
from .text import complain
from .view import View, view

if TYPE_CHECKING:
    from shared.factory import LocalFactory
    from shared.spec import Spec


TRIES = 5  # of a name that other builds take at the same moment


def build(
    path: Path,
    output: Path | None,
    parameters: Mapping[str, str],
    *,
    boot: str | None,
    compression: str | None,
    key: str | None,
    as_json: bool,
) -> int:
    """Build; give the exit status. InputError and EnvironmentFault come before anything is made.

    Builds of one workflow go on one after the other, whether those before succeed or not; one that waits for
    another that has not succeeded is not begun. The exit status is that of the first failure.
    """
    asked = f"goldsmith build {key or uuid.uuid4()}"
    builds = here(read(path, parameters, asked), path)
    _one_of("--boot", boot, ("direct", "firmware"))
    _one_of("--compression", compression, ("fast", "best"))

    def amend(plan: Plan) -> Plan:
        return _with_options(plan, output, boot, compression)

    failures: dict[int, int] = {}  # exit status by index of what did not succeed
    for index, one in enumerate(builds):
        missed = [builds[other].spec.name for other in one.after if other in failures]
        if missed:
            complain(f"{one.spec.name} is not built: it comes after {', '.join(missed)}, which did not succeed")
            failures[index] = FAILED
            continue
        try:
            ended = _build(one.spec, path, asked, amend, view(as_json))
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


def _build(spec: Spec, path: Path, asked: str, amend: Callable[[Plan], Plan], screen: View) -> int:
    """Build one image; give the exit status."""
    identity = build_id(spec.name, asked)
    with open_factory(screen.progress) as factory:
        resume_all(factory)
        taken = 0
        while True:
            with factory.building(identity) as ours:
                if ours:
                    try:
                        return _run(prepare(spec, path, factory, asked, amend), factory, screen)
                    except NameTaken:  # by a build that was begun at the same moment: planned again, it is seen
                        taken += 1
                        if taken == TRIES:
                            raise
                    continue
            with suppress(NotFound):  # who held it was only tidying up, or had bad input: it is ours then
                done = factory.wait_until_finished(identity)  # the same key, in another process
                screen.end(done, factory.logs_of(done.id))
                return status(done)


def _run(request: BuildRequested, factory: LocalFactory, screen: View) -> int:
    interruption = Interruption()
    with _signals(interruption), screen, following(factory.console(request.build_id), screen.console):
        done = factory.run(request, screen.event, interruption)
    if done.outcome is Outcome.UNCHANGED and done.image is not None:
        export_existing(factory, done.image.name, request.plan.image.export_to, request.plan.image.compression)
    screen.end(done, factory.logs_of(done.id))
    return INTERRUPTED if interruption.asked and done.outcome is Outcome.CANCELLED else status(done)


def status(done: Build) -> int:
    """Give the exit status of a build that has ended."""
    only_retiring = done.retiring and all(entry.keep for entry in done.ledger)  # a warning, and tried again
    if (done.finished or only_retiring) and done.outcome in (Outcome.SUCCEEDED, Outcome.UNCHANGED):
        return 0
    return ENVIRONMENT if done.outcome is Outcome.FAILED and done.reason.startswith(NO_SPACE) else FAILED


def _with_options(plan: Plan, output: Path | None, boot: str | None, compression: str | None) -> Plan:
    image, machine = plan.image, plan.machine
    if output is not None:
        image = replace(image, export_to=str(output.absolute() / f"{image.name}.tar.gz"))
    if compression is not None:
        image = replace(image, compression=compression)
    if boot is not None:
        machine = replace(machine, boot=boot)
    return replace(plan, image=image, machine=machine)


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
