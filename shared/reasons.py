"""Why an outcome is what it is, in one line for people."""

from __future__ import annotations

from datetime import UTC, datetime

from .build import Build
from .errors import NO_SPACE
from .events import CancelRequested, Event, MachineStopped, OrderFailed, Reported

LONGEST = 1000  # characters; a guest may send more, and a build's document has to stay small

_STOPS = {
    "powered-off": "powered itself off before its job was done",
    "panicked": "had a kernel panic",
    "lost": "was lost",
    "preempted": "was preempted",
}


def reported_reason(_build: Build, event: Reported) -> str:
    """The provisioner's own words."""
    return event.report.message[:LONGEST] or "the provisioner failed and did not say why"


def stopped_reason(build: Build, event: MachineStopped) -> str:
    """How the VM ended."""
    detail = f": {event.detail[:LONGEST]}" if event.detail else ""
    spent = f", in the last of {build.attempt} attempts" if event.how in ("lost", "preempted") else ""
    return f"the {event.phase} VM {_STOPS[event.how]}{spent}{detail}"


def order_reason(_build: Build, event: OrderFailed) -> str:
    """The worker's words; a full disk is no order's."""
    reason = event.reason[:LONGEST]
    return reason if reason.startswith(NO_SPACE) else f"{event.order}: {reason}"


def kept_reason(build: Build) -> str:
    """What stays of a build that could not be published, and what that is good for."""
    if not build.kept_until or build.image is None:
        return ""
    until = datetime.fromtimestamp(build.kept_until, UTC)
    return (
        f"; image {build.image.name} is finished and in no family, and is kept until {until:%Y-%m-%d %H:%M} UTC: "
        "build the same spec again to publish it"
    )


def retiring_warning(event: OrderFailed) -> str:
    """Why older images of the family are not deprecated."""
    return f"older images of the family are not deprecated: {event.reason[:LONGEST]}"


def cancel_reason(_build: Build, event: CancelRequested) -> str:
    """The words of whoever cancelled."""
    return event.reason


def deadline_reason(build: Build, _event: Event) -> str:
    """How long the build was allowed to take, and what it was doing."""
    return f"not done {build.deadline - build.created:.0f} s after the request, still {build.state}"


def silence_reason(build: Build, event: Event) -> str:
    """How long the VM was silent."""
    return f"no sign of life from the VM for {event.time - build.last_seen:.0f} s"
