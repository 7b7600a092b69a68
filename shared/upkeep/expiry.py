"""Advance all builds in time, each minute: messages may be lost, and VMs may vanish.

For every build that is not finished: publish what a process that died has left in its outbox, look at its VM, let time
pass. At the same time, begin the builds whose turn has come. Then delete what belongs to no build. A fault of one build
never keeps the others waiting. Time passes also where the first two fail, so that neither a fault nor a minute that is
too short for all builds keeps one from its deadline.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from ..backend import Backend
from ..build.build import Build, State
from ..build.damage import Damaged, readable_builds, tell_damaged
from ..build.events import CancelRequested
from ..build.resources import kept_disk
from ..engine.engine import Engine
from ..errors import DamagedDocument, GoldsmithError
from ..ownership import is_disk_of_retry
from ..planning.turns import give_turns
from .sweep import LeftResource, Swept, sweep_and_tell
from .triggers import pull_triggers
from .watch import keep_console, watch

LOG = logging.getLogger(__name__)

SECONDS = 240.0  # for all of it, within the five minutes that the function has
AT_ONCE = 8  # builds
SLOW = 3600.0  # seconds of cleaning after which people should look


@dataclass(frozen=True)
class Expiry:
    """The outcome of one minute's work. The next minute takes up again what failed or was late."""

    builds: int  # that were not finished
    deleted: tuple[str, ...]  # orphans
    faults: tuple[str, ...]
    late: tuple[str, ...]  # builds and projects that there was no time for
    damaged: tuple[str, ...]  # builds that cannot be read, and are left as they are
    triggered: tuple[str, ...] = ()  # builds that triggers have asked for
    left: tuple[LeftResource, ...] = ()  # orphans that could not be deleted
    unswept: tuple[str, ...] = ()  # projects that could not be swept, and why


class _Late(GoldsmithError):
    """The time was over before this was begun; only the deadline of a build is held then."""

    def __str__(self) -> str:
        return "there was no time for it"


def expire_builds(backend: Backend, project: str, seconds: float = SECONDS) -> Expiry:
    """Advance all builds in time, then sweep `project` and the projects of builds.

    A fault in one of them that was not foreseen is raised once all the others are done.
    """
    end = backend.clock.now() + seconds
    found = backend.store.line()
    unfinished = readable_builds(found)
    projects = {build.project for build in unfinished if build.project} | {project}
    queue = {}
    with (
        ThreadPoolExecutor(1, thread_name_prefix="triggers") as pulling,
        ThreadPoolExecutor(1, thread_name_prefix="queue") as turning,
    ):  # beside all else, which does not wait for it
        pulled = {"the triggers": pulling.submit(pull_triggers, backend, end)}
        if any(build.state is State.QUEUED for build in unfinished):
            queue["the queue"] = turning.submit(give_turns, backend, end)
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="build") as pool:
            passed = {build.id: pool.submit(_pass_time, build.id, backend, end) for build in unfinished}
        with ThreadPoolExecutor(1, thread_name_prefix="sweep") as pool:  # after all builds, which matter more
            swept = {f"the sweep of {name}": pool.submit(_sweep, name, backend, end) for name in sorted(projects)}
    damaged = [build_id for build_id, future in passed.items() if isinstance(future.exception(), DamagedDocument)]
    whole = {f"build {build_id}": future for build_id, future in passed.items() if build_id not in damaged}
    faults = {**_faults(whole), **_faults(queue), **_faults(pulled), **_faults(swept)}
    for fault in faults.values():
        if not isinstance(fault, GoldsmithError):
            raise fault
    done = [future.result() for future in swept.values() if not future.exception()]
    return Expiry(
        builds=len(whole),
        deleted=tuple(f"{resource.kind} {resource.name}" for each in done for resource in each.deleted),
        faults=tuple(f"{what}: {fault}" for what, fault in faults.items() if not isinstance(fault, _Late)),
        late=tuple(what for what, fault in faults.items() if isinstance(fault, _Late)),
        triggered=tuple(asked for future in pulled.values() if not future.exception() for asked in future.result()),
        damaged=(*(each.id for each in found if isinstance(each, Damaged)), *damaged),
        left=tuple(each for one in done for each in one.left),
        unswept=tuple(f"{what}: {fault}" for what, fault in faults.items() if what in swept),
    )


def _pass_time(build_id: str, backend: Backend, end: float) -> None:
    try:
        _look_and_tick(build_id, backend, end)
    except DamagedDocument as error:
        tell_damaged(Damaged(build_id, str(error)))
        raise


def _look_and_tick(build_id: str, backend: Backend, end: float) -> None:
    engine = Engine(backend.store, backend.bus, backend.clock)
    looked = backend.clock.now()
    heard = True  # where the VM could not be looked at, its silence says nothing; the deadline holds all the same
    try:
        _refuse_late(backend, end)
        current = engine.resend(build_id)
        _tell_slow(current, backend)
        _let_go_of_disk(current, engine, backend)
        heard = watch(current, backend)
    finally:
        engine.tick(build_id, heard=heard, looked=looked)
    keep_console(current, backend)


def _let_go_of_disk(build: Build, engine: Engine, backend: Backend) -> None:
    """End the hold of a build whose boot disk a retry has taken over."""
    disk = kept_disk(build) if build.state is State.HELD else None
    if disk is not None and is_disk_of_retry(disk, build, backend):
        why = f"a retry has taken over its disk {disk.name}"
        engine.receive(CancelRequested(build_id=build.id, event_id="disk-taken-over", time=0.0, reason=why))


def _tell_slow(build: Build, backend: Backend) -> None:
    """Log a clean-up that cannot end, which raises an alert: what is left costs money."""
    began = build.disk_until if build.state is State.HELD else build.last_seen  # when its state was entered
    cleaning = backend.clock.now() - began
    if build.state in (State.CLEANING, State.HELD) and cleaning > SLOW:
        left = ", ".join(f"{entry.kind} {entry.name}" for entry in build.ledger if not entry.keep)
        text = "build %s has been cleaning for %.0f minutes; left: %s"
        LOG.warning(text, build.id, cleaning / 60, left, extra={"metric": "slow_cleaning"})


def _sweep(project: str, backend: Backend, end: float) -> Swept:
    _refuse_late(backend, end)
    return sweep_and_tell(project, backend)


def _refuse_late(backend: Backend, end: float) -> None:
    if backend.clock.now() >= end:
        raise _Late


def _faults(
    work: Mapping[str, Future[None]] | Mapping[str, Future[list[str]]] | Mapping[str, Future[Swept]],
) -> dict[str, BaseException]:
    """Log the exceptions, and return them by what they were raised in."""
    faults = {what: fault for what, future in work.items() if (fault := future.exception())}
    for what, fault in faults.items():
        if isinstance(fault, _Late):
            LOG.warning("%s has to wait for the next minute", what)
        else:
            LOG.warning("%s: %s", what, fault, exc_info=None if isinstance(fault, GoldsmithError) else fault)
    return faults
