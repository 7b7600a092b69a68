"""The lifecycle of a build: all transitions as data, with their guards and effects. Nothing else decides.

The file is longer than others so that a change of the lifecycle is read and reviewed in one place.

advance() is pure and total. It reads no clock, since each event brings the server's time, and it never raises. An event
that does not apply (late, duplicate, foreign, of an earlier attempt) is ignored with a reason. Entering a state gives
the state's order, and enters in the ledger what that order may make. A tick past `wake_at` gives the order again.
docs/state-machine.md is generated from RULES and the docstrings of the functions that it names; a test compares both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from provisioner.protocol import (
    BUILD,
    COMPLETED,
    DISK_WANTED,
    EXPORT,
    FAILED,
    INVENTORY,
    PHASES,
    SCRIPTS,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    VERIFY,
)

from ..build import resources
from ..build.build import Build, LedgerEntry, Outcome, State
from ..build.events import (
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
    verifier_of,
)
from ..build.orders import Order, OrderKind, order_number
from .blank_build import blank_build
from .keeping import (
    keep_disk,
    keep_disk_for_retry,
    kept_seconds,
    lose_image,
    note_refusal,
    release_disk,
    release_image,
)
from .machine_in_use import (
    HOLDING,
    MACHINE_AT_WORK,
    ask_for_disk,
    has_machine,
    has_passed,
    has_written,
    is_current,
    next_attempt,
    note_claim,
    note_disk,
    phase_of,
    says_too_much,
    speaks,
    take_report,
    take_sign,
    with_new_machine,
)
from .reasons import (
    RETIRING_GIVEN_UP,
    cancel_reason,
    deadline_reason,
    held_reason,
    kept_reason,
    order_reason,
    publishing_reason,
    refused_reason,
    reported_reason,
    retiring_warning,
    silence_reason,
    stopped_reason,
    twin_reason,
    unchanged_reason,
    verifier_reason,
    with_warnings,
    withdrawal_warning,
)
from .verifiers import (
    as_seen_by,
    begin_verifiers,
    due,
    each_view,
    foreign_reason,
    put_back,
    shared_identity,
    with_verifier,
)

ORDER_OF: Mapping[State, OrderKind] = {
    State.PREPARING: "create_resources",
    State.EXPORTING: "export_image",
    State.VERIFYING: "verify_image",
    State.PUBLISHING: "label_image",
    State.CLEANING: "clean_up",
    State.HELD: "announce",
    State.FINISHED: "announce",
}
"""The order of each state. `queued` waits for other builds, `provisioning` for the VM. A build is announced once."""

BESIDE: Mapping[State, tuple[OrderKind, ...]] = {
    State.PROVISIONING: ("grow_disk",),
    State.PUBLISHING: ("clean_up",),  # of the VMs and their disks alone, when a publication takes long
    State.CLEANING: ("deprecate_images", "label_image"),  # the latter to take back what a failed publication has shown
    State.HELD: ("clean_up",),  # once the time is over of what is kept
}
"""The orders that may be given within a state, beside its own."""

PATIENCE = 900.0  # seconds until an order without an answer is given again: longer than any redelivery takes
CLEANING_PATIENCE = 60.0  # clean-up is cheap to repeat, and what it deletes costs money
QUEUE_SECONDS = 7 * 86_400.0  # for so long a build waits for its turn
WITHDRAWING_SECONDS = 86_400.0  # for so long it is tried to take back what a failed publication has shown
CLEANING_EASE = 24.0  # a clean-up that is stuck is repeated ever more rarely: after a day once an hour
DISK_SECONDS = 60.0  # after an order for a larger disk, for so long no other one is given
RETIRING_SECONDS = 86_400.0  # after the commit: for so long a refused deprecation is tried again
PUBLISHING_SECONDS = 86_400.0  # after the commit: for so long what does not pass is taken for something that may
ASLEEP_SECONDS = 3600.0  # after so long without a change there was no one to try: this machine was off, say

Guard: TypeAlias = Callable[[Build, Any], bool]
Effect: TypeAlias = Callable[[Build, Any], Build]
Reason: TypeAlias = Callable[[Build, Any], str]


@dataclass(frozen=True)
class Decision:
    """The build after an event and the orders to publish, or why nothing changed."""

    build: Build
    orders: tuple[Order, ...] = ()
    ignored: str = ""


@dataclass(frozen=True)
class Rule:
    """One row of the table: in these states, on this event, if the guard holds, enter that state."""

    at: tuple[State, ...]
    on: type
    when: Guard
    to: State | None = None  # None: stay
    outcome: Outcome | None = None
    why: Reason | None = None  # the reason that goes with the outcome
    then: Effect | None = None  # what else changes in the build
    gives: tuple[OrderKind, ...] = ()  # orders beside, and before, the one of the state that is entered


MAIN_PATH = (State.QUEUED, State.PREPARING, State.PROVISIONING, State.EXPORTING, State.VERIFYING, State.PUBLISHING)


def advance(build: Build, event: Event) -> tuple[Build, tuple[Order, ...]]:
    """Return the build after the event, and the orders that it leads to. Pure and total."""
    decision = decide(build, event)
    return decision.build, decision.orders


def decide(build: Build, event: Event) -> Decision:
    """Return what advance() does, or why nothing changes."""
    if event.build_id != build.id:
        return Decision(build, ignored=f"it is an event of build {event.build_id}")
    if foreign := foreign_reason(build, event):
        return Decision(build, ignored=foreign)
    machine, seen = subject(build, event)
    if isinstance(event, Reported) and (refusal := says_too_much(seen, event)):
        return Decision(build, ignored=refusal)
    for rule in RULES:
        if build.state in rule.at and isinstance(event, rule.on) and rule.when(seen, event):
            return _apply(rule, build, event, machine)
    return Decision(build, ignored=f"{event.kind} changes nothing in a build that is {build.state}")


def subject(build: Build, event: Event) -> tuple[str, Build]:
    """Return which verifier an event is about, and the build as that sees it; "" and the build for other events.

    Time is about the first verifier that is silent, or past its own deadline.
    """
    name = verifier_of(event)
    if name:
        return name, as_seen_by(build, name)
    if not isinstance(event, Ticked) or not build.verifiers:
        return "", build
    for name, seen in each_view(build):
        if is_silent(seen, event) or (seen.deadline < build.deadline and event.time >= seen.deadline):
            return name, seen
    return "", build


def begin(event: BuildRequested | BuildRejected) -> Decision:
    """Return the new build of a request, and its first orders."""
    if isinstance(event, BuildRejected):
        blank = blank_build(event, event.name, event.request, event.time, None)
        return _enter(replace(blank, outcome=Outcome.FAILED, reason=event.reason), State.CLEANING, event)
    plan = event.plan
    blank = blank_build(event, plan.name, plan.request, event.time + plan.timeout, plan)
    if event.unchanged is not None:
        reason = unchanged_reason(blank, event)
        same = replace(blank, outcome=Outcome.UNCHANGED, reason=reason, image=event.unchanged)
        return _enter(same, State.CLEANING, event)
    if event.queued:
        return _enter(replace(blank, deadline=event.time + QUEUE_SECONDS), State.QUEUED, event)
    if event.disk is not None:
        disk = LedgerEntry("disk", event.disk.name, event.disk.project, event.disk.zone)
        taken = replace(blank, disk=event.disk, disk_whole=True, retry_of=event.retry_of)
        taken = replace(taken, steps=event.steps, identity=event.identity)
        return _enter(_owe(taken, (disk,)), State.EXPORTING, event)
    if event.taken_up is not None:
        taken = replace(blank, image=event.taken_up, taken_up=not event.verify_again)
        taken = replace(taken, retry_of=event.retry_of, steps=event.steps or blank.steps, identity=event.identity)
        return _enter(taken, State.EXPORTING, event)
    return _enter(_owe_replaced(blank, event), State.PREPARING, event)


def _apply(rule: Rule, build: Build, event: Event, machine: str) -> Decision:
    seen = as_seen_by(build, machine)
    after = replace(seen, updated=max(build.updated, event.time))
    if rule.then is not None:
        after = rule.then(after, event)
    after = put_back(build, after, machine)
    if rule.outcome is not None:
        after = _end(after, rule.outcome, verifier_reason(machine, rule.why(seen, event)) if rule.why else "")
    given: list[Order] = []
    for kind in rule.gives:
        after, orders = _give(after, kind, event)
        given += orders
    if rule.to is not None:
        entered = _enter(after, rule.to, event)
        after = entered.build
        given += entered.orders
    return Decision(after, tuple(given))


def _end(build: Build, outcome: Outcome, reason: str) -> Build:
    """Decide the outcome, and whether the image stays.

    It does when it is published. One that was not waits for a retry and, if it was fit to be published, for a new build
    of the same content, unless a person has ended this one: hazard 14. One that has failed its verification stays also
    where the plan wants to look at it.
    """
    seconds = kept_seconds(build, outcome)
    failed = build.state is State.VERIFYING and outcome is Outcome.FAILED
    unfit = failed and build.plan is not None and build.plan.keep_failed
    after = replace(build, outcome=outcome, unfit=unfit)
    if seconds:
        after = replace(after, kept_until=build.updated + seconds, failed_in=build.state)
    keep = seconds > 0 or outcome is Outcome.SUCCEEDED
    ledger = tuple(replace(entry, keep=keep and entry.kind == "image") for entry in build.ledger)
    after = replace(after, ledger=ledger, reason=reason + kept_reason(after))
    if build.state is State.EXPORTING:
        return keep_disk_for_retry(after)
    return keep_disk(after, phase_of(build) or BUILD) if build.state in HOLDING else after


def _enter(build: Build, state: State, event: Event) -> Decision:
    quiet = build.quiet if state in (State.PREPARING, State.PROVISIONING) else 0.0
    after = replace(build, state=state, last_seen=event.time, quiet=quiet, stays=build.stays_with(state, event.time))
    if phase_of(after) == EXPORT:
        after = with_new_machine(after)
    if state in (State.PREPARING, State.VERIFYING):
        after = begin_verifiers(replace(with_new_machine(after), told_contents=0), event.time)
    after = _wake(_write_ledger(after), event)
    kind = order_on_entering(state, build.state)
    return Decision(after) if kind is None else Decision(*_give(after, kind, event))


def order_on_entering(state: State, before: State) -> OrderKind | None:
    """Return the order that a build gets on the way from one state into another; a held one was announced before."""
    return None if before is State.HELD else ORDER_OF.get(state)


def _give(build: Build, kind: OrderKind, event: Event) -> tuple[Build, tuple[Order, ...]]:
    """Return the build with an order given, or one for each verifier that is to be made or waited for."""
    names = due(build, event) if kind == "verify_image" else ("",)
    numbers = range(build.orders + 1, build.orders + len(names) + 1)
    given = tuple(
        Order(build.id, number, kind, build.attempt, name) for number, name in zip(numbers, names, strict=True)
    )
    after = replace(build, orders=build.orders + len(given), outbox=(*build.outbox, *given))
    for name in names:
        after = with_verifier(after, name, ordered=True)
    if kind == "clean_up":
        after = replace(after, cleaning=after.orders)
    return _wake(after, event), given


def _wake(build: Build, event: Event) -> Build:
    """Set when a tick next looks: never later than a tick has something to say."""
    if build.state is State.HELD and all(entry.keep for entry in build.ledger):
        return replace(build, wake_at=build.disk_until)
    if build.outcome is not None:
        stuck = (event.time - max(build.deadline, build.disk_until)) / CLEANING_EASE
        again = event.time + max(CLEANING_PATIENCE, stuck)
        given_up = build.withdrawing or (build.committed + RETIRING_SECONDS if build.retiring else again)
        return replace(build, wake_at=min(again, given_up))
    if build.state is State.QUEUED:
        return replace(build, wake_at=build.deadline)
    patience = build.plan.silence if build.plan is not None and has_machine(build) else PATIENCE
    end = build.committed + PUBLISHING_SECONDS if build.committed else build.deadline
    late = build.committed > 0 and end <= event.time  # what was ordered just now gets its time all the same
    return replace(build, wake_at=event.time + patience if late else min(event.time + patience, end))


def _write_ledger(build: Build) -> Build:
    """Enter in the ledger what the state's order may make, before it is made."""
    kind = ORDER_OF.get(build.state)
    if build.plan is None or kind is None:
        return build
    return _owe(build, resources.of_order(build.plan, kind, build.attempt, rewrites=build.rewrites))


def _owe_replaced(build: Build, event: BuildRequested | TurnCame) -> Build:
    """Enter the image in the ledger whose name is taken over: it goes with this build, if not before."""
    replaced = build.plan is not None and event.replaces and event.taken_up is None
    return _owe(build, resources.of_image(build.plan)[:1]) if replaced and build.plan is not None else build


def _owe(build: Build, made: tuple[LedgerEntry, ...]) -> Build:
    new = tuple(entry for entry in made if not resources.is_in(entry, build.ledger))
    return replace(build, ledger=(*build.ledger, *new))


def awaited_orders(build: Build) -> tuple[OrderKind, ...]:
    """Return the orders that a build in its state may wait for; it has moved past all others."""
    own = ORDER_OF.get(build.state)
    return (*((own,) if own else ()), *BESIDE.get(build.state, ()))


# --- guards: when a rule holds. They read nothing but the build and the event


def always(_build: Build, _event: Event) -> bool:
    """Return True in any case."""
    return True


def is_refused(_build: Build, event: TurnCame) -> bool:
    """Return whether it cannot be built any more."""
    return event.refused != ""


def is_unchanged(_build: Build, event: TurnCame) -> bool:
    """Return whether an image of its content has been published, and the spec wants no other."""
    return event.unchanged is not None


def takes_up(_build: Build, event: TurnCame) -> bool:
    """Return whether an earlier build has left the very image, which only has to be published."""
    return event.taken_up is not None


def is_current_build_machine(build: Build, event: MachineStarted) -> bool:
    """Return whether the VM is this attempt's building one, and none that writes files has taken its place."""
    return event.attempt == build.attempt and event.phase == BUILD and phase_of(build) != EXPORT


def is_current_claimed(build: Build, event: MachineStarted) -> bool:
    """Return whether the VM is the one in use, and has already said that its job is done."""
    return is_current(build, event) and build.claimed


def is_verified(build: Build, event: MachineStopped) -> bool:
    """Return whether the VM in use was seen to run, said that its job is done, and has stopped."""
    return is_current(build, event) and build.claimed and build.zone != ""


def is_twin(build: Build, event: MachineStopped) -> bool:
    """Return whether that VM has a machine-id or an ssh host key that another VM of the build has, too."""
    return is_verified(build, event) and shared_identity(build, event.machine) != ""


def is_verified_by_one(build: Build, event: MachineStopped) -> bool:
    """Return whether that holds of one of several VMs, and others have still to pass."""
    left = any(not each.passed for each in build.verifiers if each.name != event.machine)
    return is_verified(build, event) and left


def is_of_build(build: Build, event: MachineStarted) -> bool:
    """Return whether the VM is one that this build has asked for."""
    return 1 <= event.attempt <= build.attempt and event.phase in PHASES


def is_held(build: Build, _event: Event) -> bool:
    """Return whether its machine is held: a hand may have touched it, and the build can only fail."""
    return build.held != ""


def is_held_too_long(build: Build, event: Event) -> bool:
    """Return whether the time has passed for which its machine is held."""
    return is_held(build, event) and past_deadline(build, event)


def says_completed(build: Build, event: Reported) -> bool:
    """Return whether the VM in use says that its job is done, and no hand can have made it say so."""
    return speaks(build, event) and event.report.kind == COMPLETED and not build.held


def claims_first(build: Build, event: Reported) -> bool:
    """Return whether the VM in use says that its job is done, and has not said so before."""
    return says_completed(build, event) and not build.claimed


def says_failed(build: Build, event: Reported) -> bool:
    """Return whether the VM in use says that its job cannot be done."""
    return speaks(build, event) and event.report.kind == FAILED


def wants_disk(build: Build, event: Reported) -> bool:
    """Return whether the VM in use waits for a disk that it is to get, and no order for that is on its way."""
    asks = speaks(build, event) and event.report.kind == DISK_WANTED
    ordered = build.disk_grown or event.time < build.disk_asked + DISK_SECONDS
    gets_one = build.plan is not None and (resources.grown_gb(build.plan) > 0 or phase_of(build) == EXPORT)
    return asks and not ordered and gets_one


def goes_on(build: Build, event: Reported) -> bool:
    """Return whether the VM in use says that it is at work."""
    return speaks(build, event) and event.report.kind not in (COMPLETED, FAILED)


def tells_of_step(build: Build, event: Reported) -> bool:
    """Return whether the report is a late one of this attempt, of a step, its scripts or of the packages.

    In `exporting` no VM has verified yet: only reports of the building VM count there.
    """
    report = event.report
    heard = report.phase == BUILD or build.state is not State.EXPORTING
    facts = (STEP_STARTED, STEP_FINISHED, STEP_FAILED, SCRIPTS, INVENTORY)
    return heard and report.attempt == build.attempt and report.kind in facts


def may_go_on(build: Build, event: MachineStopped) -> bool:
    """Return whether the VM in use was taken away, and the budget of attempts is not spent."""
    taken = event.how in ("preempted", "lost") and event.claim is None and not has_written(build)
    return is_current(build, event) and taken and build.plan is not None and build.attempt < build.plan.attempts


def has_ended(build: Build, event: MachineStopped) -> bool:
    """Return whether the VM in use ended without a last word, heard before or still on its way."""
    return is_current(build, event) and event.claim is None and not has_written(build)


def tells_of_image(build: Build, _event: ImageMade) -> bool:
    """Return whether the image was not known, and its files are still to be written."""
    return build.image is None


def wants_verification(build: Build, _event: Event) -> bool:
    """Return whether the spec has a verify section, and the image has not passed that for an earlier build."""
    wanted = build.plan is not None and build.plan.verify_steps is not None
    return wanted and not build.taken_up


def wants_deprecation(build: Build, event: Event) -> bool:
    """Return whether the publication is committed, and the spec deprecates older images, or distributes the new one."""
    return is_committed(build, event) and build.plan is not None and build.plan.image.is_followed_up


def is_open(build: Build, _event: Event) -> bool:
    """Return whether the publication is not committed."""
    return not build.committed


def is_committed(build: Build, _event: Event) -> bool:
    """Return whether the publication is committed."""
    return build.committed > 0


def has_published_for_long(build: Build, event: Event) -> bool:
    """Return whether the publication was committed a day ago and is not complete, although it was tried until now."""
    long_ago = is_committed(build, event) and event.time >= build.committed + PUBLISHING_SECONDS
    return long_ago and is_overdue(build, event) and event.time < build.updated + ASLEEP_SECONDS


def is_retiring(build: Build, _event: Event) -> bool:
    """Return whether the family's older images have still to be deprecated."""
    return build.retiring


def is_withdrawing(build: Build, _event: Event) -> bool:
    """Return whether files of a failed publication have still to be taken back."""
    return build.withdrawing > 0


def has_withdrawn_for_long(build: Build, event: Event) -> bool:
    """Return whether a failed publication could not be taken back for a day."""
    return is_withdrawing(build, event) and event.time >= build.withdrawing


def is_overdue_withdrawing(build: Build, event: Event) -> bool:
    """Return whether the state's order has had no answer for too long, with files still to be taken back."""
    return is_overdue(build, event) and is_withdrawing(build, event)


def is_swept(build: Build, event: Event) -> bool:
    """Return whether the older images were all that was left to do."""
    return is_retiring(build, event) and all(entry.keep for entry in build.ledger)


def cannot_retire(build: Build, event: OrderFailed) -> bool:
    """Return whether the family's older images cannot be deprecated."""
    return is_retiring(build, event) and event.order == "deprecate_images"


def has_retired_for_long(build: Build, event: Event) -> bool:
    """Return whether the older images could not be deprecated for a day."""
    return is_retiring(build, event) and event.time >= build.committed + RETIRING_SECONDS


def is_overdue_retiring(build: Build, event: Event) -> bool:
    """Return whether the state's order has had no answer for too long, and older images have still to be deprecated."""
    return is_overdue(build, event) and is_retiring(build, event)


def is_clean(build: Build, event: CleanedUp) -> bool:
    """Return whether the newest clean-up has left nothing but what is kept, and nothing else is to be done."""
    return not event.remaining and is_newest_clean_up(build, event) and not owes_more(build)


def is_newest_clean_up(build: Build, event: CleanedUp) -> bool:
    """Return whether the clean-up is the newest: an earlier one has left alone what was still to be kept."""
    return order_number(event.event_id) >= build.cleaning


def is_clean_but_for_disk(build: Build, event: CleanedUp) -> bool:
    """Return whether the newest clean-up has left nothing but a boot disk that is kept."""
    return is_clean(build, event) and keeps_disk(build, event)


def is_clean_of_disk(build: Build, event: CleanedUp) -> bool:
    """Return whether the newest clean-up has left nothing, the boot disk neither."""
    return is_clean(build, event) and not keeps_disk(build, event)


def keeps_disk(build: Build, _event: Event) -> bool:
    """Return whether its boot disk is kept."""
    return resources.kept_disk(build) is not None


def keeps_image(build: Build, event: CancelRequested) -> bool:
    """Return whether the image is kept that was not published."""
    return event.time < build.kept_until


def has_kept_disk_for_long(build: Build, event: Event) -> bool:
    """Return whether the time is over for which its boot disk is kept."""
    return keeps_disk(build, event) and event.time >= build.disk_until


def owes_more(build: Build) -> bool:
    """Return whether something besides the clean-up is to be done."""
    return build.retiring or build.withdrawing > 0


def past_deadline(build: Build, event: Event) -> bool:
    """Return whether the deadline has passed, and the publication is not committed."""
    return event.time >= build.deadline and not build.committed


def is_silent(build: Build, event: Ticked) -> bool:
    """Return whether the VM in use has given no sign of life for too long, and none is on its way.

    One that is held has a person who looks.
    """
    silent = build.plan is not None and event.time - build.last_seen >= build.plan.silence + build.quiet
    return silent and has_machine(build) and not event.heard and not build.held


def may_be_replaced(build: Build, event: Ticked) -> bool:
    """Return whether the VM in use is silent, has not said that its job is done, and attempts are left."""
    left = build.plan is not None and build.attempt < build.plan.attempts
    return is_silent(build, event) and not build.claimed and left


def is_overdue(build: Build, event: Event) -> bool:
    """Return whether the state's order has had no answer for too long."""
    return event.time >= build.wake_at


def is_overdue_machine(build: Build, event: Event) -> bool:
    """Return whether the order for the VM has had no answer for too long; a VM that is at work is left alone."""
    idle = due(build, event) != () if build.verifiers else build.claimed or not has_machine(build)
    return is_overdue(build, event) and idle


def is_committed_order(build: Build, event: OrderFailed) -> bool:
    """Return whether the order is that of a publication that is committed: others may see a part of it."""
    return is_our_order(build, event) and is_committed(build, event)


def is_our_order(build: Build, event: OrderFailed) -> bool:
    """Return whether the order is one that this state gave in this attempt, and the build cannot do without it."""
    ours = event.order in awaited_orders(build) and event.attempt == build.attempt and event.order != "clean_up"
    return ours and not has_passed(build, event.machine)


# --- effects: what else changes


def note_turn(build: Build, event: TurnCame) -> Build:
    """Note what was found; the time that the build may take runs from now on."""
    if build.plan is None:
        return build
    turned = replace(
        build,
        plan=replace(build.plan, image=event.image),
        turn=event.time,
        deadline=event.time + build.plan.timeout,
        image=event.unchanged or event.taken_up,
        taken_up=event.taken_up is not None,
    )
    return _owe_replaced(turned, event)


def take_machine(build: Build, event: MachineStarted) -> Build:
    """Note where the VM runs; its silence counts from now on, and so does the time of one of several that verify."""
    placed = replace(take_sign(build, event), zone=event.zone)
    planned = build.plan.verifier(event.machine) if build.plan is not None else None
    if planned is not None and planned.timeout is not None:
        placed = with_verifier(placed, event.machine, deadline=event.time + planned.timeout)
    return _wake(placed, event) if has_machine(placed) else placed


def note_passed(build: Build, event: MachineStopped) -> Build:
    """Note of one of several VMs that verify that it has passed."""
    return with_verifier(build, event.machine, passed=True)


def owe_machine(build: Build, event: MachineStarted) -> Build:
    """Write the VM into the ledger again: a clean-up may have struck it just before it was made."""
    if build.plan is None:
        return build
    if event.phase == VERIFY:
        return _owe(build, resources.of_verifiers(build.plan, event.attempt, event.machine))
    return _owe(build, resources.of_machine(build.plan, event.attempt, event.phase))


def take_image(build: Build, event: ImageMade | ImageExported) -> Build:
    """Note the image."""
    return replace(build, image=event.image)


def take_made_image(build: Build, event: ImageMade) -> Build:
    """Note the image. From here on the VM in use is the one that writes its files, if there is one."""
    made = replace(build, image=event.image, last_seen=event.time)
    return with_new_machine(replace(made, quiet=0.0)) if phase_of(made) == EXPORT else made


def commit(build: Build, event: PublicationStaged) -> Build:
    """Commit the publication: what it shows is ready, and neither a person nor the deadline ends the build any more."""
    return replace(build, committed=event.time, files=event.files)


def commit_published(build: Build, event: ImageLabelled) -> Build:
    """Commit the publication, which the release before has made in one go."""
    return replace(build, committed=event.time)


def take_back(build: Build, event: Event) -> Build:
    """Note that what the publication has shown has to be taken back, for which there is a day."""
    return replace(build, withdrawing=event.time + WITHDRAWING_SECONDS)


def note_withdrawn(build: Build, event: PublicationWithdrawn) -> Build:
    """Note that nothing of the publication is left to take back; what stays for good is a warning."""
    texts = (withdrawal_warning(left) for left in event.left)
    return with_warnings(replace(build, withdrawing=0.0), *texts)


def give_up_withdrawing(build: Build, _event: Event) -> Build:
    """Keep as a warning that what the publication has shown may still be there."""
    return with_warnings(replace(build, withdrawing=0.0), withdrawal_warning("nothing could be taken back for a day"))


def retire(build: Build, _event: ImagePublished) -> Build:
    """Note that the family's older images have to be deprecated, or the new one distributed."""
    return replace(build, retiring=True)


def note_retired(build: Build, event: ImagesDeprecated) -> Build:
    """Note which of the family's older images are deprecated, and to whom the new one could not be distributed."""
    return with_warnings(replace(build, retiring=False, replaced=event.names), *event.refused)


def give_up_retiring(build: Build, _event: Event) -> Build:
    """Keep as a warning that older images of the family may not be deprecated."""
    return with_warnings(replace(build, retiring=False, retired_in_part=True), RETIRING_GIVEN_UP)


def warn(build: Build, event: OrderFailed) -> Build:
    """Keep the refusal as a warning, once; it is tried again."""
    return with_warnings(build, retiring_warning(build, event))


def keep_remaining(build: Build, event: CleanedUp) -> Build:
    """Strike from the ledger what is gone."""
    if event.lost:
        build = lose_image(build, event.lost)
    kept = tuple(entry for entry in build.ledger if entry.keep or resources.is_in(entry, event.remaining))
    return _wake(replace(build, ledger=kept), event)


S = State
RULES: tuple[Rule, ...] = (
    # a machine that is held for a person, and may have been touched
    Rule(HOLDING, CancelRequested, is_held, S.CLEANING, Outcome.FAILED, held_reason),
    Rule(HOLDING, Ticked, is_held_too_long, S.CLEANING, Outcome.FAILED, held_reason),
    Rule(HOLDING, MachineStopped, is_held, S.CLEANING, Outcome.FAILED, held_reason),
    # ways out of the main path that time and people open
    Rule(MAIN_PATH, CancelRequested, is_open, S.CLEANING, Outcome.CANCELLED, cancel_reason),
    Rule(MAIN_PATH, Ticked, past_deadline, S.CLEANING, Outcome.TIMED_OUT, deadline_reason),
    Rule((S.PROVISIONING,), Ticked, may_be_replaced, S.PREPARING, then=next_attempt),
    Rule((S.EXPORTING,), Ticked, may_be_replaced, S.EXPORTING, then=next_attempt),
    Rule((S.VERIFYING,), Ticked, may_be_replaced, S.VERIFYING, then=next_attempt),
    Rule((S.PROVISIONING, S.EXPORTING, S.VERIFYING), Ticked, is_silent, S.CLEANING, Outcome.FAILED, silence_reason),
    # the queue
    Rule((S.QUEUED,), TurnCame, is_refused, S.CLEANING, Outcome.FAILED, refused_reason),
    Rule((S.QUEUED,), TurnCame, is_unchanged, S.CLEANING, Outcome.UNCHANGED, unchanged_reason, note_turn),
    Rule((S.QUEUED,), TurnCame, takes_up, S.EXPORTING, then=note_turn),
    Rule((S.QUEUED,), TurnCame, always, S.PREPARING, then=note_turn),
    # the build VM
    Rule(MACHINE_AT_WORK, Reported, says_completed, S.EXPORTING, then=take_report),
    Rule(MACHINE_AT_WORK, Reported, says_failed, S.CLEANING, Outcome.FAILED, reported_reason, take_report),
    Rule(MACHINE_AT_WORK, Reported, wants_disk, S.PROVISIONING, then=ask_for_disk, gives=("grow_disk",)),
    Rule((S.PREPARING,), Reported, goes_on, S.PROVISIONING, then=take_report),
    Rule((S.EXPORTING,), Reported, wants_disk, then=ask_for_disk, gives=("export_image",)),
    Rule((S.PROVISIONING, S.EXPORTING, S.VERIFYING), Reported, goes_on, then=take_report),
    Rule((S.PREPARING,), MachineStarted, is_current, S.PROVISIONING, then=take_machine),
    Rule((S.PROVISIONING, S.EXPORTING), MachineStarted, is_current_build_machine, then=take_machine),
    Rule((S.PROVISIONING, S.EXPORTING), DiskGrown, is_current, then=note_disk),
    Rule(MACHINE_AT_WORK, MachineStopped, may_go_on, S.PREPARING, then=next_attempt),
    Rule(MACHINE_AT_WORK, MachineStopped, has_ended, S.CLEANING, Outcome.FAILED, stopped_reason),
    # the image
    Rule((S.EXPORTING,), ImageMade, tells_of_image, then=take_made_image, gives=("export_image",)),
    Rule((S.EXPORTING,), ImageExported, wants_verification, S.VERIFYING, then=take_image),
    Rule((S.EXPORTING,), ImageExported, always, S.PUBLISHING, then=take_image),
    # the VM that writes the image's files, and the verifying one
    Rule((S.EXPORTING,), Reported, claims_first, then=note_claim, gives=("export_image",)),
    Rule((S.VERIFYING,), Reported, claims_first, then=note_claim, gives=("verify_image",)),
    Rule((S.EXPORTING, S.VERIFYING), Reported, says_failed, S.CLEANING, Outcome.FAILED, reported_reason, take_report),
    Rule((S.VERIFYING,), MachineStarted, is_current_claimed, then=take_machine, gives=("verify_image",)),
    Rule((S.EXPORTING, S.VERIFYING), MachineStarted, is_current, then=take_machine),
    Rule((S.VERIFYING,), MachineStopped, is_twin, S.CLEANING, Outcome.FAILED, twin_reason),
    Rule((S.VERIFYING,), MachineStopped, is_verified_by_one, then=note_passed, gives=("verify_image",)),
    Rule((S.VERIFYING,), MachineStopped, is_verified, S.PUBLISHING, then=note_passed),
    Rule((S.EXPORTING,), MachineStopped, may_go_on, S.EXPORTING, then=next_attempt),
    Rule((S.VERIFYING,), MachineStopped, may_go_on, S.VERIFYING, then=next_attempt),
    Rule((S.EXPORTING, S.VERIFYING), MachineStopped, has_ended, S.CLEANING, Outcome.FAILED, stopped_reason),
    # publication
    Rule((S.PUBLISHING,), PublicationStaged, is_open, then=commit, gives=("label_image",)),
    Rule((S.PUBLISHING,), ImageLabelled, is_open, then=commit_published, gives=("label_image",)),
    Rule(
        (S.PUBLISHING,),
        Ticked,
        has_published_for_long,
        S.CLEANING,
        Outcome.FAILED,
        publishing_reason,
        then=take_back,
        gives=("label_image",),
    ),
    Rule(
        (S.PUBLISHING,),
        OrderFailed,
        is_committed_order,
        S.CLEANING,
        Outcome.FAILED,
        order_reason,
        then=take_back,
        gives=("label_image",),
    ),
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
    Rule((S.CLEANING,), PublicationWithdrawn, is_withdrawing, then=note_withdrawn, gives=("clean_up",)),
    Rule((S.CLEANING,), CleanedUp, is_clean_but_for_disk, S.HELD, then=keep_remaining),
    Rule((S.CLEANING,), CleanedUp, is_clean, S.FINISHED, then=keep_remaining),
    Rule((S.CLEANING,), CleanedUp, always, then=keep_remaining),
    Rule((S.CLEANING, S.HELD), MachineStarted, is_of_build, then=owe_machine, gives=("clean_up",)),
    # what is kept of a build that failed
    Rule((S.CLEANING, S.HELD), CancelRequested, keeps_disk, then=release_disk, gives=("clean_up",)),
    Rule((S.HELD,), Ticked, has_kept_disk_for_long, then=release_disk, gives=("clean_up",)),
    Rule((S.FINISHED,), CancelRequested, keeps_image, then=release_image),
    Rule((S.HELD,), Ticked, is_overdue, gives=("clean_up",)),
    Rule((S.HELD,), CleanedUp, is_clean_of_disk, S.FINISHED, then=keep_remaining),
    Rule((S.HELD,), CleanedUp, is_newest_clean_up, then=keep_remaining),
    # whatever the state
    Rule(MAIN_PATH, OrderFailed, is_our_order, S.CLEANING, Outcome.FAILED, order_reason, note_refusal),
    Rule((S.EXPORTING, S.VERIFYING, S.PUBLISHING, S.CLEANING), Reported, tells_of_step, then=take_report),
    Rule((S.PREPARING,), Ticked, is_overdue, gives=("create_resources",)),
    Rule((S.EXPORTING,), Ticked, is_overdue_machine, gives=("export_image",)),
    Rule((S.VERIFYING,), Ticked, is_overdue_machine, gives=("verify_image",)),
    Rule((S.PUBLISHING,), Ticked, is_overdue, gives=("label_image", "clean_up")),
    Rule((S.CLEANING,), Ticked, has_withdrawn_for_long, then=give_up_withdrawing, gives=("clean_up",)),
    Rule((S.CLEANING,), Ticked, is_overdue_withdrawing, gives=("label_image", "clean_up")),
    Rule((S.CLEANING,), Ticked, has_retired_for_long, then=give_up_retiring, gives=("clean_up",)),
    Rule((S.CLEANING,), Ticked, is_overdue_retiring, gives=("deprecate_images", "clean_up")),
    Rule((S.CLEANING,), Ticked, is_overdue, gives=("clean_up",)),
)
"""First match wins."""
