"""Every row of the table, by name, and what the table leaves out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from docs.generate_lifecycle import pages
from provisioner.protocol import (
    COMPLETED,
    DISK_WANTED,
    EXPORT,
    FAILED,
    STARTED,
    STEP_FINISHED,
    STEP_STARTED,
)
from shared.build import resources
from shared.build.build import ANNOUNCED, Build, LedgerEntry, Outcome, PublishedFile, State, Verifier
from shared.build.events import CancelRequested, Event
from shared.build.orders import OrderKind
from shared.build.plan import Deprecation, Plan, VerifyMachinePlan
from shared.engine.keeping import KEPT_SECONDS
from shared.engine.lifecycle import (
    ORDER_OF,
    PATIENCE,
    RULES,
    Rule,
    advance,
    always,
    begin,
    decide,
    keep_remaining,
    subject,
)
from tests.shared.engine.exporting import EXPORTS, FAILED_EXPORTS, NEXT_EXPORTS, exporting
from tests.shared.engine.test_lifecycle_queue import KEPT, QUEUED, SAME
from tests.world import values

S, O = State, Outcome  # noqa: E741 - the table below is read by columns
LATER = values.NOON + 30
TWIN = (f"machine-id {'a' * 64}",)
MACHINE = LedgerEntry("machine", f"gs-{values.BUILD_ID}-a1-vm", "local")
FILE = PublishedFile("out/hello.json", f"out/.{values.BUILD_ID}.hello.json", "0" * 64)
DISK = LedgerEntry("disk", f"gs-{values.BUILD_ID}-a1-boot", "local")


def verifying_plan() -> Plan:
    return values.plan(verify_steps=values.plan().steps)


def several_plan() -> Plan:
    return replace(verifying_plan(), verify_machines=(VerifyMachinePlan("a"), VerifyMachinePlan("b")))


def deprecating_plan() -> Plan:
    plan = values.plan()
    return replace(plan, image=replace(plan.image, deprecate_old=Deprecation()))


def at(state: State, **changes: object) -> Build:
    """A build in a state, as it is there; from `cleaning` on with an outcome."""
    over = state in (S.CLEANING, *ANNOUNCED)
    default = {
        "outcome": O.FAILED if over else None,
        "zone": "here" if state in (S.PROVISIONING, S.EXPORTING, S.PUBLISHING) else "",
        "last_seen": values.NOON,
        "wake_at": values.NOON + 900,
        "ledger": (MACHINE, DISK),
        "orders": 1,
    }
    return values.build(state=state, **{**default, **changes})


def verify_at(state: State, **changes: object) -> Build:
    return at(state, plan=verifying_plan(), **changes)


def said(kind: str, phase: str = "build", **changes: object) -> Event:
    return values.reported(time=LATER, kind=kind, phase=phase, **changes)


@dataclass(frozen=True)
class Case:
    """A rule, named by what it is on and when, and one event that it is for."""

    rule: str
    build: Build
    event: Event
    to: State
    outcome: Outcome | None = None
    order: OrderKind | tuple[OrderKind, ...] | None = None


def keeping(state: State, **changes: object) -> Build:
    """A build that keeps the boot disk of a step that failed, until LATER."""
    return at(state, **{"ledger": (replace(DISK, zone="here", keep=True),), "disk_until": LATER, **changes})


def retiring(ledger: tuple[LedgerEntry, ...] = (MACHINE, DISK)) -> Build:
    """A build that has succeeded, while the older images of its family are deprecated."""
    return at(S.CLEANING, outcome=O.SUCCEEDED, committed=values.NOON, retiring=True, ledger=ledger)


def published_for_long() -> Build:
    """A build whose publication was committed a day ago, and was tried until now."""
    return at(S.PUBLISHING, committed=values.NOON, updated=values.NOON + 85_500)


def withdrawing() -> Build:
    """A build whose publication has failed, while what it has shown is taken back."""
    return at(S.CLEANING, committed=values.NOON, withdrawing=values.NOON + 86_400)


def fails(rule: str, build: Build, event: Event) -> Case:
    return Case(rule, build, event, S.CLEANING, O.FAILED, "clean_up")


AT_DEADLINE = values.ticked(time=values.NOON + 3600)
REFUSED = values.order_failed(time=LATER, order="deprecate_images", reason="403: old is locked")
A_DAY_LATER = values.ticked(time=values.NOON + 86_400)
AT_900 = values.ticked(time=values.NOON + 900)
AT_300 = values.ticked(time=values.NOON + 300)
LOST = values.machine_stopped(time=LATER, how="lost", claim=None)
OFF = values.machine_stopped(time=LATER, claim=None)
VERIFY_LOST = replace(LOST, phase="verify")
EXPORTED = values.image_exported()
STEP = said(STEP_FINISHED, sequence=3, step=0)
GROWS = {"plan": values.growing_plan()}
CANCEL = values.cancel_requested()
FAR = {"deadline": values.NOON + 1e5}
HELD = {"held": "step 'greet' failed: exit status 1"}

CASES = [
    *(
        case
        for state in (S.PROVISIONING, S.VERIFYING)
        for case in (
            fails("CancelRequested is_held", at(state, **HELD), CANCEL),
            fails("Ticked is_held_too_long", at(state, **HELD), AT_DEADLINE),
            fails(
                "MachineStopped is_held",
                at(state, **HELD, claimed=True, zone="here"),
                LOST if state is S.PROVISIONING else VERIFY_LOST,
            ),
        )
    ),
    *(
        Case("CancelRequested is_open", at(state), CANCEL, S.CLEANING, O.CANCELLED, "clean_up")
        for state in (S.PREPARING, S.PROVISIONING, S.EXPORTING, S.VERIFYING, S.PUBLISHING)
    ),
    *(
        Case("Ticked past_deadline", at(state), AT_DEADLINE, S.CLEANING, O.TIMED_OUT, "clean_up")
        for state in (S.PREPARING, S.PROVISIONING, S.EXPORTING, S.VERIFYING, S.PUBLISHING)
    ),
    Case("Ticked may_be_replaced", at(S.PROVISIONING), AT_300, S.PREPARING, None, "create_resources"),
    Case("Ticked may_be_replaced", verify_at(S.VERIFYING, zone="here"), AT_300, S.VERIFYING, None, "verify_image"),
    fails("Ticked is_silent", at(S.PROVISIONING, attempt=3), AT_300),
    fails("Ticked is_silent", verify_at(S.VERIFYING, zone="here", attempt=3), AT_300),
    Case("Reported says_completed", at(S.PREPARING), said(COMPLETED), S.EXPORTING, None, "export_image"),
    Case("Reported says_completed", at(S.PROVISIONING), said(COMPLETED), S.EXPORTING, None, "export_image"),
    fails("Reported says_failed", at(S.PREPARING), said(FAILED)),
    fails("Reported says_failed", at(S.PROVISIONING), said(FAILED)),
    Case("Reported wants_disk", at(S.PREPARING, **GROWS), said(DISK_WANTED), S.PROVISIONING, None, "grow_disk"),
    Case("Reported wants_disk", at(S.PROVISIONING, **GROWS), said(DISK_WANTED), S.PROVISIONING, None, "grow_disk"),
    Case("Reported goes_on", at(S.PREPARING), said(STARTED), S.PROVISIONING),
    Case("Reported goes_on", at(S.PROVISIONING), said(STEP_STARTED, step=0), S.PROVISIONING),
    Case("Reported goes_on", verify_at(S.VERIFYING), said(STARTED, "verify"), S.VERIFYING),
    Case("MachineStarted is_current", at(S.PREPARING), values.machine_started(), S.PROVISIONING),
    Case("MachineStarted is_current_build_machine", at(S.PROVISIONING), values.machine_started(), S.PROVISIONING),
    Case("MachineStarted is_current_build_machine", at(S.EXPORTING), values.machine_started(), S.EXPORTING),
    Case("DiskGrown is_current", at(S.PROVISIONING, **GROWS), values.disk_grown(), S.PROVISIONING),
    Case("MachineStopped may_go_on", at(S.PREPARING), LOST, S.PREPARING, None, "create_resources"),
    Case("MachineStopped may_go_on", at(S.PROVISIONING), LOST, S.PREPARING, None, "create_resources"),
    fails("MachineStopped has_ended", at(S.PREPARING), OFF),
    fails("MachineStopped has_ended", at(S.PROVISIONING), OFF),
    fails("MachineStopped has_ended", at(S.PROVISIONING, attempt=3), replace(LOST, attempt=3)),
    Case("ImageExported wants_verification", verify_at(S.EXPORTING), EXPORTED, S.VERIFYING, None, "verify_image"),
    Case("ImageMade tells_of_image", at(S.EXPORTING), values.image_made(), S.EXPORTING, None, "export_image"),
    Case("ImageExported always", at(S.EXPORTING), values.image_exported(), S.PUBLISHING, None, "label_image"),
    *(Case(rule, build, event, S.EXPORTING, None, order) for rule, build, event, order in EXPORTS),
    *(Case(rule, build, event, S.EXPORTING, None, "export_image") for rule, build, event in NEXT_EXPORTS),
    *(fails(rule, build, event) for rule, build, event in FAILED_EXPORTS),
    Case("Reported claims_first", verify_at(S.VERIFYING), said(COMPLETED, "verify"), S.VERIFYING, None, "verify_image"),
    Case(
        "MachineStarted is_current_claimed",
        verify_at(S.VERIFYING, claimed=True),
        values.machine_started(phase="verify"),
        S.VERIFYING,
        None,
        "verify_image",
    ),
    fails(
        "MachineStopped is_twin",
        verify_at(S.VERIFYING, claimed=True, zone="here", identity=TWIN, verify_identity=TWIN),
        replace(OFF, phase="verify", claim=COMPLETED),
    ),
    Case(
        "MachineStopped is_verified_by_one",
        at(S.VERIFYING, plan=several_plan(), verifiers=(Verifier("a", claimed=True, zone="here"), Verifier("b"))),
        replace(OFF, phase="verify", claim=COMPLETED, machine="a"),
        S.VERIFYING,
        None,
        "verify_image",
    ),
    Case(
        "MachineStopped is_verified",
        verify_at(S.VERIFYING, claimed=True, zone="here"),
        replace(OFF, phase="verify", claim=COMPLETED),
        S.PUBLISHING,
        None,
        "label_image",
    ),
    fails("Reported says_failed", verify_at(S.VERIFYING), said(FAILED, "verify")),
    Case("MachineStarted is_current", verify_at(S.VERIFYING), values.machine_started(phase="verify"), S.VERIFYING),
    Case("MachineStopped may_go_on", verify_at(S.VERIFYING), VERIFY_LOST, S.VERIFYING, None, "verify_image"),
    fails("MachineStopped has_ended", verify_at(S.VERIFYING), replace(OFF, phase="verify")),
    Case("PublicationStaged is_open", at(S.PUBLISHING), values.publication_staged(), S.PUBLISHING, None, "label_image"),
    Case("ImageLabelled is_open", at(S.PUBLISHING), values.image_labelled(), S.PUBLISHING, None, "label_image"),
    Case(
        "Ticked has_published_for_long",
        published_for_long(),
        A_DAY_LATER,
        S.CLEANING,
        O.FAILED,
        ("label_image", "clean_up"),
    ),
    Case(
        "ImagePublished wants_deprecation",
        at(S.PUBLISHING, plan=deprecating_plan(), committed=LATER),
        values.image_published(),
        S.CLEANING,
        O.SUCCEEDED,
        ("deprecate_images", "clean_up"),
    ),
    Case(
        "ImagePublished is_committed",
        at(S.PUBLISHING, committed=LATER),
        values.image_published(),
        S.CLEANING,
        O.SUCCEEDED,
        "clean_up",
    ),
    Case("ImagesDeprecated is_swept", retiring(()), values.images_deprecated(), S.CLEANING, O.SUCCEEDED, "clean_up"),
    Case("ImagesDeprecated is_retiring", retiring(), values.images_deprecated(), S.CLEANING, O.SUCCEEDED),
    Case("OrderFailed cannot_retire", retiring(), REFUSED, S.CLEANING, O.SUCCEEDED),
    Case("Ticked has_retired_for_long", retiring(), A_DAY_LATER, S.CLEANING, O.SUCCEEDED, "clean_up"),
    Case(
        "Ticked is_overdue_retiring",
        retiring(),
        AT_900,
        S.CLEANING,
        O.SUCCEEDED,
        ("deprecate_images", "clean_up"),
    ),
    Case("CleanedUp is_clean", at(S.CLEANING), values.cleaned_up(), S.FINISHED, O.FAILED, "announce"),
    Case("CleanedUp is_clean_but_for_disk", keeping(S.CLEANING), values.cleaned_up(), S.HELD, O.FAILED, "announce"),
    Case("CancelRequested keeps_disk", keeping(S.CLEANING), CANCEL, S.CLEANING, O.FAILED, "clean_up"),
    Case("CancelRequested keeps_disk", keeping(S.HELD), CANCEL, S.HELD, O.FAILED, "clean_up"),
    Case("CancelRequested keeps_image", at(S.FINISHED, kept_until=LATER), CANCEL, S.FINISHED, O.FAILED),
    Case("Ticked has_kept_disk_for_long", keeping(S.HELD), AT_300, S.HELD, O.FAILED, "clean_up"),
    Case("Ticked is_overdue", at(S.HELD), AT_900, S.HELD, O.FAILED, "clean_up"),
    Case("CleanedUp is_clean_of_disk", at(S.HELD), values.cleaned_up(), S.FINISHED, O.FAILED),
    Case("CleanedUp is_newest_clean_up", keeping(S.HELD), values.cleaned_up(), S.HELD, O.FAILED),
    Case("MachineStarted is_of_build", keeping(S.HELD), values.machine_started(), S.HELD, O.FAILED, "clean_up"),
    Case("CleanedUp always", at(S.CLEANING), values.cleaned_up(remaining=(DISK,)), S.CLEANING, O.FAILED),
    Case("MachineStarted is_of_build", at(S.CLEANING), values.machine_started(), S.CLEANING, O.FAILED, "clean_up"),
    fails("OrderFailed is_our_order", at(S.PREPARING), values.order_failed()),
    fails("OrderFailed is_our_order", at(S.PROVISIONING), values.order_failed(order="grow_disk")),
    fails("OrderFailed is_our_order", at(S.EXPORTING), values.order_failed(order="export_image")),
    fails("OrderFailed is_our_order", at(S.VERIFYING), values.order_failed(order="verify_image")),
    fails("OrderFailed is_our_order", at(S.PUBLISHING), values.order_failed(order="label_image")),
    Case(
        "OrderFailed is_committed_order",
        at(S.PUBLISHING, committed=LATER),
        values.order_failed(order="label_image"),
        S.CLEANING,
        O.FAILED,
        ("label_image", "clean_up"),
    ),
    Case(
        "PublicationWithdrawn is_withdrawing",
        withdrawing(),
        values.publication_withdrawn(),
        S.CLEANING,
        O.FAILED,
        "clean_up",
    ),
    Case("Ticked has_withdrawn_for_long", withdrawing(), A_DAY_LATER, S.CLEANING, O.FAILED, "clean_up"),
    Case("Ticked is_overdue_withdrawing", withdrawing(), AT_900, S.CLEANING, O.FAILED, ("label_image", "clean_up")),
    *(
        Case("Reported tells_of_step", verify_at(state), STEP, state, O.FAILED if state is S.CLEANING else None)
        for state in (S.EXPORTING, S.VERIFYING, S.PUBLISHING, S.CLEANING)
    ),
    Case("Ticked is_overdue", at(S.PREPARING, **FAR), AT_900, S.PREPARING, None, "create_resources"),
    Case("Ticked is_overdue_machine", at(S.EXPORTING, **FAR), AT_900, S.EXPORTING, None, "export_image"),
    Case("Ticked is_overdue_machine", verify_at(S.VERIFYING, **FAR), AT_900, S.VERIFYING, None, "verify_image"),
    Case(
        "Ticked is_overdue_machine",
        verify_at(S.VERIFYING, claimed=True, zone="here", last_seen=values.NOON + 890, **FAR),
        AT_900,
        S.VERIFYING,
        None,
        "verify_image",
    ),
    Case("Ticked is_overdue", at(S.PUBLISHING, **FAR), AT_900, S.PUBLISHING, None, ("label_image", "clean_up")),
    fails("TurnCame is_refused", QUEUED, values.turn_came(refused="output.name: taken")),
    Case("TurnCame is_unchanged", QUEUED, SAME, S.CLEANING, O.UNCHANGED, "clean_up"),
    Case("TurnCame takes_up", QUEUED, KEPT, S.EXPORTING, None, "export_image"),
    Case("TurnCame always", QUEUED, values.turn_came(), S.PREPARING, None, "create_resources"),
    Case("Ticked is_overdue", at(S.CLEANING), AT_900, S.CLEANING, O.FAILED, "clean_up"),
]


def name(rule: Rule) -> str:
    return f"{rule.on.__name__} {rule.when.__name__}"


def rule_of(build: Build, event: Event) -> Rule | None:
    """The rule that decides, by the same search as decide()."""
    _name, seen = subject(build, event)
    return next((r for r in RULES if build.state in r.at and isinstance(event, r.on) and r.when(seen, event)), None)


def orders_of(case: Case) -> tuple[OrderKind, ...]:
    return case.order if isinstance(case.order, tuple) else (case.order,) if case.order else ()


class TestRules:
    @pytest.mark.parametrize("case", CASES, ids=[f"{case.rule} in {case.build.state}" for case in CASES])
    def test_rule(self, case: Case) -> None:
        found = rule_of(case.build, case.event)
        assert found is not None
        assert name(found) == case.rule
        decision = decide(case.build, case.event)
        assert (decision.build.state, decision.build.outcome, decision.ignored) == (case.to, case.outcome, "")
        assert tuple(order.kind for order in decision.orders) == orders_of(case)
        assert decision.build.outbox == decision.orders
        assert advance(case.build, case.event) == (decision.build, decision.orders)

    def test_every_rule_is_reached_by_one_of_them(self) -> None:
        """So no rule is hidden by an earlier one either: the first that holds decided in each."""
        reached = {id(rule_of(case.build, case.event)) for case in CASES}
        assert [name(rule) for rule in RULES if id(rule) not in reached] == []

    def test_every_state_that_waits_for_an_order_gives_it_again(self) -> None:
        again = {state for rule in RULES for state in rule.at if ORDER_OF.get(state) in rule.gives}
        assert again == set(ORDER_OF) - {S.HELD, S.FINISHED}

    def test_only_the_main_path_decides_an_outcome_and_only_on_the_way_to_cleaning(self) -> None:
        for rule in RULES:
            assert (rule.outcome is not None) == (rule.to is S.CLEANING)
            assert S.CLEANING not in rule.at or rule.to in (None, S.HELD, S.FINISHED)
            assert S.HELD not in rule.at or rule.to in (None, S.FINISHED)
            assert S.FINISHED not in rule.at or (rule.on, rule.to, rule.gives) == (CancelRequested, None, ())


PAIRS = [(state, event) for state in State for event in values.every_event()]


class TestIgnored:
    @pytest.mark.parametrize(("state", "event"), PAIRS, ids=[f"{event.kind} in {state}" for state, event in PAIRS])
    def test_what_is_not_in_the_table_changes_nothing_and_says_why(self, state: State, event: Event) -> None:
        build = at(state)
        decision = decide(build, event)
        if any(state in rule.at and isinstance(event, rule.on) for rule in RULES):
            assert decision.ignored == "" or decision.build is build
        else:
            assert (decision.build, decision.orders) == (build, ())
            assert decision.ignored == f"{event.kind} changes nothing in a build that is {state}"

    def test_an_event_of_another_build(self) -> None:
        decision = decide(at(S.PREPARING), values.cancel_requested(build_id="other-0123456789ab"))
        assert "other-0123456789ab" in decision.ignored

    @pytest.mark.parametrize("attempt", [1, 3])
    def test_hazard_2_an_event_of_another_attempt(self, attempt: int) -> None:
        words: list[Event] = [
            said(kind, attempt=attempt, step=0) for kind in (STARTED, STEP_FINISHED, COMPLETED, FAILED)
        ]
        stops: list[Event] = [replace(stop, attempt=attempt) for stop in (LOST, OFF, VERIFY_LOST)]
        rest: list[Event] = [values.machine_started(attempt=attempt), values.order_failed(attempt=attempt)]
        for state in (S.PREPARING, S.PROVISIONING, S.EXPORTING, S.VERIFYING, S.PUBLISHING):
            for event in (*words, *stops, *rest):
                assert decide(at(state, attempt=2), event).ignored

    @pytest.mark.parametrize("kind", [COMPLETED, FAILED, STARTED, STEP_FINISHED])
    def test_the_build_vm_cannot_speak_for_the_verifying_one(self, kind: str) -> None:
        for state in (S.PREPARING, S.PROVISIONING, S.EXPORTING):
            assert decide(verify_at(state), said(kind, "verify", step=0, sequence=9)).ignored
        assert decide(verify_at(S.VERIFYING), said(COMPLETED, "build")).ignored

    def test_a_verification_counts_when_its_vm_was_seen_to_run_and_to_stop(self) -> None:
        stop = values.machine_stopped(time=LATER, phase="verify")
        assert decide(verify_at(S.VERIFYING, zone="here"), stop).ignored
        claimed, _orders = advance(verify_at(S.VERIFYING), said(COMPLETED, "verify"))
        assert (claimed.state, claimed.claimed) == (S.VERIFYING, True)
        assert decide(claimed, stop).ignored
        placed, _orders = advance(claimed, values.machine_started(phase="verify"))
        assert decide(placed, replace(stop, phase="build")).ignored
        assert decide(placed, replace(stop, attempt=2)).ignored
        assert advance(placed, stop)[0].state is S.PUBLISHING

    def test_a_claim_is_made_once_and_withdrawn_by_a_failure(self) -> None:
        claimed = verify_at(S.VERIFYING, zone="here", claimed=True)
        assert decide(claimed, said(COMPLETED, "verify", sequence=9)).ignored
        assert advance(claimed, said(FAILED, "verify"))[0].outcome is O.FAILED

    def test_a_claim_is_its_own_vm_s(self) -> None:
        again, _orders = advance(verify_at(S.VERIFYING, zone="here"), VERIFY_LOST)
        assert (again.attempt, again.claimed, again.zone) == (2, False, "")

    def test_a_vm_that_claims_and_does_not_stop_is_silent_in_the_end(self) -> None:
        """No other one takes its place: it would do the same, and what it claims is on its way to be seen."""
        hung, _orders = advance(verify_at(S.VERIFYING, zone="here", claimed=True), AT_300)
        assert (hung.outcome, hung.attempt) == (O.FAILED, 1)
        assert hung.reason == "no sign of life from the VM for 300 s, and it has not stopped"

    def test_a_stop_whose_last_word_is_on_its_way(self) -> None:
        """The claim is taken from the report itself, which is signed; the stop alone decides nothing."""
        for claim in (COMPLETED, FAILED):
            assert decide(at(S.PROVISIONING), replace(LOST, claim=claim)).ignored


class TestBegin:
    def test_a_good_request_gives_the_first_order(self) -> None:
        decision = begin(values.requested())
        build = decision.build
        assert (build.state, build.outcome, build.attempt) == (S.PREPARING, None, 1)
        assert build.ledger == (MACHINE, DISK)
        assert [(order.number, order.kind, order.attempt) for order in build.outbox] == [(1, "create_resources", 1)]
        assert (build.deadline, build.wake_at) == (values.NOON + 3600, values.NOON + PATIENCE)

    def test_a_bad_request_fails_at_once(self) -> None:
        build = begin(values.rejected()).build
        assert (build.state, build.outcome, build.plan, build.ledger) == (S.CLEANING, O.FAILED, None, ())

    def test_the_same_content_is_unchanged(self) -> None:
        build = begin(values.requested(unchanged=values.image_record())).build
        assert (build.state, build.outcome, build.image) == (S.CLEANING, O.UNCHANGED, values.image_record())
        assert build.ledger == ()


class TestHazards:
    def test_hazard_4_a_vm_that_is_not_made_yet_is_not_silent(self) -> None:
        """The order's patience counts while a worker waits for a zone with room, not the VM's."""
        assert decide(verify_at(S.VERIFYING, zone=""), AT_300).ignored
        build, _ = advance(verify_at(S.VERIFYING, zone=""), values.machine_started(phase="verify", time=LATER + 500))
        assert decide(build, values.ticked(time=LATER + 799)).ignored
        assert advance(build, values.ticked(time=LATER + 800))[0].attempt == 2

    def test_hazard_4_a_vm_at_work_is_not_asked_for_again(self) -> None:
        build = verify_at(S.VERIFYING, zone="here", last_seen=values.NOON + 890)
        assert decide(build, AT_900).ignored

    def test_hazard_4_a_new_vm_is_not_looked_for_in_the_old_one_s_zone(self) -> None:
        assert advance(at(S.PROVISIONING), LOST)[0].zone == ""
        assert advance(verify_at(S.EXPORTING), values.image_exported())[0].zone == ""
        assert advance(at(S.EXPORTING), values.image_exported())[0].zone == "here"

    def test_hazard_9_before_the_commit_the_deadline_and_a_person_end_a_publication_and_after_it_neither(self) -> None:
        build = at(S.PUBLISHING)
        assert advance(build, AT_DEADLINE)[0].outcome is O.TIMED_OUT
        assert advance(build, CANCEL)[0].outcome is O.CANCELLED
        build, _ = advance(build, values.publication_staged(files=(FILE,)))
        assert (build.committed, build.files) == (values.NOON + 26, (FILE,))
        assert decide(build, CANCEL).ignored
        again, orders = advance(build, AT_DEADLINE)
        assert (again.outcome, [order.kind for order in orders]) == (None, ["label_image", "clean_up"])

    def test_hazard_1_nothing_is_shown_before_the_commit(self) -> None:
        assert decide(at(S.PUBLISHING), values.image_published()).ignored
        assert decide(at(S.PUBLISHING, committed=LATER), values.publication_staged()).ignored
        assert decide(at(S.PUBLISHING, committed=LATER), values.image_labelled()).ignored

    def test_hazard_10_a_refused_deprecation_is_a_warning_and_tried_again_for_a_day(self) -> None:
        build, _ = advance(retiring(), REFUSED)
        text = "older images of the family are not deprecated: 403: old is locked"
        assert (build.warnings, advance(build, REFUSED)[0].warnings) == ((text,), (text,))
        build, _ = advance(build, values.cleaned_up())
        assert (build.state, build.ledger) == (S.CLEANING, ())
        build, orders = advance(build, values.ticked(time=values.NOON + 86_399))
        assert [order.kind for order in orders] == ["deprecate_images", "clean_up"]
        build, _ = advance(build, A_DAY_LATER)
        build, _ = advance(build, values.cleaned_up(event_id=f"o{build.orders}-CleanedUp"))
        assert (build.state, build.outcome, build.warnings[:-1]) == (S.FINISHED, O.SUCCEEDED, (text,))

    def test_hazard_7_an_earlier_clean_up_does_not_finish_a_build_whose_newest_one_is_under_way(self) -> None:
        """Or that one, which looked before, would say last what is left."""
        build, _ = advance(at(S.CLEANING, orders=4, cleaning=3), AT_900)
        assert build.cleaning == 5
        early, _ = advance(build, values.cleaned_up(event_id="o3-CleanedUp"))
        assert (early.state, early.ledger) == (S.CLEANING, ())
        last, _ = advance(early, values.cleaned_up(event_id="o5-CleanedUp"))
        assert last.state is S.FINISHED

    @pytest.mark.parametrize("event", [AT_DEADLINE, values.order_failed(order="label_image", time=LATER)])
    def test_hazard_14_an_image_that_is_not_published_waits_for_a_new_build(self, event: Event) -> None:
        image = LedgerEntry("image", "hello-20261120", "local")
        build, _ = advance(at(S.EXPORTING, ledger=(MACHINE, DISK, image)), values.image_exported())
        over, _ = advance(build, replace(event, time=AT_DEADLINE.time))
        assert over.kept_until == over.updated + KEPT_SECONDS
        assert over.reason.endswith(
            "; image hello-20261120 is finished and in no family, and is kept until "
            "2026-11-27 13:00 UTC: build the same spec again to publish it"
        )
        assert advance(over, values.cleaned_up())[0].ledger == (replace(image, keep=True),)

    def test_hazard_1_the_image_of_a_cancelled_build_goes(self) -> None:
        image = LedgerEntry("image", "hello-20261120", "local", keep=True)  # as the release before has it
        over, _ = advance(at(S.PUBLISHING, ledger=(image,)), CANCEL)
        assert (over.kept_until, over.reason) == (0.0, "cancelled by a person")
        assert over.ledger == (replace(image, keep=False),)

    def test_an_image_that_fails_its_verification_is_kept_where_the_plan_wants_that(self) -> None:
        plan = replace(verifying_plan(), keep_failed=True)
        image = LedgerEntry("image", "hello-20261120", "local")
        build, _ = advance(at(S.EXPORTING, plan=plan, ledger=(MACHINE, DISK, image)), values.image_exported())
        over, _ = advance(build, said(FAILED, "verify"))
        assert (over.outcome, over.unfit, over.kept_until) == (O.FAILED, True, over.updated + KEPT_SECONDS)
        assert "; image hello-20261120 has not passed its verification and is in no family, and is kept " in over.reason
        assert advance(over, values.cleaned_up())[0].ledger == (replace(image, keep=True),)
        late, _ = advance(build, AT_DEADLINE)
        assert (late.outcome, late.unfit, late.kept_until) == (O.TIMED_OUT, False, 0.0)
        cancelled, _ = advance(build, CANCEL)
        assert (cancelled.unfit, cancelled.kept_until) == (False, 0.0)

    def test_hazard_14_only_a_verified_image_is_kept(self) -> None:
        build, _ = advance(verify_at(S.EXPORTING), values.image_exported())
        assert not any(entry.keep for entry in build.ledger)
        over, _ = advance(build, said(FAILED, "verify"))
        assert advance(over, values.cleaned_up())[0].ledger == ()


class TestLedger:
    def test_a_vm_that_was_made_too_late_is_written_down_again(self) -> None:
        build, orders = advance(at(S.CLEANING, ledger=()), values.machine_started())
        assert build.ledger == (MACHINE, DISK)
        assert [order.kind for order in orders] == ["clean_up"]

    def test_a_vm_that_was_never_asked_for_is_not(self) -> None:
        assert decide(at(S.CLEANING), values.machine_started(attempt=2)).ignored
        assert decide(at(S.CLEANING), values.machine_started(phase="party")).ignored

    def test_what_remains_is_known_by_its_name(self) -> None:
        """The worker may have looked before the zone was known."""
        kept = keep_remaining(at(S.CLEANING), values.cleaned_up(remaining=(replace(DISK, zone="here"),)))
        assert kept.ledger == (DISK,)

    def test_the_next_attempt_keeps_the_disk_and_adds_a_machine(self) -> None:
        build, _ = advance(at(S.PROVISIONING), LOST)
        second = LedgerEntry("machine", resources.machine_name(build.id, 2, "build"), "local")
        assert build.ledger == (MACHINE, DISK, second)


def test_late_news_of_the_build_vm_is_none_of_the_vm_that_writes_files() -> None:
    """Its zone would be taken for that one's, which is not there, and so for lost."""
    late = decide(exporting(), values.machine_started(time=LATER))
    assert (late.build, late.ignored) == (exporting(), "MachineStarted changes nothing in a build that is exporting")


def test_a_vm_that_has_written_files_and_said_so_may_be_seen_stopped_without_its_word() -> None:
    """Compute Engine may have no report port of it any more, and the comparison may have to be tried again."""
    written = replace(exporting("here"), claimed=True)
    for how in ("powered-off", "lost"):
        assert decide(written, values.machine_stopped(phase=EXPORT, claim=None, how=how)).ignored
    overdue = values.ticked(time=written.wake_at, heard=True)
    assert [order.kind for order in decide(written, overdue).orders] == ["export_image"]


@pytest.mark.parametrize("name", list(pages()))
def test_the_pages_are_made_from_the_table(name: str) -> None:
    written = (Path(__file__).parents[3] / "docs" / name).read_text(encoding="utf-8")
    assert written == pages()[name], "run: python -m docs.generate_lifecycle"


def test_guards_that_always_hold_come_last() -> None:
    """Of the rules for one event in one state, nothing comes after one that always holds."""
    closed: set[tuple[State, type]] = set()
    for rule in RULES:
        for state in rule.at:
            assert (state, rule.on) not in closed
            if rule.when is always:
                closed.add((state, rule.on))
