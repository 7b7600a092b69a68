"""The trace of a build, as values: made of its record and its events once its outcome is announced.

    BUILD hello
    ├── provisioning                 one span for each state that it has entered
    │   └── build machine            one for each VM
    │       ├── boot
    │       └── greet                one for each try of a step, with scripts of elements below it
    ├── verifying
    │   └── verify machine web ...
    └── cleaning
        └── distribution

All ids are made of the build's id, so a trace that is made again, by any process, is the same one; a build that was
asked for within a trace belongs to that one. Attributes have the names of OpenTelemetry's conventions for CI/CD, or
begin with `goldsmith.`. No output, parameter, variable or address of a webhook is among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from provisioner.protocol import (
    BUILD,
    EXPORT,
    FROM_CACHE,
    STARTED,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    VERIFY,
)

from ..build.build import ANNOUNCED, Build, Outcome, State, StepRecord
from ..build.cost.usage import build_usage
from ..build.events import Event, ImageExported, ImageMade, ImagesDeprecated
from ..build.identity import span_id, trace_place
from ..engine.build_times import BuildTimes, Span
from ..engine.history import each_event
from ..engine.script_table import ScriptRecord, ScriptTable, place_of, scripts_of
from ..errors import DamagedDocument, NotFound
from ..ports import Store

AttributeValue: TypeAlias = str | int | float | bool | Sequence[str]

MOST_SPANS = 2000  # of one build; an honest one has some hundreds, and a guest may report what it likes
LONGEST_TEXT = 1000  # characters of an attribute's value
MOST_TEXTS = 20  # of a list

_ROOT = "build"
_READ = (
    *("MachineStarted", "MachineStopped", "ImageMade", "ImageExported", "ImagesDeprecated"),
    *(STARTED, STEP_STARTED, STEP_FINISHED, STEP_FAILED),
)
_RESULTS: Mapping[Outcome | None, str] = {
    Outcome.SUCCEEDED: "success",
    Outcome.FAILED: "failure",
    Outcome.TIMED_OUT: "timeout",
    Outcome.CANCELLED: "cancellation",
    Outcome.UNCHANGED: "skip",
}
"""`cicd.pipeline.result` by outcome."""
_ENDED = {"done": "success", "failed": "failure", "cut off": "error"}
"""`cicd.pipeline.task.run.result` by how a step ended."""
_WORDS = {"failed": "failed", "cut off": "was cut off"}
_CUTTING = (Outcome.CANCELLED, Outcome.TIMED_OUT)  # outcomes that end a step which goes on
_AFTER = (*ANNOUNCED, State.CLEANING)
_FAULTS = {
    "lost": "was lost",
    "preempted": "was preempted",
    "panicked": "had a kernel panic",
    "gave-up": "did not come up",
}
"""How a VM ends that should not have."""
_STATES: Mapping[str, tuple[State, ...]] = {
    BUILD: (State.PREPARING, State.PROVISIONING),
    EXPORT: (State.EXPORTING,),
    VERIFY: (State.VERIFYING,),
}
"""In which states a VM of a phase is at work."""


@dataclass(frozen=True)
class TraceLink:
    """That a span has to do with the root span of another build."""

    trace: str  # ids in hex, as all here
    span: str
    why: Literal["retry", "source"]  # that build is retried, or has made the image that this one was built from
    build: str


@dataclass(frozen=True)
class TraceSpan:
    """One span; times are Unix seconds."""

    name: str
    id: str
    parent: str  # for the root, the span of who has asked for the build, or "" where that is in no trace
    start: float
    end: float
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    kind: Literal["server", "internal", "client"] = "internal"
    failure: str | None = None  # why it failed; None: it has not
    links: tuple[TraceLink, ...] = ()


@dataclass(frozen=True)
class BuildTrace:
    """Spans of one build."""

    id: str
    build: str
    pipeline: str  # the spec's name
    spans: tuple[TraceSpan, ...]


def trace_of(build: Build, store: Store) -> BuildTrace:
    """Read the trace of a build whose outcome is announced; its events may be read up to then, or later."""
    times = BuildTimes()
    facts: dict[type[Event], Event] = {}
    for event in each_event(store, build.id, kinds=_READ):
        times.add(event)
        facts.setdefault(type(event), event)
    made = _Made(build, times, scripts_of(build, store), _links(build, store), facts)
    return BuildTrace(trace_place(build.id, build.traceparent)[0], build.id, build.name, tuple(made.spans))


def webhook_trace(build: Build, name: str, start: float, end: float, failure: str | None) -> BuildTrace:
    """Return one try of a webhook as a span of its build. `failure` must not tell its address."""
    root = span_id(build.id, _ROOT)
    attributes: dict[str, AttributeValue] = {"goldsmith.webhook": name}
    if failure is not None:
        attributes["error.type"] = "webhook"
    own = span_id(build.id, f"webhook {name} {start:.6f}")
    span = TraceSpan(f"webhook {name}", own, root, start, max(start, end), attributes, "client", _text(failure))
    return BuildTrace(trace_place(build.id, build.traceparent)[0], build.id, build.name, (span,))


def _text(text: str | None) -> str | None:
    return None if text is None else text[:LONGEST_TEXT]


def _links(build: Build, store: Store) -> tuple[TraceLink, ...]:
    """Link a retry to what it continues, and a build of an image of ours to that image's build."""
    found: list[TraceLink] = []
    if build.retry_of:
        found += _link(build.retry_of, "retry", store)
    source = build.plan.source if build.plan is not None else None
    try:
        known = store.image(source.project, source.name) if source is not None else None
    except DamagedDocument:
        known = None
    if known is not None and source is not None and known.id == source.id and known.build_id != build.id:
        found += _link(known.build_id, "source", store)
    return tuple(found)


def _link(other: str, why: Literal["retry", "source"], store: Store) -> list[TraceLink]:
    try:
        found = store.load(other).build
    except (NotFound, DamagedDocument):  # set aside, or so old that it is gone
        return []
    return [TraceLink(trace_place(other, found.traceparent)[0], span_id(other, _ROOT), why, other)]


class _Made:
    """The spans of a build, parents first. Each lies within its parent: messages may be late, and clocks differ."""

    def __init__(
        self,
        build: Build,
        times: BuildTimes,
        scripts: ScriptTable,
        links: tuple[TraceLink, ...],
        facts: Mapping[type[Event], Event],
    ) -> None:
        self.spans: list[TraceSpan] = []
        self._build = build
        self._announced = next((stay.begun for stay in build.stays if stay.state in ANNOUNCED), build.updated)
        self._machines: dict[tuple[str, int], list[TraceSpan]] = {}  # by place and attempt
        self._root = self._add_root(links)
        self._stays = self._add_states()
        for place, ran in times.machines.items():
            self._add_machines(place, ran, times.boots.get(place, []))
        self._add_steps(times, scripts)
        self._add_files(facts)
        self._add_distribution(facts)

    def _add(
        self,
        what: str,
        name: str,
        parent: TraceSpan | None,
        start: float,
        end: float | None,
        attributes: Mapping[str, AttributeValue],
        failure: str | None = None,
    ) -> TraceSpan:
        if parent is not None:
            end = parent.end if end is None else min(end, parent.end)
            start = min(max(start, parent.start), parent.end)
        last = start if end is None else max(start, end)
        own = span_id(self._build.id, what)
        made = TraceSpan(name, own, parent.id if parent else "", start, last, attributes, "internal", _text(failure))
        if len(self.spans) < MOST_SPANS:
            self.spans.append(made)
        return made

    def _add_root(self, links: tuple[TraceLink, ...]) -> TraceSpan:
        build = self._build
        root = TraceSpan(
            f"BUILD {build.name}",
            span_id(build.id, _ROOT),
            trace_place(build.id, build.traceparent)[1],
            build.created,
            max(build.created, self._announced),
            _root_attributes(build),
            "server",
            _text(build.reason) if build.outcome in (Outcome.FAILED, Outcome.TIMED_OUT) else None,
            links,
        )
        self.spans.append(root)
        return root

    def _add_states(self) -> list[tuple[State, int, TraceSpan]]:
        build, found = self._build, []
        failed = build.outcome in (Outcome.FAILED, Outcome.TIMED_OUT)
        for number, stay in enumerate(build.stays):
            if stay.state in ANNOUNCED:
                break
            following = build.stays[number + 1] if number + 1 < len(build.stays) else None
            ends = failed and following is not None and following.state is State.CLEANING
            attributes: dict[str, AttributeValue] = {
                "goldsmith.state": str(stay.state),
                "goldsmith.attempt": stay.attempt,
            }
            span = self._add(
                f"state {number}",
                str(stay.state),
                self._root,
                stay.begun,
                following.begun if following is not None else None,
                attributes,
                build.reason if ends else None,
            )
            found.append((stay.state, stay.attempt, span))
        return found

    def _state(self, phase: str, attempt: int, time: float) -> TraceSpan:
        """Return the span of the state in which a VM was at work at a time, or that of the build."""
        known = [span for state, number, span in self._stays if state in _STATES[phase] and number == attempt]
        return next((span for span in reversed(known) if span.start <= time), known[0] if known else self._root)

    def _add_machines(self, place: str, ran: Sequence[Span], boots: Sequence[Span]) -> None:
        phase, _, name = place.partition("/")
        for number, span in enumerate(ran):
            attributes: dict[str, AttributeValue] = {
                "goldsmith.phase": phase,
                "goldsmith.attempt": span.attempt,
                "goldsmith.machine.kind": self._build.machine_word(phase),
            }
            if span.end is not None:
                attributes["goldsmith.machine.end"] = span.what
            if name:
                attributes["goldsmith.machine.name"] = name
            failure = f"the machine {_FAULTS[span.what]}" if span.what in _FAULTS else None
            if failure:
                attributes["error.type"] = span.what
            state = self._state(phase, span.attempt, span.start)
            title = f"{phase} machine {name}".rstrip()
            made = self._add(f"machine {place} {number}", title, state, span.start, span.end, attributes, failure)
            self._machines.setdefault((place, span.attempt), []).append(made)
            for boot in boots[number : number + 1]:
                self._add(f"boot {place} {number}", "boot", made, boot.start, boot.end, {"goldsmith.phase": phase})

    def _add_steps(self, times: BuildTimes, scripts: ScriptTable) -> None:
        tables = [(BUILD, self._build.steps)]
        tables += [(place_of(VERIFY, name), table) for name, table in self._build.verify_tables]
        for place, table in tables:
            for index, record in enumerate(table):
                tries = times.steps.get((place, index), [])
                for number, span in enumerate(tries):
                    last = number == len(tries) - 1
                    made = self._add_try(f"step {place} {index} {number}", place, record, span, last=last)
                    if last:
                        self._add_scripts(f"script {place} {index}", made, scripts.get((place, index), ()))

    def _add_try(self, what: str, place: str, record: StepRecord, span: Span, *, last: bool) -> TraceSpan:
        """Add one try of a step. Of those before the last it is known when they were, and whether they failed."""
        phase = place.partition("/")[0]
        cut_short = _RESULTS[self._build.outcome] if self._build.outcome in _CUTTING else "error"
        result = _ENDED.get(span.what, cut_short)
        attributes: dict[str, AttributeValue] = {
            "cicd.pipeline.task.name": record.name,
            "cicd.pipeline.task.run.id": f"{self._build.id}/{what.removeprefix('step ').replace(' ', '/')}",
            "cicd.pipeline.task.run.result": result,
            "cicd.pipeline.task.type": "test" if phase == VERIFY else "build",
            "goldsmith.phase": phase,
            "goldsmith.attempt": span.attempt,
            "goldsmith.step.action": record.action,
        }
        failure = None
        if last and record.note == FROM_CACHE:
            attributes["goldsmith.step.cached"] = True
        if result in ("failure", "error"):
            known = last and span.what == "failed" and record.exit_status is not None
            failure = (
                f"exit status {record.exit_status}" if known else f"the step {_WORDS.get(span.what, 'did not end')}"
            )
            attributes["error.type"] = f"exit-status-{record.exit_status}" if known else result
        at_work = self._machines.get((place, span.attempt), [])
        parent = next((each for each in reversed(at_work) if each.start <= span.start), None)
        parent = parent or self._state(phase, span.attempt, span.start)
        return self._add(what, record.name, parent, span.start, span.end, attributes, failure)

    def _add_scripts(self, what: str, step: TraceSpan, scripts: Sequence[ScriptRecord]) -> None:
        """Add the scripts of a step one after the other, as they ran: only their lengths are reported."""
        at = step.start
        for script in scripts:
            attributes: dict[str, AttributeValue] = {
                "cicd.pipeline.task.name": f"{script.phase}/{script.file}",
                "goldsmith.element": script.element,
                "goldsmith.script.status": script.status,
            }
            failure = f"exit status {script.exit_status}" if script.status == "failed" else None
            if failure:
                attributes["error.type"] = f"exit-status-{script.exit_status}"
            name = f"{script.phase}/{script.file}"
            end = at + script.seconds if script.seconds is not None else None
            at = self._add(f"{what} {name}", name, step, at, end, attributes, failure).end

    def _add_files(self, facts: Mapping[type[Event], Event]) -> None:
        """Add what follows the image where other files of it are written, too."""
        made, exported = facts.get(ImageMade), facts.get(ImageExported)
        if made is not None:
            parent = next((span for state, _, span in self._stays if state is State.EXPORTING), self._root)
            self._add("files", "export files", parent, made.time, exported.time if exported else None, {})

    def _add_distribution(self, facts: Mapping[type[Event], Event]) -> None:
        """Add what follows publication: the image is distributed, older ones of its family are deprecated."""
        ended, plan = facts.get(ImagesDeprecated), self._build.plan
        parent = next((span for state, _, span in self._stays if state is State.CLEANING), None)
        if not isinstance(ended, ImagesDeprecated) or plan is None or parent is None:
            return
        attributes: dict[str, AttributeValue] = {"goldsmith.deprecated": _texts(ended.names)}
        if plan.image.is_distributed:
            attributes |= {
                "goldsmith.distribution.share": _texts(plan.image.share),
                "goldsmith.distribution.copies": _texts(
                    [f"{each.project}/{each.name_for(plan.image)}" for each in plan.image.copies]
                ),
                "goldsmith.distribution.refused": _texts(ended.refused),
            }
        failure = "; ".join(ended.refused) or None
        if failure:
            attributes["error.type"] = "refused"
        name = "distribution" if plan.image.is_distributed else "deprecation"
        self._add("distribution", name, parent, parent.start, ended.time, attributes, failure)


def _texts(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(text[:LONGEST_TEXT] for text in texts[:MOST_TEXTS])


def _root_attributes(build: Build) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {
        "cicd.pipeline.name": build.name,
        "cicd.pipeline.run.id": build.id,
        "cicd.pipeline.action.name": "BUILD",
        "cicd.pipeline.result": _RESULTS.get(build.outcome, "error"),
        "goldsmith.outcome": str(build.outcome),
        "goldsmith.attempts": build.attempt,
    }
    if build.reason:
        found["goldsmith.reason"] = build.reason[:LONGEST_TEXT]
    if build.outcome in (Outcome.FAILED, Outcome.TIMED_OUT):
        before = next((stay.state for stay in reversed(build.stays) if stay.state not in _AFTER), None)
        found["error.type"] = str(before or build.outcome)
    if build.image is not None:
        found["goldsmith.image.id"] = build.image.id
    plan, used = build.plan, build_usage(build)
    if used is not None and used.dollars is not None:
        found["goldsmith.dollars"] = used.dollars
    if plan is None:
        return found
    found |= {
        "goldsmith.project": plan.machine.project,
        "goldsmith.source.image": f"{plan.source.project}/{plan.source.name}",
        "goldsmith.image.project": plan.image.project,
        "goldsmith.image.name": plan.image.name,
        "goldsmith.digest": plan.content_digest,
    }
    return found | ({"goldsmith.image.family": plan.image.family} if plan.image.family else {})
