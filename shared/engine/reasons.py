"""Why a build ended as it did, in one line for people: the words of what lifecycle.py decides, which decide nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from provisioner.protocol import BUILD, EXPORT, VERIFY

from ..build.build import Build, State
from ..build.events import BuildRequested, CancelRequested, Event, MachineStopped, OrderFailed, Reported, TurnCame
from ..build.resources import kept_disk
from ..errors import NO_SPACE
from ..names import quoted
from ..quantities import format_duration
from .verifiers import shared_identity

NO_TURN = "its turn has not come"  # how the reason of a build begins that was queued too long
WARNINGS = 20  # of one build, at most
LONGEST_REASON = 1000  # characters; a guest may send more, and a build's document has to stay small
RETIRING_GIVEN_UP = "older images of the family may not all be deprecated: that was tried for a day"
NO_ZONE = "the boot disk of the failed step is not kept: its zone was not known yet"

_STOPS = {
    "powered-off": "powered itself off before its job was done",
    "panicked": "had a kernel panic",
    "lost": "was lost",
    "preempted": "was preempted",
    "gave-up": "did not come up and is in emergency mode",
}


def reported_reason(_build: Build, event: Reported) -> str:
    """Return the provisioner's own words."""
    return event.report.message[:LONGEST_REASON] or "the provisioner failed and did not say why"


def verifier_reason(name: str, reason: str) -> str:
    """Return why a build ended, with the name of the verifier that it is about, if it is about one."""
    return f"verify machine {quoted(name)}: {reason}" if name else reason


def twin_reason(build: Build, event: MachineStopped) -> str:
    """Return what two VMs of the build have in common."""
    same = shared_identity(build, event.machine)
    return f"identity: {same}, so every machine of this image may have it; look at what makes it at boot"


def held_reason(build: Build, _event: Event) -> str:
    """Return why its machine was held."""
    return build.held


def stopped_reason(build: Build, event: MachineStopped) -> str:
    """Return how the VM ended."""
    detail = f": {event.detail[:LONGEST_REASON]}" if event.detail else ""
    spent = _spent(build) if event.how in ("lost", "preempted") else ""
    machine = f"{event.phase} {build.machine_word(event.phase)}"
    return f"the {machine} {_STOPS[event.how]}{during_step(build, event.phase)}{spent}{detail}"


def _spent(build: Build) -> str:
    return f", in the last of {build.attempt} attempts"


def during_step(build: Build, phase: str) -> str:
    """Return which step was running when something other than the step ended it; "" between two steps."""
    tables = [table for _name, table in build.verify_tables] if phase == VERIFY else [build.steps] * (phase == BUILD)
    if build.verify_steps and phase == VERIFY:  # as one of several VMs that verify sees it
        tables = [build.verify_steps]
    running = [record.name for table in tables for record in table if record.status == "running"]
    return f" (during step {quoted(running[-1])})" if running else ""


def order_reason(_build: Build, event: OrderFailed) -> str:
    """Return the worker's words; those of a full disk name no order."""
    reason = event.reason[:LONGEST_REASON]
    return reason if reason.startswith(NO_SPACE) else f"{event.order}: {reason}"


def kept_reason(build: Build) -> str:
    """Return which image stays of a build that has not published it, until when, and how to use it."""
    if not build.kept_until or build.image is None:
        return ""
    until = f"{datetime.fromtimestamp(build.kept_until, UTC):%Y-%m-%d %H:%M} UTC"
    command = f"goldsmith builds retry {build.id}"
    by_retry = build.plan is not None and build.plan.retry_for > 0
    if build.unfit:
        told = (
            f"; image {build.image.name} has not passed its verification and is in no family, and is kept until {until}"
        )
        return told + (f": verify it again with: {command}" if by_retry else "")
    if not build.keeps_fit:
        return f"; image {build.image.name} is in no family, and is kept until {until}: go on with: {command}"
    retried = f", or retry with: {command}" if by_retry else ""
    return (
        f"; image {build.image.name} is finished and in no family, and is kept until {until}: "
        f"build the same spec again to publish it{retried}"
    )


def kept_disk_reason(build: Build) -> str:
    """Return which boot disk stays of a build whose image could not be made, until when, and what it is for."""
    disk = kept_disk(build) if build.failed_in is State.EXPORTING else None
    if disk is None:
        return ""
    until = f"{datetime.fromtimestamp(build.disk_until, UTC):%Y-%m-%d %H:%M} UTC"
    return (
        f"; its steps are done, and disk {disk.name} is kept until {until}: make its image with: goldsmith builds "
        f"retry {build.id}"
    )


def withdrawal_warning(left: str) -> str:
    """Return the warning for what a failed publication has shown and could not take back."""
    return f"shown by the publication that failed, and not taken back: {left[:LONGEST_REASON]}"


def lost_reason(build: Build, lost: str) -> str:
    """Return the build's reason once the image that it was to keep is not there any more."""
    return f"{build.reason.removesuffix(kept_reason(build))}; {lost[:LONGEST_REASON]}"


def retiring_warning(build: Build, event: OrderFailed) -> str:
    """Return why what follows a publication is not done to its end."""
    image = None if build.plan is None else build.plan.image
    part = "older images of the family are not deprecated"
    if image is not None and image.is_distributed:
        both = "the image is not distributed to all, or older ones of the family are not deprecated"
        part = "the image is not distributed to all" if image.deprecate_old is None else both
    return f"{part}: {event.reason[:LONGEST_REASON]}"


def distribution_warning(refused: str) -> str:
    """Return the warning for a target that a published image could not be distributed to."""
    return f"not distributed to {refused[:LONGEST_REASON]}"


def cancel_reason(_build: Build, event: CancelRequested) -> str:
    """Return the words of the request to cancel."""
    return event.reason


def deadline_reason(build: Build, _event: Event) -> str:
    """Return how long the build was allowed to take, and what it was doing."""
    if build.state is State.QUEUED:
        return f"{NO_TURN} within {format_duration(build.deadline - build.created)} of the request"
    since, what = (build.turn, "its turn came") if build.turn else (build.created, "the request")
    phase = {State.PROVISIONING: BUILD, State.VERIFYING: VERIFY}.get(build.state)
    step = during_step(build, phase) if phase else ""
    return f"not done {build.deadline - since:.0f} s after {what}, still {build.state}{step}"


def refused_reason(_build: Build, event: TurnCame) -> str:
    """Return why it cannot be built any more, in the words in which a request would be refused."""
    return event.refused


def unchanged_reason(_build: Build, event: BuildRequested | TurnCame) -> str:
    """Return which image has the content."""
    return f"image {event.unchanged.name} has this content already" if event.unchanged is not None else ""


def publishing_reason(build: Build, event: Event) -> str:
    """Return how long the publication was tried; the worker's log has the faults that did not pass."""
    hours = (event.time - build.committed) / 3600
    return (
        f"label_image: the publication was not complete {hours:.0f} h after it was committed, "
        "and was withdrawn; its log says what did not pass"
    )


def silence_reason(build: Build, event: Event) -> str:
    """Return how long the VM was silent, and why no other takes its place, as for one whose job is done."""
    phase = {State.EXPORTING: EXPORT, State.VERIFYING: VERIFY}.get(build.state, BUILD)
    seconds = f"{event.time - build.last_seen:.0f} s"
    silence = f"no sign of life from the {build.machine_word(phase)} for {seconds}{during_step(build, phase)}"
    return f"{silence}, and it has not stopped" if build.claimed else silence + _spent(build)


def with_warnings(build: Build, *texts: str) -> Build:
    """Return a build with warnings, each of them once: the newest, where there are too many."""
    warnings = dict.fromkeys((*build.warnings, *texts))
    return replace(build, warnings=tuple(warnings)[-WARNINGS:])
