"""The trace of a build, as values: its spans, what they say of it, and that making it again makes the same one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.protocol import STEP_FAILED, STEP_FINISHED, STEP_STARTED, Step
from shared.build.build import Build, ImageDocument, Outcome, State, Stay, StepRecord
from shared.build.events import Event
from shared.build.identity import span_id, trace_id
from shared.build.plan import Deprecation, Plan, VerifyMachinePlan
from shared.tracing.trace import MOST_SPANS, BuildTrace, TraceSpan, trace_of, webhook_trace
from tests.world import values
from tests.world.memory_store import MemoryStore
from tests.world.world import Guest, World

CHECK = Step("check", "run-script", {"script": "check.sh"}, timeout=300.0)
ELEMENTS = Step("elements", "elements", {"elements": ["a"], "path": ["elements"]}, timeout=300.0)


def lines(trace: BuildTrace, parent: str = "", depth: int = 0) -> list[str]:
    """Return the names of all spans, each below its parent."""
    found = []
    for span in trace.spans:
        if span.parent == parent:
            found += ["  " * depth + span.name, *lines(trace, span.id, depth + 1)]
    return found


def traced(plan: Plan, guest: Guest | None = None) -> tuple[BuildTrace, Build, World]:
    world = World(guest)
    build = world.run(plan)
    return trace_of(build, world.store), build, world


def named(trace: BuildTrace, name: str) -> TraceSpan:
    [span] = [each for each in trace.spans if each.name == name]
    return span


def assert_nested(trace: BuildTrace) -> None:
    spans = {span.id: span for span in trace.spans}
    assert len(spans) == len(trace.spans)
    for span in trace.spans:
        assert span.start <= span.end
        if span.parent:
            parent = spans[span.parent]
            assert parent.start <= span.start <= span.end <= parent.end


def test_a_build_has_a_span_for_each_state_machine_step_and_script_and_for_what_follows() -> None:
    image = replace(values.plan().image, deprecate_old=Deprecation())
    machines = (VerifyMachinePlan("small"), VerifyMachinePlan("large"))
    plan = replace(
        values.plan(),
        steps=(*values.plan().steps, ELEMENTS),
        verify_steps=(CHECK,),
        verify_machines=machines,
        image=image,
    )
    trace, build, _ = traced(plan)
    assert build.outcome is Outcome.SUCCEEDED
    assert lines(trace) == [
        "BUILD hello",
        "  preparing",
        "  provisioning",
        "    build machine",
        "      boot",
        "      greet",
        "      elements",
        "        install.d/10-a",
        "  exporting",
        "  verifying",
        "    verify machine small",
        "      boot",
        "      check",
        "    verify machine large",
        "      boot",
        "      check",
        "  publishing",
        "  cleaning",
        "    deprecation",
    ]
    assert_nested(trace)
    assert [span.name for span in trace.spans if span.failure is not None] == []
    root = trace.spans[0]
    assert (trace.id, root.kind, root.parent) == (trace_id(build.id), "server", "")
    assert (
        root.attributes.items()
        >= {
            "cicd.pipeline.name": "hello",
            "cicd.pipeline.run.id": build.id,
            "cicd.pipeline.action.name": "BUILD",
            "cicd.pipeline.result": "success",
            "goldsmith.outcome": "succeeded",
            "goldsmith.image.name": image.name,
        }.items()
    )
    checks = [span.attributes for span in trace.spans if span.name == "check"]
    assert {each["cicd.pipeline.task.type"] for each in checks} == {"test"}
    assert len({each["cicd.pipeline.task.run.id"] for each in checks}) == 2


def test_a_step_that_fails_is_the_failure_of_all_that_it_is_in() -> None:
    trace, build, _ = traced(values.plan(), Guest(fails_at=0))
    failed = {span.name: span.failure for span in trace.spans if span.failure is not None}
    assert failed == {"BUILD hello": build.reason, "provisioning": build.reason, "greet": "exit status 3"}
    assert named(trace, "greet").attributes["error.type"] == "exit-status-3"
    assert (
        trace.spans[0].attributes.items()
        >= {
            "cicd.pipeline.result": "failure",
            "error.type": "provisioning",
            "goldsmith.reason": build.reason,
        }.items()
    )
    assert "no such file" not in repr(trace), "output may hold anything"


def test_a_machine_that_is_taken_away_leads_to_a_second_one_with_its_own_spans() -> None:
    trace, build, _ = traced(values.plan(attempts=3), Guest(ends_at=0))
    assert build.outcome is Outcome.SUCCEEDED
    assert lines(trace)[1:-3] == [
        *("  preparing", "  provisioning", "    build machine", "      boot", "      greet"),
        *("  preparing", "  provisioning", "    build machine", "      boot", "      greet"),
    ]
    first, second = (span for span in trace.spans if span.name == "build machine")
    assert (first.failure, second.failure) == ("the machine was preempted", None)
    assert [each.attributes["goldsmith.attempt"] for each in (first, second)] == [1, 2]
    cut, done = (span.attributes["cicd.pipeline.task.run.result"] for span in trace.spans if span.name == "greet")
    assert (cut, done) == ("error", "success")
    assert_nested(trace)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_its_result_and_a_cut_off_step_has_it_too(outcome: Outcome) -> None:
    stays = (Stay(State.PREPARING, 1, values.NOON), Stay(State.CLEANING, 1, values.NOON + 9))
    ended = values.build(
        state=State.FINISHED,
        outcome=outcome,
        reason="why",
        updated=values.NOON + 10,
        stays=(*stays, Stay(State.FINISHED, 1, values.NOON + 10)),
    )
    trace = trace_of(ended, told(values.reported(kind=STEP_STARTED, step=0, sequence=2)))
    results = {"succeeded": "success", "failed": "failure", "timed_out": "timeout", "cancelled": "cancellation"}
    root = trace.spans[0]
    assert root.attributes["cicd.pipeline.result"] == results.get(outcome, "skip")
    assert (root.failure is not None) == ("error.type" in root.attributes) == (outcome in ("failed", "timed_out"))
    wanted = {"timed_out": "timeout", "cancelled": "cancellation"}.get(outcome, "error")
    assert named(trace, "greet").attributes["cicd.pipeline.task.run.result"] == wanted


def told(*events: Event) -> MemoryStore:
    """Return a store that has recorded these events of the build."""
    store = MemoryStore()
    version = store_build(store)
    for event in events:
        version = store.save(values.build(), version, event)
    return store


def store_build(store: MemoryStore) -> str:
    store.create(values.build(), values.requested())
    return store.load(values.BUILD_ID).version


def test_tries_of_a_step_are_spans_of_their_own_and_one_from_the_cache_says_so() -> None:
    record = StepRecord("greet", "run-script", "done", tries=2, note="from the cache")
    stays = (Stay(State.PROVISIONING, 1, values.NOON), Stay(State.FINISHED, 1, values.NOON + 60))
    build = values.build(steps=(record,), outcome=Outcome.SUCCEEDED, state=State.FINISHED, stays=stays)
    trace = trace_of(
        build,
        told(
            values.reported(kind=STEP_STARTED, step=0, sequence=2, time=values.NOON + 1),
            values.reported(kind=STEP_FAILED, step=0, sequence=3, exit_status=1, time=values.NOON + 2),
            values.reported(kind=STEP_FINISHED, step=0, sequence=4, seconds=3.0, time=values.NOON + 9),
        ),
    )
    first, second = (span for span in trace.spans if span.name == "greet")
    assert (first.failure, second.failure) == ("the step failed", None)
    assert (second.start, second.end) == (values.NOON + 6, values.NOON + 9)
    assert (first.attributes.get("goldsmith.step.cached"), second.attributes["goldsmith.step.cached"]) == (None, True)


def test_a_trace_that_is_made_again_is_the_same_one_and_others_have_other_ids() -> None:
    trace, build, world = traced(values.plan())
    assert trace_of(build, world.store) == trace
    other = "hello-ffffffffffff"
    again, _, _ = traced(values.plan(build_id=other))
    assert lines(again) == lines(trace)
    assert not {trace.id, *(span.id for span in trace.spans)} & {again.id, *(span.id for span in again.spans)}


def test_a_build_of_the_release_before_whose_states_are_not_known_has_its_steps() -> None:
    _, build, world = traced(values.plan())
    old = trace_of(replace(build, stays=()), world.store)
    assert lines(old) == ["BUILD hello", "  build machine", "    boot", "    greet"]


def test_a_rejected_build_has_its_reason() -> None:
    world = World()
    build = world.engine.request(values.rejected())
    world.finish()
    trace = trace_of(world.build(build.id), world.store)
    assert lines(trace) == ["BUILD hello", "  cleaning"]
    assert trace.spans[0].failure == build.reason


def test_a_build_that_was_asked_for_within_a_trace_is_a_part_of_that_one() -> None:
    world = World()
    world.engine.request(replace(values.requested(), traceparent=f"00-{'a' * 32}-{'b' * 16}-01"))
    world.finish()
    build = world.build()
    trace = trace_of(build, world.store)
    assert (trace.id, trace.spans[0].parent) == ("a" * 32, "b" * 16)
    later = values.build(id="hello-ffffffffffff", retry_of=build.id, outcome=Outcome.SUCCEEDED)
    assert [link.trace for link in trace_of(later, world.store).spans[0].links] == ["a" * 32]
    assert webhook_trace(build, "ci", values.NOON, values.NOON, None).id == "a" * 32


def test_a_retry_and_a_build_of_our_image_lead_to_the_builds_before() -> None:
    _, base, world = traced(values.plan())
    assert base.image is not None
    made = ImageDocument("local", "base", base.id, "digest", "published", id="sha256-0001")
    assert world.store.save_image(made, None)
    source = replace(values.plan().source, name="base")
    later = values.build(
        id="hello-ffffffffffff", plan=values.plan(source=source), retry_of=base.id, outcome=Outcome.SUCCEEDED
    )
    root = trace_of(later, world.store).spans[0]
    to = trace_id(base.id), span_id(base.id, "build")
    assert [(link.trace, link.span, link.why) for link in root.links] == [(*to, "retry"), (*to, "source")]
    another = replace(later, retry_of="hello-gone", plan=values.plan(source=replace(source, id="sha256-other")))
    assert trace_of(another, world.store).spans[0].links == ()


def test_what_a_guest_reports_without_end_is_bounded() -> None:
    _, build, world = traced(values.plan())
    version = world.store.load(build.id).version
    for number in range(100, MOST_SPANS + 100):
        version = world.store.save(build, version, values.reported(kind=STEP_STARTED, step=0, sequence=number))
    trace = trace_of(build, world.store)
    assert len(trace.spans) == MOST_SPANS
    assert_nested(trace)


def test_the_call_of_a_webhook_is_a_span_of_its_build() -> None:
    build = values.build()
    told_once = webhook_trace(build, "ci", values.NOON, values.NOON + 1, None)
    refused = webhook_trace(build, "ci", values.NOON + 5, values.NOON + 6, "answers with status 410")
    [span], [other] = told_once.spans, refused.spans
    assert told_once.id == trace_id(build.id)
    assert span.parent == other.parent == span_id(build.id, "build")
    assert (span.name, span.kind, span.failure) == ("webhook ci", "client", None)
    assert (other.failure, other.attributes["error.type"]) == ("answers with status 410", "webhook")
    assert span.id != other.id
