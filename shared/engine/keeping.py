"""What stays of a build that has ended, for how long, and how that is given up. Pure, as lifecycle.py, which asks."""

from __future__ import annotations

from dataclasses import replace

from provisioner.protocol import BUILD, VERIFY

from ..build import resources
from ..build.build import Build, Outcome, State
from ..build.events import CancelRequested, Event, OrderFailed
from .reasons import NO_ZONE, kept_disk_reason, lost_reason, with_warnings
from .verifiers import failed_view

KEPT_SECONDS = 7 * 86_400.0  # for so long an image that could not be published waits for a new build


def kept_seconds(build: Build, outcome: Outcome) -> float:
    """Return for how long the image of a build stays that ends without having published it; 0: it does not."""
    files_only = build.plan is not None and build.plan.image.files_only
    if files_only or outcome not in (Outcome.FAILED, Outcome.TIMED_OUT):
        return 0.0
    if build.state is State.PUBLISHING or (build.taken_up and build.state is State.EXPORTING):
        return KEPT_SECONDS
    if build.plan is None or build.state not in (State.EXPORTING, State.VERIFYING):
        return 0.0
    if build.state is State.VERIFYING and outcome is Outcome.FAILED and build.plan.keep_failed:
        return KEPT_SECONDS
    return build.plan.retry_for if build.image is not None else 0.0


def keep_disk(build: Build, phase: str) -> Build:
    """Keep the boot disk of the VM in use where one of its steps has failed for good, and the plan asks for that.

    Its zone has to be known: it is part of what a person has to write to boot the disk.
    """
    plan = build.plan
    machine, seen = failed_view(build)
    table = seen.verify_steps if phase == VERIFY else build.steps
    failed = build.outcome is Outcome.FAILED and any(record.status == "failed" for record in table)
    if plan is None or not plan.keep_disk or not failed:
        return build
    if not seen.zone:
        return with_warnings(build, NO_ZONE)
    name = resources.boot_disk_name(build.id, build.attempt, phase, plan.verifier_number(machine))
    ledger = tuple(
        replace(entry, zone=seen.zone, keep=True) if (entry.kind, entry.name) == ("disk", name) else entry
        for entry in build.ledger
    )
    return replace(build, ledger=ledger, disk_until=build.updated + plan.keep_disk)


def keep_disk_for_retry(build: Build) -> Build:
    """Keep the boot disk where the steps are done, and only its image could not be made: a retry may make it.

    The disk of a root from nothing has gone with its VM.
    """
    plan = build.plan
    failed = build.outcome in (Outcome.FAILED, Outcome.TIMED_OUT)
    if plan is None or not (plan.retry_disk_for and failed and build.disk_whole) or build.image is not None:
        return build
    taken = build.disk
    name, zone = (taken.name, taken.zone) if taken else (resources.boot_disk_name(build.id, 1, BUILD), build.zone)
    if plan.origin is not None or not zone:
        return build
    ledger = tuple(
        replace(entry, zone=zone, keep=True) if (entry.kind, entry.name) == ("disk", name) else entry
        for entry in build.ledger
    )
    kept = replace(build, ledger=ledger, disk_until=build.updated + plan.retry_disk_for, failed_in=build.state)
    return replace(kept, reason=kept.reason + kept_disk_reason(kept))


def note_refusal(build: Build, event: OrderFailed) -> Build:
    """Note whether the VM's disk is there and whole, so that an image can still be made of it."""
    return replace(build, disk_whole=(build.disk_whole or event.disk_whole) and not event.disk_gone)


def release_disk(build: Build, event: Event) -> Build:
    """Note that the boot disk is not kept any longer."""
    ledger = tuple(replace(entry, keep=entry.keep and entry.kind != "disk") for entry in build.ledger)
    reason = build.reason.removesuffix(kept_disk_reason(build))
    return replace(build, ledger=ledger, disk_until=min(build.disk_until, event.time), reason=reason)


def release_image(build: Build, event: CancelRequested) -> Build:
    """Note that the image that was not published is not kept any longer; the next sweep deletes it."""
    told = lost_reason(build, f"its image is not kept any longer: {event.reason}")
    return replace(build, kept_until=event.time, reason=told)


def lose_image(build: Build, lost: str) -> Build:
    """Note that the image that was to be kept is gone, and why."""
    if not build.kept_until:
        return build
    ledger = tuple(entry for entry in build.ledger if entry.kind != "image")
    return replace(build, reason=lost_reason(build, lost), kept_until=0.0, ledger=ledger)
