"""When a build was in which state and did which step: what its recorded events say, replayed by the lifecycle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from provisioner.protocol import BUILD, VERIFY

from ...build.build import Build, State
from ...build.events import BuildRejected, BuildRequested, Event
from ...engine.build_times import BuildTimes, Span, close_last
from ...engine.lifecycle import begin, decide
from ...engine.script_table import ScriptRecord, ScriptTable, place_of


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
            close_last(times.states, times.states[-1].what if times.states else "", event.time)
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
