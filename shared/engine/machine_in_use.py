"""The machine in use: which VM that is, and what its reports say of it. What that leads to, lifecycle.py decides.

A build with verifiers is met here as one of them sees it (verifiers.py).
"""

from __future__ import annotations

import re
from dataclasses import replace

from provisioner.protocol import (
    BUILD,
    COMPLETED,
    EXPORT,
    FAILED,
    INVENTORY,
    REBOOTING,
    SLOWEST_MOVE,
    STEP_FAILED,
    VERIFY,
    Report,
)

from ..build.build import Build, State
from ..build.events import DiskGrown, Event, MachineStarted, MachineStopped, Reported, Ticked
from ..names import quoted
from .reasons import LONGEST_REASON
from .step_table import most_reports, note_report
from .verifiers import verifier

MOST_LINES, LONGEST_LINE = 64, 200  # of an identity
_LINE = re.compile(r"[a-z0-9_.-]{1,100} [0-9a-f]{64}")
MACHINE_AT_WORK = (State.PREPARING, State.PROVISIONING)
HOLDING = (*MACHINE_AT_WORK, State.VERIFYING)


def phase_of(build: Build) -> str | None:
    """Return the phase of the VM in use; None in `exporting`, unless a VM writes the image's files there."""
    if build.state is State.EXPORTING:
        writes = build.plan is not None and build.plan.exporter is not None and build.image is not None
        return EXPORT if writes else None
    return VERIFY if build.state is State.VERIFYING else BUILD


def has_machine(build: Build) -> bool:
    """Return whether a VM is at work: silence means something. One of the finished image only once it is made."""
    return build.state is State.PROVISIONING or (phase_of(build) in (VERIFY, EXPORT) and build.zone != "")


def has_passed(build: Build, name: str) -> bool:
    """Return whether a verifier of that name has passed, and is not in use any more."""
    own = verifier(build, name)
    return own is not None and own.passed


def is_current(build: Build, event: MachineStarted | MachineStopped | DiskGrown) -> bool:
    """Return whether the VM is the one in use."""
    ours = event.attempt == build.attempt and event.phase == phase_of(build)
    return ours and not (isinstance(event, MachineStarted | MachineStopped) and has_passed(build, event.machine))


def speaks(build: Build, event: Reported) -> bool:
    """Return whether the report is of the VM in use."""
    report = event.report
    ours = report.attempt == build.attempt and report.phase == phase_of(build)
    return ours and not has_passed(build, report.machine)


def says_too_much(build: Build, event: Reported) -> str:
    """Return why a report of the VM in use is not recorded, or "": its last word always is, so that it can end."""
    report, plan = event.report, build.plan
    if report.attempt != build.attempt or report.kind in (COMPLETED, FAILED) or plan is None:
        return ""
    if report.kind == INVENTORY and (build.told_contents not in (0, report.sequence) or report.phase != BUILD):
        return "the build VM tells what is installed once"
    most = most_reports(plan, report.phase)
    return f"its VM has sent {most} reports, and no honest one has more to say" if build.reports >= most else ""


def take_report(build: Build, event: Reported) -> Build:
    """Note what a report says of a step and, of the VM in use, a sign of life and for how long it will not be heard.

    Reports come in any order: an older one than the newest takes back nothing that is said there.
    """
    report = event.report
    heard = replace(
        build,
        reports=build.reports + 1,
        told_contents=build.told_contents or (report.sequence if report.kind == INVENTORY else 0),
    )
    if speaks(build, event):  # else it is a late word of the VM before
        heard = take_sign(heard, event)
    if speaks(build, event) and report.sequence > build.newest:
        announced = report.seconds if report.kind == REBOOTING else None
        heard = replace(heard, newest=report.sequence, quiet=announced or 0.0)
    if report.identity and report.phase in (BUILD, VERIFY):
        heard = _note_identity(heard, report)
    return note_hold(note_report(heard, report), event)


def _note_identity(build: Build, report: Report) -> Build:
    told = tuple(line[:LONGEST_LINE] for line in report.identity[:MOST_LINES] if _LINE.fullmatch(line))
    return replace(build, identity=told) if report.phase == BUILD else replace(build, verify_identity=told)


def note_hold(build: Build, event: Reported) -> Build:
    """Note that a step has failed for good where the plan leaves the machine to a person then, and until when."""
    report, plan = event.report, build.plan
    if plan is None or not plan.machine.hold or build.held or report.kind != STEP_FAILED or not report.final:
        return build
    if build.state not in HOLDING or not speaks(build, event):
        return build
    table = build.verify_steps if report.phase == VERIFY else build.steps
    step = table[report.step].name if report.step is not None and 0 <= report.step < len(table) else ""
    why = f"step {quoted(step)} failed: {report.message}"[:LONGEST_REASON]
    until = event.time + plan.machine.hold
    return replace(build, held=why, deadline=until, wake_at=until)


def ask_for_disk(build: Build, event: Reported) -> Build:
    """Note a sign of life, and that the disk is ordered: for a minute it is not ordered again."""
    return replace(take_report(build, event), disk_asked=event.time)


def note_disk(build: Build, event: DiskGrown) -> Build:
    """Note a sign of life, and that the disk is there."""
    return replace(take_sign(build, event), disk_grown=True)


def note_claim(build: Build, event: Reported) -> Build:
    """Note what the VM in use claims, as of any report: it counts when the VM has been seen to run and to stop."""
    return replace(take_report(build, event), claimed=True)


def with_new_machine(build: Build) -> Build:
    """Return a build whose VM in use is one that nothing is known of, its zone neither."""
    return replace(build, zone="", claimed=False, reports=0, newest=0, disk_asked=0.0, disk_grown=False)


def has_written(build: Build) -> bool:
    """Return whether the VM that writes files has had its last word: what it has written is looked at then."""
    return build.claimed and phase_of(build) == EXPORT


def next_attempt(build: Build, _event: MachineStopped | Ticked) -> Build:
    """Count the next attempt: a VM that builds may have partitions to move first, one that writes files begins anew."""
    moving = build.plan is not None and build.plan.layout is not None and build.state in MACHINE_AT_WORK
    size = build.plan.machine.disk_size_gb << 30 if build.plan is not None else 0
    rewrites = build.rewrites + (phase_of(build) == EXPORT)
    return replace(build, attempt=build.attempt + 1, quiet=size / SLOWEST_MOVE if moving else 0.0, rewrites=rewrites)


def take_sign(build: Build, event: Event) -> Build:
    """Note a sign of life."""
    return replace(build, last_seen=max(build.last_seen, event.time))
