"""One build: why it failed and what to do first, then its time, its log, and all that is recorded of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from provisioner.protocol import FROM_CACHE

from ...build.build import Build
from ...build.damage import Damaged
from ...build.events import Event, MachineStarted, MachineStopped, Reported, to_json
from ...engine.history import record_id
from ...engine.script_table import nest_scripts, scripts_of
from ..web.pages import PageDocument
from ..web.served import Served
from .ansi import terminal_lines
from .console import log_of
from .listing import listed_build, waits_for
from .live import live_position
from .remedy import WITHOUT_IMAGE, remedies_of
from .timeline import timeline, times_of

MOST_EVENTS = 500  # of a build that a page is made of; an honest one has some dozens
LAST_LINES = 20  # of a failed step's output


def one_build(served: Served, arguments: Mapping[str, str], build_id: str) -> PageDocument:
    """Return one build. NotFound, InputError, DamagedDocument."""
    store = served.backend.store
    build = store.load(build_id).build
    scripts = scripts_of(build, store)
    found = served.histories.first(build, store, MOST_EVENTS + 1)
    times = times_of(each for each in found if not isinstance(each, Damaged))
    log = log_of(served, build, arguments)
    return {
        "build": nest_scripts(to_json(build), scripts),
        **listed_build(build, waits_for(served, [build]), served),
        "ended": build.ended,
        "failure": _failure(build, log),
        "remedies": remedies_of(build, served),
        "timeline": timeline(build, times, scripts, served.backend.clock.now()),
        "cached": sum(step.note == FROM_CACHE for step in build.all_steps),
        "log": log,
        "ledger": [asdict(each) for each in build.ledger],
        "events": [_event(each) for each in found[:MOST_EVENTS]],
        "more_events": len(found) > MOST_EVENTS,
        "position": live_position(record_id(found[-1]) if found else "", log["machine"], log["next"]),
    }


def _failure(build: Build, log: PageDocument) -> PageDocument | None:
    """Return what has to be seen first of a build that failed: the step, and the last lines that it wrote."""
    if build.outcome not in WITHOUT_IMAGE:
        return None
    failed = next((step for step in build.all_steps if step.status == "failed"), None)
    lines: list[Any] = log["lines"]
    if failed is not None and failed.output:
        lines = [[list(segment) for segment in line] for line in terminal_lines(failed.output.encode())]
    return {
        "reason": build.reason,
        "step": failed.name if failed is not None else "",
        "exit_status": failed.exit_status if failed is not None else None,
        "lines": lines[-LAST_LINES:],
        "of_step": failed is not None and bool(failed.output),
    }


def _event(event: Event | Damaged) -> PageDocument:
    if isinstance(event, Damaged):
        return {"id": event.id, "time": None, "kind": "damaged", "text": event.why}
    return {"id": event.event_id, "time": event.time, "kind": _kind(event), "text": _event_text(event)}


def _kind(event: Event) -> str:
    """Return the kind as people write it: machine started; of a report, what it reports."""
    if isinstance(event, Reported):
        return event.report.kind.replace("-", " ")
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", event.kind).lower()


def _event_text(event: Event) -> str:
    if isinstance(event, Reported):
        report = event.report
        step = "" if report.step is None else f"step {report.step + 1}"
        status = "" if report.exit_status is None else f"exit status {report.exit_status}"
        parts = [report.machine or report.phase, f"attempt {report.attempt}", step, status, report.message]
    elif isinstance(event, MachineStarted):
        parts = [event.machine or event.phase, f"attempt {event.attempt}", event.zone]
    elif isinstance(event, MachineStopped):
        parts = [event.machine or event.phase, f"attempt {event.attempt}", event.how, event.detail]
    else:
        parts = [str(getattr(event, "reason", ""))]
    return " · ".join(filter(None, parts))
