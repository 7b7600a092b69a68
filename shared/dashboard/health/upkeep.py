"""The checks of what only the work of each minute sees on Google Cloud, by the report that expire_builds writes.

On one machine the dashboard looks for itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace

from ...build.damage import Damaged
from ...errors import GoldsmithError
from ...names import LOCAL
from ...published.retirement_report import read_report
from ...upkeep.sweep import LeftResource
from ...upkeep.upkeep_report import OLD, UpkeepReport, read_upkeep
from ..web.served import Served
from ..web.words import lasting
from .findings import HealthCheck, HealthFinding, unknown_check, with_findings

RETIREMENT_OLD = 13 * 3600.0  # seconds: two of its runs have not come
_DELETED_BY = {"machine": "instances", "disk": "disks", "image": "images"}


def dead_letters(served: Served) -> HealthCheck:
    """Count the messages that no function could handle."""
    check = HealthCheck(
        "dead-letters",
        "Dead letters",
        meaning="Messages that no function could handle, however often they were delivered. They are kept for a week.",
        command=f"gcloud pubsub subscriptions pull dead-letters --project {served.project} --limit 10 --format json",
    )
    if served.project == LOCAL:
        return with_findings(check, ())
    try:
        report = read_upkeep(served.upkeep, served.backend)
    except GoldsmithError as error:
        return unknown_check(check, str(error))
    found = report.dead_letters
    if found is None:
        return replace(unknown_check(check, report.unmeasured), seen=report.time)
    check = replace(check, seen=found.seen)
    if not found.messages:
        return with_findings(check, ())
    what = "1 message" if found.messages == 1 else f"{found.messages} messages"
    since = f", the oldest for {lasting(max(0.0, found.seen - found.oldest))}" if found.oldest else ""
    why = f"waiting in the subscription dead-letters{since}; repair the cause, and publish them again"
    listed = with_findings(check, [HealthFinding(what, why, "", "/docs/deployment#alerts")])
    return replace(listed, count=found.messages)


def leaked(served: Served) -> HealthCheck:
    """List what is left of builds that are no more at work."""
    here = served.project == LOCAL
    meaning = "Machines and disks that belong to no build at work, and images that are kept beyond their time."
    check = HealthCheck(
        "leaked",
        "Leaked resources",
        meaning=meaning if here else f"{meaning} Each minute expire_builds deletes them; these it could not delete.",
        command=f"goldsmith sweep{served.options}" if here else "",
    )
    kept = list(_kept_images(served))
    if here:
        orphans = () if served.machine is None else served.machine.orphans()
        found = [HealthFinding(f"{each.kind} {each.name}", f"it is of build {each.build_id}") for each in orphans]
        return with_findings(check, kept + found)
    try:
        report = read_upkeep(served.upkeep, served.backend)
    except GoldsmithError as error:
        made = with_findings(check, kept)
        return replace(made, unknown=str(error)) if kept else unknown_check(check, str(error))
    check = replace(check, seen=report.time, unknown="; ".join(report.unswept))
    found = [_left(each) for each in report.left]
    if report.unswept and not kept and not found:
        return unknown_check(check, check.unknown)
    return with_findings(check, kept + found, len(kept) + report.left_count)


def _kept_images(served: Served) -> Iterator[HealthFinding]:
    for known in served.backend.store.kept_images(served.backend.clock.now()):
        if isinstance(known, Damaged):
            yield HealthFinding(known.id, known.why)
        else:
            why = "it was kept for a time that is over"
            yield HealthFinding(f"image {known.name}", why, "", f"/builds/{known.build_id}")


def _left(left: LeftResource) -> HealthFinding:
    why = f"it is of build {left.build_id}, and cannot be deleted: {left.why}"
    command = ""
    if kind := _DELETED_BY.get(left.kind):
        zone = f" --zone {shlex.quote(left.zone)}" if left.zone else ""
        command = f"gcloud compute {kind} delete {shlex.quote(left.name)}{zone} --project {shlex.quote(left.project)}"
    return HealthFinding(f"{left.kind} {left.name}", why, command)


def schedules(served: Served) -> HealthCheck:
    """List what Cloud Scheduler should have done and has not, and what could not be done."""
    check = HealthCheck(
        "schedules",
        "Schedules",
        meaning="Work of each minute, and on old images, that is not done: its job is paused, or the function fails.",
    )
    try:
        report = read_upkeep(served.upkeep, served.backend)
    except GoldsmithError as error:
        return unknown_check(check, str(error))
    return with_findings(replace(check, seen=report.time), list(_undone(report, served)))


def _undone(report: UpkeepReport, served: Served) -> Iterator[HealthFinding]:
    now = served.backend.clock.now()
    if now - report.time > OLD:
        why = f"it was last heard of {lasting(now - report.time)} ago; deadlines and lost VMs are not looked at"
        yield HealthFinding("schedule expire-builds", why, _resume("expire-builds", served))
    for fault in report.faults:
        what, _, why = fault.partition(": ")
        command = f"gcloud functions logs read {served.prefix}-expire-builds --region REGION --project {served.project}"
        yield HealthFinding(what, why or "it could not be done", command)
    try:
        retired = read_report(served.retirement, served.backend).time
    except GoldsmithError:  # none yet, or one of another release: /retirement says so
        return
    if now - retired > RETIREMENT_OLD:
        why = (
            f"it last looked at old images {lasting(now - retired)} ago; is retire_images of the deployment empty now?"
        )
        yield HealthFinding("schedule retire-images", why, _resume("retire-images", served), "/retirement")


def _resume(job: str, served: Served) -> str:
    return f"gcloud scheduler jobs resume {served.prefix}-{job} --location REGION --project {served.project}"


def this_machine(served: Served) -> HealthCheck:
    """List what `goldsmith doctor` finds lacking on this machine."""
    check = HealthCheck(
        "machine",
        "This machine",
        meaning="Programs, room and rights that builds need here, and that are lacking.",
        command="goldsmith doctor",
    )
    lacking = () if served.machine is None else served.machine.lacking()
    return with_findings(check, [HealthFinding(each.what, each.text, each.remedy) for each in lacking])
