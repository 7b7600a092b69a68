"""When a build's VMs ran, and when they did which step, as its recorded events say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from provisioner.protocol import STARTED, STEP_FAILED, STEP_FINISHED, STEP_STARTED

from ..build.events import Event, MachineStarted, MachineStopped, Reported
from .script_table import place_of

StepPlace = tuple[str, int]
"""The phase of a VM, with its name where several verify, and the index of a step."""


@dataclass(frozen=True)
class Span:
    """Some time, in Unix seconds; `end` is None for what has not ended."""

    what: str  # a state; of a step or a VM how it ended; `boot` of a VM until its provisioner has started
    start: float
    end: float | None = None
    attempt: int = 1


@dataclass
class BuildTimes:
    """What the events of a build say of time."""

    states: list[Span] = field(default_factory=list)
    machines: dict[str, list[Span]] = field(default_factory=dict)  # from start to end, by phase
    boots: dict[str, list[Span]] = field(default_factory=dict)  # by phase
    steps: dict[StepPlace, list[Span]] = field(default_factory=dict)
    _ends: dict[StepPlace, tuple[int, int]] = field(default_factory=dict)  # attempt and number of the newest report

    def add(self, event: Event) -> None:
        """Take a VM's start and end, and what it reports of steps."""
        if isinstance(event, MachineStarted):
            phase = place_of(event.phase, event.machine)
            self.machines.setdefault(phase, []).append(Span("running", event.time, None, event.attempt))
            self.boots.setdefault(phase, []).append(Span("boot", event.time, None, event.attempt))
        elif isinstance(event, MachineStopped):
            phase = place_of(event.phase, event.machine)
            close_last(self.machines.get(phase, []), event.how, event.time)
            close_last(self.boots.get(phase, []), "boot", event.time)
            for place, spans in self.steps.items():
                if place[0] == phase:
                    close_last(spans, "cut off", event.time)
        elif isinstance(event, Reported):
            self._report(event)

    def _report(self, event: Reported) -> None:
        report = event.report
        phase = place_of(report.phase, report.machine)
        if report.kind == STARTED:
            close_last(self.boots.get(phase, []), "boot", event.time)
        if report.step is None:
            return
        spans = self.steps.setdefault((phase, report.step), [])
        number = (report.attempt, report.sequence)
        if report.kind == STEP_STARTED:
            if number < self._ends.get((phase, report.step), number):
                return  # told after its end
            spans.append(Span("running", event.time, None, report.attempt))
        elif report.kind in (STEP_FINISHED, STEP_FAILED):
            ended = "done" if report.kind == STEP_FINISHED else "failed"
            if not (spans and spans[-1].end is None):  # it came out of order, or from the cache
                spans.append(Span(ended, event.time, None, report.attempt))
            close_last(spans, ended, event.time)
            booted = max((span.end or span.start for span in self.boots.get(phase, ())), default=0.0)
            start = max(event.time - (report.seconds or 0.0), booted)  # it may have been told together with its end
            spans[-1] = replace(spans[-1], start=min(start, spans[-1].start))
            self._ends[phase, report.step] = number


def close_last(spans: list[Span], what: str, time: float) -> None:
    """End the last one, if it goes on."""
    if spans and spans[-1].end is None:
        spans[-1] = replace(spans[-1], what=what, end=time)
