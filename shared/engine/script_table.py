"""The scripts of elements, as the reports of their steps tell of them: in the history of a build, not in its document.

An image may have thousands of scripts, and a document of Firestore has 1 MiB. The reports are events like all others,
so that they come in any order and each of them counts once. The table of a step is made of those of its newest try.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from provisioner.protocol import ALL_SCRIPTS_LIMIT, BUILD, ELEMENTS_ACTION, SCRIPTS, VERIFY, Report, decode_scripts

from ..build.build import Build, StepRecord
from ..build.events import Event, Reported
from ..errors import DamagedDocument, NotFound
from ..ports import Store
from .history import each_event

MOST_SCRIPTS = 10_000  # of a step that are shown: no image has more
LONGEST_NAME = 255  # characters of a phase, a file or an element that are shown
LARGEST_TABLE = 16 * ALL_SCRIPTS_LIMIT  # characters of reports that the table of one build is made of


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
    """Read what is recorded of a build's scripts; nothing is read where no step has any.

    The steps of a retry were run for the build before, and its history has their scripts.
    """
    if not any(record.action == ELEMENTS_ACTION for record in build.all_steps):
        return {}
    own = script_table(build, each_event(store, build.id, kinds=(SCRIPTS,)))
    try:
        first = store.load(build.retry_of).build if build.retry_of else None
    except (NotFound, DamagedDocument):  # set aside since
        first = None
    before = scripts_of(first, store) if first is not None else {}
    return {**{place: scripts for place, scripts in before.items() if place[0] == BUILD}, **own}


def script_table(build: Build, events: Iterable[Event]) -> ScriptTable:
    """Return the scripts of a build's steps, in the order in which they were run."""
    tables = dict(_tables(build))
    newest: dict[tuple[str, int], _NewestTry] = {}
    for event in events:
        if not isinstance(event, Reported) or event.report.kind != SCRIPTS or event.report.step is None:
            continue
        place = place_of(event.report.phase, event.report.machine), event.report.step
        if 0 <= place[1] < len(tables.get(place[0], ())):
            room = LARGEST_TABLE - sum(each.size for each in newest.values())
            newest.setdefault(place, _NewestTry()).add(event.report, room)
    return {
        (phase, step): _scripts(found.reports, tables[phase][step]) for (phase, step), found in sorted(newest.items())
    }


@dataclass
class _NewestTry:
    """The reports of a step's newest try. A machine may lie: as many are held as an honest one can have sent."""

    tried: tuple[int, int] = (0, 0)
    reports: list[Report] = field(default_factory=list)
    size: int = 0  # characters

    def add(self, report: Report, room: int) -> None:
        """Hold a report of `room` characters at most, unless it is of an earlier try."""
        if _try(report) < self.tried:
            return
        if _try(report) > self.tried:
            room += self.size
            self.tried, self.reports, self.size = _try(report), [], 0
        if len(report.output) <= min(room, ALL_SCRIPTS_LIMIT - self.size):
            self.reports.append(report)
            self.size += len(report.output)


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
            phase, file, element = (name[:LONGEST_NAME] for name in (fact.phase, fact.file, fact.element))
            if len(found) < MOST_SCRIPTS or (phase, file) in found:
                found[phase, file] = ScriptRecord(phase, file, element, status, fact.seconds, fact.exit_status)
    return tuple(found.values())


def steps_with_scripts(build: Build, table: ScriptTable) -> Iterator[tuple[StepRecord, Sequence[ScriptRecord]]]:
    """Yield all steps of a build with their scripts, those of verification last."""
    places = [(phase, index) for phase, records in _tables(build) for index in range(len(records))]
    for place, record in zip(places, build.all_steps, strict=True):
        yield record, table.get(place, ())


def nest_scripts(document: dict[str, Any], table: ScriptTable) -> dict[str, Any]:
    """Return the document of a build with the scripts of its steps below them."""
    nested: dict[str, Any] = {
        key: [step | scripts_json(table, phase, index) for index, step in enumerate(document[key])]
        for key, phase in (("steps", BUILD), ("verify_steps", VERIFY))
    }
    if document.get("verifiers"):
        nested["verifiers"] = [_nest_verifier(each, table) for each in document["verifiers"]]
    return document | nested


def _nest_verifier(each: dict[str, Any], table: ScriptTable) -> dict[str, Any]:
    place = place_of(VERIFY, each["name"])
    steps = [step | scripts_json(table, place, index) for index, step in enumerate(each["steps"])]
    return each | {"steps": steps}


def place_of(phase: str, machine: str) -> str:
    """Return the phase as a table of scripts has it: with the name of the VM, where several verify."""
    return f"{phase}/{machine}" if machine else phase


def _tables(build: Build) -> Iterator[tuple[str, Sequence[StepRecord]]]:
    yield BUILD, build.steps
    yield from ((place_of(VERIFY, name), records) for name, records in build.verify_tables)


def verify_steps(
    build: Build, step: Callable[[StepRecord], dict[str, Any]], scripts: ScriptTable
) -> list[dict[str, Any]]:
    """Return the documents of the steps of verification, with their scripts; of several VMs, each names its own."""
    return [
        step(record) | ({"machine": name} if name else {}) | scripts_json(scripts, place_of(VERIFY, name), index)
        for name, records in build.verify_tables
        for index, record in enumerate(records)
    ]


def scripts_json(table: ScriptTable, phase: str, step: int) -> dict[str, Any]:
    """Return what the document of a step has beside its other keys: `scripts`, for a step of which some are known."""
    found = table.get((phase, step))
    return {"scripts": [asdict(script) for script in found]} if found else {}
