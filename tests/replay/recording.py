"""A recorded build: its events with their times and, after each, what was decided. One JSON file each.

    {"version": 1, "what": "one line for people",
     "steps": [{"event": EVENT, "after": {"state", "outcome", "reason", "attempt", "orders": [[number, kind, attempt]],
                "ledger": ["kind name", "kind name kept"], "steps": ["name status"], "wake_in": seconds}}]}

Events are as the store has them, so that a recording of a real build needs nothing but its store. What is decided is
kept in the words of the state machine: a change of lifecycle.py that would have led a build of the past elsewhere shows
here, in the line where it would have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from shared.build.build import Build, StepRecord
from shared.build.events import BuildRejected, BuildRequested, Event, read_event, to_json
from shared.engine.lifecycle import Decision, begin, decide

VERSION = 1


def record(events: Sequence[Event], what: str) -> dict[str, Any]:
    """Return the recording of a build's events, with what is decided now."""
    steps = [
        {"event": to_json(event), "after": summary(event, decision)}
        for event, decision in zip(events, decisions(events), strict=True)
    ]
    return {"version": VERSION, "what": what, "steps": steps}


def events_of(recording: dict[str, Any]) -> list[Event]:
    """Return the events of a recording."""
    if recording["version"] != VERSION:
        raise ValueError(f"a recording of version {recording['version']}; {VERSION} is known")
    return [read_event(step["event"]) for step in recording["steps"]]


def decisions(events: Iterable[Event]) -> Iterable[Decision]:
    """Replay events through the lifecycle; every order counts as published before the next event."""
    build: Build | None = None
    for event in events:
        if build is None:
            if not isinstance(event, (BuildRequested, BuildRejected)):
                raise ValueError(f"a recording begins with a request, not {event.kind}")
            decision = begin(event)
        else:
            decision = decide(build, event)
        yield decision
        build = decision.build


def summary(event: Event, decision: Decision) -> dict[str, Any]:
    """What was decided, in few words."""
    build = decision.build
    return {
        "state": build.state,
        "outcome": build.outcome,
        "reason": build.reason,
        "ignored": decision.ignored,
        "attempt": build.attempt,
        "orders": [[order.number, order.kind, order.attempt] for order in decision.orders],
        "ledger": [f"{entry.kind} {entry.name}{' kept' if entry.keep else ''}" for entry in build.ledger],
        "steps": [_words(step) for step in (*build.steps, *build.verify_steps)],
        "wake_in": round(build.wake_at - event.time, 3),
    }


def _words(step: StepRecord) -> str:
    return f"{step.name} {step.status}" + (f" {step.exit_status}" if step.exit_status else "")
