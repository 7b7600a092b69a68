"""Start queued builds when their turn has come: after each request, and every minute.

    line ── whose turn? ── look what there is of the image ── TurnCame ── preparing, or unchanged, or failed
                               (as at the request, and anew)      └─ the image's name is taken in the same write

Any number of processes may do so at once: the fact has one id, and is recorded once. A name that another build takes
in between is seen by the next look.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace

from ..backend import Backend
from ..build.build import Build, State, Unfinished
from ..build.damage import Damaged, readable_builds, tell_damaged
from ..build.events import CancelRequested, TurnCame
from ..build.plan import Plan
from ..engine.engine import Engine
from ..errors import (
    DamagedDocument,
    EnvironmentFault,
    GoldsmithError,
    InputError,
    NameTaken,
    NotFound,
    Passing,
    Permanent,
)
from .line import Wait, superseded, turns, waits
from .requests import find_made, given_up

LOG = logging.getLogger(__name__)

TURN = "turn"  # the id of the fact
SUPERSEDED = "superseded"  # the same, of its end
SLOW = 3600.0  # seconds after its request, from which on a build that cannot get its turn is reported to people


def give_turns(backend: Backend, end: float) -> None:
    """Begin all builds whose turn has come, but none after `end`. No fault of one keeps the others waiting."""
    engine = Engine(backend.store, backend.bus, backend.clock)
    damaged: set[str] = set()  # that the line tells and that cannot be read
    _end_superseded(readable_builds(backend.store.line()), backend, engine)
    again = True
    while again:  # what has ended at its turn makes room at once
        again = False
        for each in _ready(backend, damaged):
            if backend.clock.now() >= end:
                LOG.info("no time is left for build %s and those behind it; their turn comes later", each.id)
                return
            try:
                again = give_turn(each.id, backend, engine, damaged) or again
            except DamagedDocument as error:
                tell_damaged(Damaged(each.id, str(error)))
                damaged.add(each.id)
                again = True
            except GoldsmithError as error:
                _put_off(each, error, backend.clock.now())


def take_turn(build: Build, backend: Backend, engine: Engine) -> Wait | None:
    """Begin one build if its turn has come; return what it waits for, or None when it does not.

    It ends as failed for what this machine or project lacks: here it is the same one that refuses a request.
    """
    line = readable_builds(backend.store.line())
    if build.id in superseded(line):
        _end_superseded(line, backend, engine)
        return None
    if build.id in {each.id for each in turns(line, backend.concurrency, backend.family_concurrency)}:
        try:
            give_turn(build.id, backend, engine)
        except (Passing, NameTaken) as error:
            LOG.info("build %s waits on: %s", build.id, error)
        except (EnvironmentFault, NotFound, Permanent) as error:  # the source is gone, say
            engine.receive(given_up(build, str(error), backend.clock.now()))
    now = backend.store.load(build.id).build
    return waits(line, backend.family_concurrency).get(build.id) if now.state is State.QUEUED else None


def give_turn(build_id: str, backend: Backend, engine: Engine, damaged: Collection[str] = ()) -> bool:
    """Begin a build if its turn has come; return whether it has ended instead.

    The line is looked at right before it is written down: a turn that was computed long ago may be another one's now.
    """
    build = backend.store.load(build_id).build
    if build.plan is None or build.state is not State.QUEUED:
        return False
    fact = turn_of(build, build.plan, backend)
    if build_id not in {each.id for each in _ready(backend, damaged)}:
        return False
    engine.receive(fact)
    return fact.unchanged is not None or bool(fact.refused)


def _ready(backend: Backend, damaged: Collection[str]) -> list[Unfinished]:
    line = [each for each in readable_builds(backend.store.line()) if each.id not in damaged]
    return turns(line, backend.concurrency, backend.family_concurrency)


def _end_superseded(line: Sequence[Unfinished], backend: Backend, engine: Engine) -> None:
    """End the queued builds of specs with triggers that newer requests of the same spec have made needless."""
    for build_id, newer in superseded(line).items():
        reason = f"superseded by build {newer}, a newer request of the same spec"
        fact = CancelRequested(build_id=build_id, event_id=SUPERSEDED, time=backend.clock.now(), reason=reason)
        try:
            engine.receive(fact)
        except GoldsmithError as error:
            LOG.warning("build %s cannot be ended, which is %s: %s", build_id, reason, error)


def _put_off(build: Unfinished, error: GoldsmithError, now: float) -> None:
    """Log that a build whose turn it is goes on waiting; where it was asked for long ago, an alert is raised."""
    waited = now - build.created
    if waited > SLOW:
        text = "build %s, asked for %.0f minutes ago, cannot be given its turn: %s"
        LOG.warning(text, build.id, waited / 60, error, extra={"metric": "slow_turn"})
        return
    level = logging.INFO if isinstance(error, Passing | NameTaken) else logging.WARNING
    LOG.log(level, "build %s cannot be given its turn yet: %s", build.id, error)


def turn_of(build: Build, plan: Plan, backend: Backend) -> TurnCame:
    """Return the fact that a build's turn has come. NameTaken while another one has its name.

    It refuses what is wrong with the spec alone. All else is raised, and the build waits: what looks may be the one
    that lacks a permission, and none of that is the build's fault.
    """
    turn = TurnCame(build_id=build.id, event_id=TURN, time=backend.clock.now(), image=plan.image)
    try:
        found = find_made(plan, backend)
        if found.maker:
            raise NameTaken(f"build {found.maker} makes its image")
        if found.unchanged is None:
            backend.compute.check(replace(plan, image=found.image))
    except InputError as error:  # in the words of a request that is refused
        return replace(turn, refused=str(error))
    return replace(turn, image=found.image, replaces=found.replaces, taken_up=found.taken_up, unchanged=found.unchanged)
