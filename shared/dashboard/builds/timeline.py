"""When a build was in which state and did which step: what its recorded events say, replayed by the lifecycle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from provisioner.protocol import BUILD, STARTED, STEP_FAILED, STEP_FINISHED, STEP_STARTED, VERIFY

from ...build.build import Build, State
from ...build.events import BuildRejected, BuildRequested, Event, MachineStarted, MachineStopped, Reported
from ...engine.lifecycle import begin, decide
from ...engine.script_table import ScriptRecord, ScriptTable, place_of

StepPlace = tuple[str, int]
"""The phase of a VM, with its name where several verify, and the index of a step."""


@dataclass(frozen=True)
class Span:
    """Some time, in Unix seconds; `end` is None for what has not ended."""

    what: str  # a state; of a step how it ended; `boot` of a VM until its provisioner has started
    start: float
    end: float | None = None
    attempt: int = 1


@dataclass
class BuildTimes:
    """What the events of a build say of time."""

    states: list[Span] = field(default_factory=list)
    boots: dict[str, list[Span]] = field(default_factory=dict)  # by phase
    steps: dict[StepPlace, list[Span]] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Take a VM's start and end, and what it reports of steps."""
        if isinstance(event, MachineStarted):
            spans = self.boots.setdefault(place_of(event.phase, event.machine), [])
            spans.append(Span("boot", event.time, None, event.attempt))
        elif isinstance(event, MachineStopped):
            phase = place_of(event.phase, event.machine)
            _close(self.boots.get(phase, []), "boot", event.time)
            for place, spans in self.steps.items():
                if place[0] == phase:
                    _close(spans, "cut off", event.time)
        elif isinstance(event, Reported):
            self._report(event)

    def _report(self, event: Reported) -> None:
        report = event.report
        phase = place_of(report.phase, report.machine)
        if report.kind == STARTED:
            _close(self.boots.get(phase, []), "boot", event.time)
        if report.step is None:
            return
        spans = self.steps.setdefault((phase, report.step), [])
        if report.kind == STEP_STARTED:
            spans.append(Span("running", event.time, None, report.attempt))
        elif report.kind in (STEP_FINISHED, STEP_FAILED):
            ended = "done" if report.kind == STEP_FINISHED else "failed"
            if not (spans and spans[-1].end is None):  # it came out of order, or from the cache
                spans.append(Span(ended, event.time - (report.seconds or 0.0), None, report.attempt))
            _close(spans, ended, event.time)


def _close(spans: list[Span], what: str, time: float) -> None:
    if spans and spans[-1].end is None:
        spans[-1] = replace(spans[-1], what=what, end=time)


def times_of(events: Iterable[Event]) -> BuildTimes:
    """Replay events from the first one on. Without the request, which may be deleted by now, states are not known."""
    times = BuildTimes()
    build: Build | None = None
    for event in events:
        times.add(event)
        if isinstance(event, BuildRequested | BuildRejected):
            after = begin(event).build
        elif build is not None:
            after = decide(build, event).build
        else:
            continue
        if build is None or after.state is not build.state:
            _close(times.states, times.states[-1].what if times.states else "", event.time)
            times.states.append(Span(str(after.state), event.time, None, after.attempt))
        build = after
    if times.states and times.states[-1].what == State.FINISHED:
        times.states.pop()
    return times


def timeline(build: Build, times: BuildTimes, scripts: ScriptTable, now: float) -> dict[str, Any] | None:
    """Return the rows of a build's time as a document, or None where nothing is known of it."""
    end = build.updated if build.ended else max(now, build.updated)
    rows: list[dict[str, Any]] = []
    verifying = ((place_of(VERIFY, name), table) for name, table in build.verify_tables)
    for phase, table in [(BUILD, build.steps), *verifying]:
        if times.boots.get(phase):
            rows.append(_row("boot", f"{_machine(build, phase)} starts{_of(phase)}", times.boots[phase], end, build))
        for index, step in enumerate(table):
            row = _row("step", step.name, times.steps.get((phase, index), []), end, build)
            nested = _scripts(row["bars"][-1:], scripts.get((phase, index), ()))
            rows.append(row | {"phase": phase, "status": step.status, "note": step.note, "scripts": nested})
    states = [_bar(span, end, build) for span in times.states]
    if not states and not any(row["bars"] for row in rows):
        return None
    return {"start": build.created, "end": end, "states": states, "rows": rows, "ticks": _ticks(end - build.created)}


def _machine(build: Build, phase: str) -> str:
    word = build.machine_word(phase.partition("/")[0])
    return word[0].upper() + word[1:]


def _of(phase: str) -> str:
    return "" if phase == BUILD else f" ({phase.replace('/', ' ')})"


def _row(kind: str, label: str, spans: Sequence[Span], end: float, build: Build) -> dict[str, Any]:
    bars = [_bar(span, end, build) for span in spans]
    took = sum(bar["end"] - bar["start"] for bar in bars) if bars else None
    row = {"kind": kind, "label": label, "bars": bars, "took": took}
    return row | {"status": "", "phase": "", "note": "", "scripts": []}


def _bar(span: Span, end: float, build: Build) -> dict[str, Any]:
    """Return a bar within the time of a build: clocks may disagree, and a VM that is lost ends nothing."""
    first = min(max(span.start, build.created), end)
    last = min(max(span.end if span.end is not None else end, first), end)
    what = span.what if span.end is not None or not build.ended or span.what != "running" else "unknown"
    running = span.end is None and not build.ended
    return {"what": what, "start": first, "end": last, "attempt": span.attempt, "running": running}


def _scripts(bars: Sequence[dict[str, Any]], scripts: Sequence[ScriptRecord]) -> list[dict[str, Any]]:
    """Return the scripts of a step's last try one after the other, as they ran: only their lengths are reported."""
    at = bars[0]["start"] if bars else 0.0
    found = []
    for script in scripts:
        bar = None
        if bars and script.seconds is not None:
            ended = min(at + script.seconds, bars[0]["end"])
            bar = bars[0] | {"what": script.status, "start": at, "end": ended, "running": False}
            at = ended
        row = {"label": f"{script.phase}/{script.file}", "element": script.element, "status": script.status}
        found.append(row | {"took": script.seconds, "bar": bar})
    return found


_NICE = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


def _ticks(length: float) -> list[float]:
    """Return some six round times from the start on, in seconds."""
    unit = next((unit for unit in _NICE if length / unit <= 7), 86400 * max(1, round(length / 86400 / 6)))
    return [float(unit * number) for number in range(1, int(length / unit) + 1)][:12]
