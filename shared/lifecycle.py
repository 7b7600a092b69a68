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

from provisioner.protocol import INVENTORY, REBOOTING, SLOWEST_MOVE

from . import resources
from .build import Build, LedgerEntry, Outcome, State
from .events import (
    BuildRejected,
    BuildRequested,
    CancelRequested,
    CleanedUp,
    DiskGrown,
    Event,
    ImageExported,
    ImageLabelled,
    ImagePublished,
    ImagesDeprecated,
    MachineStarted,
    MachineStopped,
    OrderFailed,
    Reported,
    Ticked,
)
from .keys import BY_MACHINE
from .lifecycle_guards import (
    RETIRING_SECONDS,
    always,
    cannot_retire,
    claims_first,
    goes_on,
    has_ended,
    has_machine,
    has_retired_for_long,
    is_clean,
    is_committed,
    is_current,
    is_current_build_machine,
    is_current_claimed,
    is_of_build,
    is_open,
    is_overdue,
    is_overdue_machine,
    is_overdue_retiring,
    is_retiring,
    is_silent,
    is_swept,
    is_verified,
    may_go_on,
    past_deadline,
    says_completed,
    says_failed,
    says_too_much,
    tells_of_step,
    wants_deprecation,
    wants_disk,
    wants_verification,
)
from .orders import Order, OrderKind
from .plan import Plan
from .reasons import (
    cancel_reason,
    deadline_reason,
    kept_reason,
    order_reason,
    reported_reason,
    retiring_warning,
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

BESIDE: Mapping[State, OrderKind] = {State.PROVISIONING: "grow_disk", State.CLEANING: "deprecate_images"}
"""What else is asked for within a state, when something has come up."""

PATIENCE = 900.0  # seconds until an order without an answer is given again: longer than any redelivery takes
CLEANING_PATIENCE = 60.0  # clean-up is cheap to repeat, and what it deletes costs money
KEPT_SECONDS = 7 * 86_400.0  # for so long an image that could not be published waits for a new build
WARNINGS = 20  # of one build, at most
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
    gives: tuple[OrderKind, ...] = ()  # orders beside, and before, the one of the state that is entered


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
    if isinstance(event, Reported) and (refusal := says_too_much(build, event)):
        return Decision(build, ignored=refusal)
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
    if event.taken_up is not None:
        return _enter(replace(blank, image=event.taken_up, taken_up=True), State.EXPORTING, event)
    return _enter(blank, State.PREPARING, event)


def _blank(event: BuildRequested | BuildRejected, name: str, request: str, deadline: float, plan: Plan | None) -> Build:
    return Build(
        id=event.build_id,
        name=name,
        request=request,
        plan=plan,
        result=event.result,
        workflow=event.workflow,
        keys=BY_MACHINE,
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
        after = _end(after, rule.outcome, rule.why(build, event) if rule.why else "")
    given: list[Order] = []
    for kind in rule.gives:
        after, order = _give(after, kind, event)
        given.append(order)
    if rule.to is not None:
        entered = _enter(after, rule.to, event)
        after = entered.build
        given += entered.orders
    return Decision(after, tuple(given))


def _end(build: Build, outcome: Outcome, reason: str) -> Build:
    """Decide the outcome, and whether the image stays.

    It does when it is published. One that was fit to be published waits for a new build of the same content, unless a
    person has ended this one: hazard 14.
    """
    waits = build.state is State.PUBLISHING and outcome in (Outcome.FAILED, Outcome.TIMED_OUT)
    after = replace(build, outcome=outcome, kept_until=build.updated + KEPT_SECONDS if waits else 0.0)
    keep = waits or outcome is Outcome.SUCCEEDED
    ledger = tuple(replace(entry, keep=keep and entry.kind == "image") for entry in build.ledger)
    return replace(after, ledger=ledger, reason=reason + kept_reason(after))


def _enter(build: Build, state: State, event: Event) -> Decision:
    quiet = build.quiet if state in (State.PREPARING, State.PROVISIONING) else 0.0
    after = replace(build, state=state, last_seen=event.time, quiet=quiet)
    if state in (State.PREPARING, State.VERIFYING):  # a new VM: nobody knows yet where it will run
        after = replace(after, zone="", claimed=False, reports=0, told_contents=False, disk_asked=0.0, disk_grown=False)
    after = _wake(_write_ledger(after), event)
    kind = ORDER_OF.get(state)
    if kind is None:
        return Decision(after)
    after, order = _give(after, kind, event)
    return Decision(after, (order,))


def _give(build: Build, kind: OrderKind, event: Event) -> tuple[Build, Order]:
    order = Order(build.id, build.orders + 1, kind, build.attempt)
    after = replace(build, orders=order.number, outbox=(*build.outbox, order))
    if kind == "clean_up":
        after = replace(after, cleaning=order.number)
    return _wake(after, event), order


def _wake(build: Build, event: Event) -> Build:
    """Set when a tick next looks: never later than a tick has something to say."""
    if build.outcome is not None:
        stuck = (event.time - build.deadline) / CLEANING_EASE
        again = event.time + max(CLEANING_PATIENCE, stuck)
        given_up = build.committed + RETIRING_SECONDS if build.retiring else again
        return replace(build, wake_at=min(again, given_up))
    patience = build.plan.silence if build.plan is not None and has_machine(build) else PATIENCE
    return replace(
        build, wake_at=event.time + patience if build.committed else min(event.time + patience, build.deadline)
    )


def _write_ledger(build: Build) -> Build:
    """Write down what the state's order may make, before anybody makes it."""
    kind = ORDER_OF.get(build.state)
    if build.plan is None or kind is None:
        return build
    return _owe(build, resources.of_order(build.plan, kind, build.attempt))


def _owe(build: Build, made: tuple[LedgerEntry, ...]) -> Build:
    new = tuple(entry for entry in made if not resources.is_in(entry, build.ledger))
    return replace(build, ledger=(*build.ledger, *new))


def wanted(build: Build) -> tuple[OrderKind, ...]:
    """What a build in its state may be waiting for: any other order is one that it has moved past."""
    return tuple(kind for kind in (ORDER_OF.get(build.state), BESIDE.get(build.state)) if kind is not None)


def is_our_order(build: Build, event: OrderFailed) -> bool:
    """The order is one that this state gave in this attempt."""
    return event.order in wanted(build) and event.attempt == build.attempt


# --- effects: what else changes


def take_report(build: Build, event: Reported) -> Build:
    """Note a sign of life, what it says of a step, and for how long a reboot will not let it be heard."""
    announced = event.report.seconds if event.report.kind == REBOOTING else None
    heard = replace(
        take_sign(build, event),
        quiet=announced or 0.0,
        reports=build.reports + 1,
        told_contents=build.told_contents or event.report.kind == INVENTORY,
    )
    return note_report(heard, event.report)


def ask_for_disk(build: Build, event: Reported) -> Build:
    """Note a sign of life, and that the larger disk is ordered: for a minute it is not ordered again."""
    return replace(take_report(build, event), disk_asked=event.time)


def note_disk(build: Build, event: DiskGrown) -> Build:
    """Note a sign of life, and that the larger disk is there."""
    return replace(take_sign(build, event), disk_grown=True)


def note_claim(build: Build, event: Reported) -> Build:
    """Note what the verifying VM claims, as of any report: it counts when the VM has been seen to run and to stop."""
    return replace(take_report(build, event), claimed=True)


def take_sign(build: Build, event: Event) -> Build:
    """Note a sign of life."""
    return replace(build, last_seen=max(build.last_seen, event.time))


def take_machine(build: Build, event: MachineStarted) -> Build:
    """Note where the VM runs; its silence counts from now on."""
    placed = replace(take_sign(build, event), zone=event.zone)
    return _wake(placed, event) if has_machine(placed) else placed


def owe_machine(build: Build, event: MachineStarted) -> Build:
    """Write the VM into the ledger again: a clean-up may have struck it just before it was made."""
    return _owe(build, resources.of_machine(build.plan, event.attempt, event.phase)) if build.plan else build


def take_image(build: Build, event: ImageExported) -> Build:
    """Note the image."""
    return replace(build, image=event.image)


def commit(build: Build, event: ImageLabelled) -> Build:
    """Commit the publication: what it shows is ready, and nothing else can end the build any more."""
    return replace(build, committed=event.time, files=event.files)


def retire(build: Build, _event: ImagePublished) -> Build:
    """Note that the family's older images have to be deprecated."""
    return replace(build, retiring=True)


def note_retired(build: Build, _event: Event) -> Build:
    """Note that nothing is left to do about the family's older images."""
    return replace(build, retiring=False)


def warn(build: Build, event: OrderFailed) -> Build:
    """Keep the refusal as a warning, once; it is tried again."""
    text = retiring_warning(event)
    return build if text in build.warnings else replace(build, warnings=(*build.warnings, text)[-WARNINGS:])


def next_attempt(build: Build, _event: MachineStopped) -> Build:
    """Count the next attempt, whose VM may have partitions to move before it can say anything."""
    moving = build.plan is not None and build.plan.layout is not None and build.state is not State.VERIFYING
    size = build.plan.machine.disk_size_gb << 30 if build.plan is not None else 0
    return replace(build, attempt=build.attempt + 1, quiet=size / SLOWEST_MOVE if moving else 0.0)


def keep_remaining(build: Build, event: CleanedUp) -> Build:
    """Strike from the ledger what is gone."""
    kept = tuple(entry for entry in build.ledger if entry.keep or resources.is_in(entry, event.remaining))
    return _wake(replace(build, ledger=kept), event)


S = State
RULES: tuple[Rule, ...] = (
    # ways out of the main path that time and people open
    Rule(MAIN_PATH, CancelRequested, is_open, S.CLEANING, Outcome.CANCELLED, cancel_reason),
    Rule(MAIN_PATH, Ticked, past_deadline, S.CLEANING, Outcome.TIMED_OUT, deadline_reason),
    Rule((S.PROVISIONING, S.VERIFYING), Ticked, is_silent, S.CLEANING, Outcome.FAILED, silence_reason),
    # the build VM
    Rule(MACHINE_AT_WORK, Reported, says_completed, S.EXPORTING, then=take_report),
    Rule(MACHINE_AT_WORK, Reported, says_failed, S.CLEANING, Outcome.FAILED, reported_reason, take_report),
    Rule(MACHINE_AT_WORK, Reported, wants_disk, S.PROVISIONING, then=ask_for_disk, gives=("grow_disk",)),
    Rule((S.PREPARING,), Reported, goes_on, S.PROVISIONING, then=take_report),
    Rule((S.PROVISIONING, S.VERIFYING), Reported, goes_on, then=take_report),
    Rule((S.PREPARING,), MachineStarted, is_current, S.PROVISIONING, then=take_machine),
    Rule((S.PROVISIONING, S.EXPORTING), MachineStarted, is_current_build_machine, then=take_machine),
    Rule((S.PROVISIONING,), DiskGrown, is_current, then=note_disk),
    Rule(MACHINE_AT_WORK, MachineStopped, may_go_on, S.PREPARING, then=next_attempt),
    Rule(MACHINE_AT_WORK, MachineStopped, has_ended, S.CLEANING, Outcome.FAILED, stopped_reason),
    # the image
    Rule((S.EXPORTING,), ImageExported, wants_verification, S.VERIFYING, then=take_image),
    Rule((S.EXPORTING,), ImageExported, always, S.PUBLISHING, then=take_image),
    # the verifying VM
    Rule((S.VERIFYING,), Reported, claims_first, then=note_claim, gives=("verify_image",)),
    Rule((S.VERIFYING,), Reported, says_failed, S.CLEANING, Outcome.FAILED, reported_reason, take_report),
    Rule((S.VERIFYING,), MachineStarted, is_current_claimed, then=take_machine, gives=("verify_image",)),
    Rule((S.VERIFYING,), MachineStarted, is_current, then=take_machine),
    Rule((S.VERIFYING,), MachineStopped, is_verified, S.PUBLISHING),
    Rule((S.VERIFYING,), MachineStopped, may_go_on, S.VERIFYING, then=next_attempt),
    Rule((S.VERIFYING,), MachineStopped, has_ended, S.CLEANING, Outcome.FAILED, stopped_reason),
    # publication
    Rule((S.PUBLISHING,), ImageLabelled, is_open, then=commit, gives=("label_image",)),
    Rule(
        (S.PUBLISHING,),
        ImagePublished,
        wants_deprecation,
        S.CLEANING,
        Outcome.SUCCEEDED,
        then=retire,
        gives=("deprecate_images",),
    ),
    Rule((S.PUBLISHING,), ImagePublished, is_committed, S.CLEANING, Outcome.SUCCEEDED),
    # clean-up
    Rule((S.CLEANING,), ImagesDeprecated, is_swept, then=note_retired, gives=("clean_up",)),
    Rule((S.CLEANING,), ImagesDeprecated, is_retiring, then=note_retired),
    Rule((S.CLEANING,), OrderFailed, cannot_retire, then=warn),
    Rule((S.CLEANING,), CleanedUp, is_clean, S.FINISHED, then=keep_remaining),
    Rule((S.CLEANING,), CleanedUp, always, then=keep_remaining),
    Rule((S.CLEANING,), MachineStarted, is_of_build, then=owe_machine, gives=("clean_up",)),
    # whatever the state
    Rule(MAIN_PATH, OrderFailed, is_our_order, S.CLEANING, Outcome.FAILED, order_reason),
    Rule((S.EXPORTING, S.VERIFYING, S.PUBLISHING, S.CLEANING), Reported, tells_of_step, then=take_report),
    Rule((S.PREPARING,), Ticked, is_overdue, gives=("create_resources",)),
    Rule((S.EXPORTING,), Ticked, is_overdue, gives=("export_image",)),
    Rule((S.VERIFYING,), Ticked, is_overdue_machine, gives=("verify_image",)),
    Rule((S.PUBLISHING,), Ticked, is_overdue, gives=("label_image",)),
    Rule((S.CLEANING,), Ticked, has_retired_for_long, then=note_retired, gives=("clean_up",)),
    Rule((S.CLEANING,), Ticked, is_overdue_retiring, gives=("deprecate_images", "clean_up")),
    Rule((S.CLEANING,), Ticked, is_overdue, gives=("clean_up",)),
)
"""First match wins."""
