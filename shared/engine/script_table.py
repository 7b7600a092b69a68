"""The scripts of elements, as the reports of their steps tell of them: in the history of a build, not in its document.

An image may have thousands of scripts, and a document of Firestore has 1 MiB. The reports are events like all others,
so that they come in any order and each of them counts once. The table of a step is made of those of its newest try.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

from provisioner.protocol import BUILD, ELEMENTS_ACTION, SCRIPTS, VERIFY, Report, decode_scripts

from ..build.build import Build, StepRecord
from ..build.events import Event, Reported
from ..ports import Store
from .history import each_event

MOST_SCRIPTS = 10_000  # of a step that are shown: no image has more


@dataclass(frozen=True)
class ScriptRecord:
    """A script of an element in a step, and how it ended."""

    phase: str
    file: str
    element: str
    status: Literal["running", "done", "failed", "unknown"]  # unknown: its step has ended, and its end was not told
    seconds: float | None = None
    exit_status: int | None = None


ScriptTable = Mapping[tuple[str, int], tuple[ScriptRecord, ...]]
"""The scripts of a build's steps, by the phase of the VM and the index of the step."""


NO_SCRIPTS: ScriptTable = MappingProxyType({})


def scripts_of(build: Build, store: Store) -> ScriptTable:
    """Read what is recorded of a build's scripts; nothing is read where no step has any."""
    if not any(record.action == ELEMENTS_ACTION for record in (*build.steps, *build.verify_steps)):
        return {}
    return script_table(build, each_event(store, build.id, kinds=(SCRIPTS,)))


def script_table(build: Build, events: Iterable[Event]) -> ScriptTable:
    """Return the scripts of a build's steps, in the order in which they were run."""
    newest: dict[tuple[str, int], list[Report]] = {}
    for event in events:
        if not isinstance(event, Reported) or event.report.kind != SCRIPTS or event.report.step is None:
            continue
        report = event.report
        known = newest.setdefault((report.phase, event.report.step), [report])
        if known[0] is not report and _try(report) >= _try(known[0]):
            known[:] = [*known, report] if _try(report) == _try(known[0]) else [report]
    tables: dict[str, Sequence[StepRecord]] = {BUILD: build.steps, VERIFY: build.verify_steps}
    return {
        (phase, step): _scripts(reports, tables[phase][step])
        for (phase, step), reports in sorted(newest.items())
        if 0 <= step < len(tables[phase])
    }


def _try(report: Report) -> tuple[int, int]:
    return report.attempt, report.tries


def _scripts(reports: Sequence[Report], step: StepRecord) -> tuple[ScriptRecord, ...]:
    found: dict[tuple[str, str], ScriptRecord] = {}
    for report in sorted(reports, key=lambda each: each.sequence):
        for fact in decode_scripts(report.output):
            if fact.exit_status is None or fact.seconds is None:
                status: Literal["running", "done", "failed", "unknown"] = "running"
                if step.status != "running" or (step.attempt, step.tries) != _try(report):
                    status = "unknown"
            else:
                status = "failed" if fact.exit_status else "done"
            record = ScriptRecord(fact.phase, fact.file, fact.element, status, fact.seconds, fact.exit_status)
            if len(found) < MOST_SCRIPTS or (fact.phase, fact.file) in found:
                found[fact.phase, fact.file] = record
    return tuple(found.values())


def steps_with_scripts(build: Build, table: ScriptTable) -> Iterator[tuple[StepRecord, Sequence[ScriptRecord]]]:
    """Yield all steps of a build with their scripts, those of verification last."""
    for phase, records in ((BUILD, build.steps), (VERIFY, build.verify_steps)):
        for index, record in enumerate(records):
            yield record, table.get((phase, index), ())


def nest_scripts(document: dict[str, Any], table: ScriptTable) -> dict[str, Any]:
    """Return the document of a build with the scripts of its steps below them."""
    nested = {
        key: [step | scripts_json(table, phase, index) for index, step in enumerate(document[key])]
        for key, phase in (("steps", BUILD), ("verify_steps", VERIFY))
    }
    return document | nested


def scripts_json(table: ScriptTable, phase: str, step: int) -> dict[str, Any]:
    """Return what the document of a step has beside its other keys: `scripts`, for a step of which some are known."""
    found = table.get((phase, step))
    return {"scripts": [asdict(script) for script in found]} if found else {}
