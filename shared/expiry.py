"""What happens each minute: the truth about builds, since messages may be lost and VMs may vanish.

For every build that is not finished: publish what a process that died has left in its outbox, look at its VM, let time
pass. Then delete what belongs to no build. One build's fault never keeps the others waiting, and whatever comes of the
first two, time passes: no fault keeps a build from its deadline.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from .build import Build, State
from .damage import Damaged, readable_builds
from .engine import Engine
from .errors import GoldsmithError
from .factory import Factory
from .sweep import sweep
from .watch import keep_console, watch

LOG = logging.getLogger(__name__)

SECONDS = 240.0  # for all of it, within the five minutes that the function has
AT_ONCE = 8  # builds
SLOW = 3600.0  # seconds of cleaning after which people should look


@dataclass(frozen=True)
class Expiry:
    """What one minute's work came to. Faults and what was late are taken up again by the next one."""

    builds: int  # that were not finished
    deleted: tuple[str, ...]  # orphans
    faults: tuple[str, ...]
    late: tuple[str, ...]  # builds and projects that there was no time for
    damaged: tuple[str, ...]  # builds that cannot be read, and are left as they are


class _Late(GoldsmithError):
    """The time was over before this was begun."""


def expire_builds(factory: Factory, project: str, seconds: float = SECONDS) -> Expiry:
    """Let time pass for all builds, then sweep `project` and those that builds are in.

    What nobody has foreseen in one of them is raised once all the others are done.
    """
    end = factory.clock.now() + seconds
    found = factory.store.builds(unfinished=True)
    unfinished = readable_builds(found)
    projects = {build.plan.machine.project for build in unfinished if build.plan} | {project}
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="build") as pool:
        passed = {f"build {build.id}": pool.submit(_pass_time, build, factory, end) for build in unfinished}
    with ThreadPoolExecutor(1, thread_name_prefix="sweep") as pool:  # after all builds, which matter more
        swept = {f"the sweep of {name}": pool.submit(_sweep, name, factory, end) for name in sorted(projects)}
    faults = {**_faults(passed), **_faults(swept)}
    for fault in faults.values():
        if not isinstance(fault, GoldsmithError):
            raise fault
    return Expiry(
        builds=len(unfinished),
        deleted=tuple(name for future in swept.values() if not future.exception() for name in future.result()),
        faults=tuple(f"{what}: {fault}" for what, fault in faults.items() if not isinstance(fault, _Late)),
        late=tuple(what for what, fault in faults.items() if isinstance(fault, _Late)),
        damaged=tuple(each.id for each in found if isinstance(each, Damaged)),
    )


def _pass_time(build: Build, factory: Factory, end: float) -> None:
    _refuse_late(factory, end)
    engine = Engine(factory.store, factory.bus, factory.clock)
    heard = True  # where the VM could not be looked at, its silence says nothing; the deadline holds all the same
    try:
        current = engine.resend(build.id)
        _tell_slow(current, factory)
        heard = watch(current, factory)
    finally:
        engine.tick(build.id, heard=heard)
    keep_console(current, factory)


def _tell_slow(build: Build, factory: Factory) -> None:
    """Let an alert be raised for a clean-up that cannot end: what is left costs money."""
    cleaning = factory.clock.now() - build.last_seen  # when its state was entered
    if build.state is State.CLEANING and cleaning > SLOW:
        left = ", ".join(f"{entry.kind} {entry.name}" for entry in build.ledger if not entry.keep)
        text = "build %s has been cleaning for %.0f minutes; left: %s"
        LOG.warning(text, build.id, cleaning / 60, left, extra={"metric": "slow_cleaning"})


def _sweep(project: str, factory: Factory, end: float) -> list[str]:
    _refuse_late(factory, end)
    return [f"{resource.kind} {resource.name}" for resource in sweep(project, factory)]


def _refuse_late(factory: Factory, end: float) -> None:
    if factory.clock.now() >= end:
        raise _Late


def _faults(work: Mapping[str, Future[None]] | Mapping[str, Future[list[str]]]) -> dict[str, BaseException]:
    """Give what was raised, by what it was raised in, and log it."""
    faults = {what: fault for what, future in work.items() if (fault := future.exception())}
    for what, fault in faults.items():
        if isinstance(fault, _Late):
            LOG.warning("%s has to wait for the next minute", what)
        else:
            LOG.warning("%s: %s", what, fault, exc_info=None if isinstance(fault, GoldsmithError) else fault)
    return faults
