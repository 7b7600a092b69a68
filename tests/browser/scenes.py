"""What the pages show in tests: builds of this machine, led through their lives by the real lifecycle.

Each tale is a list of events with their times. lifecycle.py decides what they come to, and the store of a real
GOLDSMITH_HOME keeps it: nothing here writes a state or an outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from provisioner.protocol import (
    COMPLETED,
    FAILED,
    STARTED,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    Step,
)
from shared.build.build import Build
from shared.build.events import BuildRejected, BuildRequested, CleanedUp, Event
from shared.build.plan import Plan
from shared.build.resources import image_document
from shared.engine.lifecycle import begin, decide
from shared.ports import Store
from tests.world import values

MARKUP = "<script>document.title='broken'</script>"
"""What no page may run, wherever it stands."""

STEPS = (
    Step("packages", "install-packages", {"packages": ["nginx", "ca-certificates"]}),
    Step("configure", "run-script", {"script": "configure.sh", "env": {"RELEASE": "2"}}),
    Step("warm-cache", "run-script", {"script": "warm.sh", "env": {}}),
)


class Tale:
    """The events of one build. `at` is the time of the next one, in Unix seconds."""

    def __init__(self, build_id: str, at: float, **plan: Any) -> None:
        self.plan: Plan = values.plan(build_id=build_id, requested=at, **{"steps": STEPS, **plan})
        self.at = at
        self.events: list[Event] = []
        self.sequence = 0
        self.add(values.requested(plan=self.plan))

    def add(self, event: Event, after: float = 0.0) -> Tale:
        self.at += after
        number = len(self.events)
        self.events.append(replace(event, build_id=self.plan.build_id, event_id=f"e{number:04d}", time=self.at))
        return self

    def say(self, kind: str, after: float = 0.0, phase: str = "build", attempt: int = 1, **more: Any) -> Tale:
        self.sequence += 1
        said: dict[str, Any] = {"attempt": attempt, "phase": phase, "sequence": self.sequence}
        return self.add(values.reported(kind=kind, build_id=self.plan.build_id, **said, **more), after)

    def boots(self, after: float = 8.0, phase: str = "build", attempt: int = 1) -> Tale:
        self.sequence = 0
        self.add(values.machine_started(phase=phase, attempt=attempt), after)
        return self.say(STARTED, 6.0, phase, attempt)

    def step(self, index: int, seconds: float, phase: str = "build", attempt: int = 1) -> Tale:
        self.say(STEP_STARTED, 0.2, phase, attempt, step=index, tries=1)
        done: dict[str, Any] = {"step": index, "tries": 1, "exit_status": 0, "seconds": seconds}
        return self.say(STEP_FINISHED, seconds, phase, attempt, **done)

    def fails(self, index: int, seconds: float, output: str, status: int = 1) -> Tale:
        self.say(STEP_STARTED, 0.2, step=index, tries=1)
        failure: dict[str, Any] = {"step": index, "tries": 1, "exit_status": status, "final": True, "output": output}
        self.say(STEP_FAILED, seconds, seconds=seconds, **failure)
        self.say(FAILED, 0.3, **failure, message=f"step {self.plan.steps[index].name} failed")
        return self.add(values.cleaned_up(), 3.0)

    def completes(self, phase: str = "build", attempt: int = 1) -> Tale:
        self.say(COMPLETED, 1.0, phase, attempt)
        if phase == "build":
            return self
        return self.add(values.machine_stopped(phase=phase, attempt=attempt, claim="completed"), 2.0)

    def publishes(self) -> Tale:
        image = values.image_record(name=self.plan.image.name)
        self.add(values.image_exported(image=image), 21.0)
        self.add(values.publication_staged(), 1.0)
        self.add(values.image_published(), 1.0)
        return self.add(values.cleaned_up(), 2.0)


def write_events(store: Store, events: Iterable[Event]) -> Iterator[Build]:
    """Lead a build through its events, as the engine does, and keep each step of it in a store."""
    for event in events:
        if isinstance(event, BuildRequested | BuildRejected):
            build = begin(event).build
            store.create(build, event, image_document(build))
        else:
            stored = store.load(event.build_id)
            if isinstance(event, CleanedUp):  # its order's number says that it is the newest
                event = replace(event, event_id=f"o{stored.build.cleaning}-CleanedUp")
            decision = decide(stored.build, event)
            assert not decision.ignored, f"{event.build_id}, {event.event_id}: {decision.ignored}"
            build = replace(decision.build, outbox=())
            store.save(build, stored.version, event, image_document(build))
        yield build


def tell(store: Store, tale: Tale) -> Build:
    """Write a whole tale; return the build as it is then."""
    return list(write_events(store, tale.events))[-1]


def names(build_id: str, number: int = 0, **image: Any) -> dict[str, Any]:
    """Return what a plan has of its own for a build: the spec's name, and its image."""
    name = build_id.rpartition("-")[0]
    base = values.plan().image
    return {"name": name, "image": replace(base, name=f"{name}-2026112{number}", family=name, **image)}


def fill(store: Store, now: float) -> None:
    """Write the builds that all pages are shown with."""
    good = Tale("nginx-0123456789ab", now - 5400, **names("nginx-0123456789ab")).boots()
    tell(store, good.step(0, 31).step(1, 12).step(2, 74).completes().publishes())
    bad = Tale("docker-0123456789ac", now - 3000, **names("docker-0123456789ac", 1)).boots().step(0, 44)
    tell(store, bad.fails(1, 12, OUTPUT, 100))
    tell(store, running(now))
    list(
        write_events(
            store, (_rejected(now - 86_400), replace(values.cleaned_up(), build_id=REJECTED, time=now - 86_399))
        )
    )
    hostile = Tale("hostile-0123456789ae", now - 7200, **names("hostile-0123456789ae", 3), steps=_hostile_steps())
    tell(store, hostile.boots().fails(0, 3, f"before {MARKUP} after", 1))


REJECTED = "typo-0123456789af"
RUNNING = "cos-gpu-0123456789ad"


def running(now: float) -> Tale:
    """A build whose second step runs."""
    tale = Tale(RUNNING, now - 95, **names(RUNNING, 2)).boots()
    return tale.step(0, 38).say(STEP_STARTED, 0.2, step=1, tries=1)


OUTPUT = """Reading package lists...
Building dependency tree...
E: Unable to locate package dokcer.io
configure.sh: line 12: apt-get install: exit status 100
"""


def _hostile_steps() -> tuple[Step, ...]:
    return (Step(MARKUP, "run-script", {"script": MARKUP, "env": {"X": MARKUP}}),)


def _rejected(at: float) -> Event:
    reason = f"build.yaml:1:1: nam: unknown key {MARKUP}"
    return values.rejected(build_id=REJECTED, name="typo", time=at, reason=reason)
