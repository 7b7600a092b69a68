"""The step table of a build, out of reports in any order.

The newest report of a step says where the step stands, and the newest one that ends a try says how that try ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from provisioner.protocol import (
    BUILD,
    FAILED,
    OUTPUT_LIMIT,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    VERIFY,
    Report,
    Step,
    most_script_reports,
)

from ..build.build import Build, StepRecord
from ..build.plan import Plan

NOTE_LIMIT = 500  # characters of what a finished step says of itself; a name by digest has 350
REPORTS, MOST_REPORTS = 500, 20_000  # of one VM that are recorded: whatever it does; however many tries its plan allows
REPORTS_OF_A_TRY = 20  # more for each try of a step: started, finished or failed, reboots and power cuts


def waiting(steps: Sequence[Step]) -> tuple[StepRecord, ...]:
    """Return the table of the steps before any of them has run."""
    return tuple(StepRecord(step.name, step.action) for step in steps)


def most_reports(plan: Plan, phase: str) -> int:
    """Return how many reports of one VM are recorded: some ten times what its steps and their scripts can come to."""
    steps = {BUILD: plan.steps, VERIFY: plan.verify_steps or ()}.get(phase, ())
    of_steps = ((1 + step.retries) * (REPORTS_OF_A_TRY + most_script_reports(step)) for step in steps)
    return min(sum(of_steps, REPORTS), MOST_REPORTS)


def note_report(build: Build, report: Report) -> Build:
    """Put a report into the table. Unknown steps, and reports older than those of their step, change nothing.

    The steps of the VM that writes the image's files are in no table: they are none of the spec's.
    """
    if report.phase not in (BUILD, VERIFY):
        return build
    table = build.verify_steps if report.phase == VERIFY else build.steps
    if report.step is None or not 0 <= report.step < len(table) or not _tells(report):
        return build
    record = _after(table[report.step], report)
    if record == table[report.step]:
        return build
    table = (*table[: report.step], record, *table[report.step + 1 :])
    return replace(build, verify_steps=table) if report.phase == VERIFY else replace(build, steps=table)


def _tells(report: Report) -> bool:
    """Return whether a report says where its step stands. The job's last word does if it ends the step, too.

    The announcement of a reboot names the step before it, and says nothing about that step.
    """
    return report.kind in (STEP_STARTED, STEP_FINISHED, STEP_FAILED) or (report.kind == FAILED and report.final)


def _after(record: StepRecord, report: Report) -> StepRecord:
    if report.attempt < record.attempt:
        return record
    if report.attempt > record.attempt:
        record = replace(record, attempt=report.attempt, sequence=0, told=0)
    if report.sequence > record.sequence:
        record = replace(record, sequence=report.sequence, status=_status(report))
    if report.kind != STEP_STARTED and report.sequence > record.told:
        done = report.kind == STEP_FINISHED
        record = replace(
            record,
            told=report.sequence,
            exit_status=report.exit_status,
            seconds=report.seconds,
            output="" if done else report.output[-OUTPUT_LIMIT:],
            note=report.message[:NOTE_LIMIT] if done else "",
        )
    return replace(record, tries=max(record.tries, report.tries))


def _status(report: Report) -> Literal["running", "done", "failed"]:
    if report.kind == STEP_FINISHED:
        return "done"
    return "failed" if report.kind != STEP_STARTED and report.final else "running"
