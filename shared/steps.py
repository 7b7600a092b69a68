"""The step table of a build: what the provisioner's reports say of each step, whatever order they come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from provisioner.protocol import OUTPUT_LIMIT, STEP_FAILED, STEP_FINISHED, STEP_STARTED, VERIFY, Report, Step

from .build import Build, StepRecord

NOTE_LIMIT = 500  # characters of what a finished step says of itself; a name by digest has 350


def waiting(steps: Sequence[Step]) -> tuple[StepRecord, ...]:
    """The table before anything has run."""
    return tuple(StepRecord(step.name, step.action) for step in steps)


def note_report(build: Build, report: Report) -> Build:
    """Put a report into the table. Older ones than the newest of their step, and unknown steps, change nothing."""
    table = build.verify_steps if report.phase == VERIFY else build.steps
    if report.step is None or not 0 <= report.step < len(table):
        return build
    record = table[report.step]
    if (report.attempt, report.sequence) <= (record.attempt, record.sequence):
        return build
    table = (*table[: report.step], _after(record, report), *table[report.step + 1 :])
    return replace(build, verify_steps=table) if report.phase == VERIFY else replace(build, steps=table)


def _after(record: StepRecord, report: Report) -> StepRecord:
    seen = replace(record, attempt=report.attempt, sequence=report.sequence, tries=max(record.tries, report.tries))
    if report.kind == STEP_STARTED:
        return replace(seen, status="running")
    if report.kind == STEP_FINISHED:
        note = report.message[:NOTE_LIMIT]
        return replace(
            seen, status="done", exit_status=report.exit_status, seconds=report.seconds, output="", note=note
        )
    if report.kind == STEP_FAILED:
        return replace(
            seen,
            status="failed" if report.final else "running",
            exit_status=report.exit_status,
            seconds=report.seconds,
            output=report.output[-OUTPUT_LIMIT:],
        )
    return seen
