"""What every event means for a build: all transitions, as data, in one table. Nothing else decides a state.

advance() is pure and total. It reads no clock (an event brings the server's time) and never raises: what does not
apply - late, duplicate, foreign, of an earlier attempt - is ignored with a reason. Entering a state gives that state's
order and writes into the ledger what the order may make; a tick past `wake_at` gives the order again. The diagram and
the tables in docs/lifecycle.md are made from RULES, and a test holds them to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from provisioner.protocol import BUILD, COMPLETED, FAILED, PHASES, STEP_FAILED, STEP_FINISHED, STEP_STARTED, VERIFY

from . import resources
from .build import Build, LedgerEntry, Outcome, State
from .events import (
    BuildRejected,
    BuildRequested,
    CancelRequested,
    CleanedUp,
    Event,
    ImageExported,
    ImageLabelled,
    ImagesDeprecated,
    MachineStarted,
    MachineStopped,
    OrderFailed,
    Reported,
    Ticked,
)
from .orders import Order, OrderKind
from .plan import Plan
from .reasons import (
    cancel_reason,
    deadline_reason,
    order_reason,
    reported_reason,
    silence_reason,
    stopped_reason,
)
from .steps import note_report, waiting

ORDER_OF: Mapping[State, OrderKind] = {
    State.PREPARING: "create_resources",
    State.EXPORTING: "export_image",
    State.VERIFYING: "verify_image",
    State.PUBLISHING: "label_image",
    State.CLEANING: "clean_up",
    State.FINISHED: "announce",
}
"""What a state asks the world to do; provisioning waits for the VM alone."""

PATIENCE = 900.0  # seconds until an order without an answer is given again: longer than any redelivery takes
CLEANING_PATIENCE = 60.0  # clean-up is cheap to repeat, and what it deletes costs money
CLEANING_EASE = 24.0  # a clean-up that is stuck is repeated ever more rarely: after a day once an hour

Guard: TypeAlias = Callable[[Build, Any], bool]
Effect: TypeAlias = Callable[[Build, Any], Build]
Reason: TypeAlias = Callable[[Build, Any], str]


@dataclass(frozen=True)
class Decision:
    """What advance() decided: the build as it is now, the orders to publish; or why nothing changed."""

    build: Build
    orders: tuple[Order, ...] = ()
    ignored: str = ""


@dataclass(frozen=True)
class Rule:
    """One row of the table: in these states, on this event, when this holds - go there."""

    at: tuple[State, ...]
    on: type
    when: Guard
    to: State | None = None  # None: stay
    outcome: Outcome | None = None
    why: Reason | None = None  # the reason that goes with the outcome
    then: Effect | None = None  # what else changes in the build
    gives: OrderKind | None = None  # an order beside the one of the state that is entered


MACHINE_AT_WORK = (State.PREPARING, State.PROVISIONING)
MAIN_PATH = (State.PREPARING, State.PROVISIONING, State.EXPORTING, State.VERIFYING, State.PUBLISHING)


def advance(build: Build, event: Event) -> tuple[Build, tuple[Order, ...]]:
    """Give the build after the event, and the orders it leads to. Pure, total."""
    decision = decide(build, event)
    return decision.build, decision.orders


def decide(build: Build, event: Event) -> Decision:
    """Like advance(), and say why when nothing changes."""
    if event.build_id != build.id:
        return Decision(build, ignored=f"it is an event of build {event.build_id}")
    for rule in RULES:
        if build.state in rule.at and isinstance(event, rule.on) and rule.when(build, event):
            return _apply(rule, build, event)
    return Decision(build, ignored=f"{event.kind} changes nothing in a build that is {build.state}")


def begin(event: BuildRequested | BuildRejected) -> Decision:
    """Give the new build that a request leads to, and its first orders."""
    if isinstance(event, BuildRejected):
        blank = _blank(event, event.name, event.request, event.time, None)
        return _enter(replace(blank, outcome=Outcome.FAILED, reason=event.reason), State.CLEANING, event)
    plan = event.plan
    blank = _blank(event, plan.name, plan.request, event.time + plan.timeout, plan)
    if event.unchanged is not None:
        reason = f"image {event.unchanged.name} has this content already"
        same = replace(blank, outcome=Outcome.UNCHANGED, reason=reason, image=event.unchanged)
        return _enter(same, State.CLEANING, event)
    return _enter(blank, State.PREPARING, event)


def _blank(event: BuildRequested | BuildRejected, name: str, request: str, deadline: float, plan: Plan | None) -> Build:
    return Build(
        id=event.build_id,
        name=name,
        request=request,
        plan=plan,
        result=event.result,
        state=State.PREPARING,
        created=event.time,
        updated=event.time,
        deadline=deadline,
        wake_at=event.time + PATIENCE,
        steps=waiting(plan.steps) if plan else (),
        verify_steps=waiting(plan.verify_steps or ()) if plan else (),
    )


def _apply(rule: Rule, build: Build, event: Event) -> Decision:
    after = replace(build, updated=max(build.updated, event.time))
    if rule.then is not None:
        after = rule.then(after, event)
    if rule.outcome is not None:
        after = replace(after, outcome=rule.outcome, reason=rule.why(build, event) if rule.why else "")
    given: tuple[Order, ...] = ()
    if rule.to is not None:
        entered = _enter(after, rule.to, event)
        after, given = entered.build, entered.orders
    if rule.gives is not None:
        after, order = _give(after, rule.gives, event)
        given = (*given, order)
    return Decision(after, given)


def _enter(build: Build, state: State, event: Event) -> Decision:
    after = replace(build, state=state, last_seen=event.time)
    if state in (State.PREPARING, State.VERIFYING):  # a new VM: nobody knows yet where it will run
        after = replace(after, zone="")
    after = _wake(_write_ledger(after), event)
    kind = ORDER_OF.get(state)
    if kind is None:
        return Decision(after)
    after, order = _give(after, kind, event)
    return Decision(after, (order,))


def _give(build: Build, kind: OrderKind, event: Event) -> tuple[Build, Order]:
    order = Order(build.id, build.orders + 1, kind, build.attempt)
    after = replace(build, orders=order.number, outbox=(*build.outbox, order))
    return _wake(after, event), order


def _wake(build: Build, event: Event) -> Build:
    """Set when a tick next looks: never later than a tick has something to say."""
    if build.outcome is not None:
        stuck = (event.time - build.deadline) / CLEANING_EASE
        return replace(build, wake_at=event.time + max(CLEANING_PATIENCE, stuck))
    patience = build.plan.silence if build.plan is not None and has_machine(build) else PATIENCE
    return replace(build, wake_at=min(event.time + patience, build.deadline))


def _write_ledger(build: Build) -> Build:
    """Write down what the state's order may make, before anybody makes it."""
    if build.state is State.PUBLISHING:  # from here on the image is good: no later failure throws it away
        return replace(build, ledger=tuple(replace(e, keep=e.kind == "image") for e in build.ledger))
    kind = ORDER_OF.get(build.state)
    if build.plan is None or kind is None:
        return build
    return _owe(build, resources.of_order(build.plan, kind, build.attempt))


def _owe(build: Build, made: tuple[LedgerEntry, ...]) -> Build:
    new = tuple(entry for entry in made if not resources.is_in(entry, build.ledger))
    return replace(build, ledger=(*build.ledger, *new))


# --- guards: when a rule holds


def always(_build: Build, _event: Event) -> bool:
    """In any case."""
    return True


def phase_of(build: Build) -> str:
    """Which VM a build is with: the one that verifies from `verifying` on, else the one that builds."""
    return VERIFY if build.state is State.VERIFYING else BUILD


def has_machine(build: Build) -> bool:
    """A VM is at work: silence means something. In `verifying` only once a worker has made it."""
    return build.state is State.PROVISIONING or (build.state is State.VERIFYING and build.zone != "")


def is_current(build: Build, event: MachineStarted | MachineStopped) -> bool:
    """The VM is the one in use."""
    return event.attempt == build.attempt and event.phase == phase_of(build)


def is_current_build_machine(build: Build, event: MachineStarted) -> bool:
    """The VM is this attempt's building one."""
    return event.attempt == build.attempt and event.phase == BUILD


def is_of_build(build: Build, event: MachineStarted) -> bool:
    """The VM is one that this build has asked for."""
    return 1 <= event.attempt <= build.attempt and event.phase in PHASES


def speaks(build: Build, event: Reported) -> bool:
    """The report is of the VM in use."""
    return event.report.attempt == build.attempt and event.report.phase == phase_of(build)


def says_completed(build: Build, event: Reported) -> bool:
    """The VM in use says that its job is done."""
    return speaks(build, event) and event.report.kind == COMPLETED


def says_failed(build: Build, event: Reported) -> bool:
    """The VM in use says that its job cannot be done."""
    return speaks(build, event) and event.report.kind == FAILED


def goes_on(build: Build, event: Reported) -> bool:
    """The VM in use says that it is at work."""
    return speaks(build, event) and event.report.kind not in (COMPLETED, FAILED)


def tells_of_step(build: Build, event: Reported) -> bool:
    """A late word on a step of this attempt; of verification only once there was one."""
    report = event.report
    heard = report.phase == BUILD or build.state is not State.EXPORTING
    return heard and report.attempt == build.attempt and report.kind in (STEP_STARTED, STEP_FINISHED, STEP_FAILED)


def may_go_on(build: Build, event: MachineStopped) -> bool:
    """The VM in use was taken away, and the budget of attempts is not spent."""
    taken = event.how in ("preempted", "lost") and event.claim is None
    return is_current(build, event) and taken and build.plan is not None and build.attempt < build.plan.attempts


def has_ended(build: Build, event: MachineStopped) -> bool:
    """The VM in use ended without a last word that is still on its way."""
    return is_current(build, event) and event.claim is None


def wants_verification(build: Build, _event: Event) -> bool:
    """The spec has a verify section."""
    return build.plan is not None and build.plan.verify_steps is not None


def wants_deprecation(build: Build, _event: Event) -> bool:
    """The spec deprecates the family's older images."""
    return build.plan is not None and build.plan.image.deprecate_old is not None


def is_our_order(build: Build, event: OrderFailed) -> bool:
    """The order is one that this state gave in this attempt."""
    ours = event.order == ORDER_OF.get(build.state) or (
        build.state is State.PUBLISHING and event.order == "deprecate_images"
    )
    return ours and event.attempt == build.attempt


def is_clean(_build: Build, event: CleanedUp) -> bool:
    """Nothing remains but what is kept."""
    return not event.remaining


def past_deadline(build: Build, event: Event) -> bool:
    """The deadline has passed."""
    return event.time >= build.deadline


def is_silent(build: Build, event: Ticked) -> bool:
    """The VM in use has given no sign of life for too long, and none is on its way."""
    silent = build.plan is not None and event.time - build.last_seen >= build.plan.silence
    return silent and has_machine(build) and not event.heard


def is_overdue(build: Build, event: Event) -> bool:
    """The state's order has had no answer for too long."""
    return event.time >= build.wake_at


def is_overdue_machine(build: Build, event: Event) -> bool:
    """The order for the VM has had no answer for too long; a VM that is at work is left alone."""
    return is_overdue(build, event) and not has_machine(build)


# --- effects: what else changes


def take_report(build: Build, event: Reported) -> Build:
    """Note a sign of life, and what it says of a step."""
    seen = replace(build, last_seen=max(build.last_seen, event.time))
    return note_report(seen, event.report)


def take_machine(build: Build, event: MachineStarted) -> Build:
    """Note where the VM runs; its silence counts from now on."""
    placed = replace(build, zone=event.zone, last_seen=max(build.last_seen, event.time))
    return _wake(placed, event) if has_machine(placed) else placed


def owe_machine(build: Build, event: MachineStarted) -> Build:
    """Write the VM into the ledger again: a clean-up may have struck it just before it was made."""
    return _owe(build, resources.of_machine(build.plan, event.attempt, event.phase)) if build.plan else build


def take_image(build: Build, event: ImageExported) -> Build:
    """Note the image."""
    return replace(build, image=event.image)


def next_attempt(build: Build, _event: MachineStopped) -> Build:
    """Count the next attempt."""
    return replace(build, attempt=build.attempt + 1)


def keep_remaining(build: Build, event: CleanedUp) -> Build:
    """Strike from the ledger what is gone."""
    kept = tuple(entry for entry in build.ledger if entry.keep or resources.is_in(entry, event.remaining))
    return _wake(replace(build, ledger=kept), event)


S = State
RULES: tuple[Rule, ...] = (
    # ways out of the main path that time and people open
    Rule(MAIN_PATH, CancelRequested, always, S.CLEANING, Outcome.CANCELLED, cancel_reason),
    Rule(MAIN_PATH, Ticked, past_deadline, S.CLEANING, Outcome.TIMED_OUT, deadline_reason),
    Rule((S.PROVISIONING, S.VERIFYING), Ticked, is_silent, S.CLEANING, Outcome.FAILED, silence_reason),
    # the build VM
    Rule(MACHINE_AT_WORK, Reported, says_completed, S.EXPORTING, then=take_report),
    Rule(MACHINE_AT_WORK, Reported, says_failed, S.CLEANING, Outcome.FAILED, reported_reason, take_report),
    Rule((S.PREPARING,), Reported, goes_on, S.PROVISIONING, then=take_report),
    Rule((S.PROVISIONING, S.VERIFYING), Reported, goes_on, then=take_report),
    Rule((S.PREPARING,), MachineStarted, is_current, S.PROVISIONING, then=take_machine),
    Rule((S.PROVISIONING, S.EXPORTING), MachineStarted, is_current_build_machine, then=take_machine),
    Rule(MACHINE_AT_WORK, MachineStopped, may_go_on, S.PREPARING, then=next_attempt),
    Rule(MACHINE_AT_WORK, MachineStopped, has_ended, S.CLEANING, Outcome.FAILED, stopped_reason),
    # the image
    Rule((S.EXPORTING,), ImageExported, wants_verification, S.VERIFYING, then=take_image),
    Rule((S.EXPORTING,), ImageExported, always, S.PUBLISHING, then=take_image),
    # the verifying VM
    Rule((S.VERIFYING,), Reported, says_completed, S.PUBLISHING, then=take_report),
    Rule((S.VERIFYING,), Reported, says_failed, S.CLEANING, Outcome.FAILED, reported_reason, take_report),
    Rule((S.VERIFYING,), MachineStarted, is_current, then=take_machine),
    Rule((S.VERIFYING,), MachineStopped, may_go_on, S.VERIFYING, then=next_attempt),
    Rule((S.VERIFYING,), MachineStopped, has_ended, S.CLEANING, Outcome.FAILED, stopped_reason),
    # publication
    Rule((S.PUBLISHING,), ImageLabelled, wants_deprecation, gives="deprecate_images"),
    Rule((S.PUBLISHING,), ImageLabelled, always, S.CLEANING, Outcome.SUCCEEDED),
    Rule((S.PUBLISHING,), ImagesDeprecated, wants_deprecation, S.CLEANING, Outcome.SUCCEEDED),
    # clean-up
    Rule((S.CLEANING,), CleanedUp, is_clean, S.FINISHED, then=keep_remaining),
    Rule((S.CLEANING,), CleanedUp, always, then=keep_remaining),
    Rule((S.CLEANING,), MachineStarted, is_of_build, then=owe_machine, gives="clean_up"),
    # whatever the state
    Rule(MAIN_PATH, OrderFailed, is_our_order, S.CLEANING, Outcome.FAILED, order_reason),
    Rule((S.EXPORTING, S.VERIFYING, S.PUBLISHING, S.CLEANING), Reported, tells_of_step, then=take_report),
    Rule((S.PREPARING,), Ticked, is_overdue, gives="create_resources"),
    Rule((S.EXPORTING,), Ticked, is_overdue, gives="export_image"),
    Rule((S.VERIFYING,), Ticked, is_overdue_machine, gives="verify_image"),
    Rule((S.PUBLISHING,), Ticked, is_overdue, gives="label_image"),
    Rule((S.CLEANING,), Ticked, is_overdue, gives="clean_up"),
)
"""First match wins."""
