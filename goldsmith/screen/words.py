"""Plain words for people about a build: its states, its events and how it ended."""

from __future__ import annotations

from datetime import UTC, datetime

from provisioner.protocol import (
    DISK_WANTED,
    EXPORT,
    FROM_CACHE,
    REBOOTING,
    SCRIPTS,
    STARTED,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    ProtocolError,
    Report,
    decode_exported,
    decode_scripts,
)
from shared.build.build import Build, ImageRecord, Outcome, State
from shared.build.events import DiskGrown, Event, MachineStarted, MachineStopped, Reported
from shared.build.export_formats import GCE
from shared.build.resources import boot_commands, export_targets, kept_disk, waits_with_disk
from shared.planning.remedies import remedy_of

from .text import last_state

DOING = {
    State.QUEUED: "waiting for its turn",
    State.PREPARING: "getting ready for the steps",
    State.PROVISIONING: "running the steps",
    State.EXPORTING: "making the image",
    State.VERIFYING: "verifying the image",
    State.PUBLISHING: "publishing the image",
    State.CLEANING: "deleting what the build used",
    State.HELD: "keeping the disk of a failed step",
    State.FINISHED: "finished",
}
"""What each state means to the person who waits."""

WORDS = {REBOOTING: "rebooting the VM", DISK_WANTED: "the VM waits for a larger disk"}
"""Reports that say nothing but their kind; a list of packages is for programs."""

MOST_FINDINGS = 20  # of those that the image has
LAST_LINES = 20  # of a failed step's output


def event_line(build: Build, event: Event) -> str:
    """One line on an event, for people; "" when the state says it all."""
    if isinstance(event, Reported):
        told = _tell_report(build, event.report)
        return f"{event.report.machine}: {told}" if told and event.report.machine else told
    if isinstance(event, MachineStarted | MachineStopped):
        vm = build.machine_word(event.phase) + (f" {event.machine}" if event.machine else "")
        if isinstance(event, MachineStarted):
            return f"{vm} of attempt {event.attempt} started"
        return f"{vm} of attempt {event.attempt}: {event.how}" + (f" ({event.detail})" if event.detail else "")
    return f"the disk has {event.gigabytes} GB" if isinstance(event, DiskGrown) else ""


_OF_EXPORT = {
    STARTED: "provisioner started",
    DISK_WANTED: "the VM waits for the image's disk",
    STEP_STARTED: "writing a file of the image",
}


def _tell_export(report: Report) -> str:
    """Return the words for a report of the VM that writes an image's files, whose steps are none of the spec's."""
    if report.kind == STEP_FAILED:
        return f"a file of the image is not written: {report.message}"
    if report.kind != STEP_FINISHED:
        return _OF_EXPORT.get(report.kind, "")
    try:
        written = decode_exported(report.message)
    except ProtocolError:  # of the programs that a format needs
        return ""
    return f"{written.format} is written ({written.bytes / 1e6:,.1f} MB)"


def _tell_report(build: Build, report: Report) -> str:
    if report.phase == EXPORT:
        return _tell_export(report)
    table = dict(build.verify_tables).get(report.machine, ()) if report.phase == "verify" else build.steps
    name = table[report.step].name if report.step is not None and 0 <= report.step < len(table) else ""
    took = "" if report.seconds is None else f" in {report.seconds:.1f} s"
    if report.kind == STARTED:
        return "provisioner started" + (f", going on with step {report.resumed_at + 1}" if report.resumed_at else "")
    if report.kind == STEP_STARTED:
        return f"step {name}"
    if report.kind == STEP_FINISHED and report.message == FROM_CACHE and not report.tries:
        return f"step {name} {FROM_CACHE}"
    if report.kind == STEP_FINISHED:
        return f"step {name} done{took}" + (f": {report.message}" if report.message else "")
    if report.kind == STEP_FAILED:
        how = "" if report.exit_status is None else f", exit status {report.exit_status}"
        return f"step {name} failed{took}{how}" + ("" if report.final else ", trying again")
    return WORDS.get(report.kind, "")


def running_script(report: Report) -> str:
    """Return the script of an element that runs, as a report of scripts tells; "" for another report, or none."""
    facts = decode_scripts(report.output) if report.kind == SCRIPTS else []
    return f"{facts[-1].phase}/{facts[-1].file} ({facts[-1].element})" if facts and facts[-1].seconds is None else ""


def summary(build: Build, logs: str) -> list[str]:
    """Return the summary of a finished build, line by line."""
    plan, image = build.plan, build.image
    warnings = [f"warning: {warning}" for warning in build.warnings]
    if build.outcome is Outcome.SUCCEEDED and plan is not None and image is not None:
        family = f", newest of family {plan.image.family}" if plan.image.family else ""
        stays = ", which was there" if plan.image.files_only else ""
        lines = [f"image {image.project}/{image.name}{family}{stays}"]
        if plan.image.export_to and image.archive:
            lines.append(f"archive {plan.image.export_to} ({image.archive.bytes / 1e6:,.1f} MB)")
        targets = export_targets(plan)
        lines += [
            f"file {targets[file.format]} ({file.bytes / 1e6:,.1f} MB)"
            for file in image.files
            if file.format in targets and file.format != GCE
        ]
        return [*lines, *_findings(image), *warnings, *_left(build)]
    lines = [f"{build.outcome}" + (f": {build.reason}" if build.reason else "")]
    if build.outcome is Outcome.UNCHANGED:
        return lines
    for record in build.all_steps:
        if record.status == "failed" and record.output:
            lines.append(f"the last lines of step {record.name}:")
            lines += [f"  {last_state(line)}" for line in record.output.rstrip("\n").split("\n")[-LAST_LINES:]]
    remedy = remedy_of(build)
    advice = [f"what to do: {remedy}"] if remedy else []
    return [*lines, *warnings, *_kept_disk(build), *_left(build), f"the whole log: {logs}", *advice]


def result_line(build: Build) -> str:
    """Return what a build has made, for a shell that reads it: PROJECT/NAME, or "" where it has no image to use."""
    image = build.image if build.outcome in (Outcome.SUCCEEDED, Outcome.UNCHANGED) else None
    return f"{image.project}/{image.name}" if image is not None else ""


def _kept_disk(build: Build) -> list[str]:
    """Return how to boot the disk that a failed step has left, and until when it is kept."""
    disk = kept_disk(build)
    if disk is None:
        return []
    until = datetime.fromtimestamp(build.disk_until, UTC)
    if waits_with_disk(build):
        return [
            f"kept until {until:%Y-%m-%d %H:%M} UTC: disk {disk.name}; make its image, or delete it earlier, with:",
            f"  goldsmith builds retry {build.id} --project {disk.project}",
            f"  goldsmith builds cancel {build.id} --project {disk.project}",
        ]
    return [
        f"kept until {until:%Y-%m-%d %H:%M} UTC: disk {disk.name}, as the failed step has left it; boot it with:",
        *(f"  {command}" for command in boot_commands(build)),
        f"delete it earlier with: goldsmith builds cancel {build.id} --project {disk.project}",
    ]


def release_lines(build: Build) -> list[str]:
    """Return what a person has to do before the disk that is kept can be deleted: a VM of theirs may have it."""
    disk, commands = kept_disk(build), boot_commands(build)
    if disk is None or not commands:
        return []
    return [
        f"disk {disk.name} is deleted as soon as no VM has it; if you have booted it, delete that VM:",
        f"  {commands[-1]}",
    ]


def _findings(image: ImageRecord) -> list[str]:
    """Return the findings in the image that the spec accepts."""
    lines = [f"warning: in the image: {finding}" for finding in image.findings[:MOST_FINDINGS]]
    hidden = len(image.findings) - MOST_FINDINGS
    return [*lines, f"warning: and {hidden} more findings; the build's JSON has them all"] if hidden > 0 else lines


def _left(build: Build) -> list[str]:
    """Return the resources that could not be deleted yet."""
    left = [entry.name for entry in build.ledger if not entry.keep] + ["older images of the family"] * build.retiring
    return (
        []
        if build.finished or (build.ended and not left)
        else [f"not cleaned up yet: {', '.join(left)}; a later command tries again"]
    )
