"""What holds for every build, whatever it is told: advance() over sequences that no test would think of."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.protocol import (
    BUILD,
    COMPLETED,
    DISK_WANTED,
    FAILED,
    PHASES,
    REPORT_KINDS,
    STARTED,
    STEP_FAILED,
    STEP_FINISHED,
    Report,
)
from shared.build import resources
from shared.build.build import ANNOUNCED, Build, ImageRecord, LedgerEntry, Outcome, State
from shared.build.events import (
    BuildRejected,
    BuildRequested,
    CancelRequested,
    CleanedUp,
    DiskGrown,
    Event,
    ImageExported,
    ImageLabelled,
    ImageMade,
    ImagePublished,
    ImagesDeprecated,
    MachineStarted,
    MachineStopped,
    OrderFailed,
    PublicationStaged,
    PublicationWithdrawn,
    Reported,
    Ticked,
    TurnCame,
    read_build,
    to_json,
)
from shared.build.orders import ORDER_KINDS
from shared.build.plan import Deprecation, Plan, VerifyMachinePlan
from shared.engine.lifecycle import ORDER_OF, RULES, Decision, Rule, advance, awaited_orders, begin, decide, subject
from shared.engine.machine_in_use import phase_of
from shared.engine.verifiers import as_seen_by, foreign_reason
from shared.names import LOCAL
from tests.world import values

ATTEMPTS = 3
LONG = 12  # hours of ticks are enough for whatever waits for anything

attempts = st.integers(1, ATTEMPTS + 1) | st.integers(-5, 10**9)
texts = st.text(max_size=20)
ids = {"build_id": st.sampled_from([values.BUILD_ID] * 19 + ["other-0123456789ab"]), "event_id": texts}
times = {"time": st.floats(values.NOON - 100, values.NOON + 5000)}
phases = st.sampled_from([*PHASES, *PHASES, "", "party"])
entries = st.builds(
    LedgerEntry,
    st.sampled_from(["machine", "disk", "image", "object"]),
    st.sampled_from([f"gs-{values.BUILD_ID}-a1-vm", f"gs-{values.BUILD_ID}-a1-boot", "hello-20261120", "other"]),
    st.just("local"),
    st.sampled_from(["", "here"]),
    st.booleans(),
)
reports = st.builds(
    Report,
    st.just(values.BUILD_ID),
    attempts,
    st.sampled_from(PHASES),
    st.integers(-1, 10**14),
    st.sampled_from(REPORT_KINDS),
    st.floats(allow_nan=True),
    step=st.none() | st.integers(-2, 5) | st.integers(),
    tries=st.integers(-1, 10),
    exit_status=st.none() | st.integers(),
    seconds=st.none() | st.floats(),
    final=st.booleans(),
    message=texts,
    output=texts,
)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Reported, **ids, **times, report=reports),
    st.builds(
        MachineStarted, **ids, **times, attempt=attempts, phase=phases, zone=st.sampled_from(["", "here", "there"])
    ),
    st.builds(
        MachineStopped,
        **ids,
        **times,
        attempt=attempts,
        phase=phases,
        how=st.sampled_from(["powered-off", "panicked", "lost", "preempted"]),
        claim=st.sampled_from([None, None, "completed", "failed", "nonsense"]),
        detail=texts,
    ),
    st.builds(
        TurnCame,
        **ids,
        **times,
        image=st.just(values.plan().image),
        unchanged=st.none() | st.just(values.image_record()),
        taken_up=st.none() | st.just(values.image_record()),
        refused=texts,
    ),
    st.builds(DiskGrown, **ids, **times, attempt=attempts, phase=phases, gigabytes=st.integers()),
    st.builds(ImageMade, **ids, **times, image=st.builds(ImageRecord, texts, texts, texts)),
    st.builds(ImageExported, **ids, **times, image=st.builds(ImageRecord, texts, texts, texts)),
    st.builds(PublicationStaged, **ids, **times),
    st.builds(ImageLabelled, **ids, **times),
    st.builds(ImagePublished, **ids, **times),
    st.builds(PublicationWithdrawn, **ids, **times, left=st.just(())),
    st.builds(ImagesDeprecated, **ids, **times, names=st.just(())),
    st.builds(CleanedUp, **ids, **times, remaining=st.lists(entries, max_size=3).map(tuple)),
    st.builds(OrderFailed, **ids, **times, order=st.sampled_from(ORDER_KINDS), attempt=attempts, reason=texts),
    st.builds(CancelRequested, **ids, **times, reason=texts),
    st.builds(Ticked, **ids, **times),
    st.sampled_from(values.every_event()),
)


SEVERAL = (VerifyMachinePlan("small", timeout=400.0), VerifyMachinePlan("large", "n2-standard-4"))
SAME = (f"machine-id {'a' * 64}",)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    base = draw(st.sampled_from([values.plan(), values.plan(), values.growing_plan()]))
    plan = replace(base, attempts=draw(st.integers(1, ATTEMPTS)))
    deprecation = draw(st.none() | st.just(Deprecation()))
    export = draw(st.none() | st.just("out/hello.tar.gz"))
    image = replace(plan.image, deprecate_old=deprecation, export_to=export)
    machine = replace(plan.machine, hold=draw(st.sampled_from([0.0, 0.0, 600.0])))
    keep = draw(st.sampled_from([0.0, 7200.0]))
    verify_steps = draw(st.none() | st.just(plan.steps))
    verifiers = draw(st.sampled_from([(), SEVERAL])) if verify_steps is not None else ()
    plan = replace(plan, verify_machines=verifiers)
    machine = replace(machine, project=draw(st.sampled_from([LOCAL, "my-project"])))
    plan = replace(plan, keep_failed=draw(st.booleans()), retry_for=draw(st.sampled_from([0.0, 3600.0])))
    return replace(plan, image=image, machine=machine, verify_steps=verify_steps, keep_disk=keep)


RETRY: dict[str, Any] = {"taken_up": values.image_record(), "verify_again": True, "retry_of": "x", "replaces": "x"}
beginnings: st.SearchStrategy[BuildRequested | BuildRejected] = st.one_of(
    plans().map(lambda plan: values.requested(plan=plan)),
    plans().map(lambda plan: values.requested(plan=plan)),
    plans().map(lambda plan: values.requested(plan=plan)),
    plans().map(lambda plan: values.requested(plan=plan, queued=True)),
    plans().map(lambda plan: values.requested(plan=plan, **RETRY)),
    st.sampled_from([values.requested(unchanged=values.image_record()), values.rejected()]),
)


def awaited(build: Build) -> list[Event]:
    """What leads a build on: without such events, hardly a story gets beyond `preparing`."""
    time, image = build.updated + 1, values.image_record()
    done = said(build, COMPLETED)
    by_state: dict[State, list[Event]] = {
        State.QUEUED: [
            *[turn(build)] * 3,
            *(turn(build, unchanged=image), turn(build, taken_up=image), turn(build, refused="output.name: taken")),
        ],
        State.PREPARING: [started(build), said(build, STARTED)],
        State.PROVISIONING: [done],
        State.EXPORTING: [
            *[started(build), said(build, DISK_WANTED), done] * (phase_of(build) is not None),
            *(values.image_made(time=time), values.image_exported(time=time)),
        ],
        State.VERIFYING: [started(build), done, done, stopped(build)],
        State.PUBLISHING: [values.publication_staged(time=time), values.image_published(time=time)],
        State.CLEANING: [
            *[values.images_deprecated(time=time)] * build.retiring,
            *[values.publication_withdrawn(time=time)] * (build.withdrawing > 0),
            *(cleaned(build, time, remaining) for remaining in ((), build.ledger)),
        ],
        State.HELD: [
            *[values.ticked(time=max(build.disk_until, build.wake_at))] * 2,
            *(cleaned(build, time, remaining) for remaining in ((), build.ledger)),
        ],
        State.FINISHED: [values.cleaned_up(time=time)],
    }
    return by_state[build.state]


def cleaned(build: Build, time: float, remaining: tuple[LedgerEntry, ...] = ()) -> Event:
    """The newest clean-up has ended."""
    return values.cleaned_up(time=time, event_id=f"o{build.cleaning}-CleanedUp", remaining=remaining)


def possible(build: Build) -> list[Event]:
    """What may happen to a build in its attempt."""
    stop = stopped(build, claim=None)
    order = ORDER_OF.get(build.state, "create_resources")
    return [
        *(said(build, kind) for kind in (STARTED, DISK_WANTED, STEP_FAILED, FAILED, FAILED)),
        said(build, STEP_FINISHED, identity=SAME),
        *[said(build, STEP_FAILED, final=True)] * (3 if build.plan and build.plan.machine.hold else 0),
        *hands_off(build),
        *[said(build, FAILED, final=True)] * (3 if build.plan and build.plan.keep_disk else 0),
        *[values.cancel_requested(time=build.updated + 1)] * (20 * (build.disk_until > 0)),
        started(build),
        values.disk_grown(time=build.updated + 1, attempt=build.attempt),
        *[stop, replace(stop, how="lost")] * 3,
        values.order_failed(time=build.updated + 1, order=order, attempt=build.attempt),
        values.order_failed(time=build.updated + 1, order="deprecate_images", attempt=build.attempt),
        *[values.ticked(time=build.wake_at)] * 3,
        values.ticked(time=build.deadline),
        values.ticked(time=build.committed + 86_400 if build.committed else build.deadline),
        *late_words(build),
        *[values.ticked(time=max(build.wake_at, build.committed + 86_400))] * (4 * (build.committed > 0)),
        *[values.order_failed(time=build.updated + 1, order=order, attempt=build.attempt)]
        * (6 * (build.committed > 0)),
        *[values.ticked(time=build.withdrawing), values.ticked(time=build.wake_at)] * (4 * (build.withdrawing > 0)),
    ]


def hands_off(build: Build) -> list[Event]:
    """What ends a hold."""
    if not build.held:
        return []
    stop = stopped(build, claim=None)
    return [values.cancel_requested(time=build.updated + 1), stop, values.ticked(time=build.deadline)]


def turn(build: Build, **found: object) -> Event:
    """Its turn has come."""
    return values.turn_came(time=build.updated + 1, image=(build.plan or values.plan()).image, **found)


def late_words(build: Build) -> list[Event]:
    """What shows just before a publication is given up that time was looked at all the while."""
    if not build.committed:
        return []
    where = {"attempt": build.attempt, "step": 0, "sequence": build.orders}
    return [values.reported(time=build.committed + 86_000, kind=STEP_FINISHED, **where)] * 2


def in_use(build: Build) -> str:
    """The phase of the VM in use, or of the last one."""
    return phase_of(build) or BUILD


def said(build: Build, kind: str, **more: object) -> Event:
    where = {**current(build), "step": 0, "sequence": build.orders, **more}
    return values.reported(time=build.updated + 1, **{"kind": kind, **where})


def stopped(build: Build, **more: object) -> MachineStopped:
    return values.machine_stopped(time=build.updated + 1, **current(build), **more)


def started(build: Build) -> Event:
    return values.machine_started(time=build.updated + 1, **current(build))


def current(build: Build) -> dict[str, Any]:
    """What an event of the machine in use says of that; of several, now the one and now the other."""
    where = {"attempt": build.attempt, "phase": phase_of(build) or BUILD}
    if build.state is not State.VERIFYING or not build.verifiers:
        return where
    left = [each for each in build.verifiers if not each.passed]
    return {**where, "machine": left[build.orders % len(left)].name}


@dataclass(frozen=True)
class Story:
    """A request and everything that the build is told after it."""

    beginning: BuildRequested | BuildRejected
    events: tuple[Event, ...]

    def end(self) -> Build:
        build = begin(self.beginning).build
        for event in self.events:
            build, _orders = advance(build, event)
        return build


def tell(beginning: BuildRequested | BuildRejected, garbage: Sequence[Event], seed: int, length: int) -> Story:
    """Most events lead the build on, some may happen to it, and some are anything."""
    draw = random.Random(seed)
    build, told = begin(beginning).build, []
    for source in draw.choices("apg", weights=(5, 2, 1 if garbage else 0), k=length):
        chosen = awaited(build) if source == "a" else possible(build) if source == "p" else garbage
        event = draw.choice(chosen)
        told.append(event)
        build, _orders = advance(build, event)
    return Story(beginning, tuple(told))


stories = st.builds(tell, beginnings, st.lists(events, max_size=12), st.integers(0, 2**32), st.integers(0, 25))


@given(stories)
def test_the_table_is_never_left(story: Story) -> None:
    build = begin(story.beginning).build
    for event in story.events:
        decision = decide(build, event)
        assert_step(build, event, decision)
        build = decision.build


RARE = (
    *(5, 11, 15, 20, 24, 27, 46, 53, 90, 142, 221, 234, 446, 482, 610),
    *(772, 779, 801, 814, 858, 887, 922),
)
"""Seeds of stories that come to what few do; all others are tried where these do not suffice."""


@pytest.mark.slow
def test_the_stories_reach_every_rule() -> None:
    """Or the properties here would hold for nothing."""
    whole = replace(values.plan(), verify_steps=values.plan().steps)
    image = replace(whole.image, deprecate_old=Deprecation())
    reached: set[Rule] = set()
    for seed in (*RARE, *reversed(range(1100))):
        if len(reached) == len(RULES):
            break
        plan = (values.plan(), whole, replace(whole, image=image), values.growing_plan())[seed % 4]
        if seed % 3 == 0 and plan.verify_steps is not None:
            plan = replace(plan, verify_machines=SEVERAL)
        if seed % 7 == 0:
            plan = replace(plan, exporter=plan.source)
        if seed >= 800:
            plan = replace(plan, machine=replace(plan.machine, hold=600.0))
        elif seed >= 600:
            plan = replace(plan, keep_disk=7200.0)
        story = tell(values.requested(plan=plan, queued=seed % 5 == 0), values.every_event(), seed, length=40)
        build = begin(story.beginning).build
        for event in story.events:
            reached.update(islice((rule for rule in RULES if holds(rule, build, event)), 1))
            build, _orders = advance(build, event)
    assert [(rule.on.__name__, rule.when.__name__) for rule in RULES if rule not in reached] == []


def holds(rule: Rule, build: Build, event: Event) -> bool:
    same = event.build_id == build.id and not foreign_reason(build, event)
    seen = subject(build, event)[1]
    return same and build.state in rule.at and isinstance(event, rule.on) and rule.when(seen, event)


def assert_step(before: Build, event: Event, decision: Decision) -> None:
    after = decision.build
    if decision.ignored:
        assert (after, decision.orders) == (before, ())
        return
    rules = [rule for rule in RULES if before.state in rule.at and isinstance(event, rule.on)]
    assert event.build_id == before.id
    assert any(after.state == (rule.to or before.state) for rule in rules)
    assert before.outcome in (None, after.outcome), "an outcome is decided once"
    assert (after.outcome is not None) == (after.state in (State.CLEANING, *ANNOUNCED))
    assert 1 <= before.attempt <= after.attempt <= (after.plan.attempts if after.plan else 1)
    assert after.updated >= before.updated
    assert after.outbox == (*before.outbox, *decision.orders)
    assert after.orders == before.orders + len(decision.orders)
    if before.state is State.VERIFYING and after.state is State.PUBLISHING:
        assert isinstance(event, MachineStopped), "the VM was seen to stop"
        seen = as_seen_by(before, event.machine)
        assert seen.claimed, "it has said that it is done"
        assert seen.zone, "it was seen to run"
        assert all(each.passed for each in after.verifiers), "and so were all others"
    for order in decision.orders:
        assert order.attempt == after.attempt
        assert order.kind in awaited_orders(after)
        if after.plan is not None and not (order.kind == "label_image" and after.outcome):  # which makes nothing then
            made = resources.of_order(after.plan, order.kind, order.attempt)
            assert all(resources.is_in(entry, after.ledger) for entry in made), "written down before it is made"
    if before.state not in (State.CLEANING, State.HELD):
        assert {key(entry) for entry in before.ledger} <= {key(entry) for entry in after.ledger}, (
            "only clean-up strikes"
        )
    if after.finished:
        assert all(entry.keep and entry.kind == "image" for entry in after.ledger)
    if after.state is State.HELD and before.state is not State.HELD:
        image = [("image", True)] if after.kept_until else []
        assert sorted((entry.kind, entry.keep) for entry in after.ledger) == [("disk", True), *image]
    if before.ended:
        assert "announce" not in {order.kind for order in decision.orders}, "it is announced once"
    if isinstance(event, Ticked):
        assert event.time >= before.wake_at or before.verifiers, "a tick before wake_at has nothing to say"


def key(entry: LedgerEntry) -> tuple[str, str]:
    return entry.kind, entry.name


@given(stories)
def test_no_state_is_stuck(story: Story) -> None:
    """Once the deadline has passed and what there was is gone, ticks alone lead to the end.

    But for a publication that is committed: its order is given again until it is answered.
    """
    build = story.end()
    outcome, time = build.outcome, max(build.deadline, build.committed + 86_400, build.withdrawing, values.NOON) + 1
    if not build.ended:
        if build.committed and build.state is State.PUBLISHING:
            build, _orders = advance(build, values.image_published(time=time))
        build, _orders = advance(build, values.ticked(time=time))
        assert build.state is State.CLEANING
        assert outcome in (None, build.outcome)
        build, _orders = advance(build, cleaned(build, time))
    if not build.finished:
        assert build.state is State.HELD
        time = max(time, build.disk_until)
        build, _orders = advance(build, values.ticked(time=time))
        build, _orders = advance(build, cleaned(build, time))
    assert build.finished
    assert build.outcome is not None
    assert all(entry.keep for entry in build.ledger)


@given(stories)
def test_an_order_without_an_answer_is_given_again(story: Story) -> None:
    """From every state, ticks alone give some order or move the build: no wake-up is lost."""
    build = story.end()
    if build.finished:
        return
    began = build.deadline if build.state is State.QUEUED else build.updated  # until its turn, it waits for others
    for minute in range(LONG * 60):
        decision = decide(build, values.ticked(time=max(began, values.NOON) + 60.0 * minute))
        if decision.orders:
            return
    raise AssertionError(f"{build.state} waits for ever")


@given(stories)
def test_a_cancelled_build_never_publishes(story: Story) -> None:
    build, _orders = advance(begin(story.beginning).build, values.cancel_requested())
    for event in story.events:
        build, orders = advance(build, event)
        assert {order.kind for order in orders} <= {"clean_up", "announce"}
    assert build.outcome in (Outcome.CANCELLED, Outcome.UNCHANGED, Outcome.FAILED)


@given(stories)
def test_a_held_build_can_only_fail(story: Story) -> None:
    build = begin(story.beginning).build
    for event in story.events:
        held = build.held
        build, _orders = advance(build, event)
        assert not held or build.outcome in (None, Outcome.FAILED)
        assert not held or build.state not in (State.EXPORTING, State.PUBLISHING)


@settings(max_examples=50)
@given(stories)
def test_every_build_survives_its_store(story: Story) -> None:
    build = story.end()
    finite = replace(
        build, steps=(), verify_steps=(), verifiers=()
    )  # a report's NaN is refused on the wire; here it went round it
    assert read_build(to_json(finite)) == finite
