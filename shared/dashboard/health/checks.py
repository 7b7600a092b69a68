"""The checks of a place's health, each over the ports: what is wrong, and the very command that mends it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from itertools import islice

from ...build.build import Build, State
from ...build.damage import Damaged
from ...build.image.approval import AskedPromotion
from ...build.trigger import Trigger
from ...errors import GoldsmithError
from ...names import LOCAL
from ..web.served import Served
from .findings import HealthCheck, HealthFinding, with_findings
from .upkeep import dead_letters, leaked, schedules, this_machine

MOST_LOOKED_AT = 5000  # documents of images
LATE = 300.0  # seconds beyond its deadline, or the time of its next look, after which a build is stuck
SLOW_CLEANING = 3600.0  # seconds of clean-up after which people should look; metric slow_cleaning says so too
SOON = 24 * 3600.0  # before its deadline, a promotion that waits is told of


def all_checks(served: Served) -> tuple[HealthCheck, ...]:
    """Return all checks; one that fails itself is not known, and keeps no other from being made."""
    own = this_machine if served.project == LOCAL else schedules
    checks = (_stuck, dead_letters, leaked, own, _paused, _promotions, _damaged)
    return tuple(_made(check, served) for check in checks)


def _made(check: Callable[[Served], HealthCheck], served: Served) -> HealthCheck:
    try:
        return check(served)
    except GoldsmithError as error:
        name = check.__name__.strip("_")
        return HealthCheck(name, name.replace("_", " ").capitalize(), None, (), str(error))


def _stuck(served: Served) -> HealthCheck:
    check = HealthCheck(
        "stuck",
        "Stuck builds",
        meaning="Builds that are beyond their time, clean up for an hour, or were left by a process that was killed.",
    )
    return with_findings(check, list(_stuck_builds(served)))


def _stuck_builds(served: Served) -> Iterable[HealthFinding]:
    now = served.backend.clock.now()
    for build in served.backend.store.builds(unfinished=True):
        if isinstance(build, Damaged):
            continue
        address = f"/builds/{build.id}"
        if served.is_interrupted(build):
            why = f"it is {build.state}, and the process that ran it was killed"
            yield HealthFinding(build.id, why, f"goldsmith sweep{served.options}", address)
        elif build.state in (State.CLEANING, State.HELD) and now - _entered(build) > SLOW_CLEANING:
            left = ", ".join(f"{entry.kind} {entry.name}" for entry in build.ledger if not entry.keep)
            why = f"it has been cleaning for {(now - _entered(build)) / 60:.0f} minutes; left: {left or 'nothing'}"
            yield HealthFinding(build.id, why, f"goldsmith builds show {build.id}{served.options}", address)
        elif build.outcome is None and now > build.deadline + LATE:
            why = f"it is {build.state}, and {(now - build.deadline) / 60:.0f} minutes beyond its deadline"
            yield HealthFinding(build.id, why, f"goldsmith builds cancel {build.id}{served.options}", address)


def _entered(build: Build) -> float:
    return build.disk_until if build.state is State.HELD else build.last_seen


def _paused(served: Served) -> HealthCheck:
    check = HealthCheck(
        "paused",
        "Paused triggers",
        meaning="Specs that are built again by themselves, and no more since too many of their builds have failed.",
    )
    return with_findings(check, list(_paused_triggers(served)))


def _paused_triggers(served: Served) -> Iterable[HealthFinding]:
    for each in served.backend.store.triggers():
        if not isinstance(each, Trigger) or not each.is_active or not each.paused:
            continue
        command = f"goldsmith triggers resume {shlex.quote(each.spec)}"
        if served.project != LOCAL:
            message = shlex.quote(f'{{"resume": "{each.spec}"}}')
            command = f"gcloud pubsub topics publish build-requests --project {served.project} --message {message}"
        why = f"{each.failures} builds have failed in a row"
        newest = each.asked[-1].id if each.asked else each.built
        yield HealthFinding(f"{each.name}, {each.spec}", why, command, f"/builds/{newest}" if newest else "")


def _promotions(served: Served) -> HealthCheck:
    check = HealthCheck(
        "promotions",
        "Lapsing promotions",
        meaning="Promotions that wait for approval and lapse within a day, or have lapsed since the last look.",
    )
    return with_findings(check, list(_lapsing(served)))


def _lapsing(served: Served) -> Iterable[HealthFinding]:
    now = served.backend.clock.now()
    for each in served.backend.store.promotions():
        if not isinstance(each, AskedPromotion) or not each.is_open or now < each.deadline - SOON:
            continue
        name = each.image if each.project == LOCAL else f"{each.project}/{each.image}"
        verb = "promote" if now >= each.deadline else "approve"
        channel = f"--to {each.channel}" if verb == "promote" else f"--channel {each.channel} --reason TEXT"
        command = f"goldsmith images {verb} {name} {channel}{served.options}"
        yield HealthFinding(
            f"{each.image} to {each.channel}", each.text, command, f"/images/{each.project}/{each.image}"
        )


def _damaged(served: Served) -> HealthCheck:
    check = HealthCheck(
        "damaged",
        "Damaged documents",
        meaning="Documents of the store that cannot be read. Each is left as it is, and left out.",
    )
    store = served.backend.store
    lists: tuple[Iterable[object], ...] = (
        store.builds(limit=100),
        store.builds(unfinished=True),
        store.triggers(),
        store.promotions(),
        islice(store.image_documents(served.project), MOST_LOOKED_AT),
    )
    found = {each.id: each for listed in lists for each in listed if isinstance(each, Damaged)}
    return with_findings(check, [HealthFinding(each.id, each.why) for each in found.values()])
