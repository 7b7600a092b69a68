"""What is left to a person after a step has failed for good: on one machine the machine, on Google Cloud its disk."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.protocol import COMPLETED, FAILED, REPORT_KINDS, STARTED, STEP_FAILED, STEP_FINISHED, STEP_STARTED
from shared.build.build import Build, LedgerEntry
from shared.build.events import CleanedUp, Event
from shared.build.plan import Plan
from shared.engine.lifecycle import advance, decide
from shared.engine.reasons import NO_ZONE
from shared.engine.step_table import waiting
from tests.shared.engine.test_lifecycle import LATER, LOST, O, S, at, said
from tests.world import values


class TestHold:
    """A machine that is left to a person after a step has failed for good."""

    FAILURE = said(STEP_FAILED, step=0, sequence=4, final=True, message="exit status 3")

    @staticmethod
    def holding(seconds: float = 600.0) -> Plan:
        plan = values.plan()
        return replace(plan, machine=replace(plan.machine, hold=seconds))

    def test_the_deadline_is_that_of_the_hold_and_the_reason_is_the_failure(self) -> None:
        build, orders = advance(at(S.PROVISIONING, plan=self.holding()), self.FAILURE)
        assert (build.state, build.deadline, orders) == (S.PROVISIONING, LATER + 600, ())
        ended, _orders = advance(build, values.ticked(time=LATER + 600))
        assert (ended.outcome, ended.reason) == (O.FAILED, f"step '{build.steps[0].name}' failed: exit status 3")

    def test_without_a_hold_in_the_plan_and_for_a_try_that_another_one_follows_nothing_is_held(self) -> None:
        assert not advance(at(S.PROVISIONING), self.FAILURE)[0].held
        again = said(STEP_FAILED, step=0, sequence=4, message="exit status 3")
        assert not advance(at(S.PROVISIONING, plan=self.holding()), again)[0].held

    def test_what_a_hand_has_touched_is_never_published(self) -> None:
        """A person who is root there can read the key and sign whatever the provisioner could."""
        build = advance(at(S.PROVISIONING, plan=self.holding()), self.FAILURE)[0]
        for kind in (STARTED, STEP_STARTED, STEP_FINISHED, COMPLETED):
            build, orders = advance(build, said(kind, step=0, sequence=9))
            assert (build.state, orders) == (S.PROVISIONING, ())
        build = advance(build, LOST)[0]
        assert (build.state, build.outcome) == (S.CLEANING, O.FAILED)

    def test_silence_ends_no_hold(self) -> None:
        build = advance(at(S.PROVISIONING, plan=self.holding(9e9)), self.FAILURE)[0]
        assert advance(build, values.ticked(time=LATER + 80_000))[0].state is S.PROVISIONING


class TestKeptDisk:
    """The boot disk of a step that failed on Google Cloud: announced, kept until its time is over, then deleted."""

    WORD = said(FAILED, step=0, sequence=5, final=True, message="step 'greet' failed: exit status 3")
    PLAN = replace(values.plan(), keep_disk=7200.0)
    BOOT = f"gs-{values.BUILD_ID}-a1-boot"

    def failed(self, **changes: object) -> Build:
        return advance(at(S.PROVISIONING, **{"plan": self.PLAN, **changes}), self.WORD)[0]

    def held(self) -> Build:
        failed = self.failed()
        return advance(failed, cleaned(failed))[0]

    def test_it_is_kept_alone_and_told_once(self) -> None:
        failed = self.failed()
        assert (failed.state, failed.outcome, failed.disk_until) == (S.CLEANING, O.FAILED, LATER + 7200)
        assert [(entry.name, entry.zone) for entry in failed.ledger if entry.keep] == [(self.BOOT, "here")]
        held, orders = advance(failed, cleaned(failed))
        assert (held.state, held.ended, held.finished, held.wake_at) == (S.HELD, True, False, LATER + 7200)
        assert [order.kind for order in orders] == ["announce"]
        assert advance(held, values.ticked(time=LATER + 7199))[0] == held

    @pytest.mark.parametrize("event", [values.ticked(time=LATER + 7200), values.cancel_requested(time=LATER + 60)])
    def test_it_is_deleted_once_its_time_is_over_or_a_person_says_so(self, event: Event) -> None:
        released, orders = advance(self.held(), event)
        assert [order.kind for order in orders] == ["clean_up"]
        assert [(entry.name, entry.keep) for entry in released.ledger] == [(self.BOOT, False)]
        assert advance(released, event)[0] == released
        finished, orders = advance(released, cleaned(released))
        assert (finished.state, finished.outcome, finished.ledger, orders) == (S.FINISHED, O.FAILED, (), ())

    def test_one_that_cannot_be_deleted_stays_in_the_ledger_and_is_tried_again(self) -> None:
        """Because the VM of a person has it, say."""
        released = advance(self.held(), values.ticked(time=LATER + 7200))[0]
        stuck = advance(released, replace(cleaned(released), time=LATER + 7210, remaining=released.ledger))[0]
        assert (stuck.state, stuck.ledger, stuck.wake_at) == (S.HELD, released.ledger, LATER + 7270)
        assert [order.kind for order in advance(stuck, values.ticked(time=LATER + 7270))[1]] == ["clean_up"]

    def test_a_clean_up_from_before_strikes_nothing(self) -> None:
        held = self.held()
        released = advance(held, values.cancel_requested())[0]
        assert advance(released, replace(cleaned(held), time=LATER + 60))[0] == released

    def test_of_a_verification_its_own_vm_s_disk_is_kept(self) -> None:
        plan = replace(self.PLAN, verify_steps=self.PLAN.steps)
        disk = LedgerEntry("disk", f"gs-{values.BUILD_ID}-a2-verifyboot", "local")
        verifying = at(
            S.VERIFYING, plan=plan, zone="there", attempt=2, ledger=(disk,), verify_steps=waiting(plan.steps)
        )
        told = values.reported(time=LATER, kind=FAILED, phase="verify", attempt=2, step=0, sequence=5, final=True)
        assert advance(verifying, told)[0].ledger == (replace(disk, zone="there", keep=True),)

    def test_nothing_is_kept_of_other_ends_or_unasked(self) -> None:
        last = said(FAILED, sequence=5, message="/etc/x was left by the build")
        for event in (last, values.cancel_requested(), values.ticked(time=values.NOON + 3600), LOST):
            ended = advance(at(S.PROVISIONING, plan=self.PLAN, attempt=1, deadline=LATER), event)[0]
            assert not any(entry.keep for entry in ended.ledger)
        assert not self.failed(plan=values.plan()).disk_until

    def test_a_disk_of_no_known_zone_is_not_kept_and_that_is_told(self) -> None:
        failed = self.failed(zone="")
        assert not any(entry.keep for entry in failed.ledger)
        assert failed.warnings == (NO_ZONE,)

    def test_its_key_is_of_no_use(self) -> None:
        """The disk may have the VM's key all the same; no report of any kind changes a build that is held."""
        held = self.held()
        for kind in REPORT_KINDS:
            assert decide(held, said(kind, step=0, sequence=9, final=True)).ignored

    def test_a_vm_that_was_made_too_late_is_deleted_and_the_disk_stays(self) -> None:
        late, orders = advance(self.held(), values.machine_started(time=LATER + 60))
        assert [order.kind for order in orders] == ["clean_up"]
        assert {(entry.kind, entry.keep) for entry in late.ledger} == {("disk", True), ("machine", False)}
        again = advance(late, cleaned(late))[0]
        assert (again.state, [entry.name for entry in again.ledger]) == (S.HELD, [self.BOOT])


def cleaned(build: Build) -> CleanedUp:
    """The newest clean-up has deleted all that is not kept."""
    return values.cleaned_up(time=LATER + 10, event_id=f"o{build.cleaning}-CleanedUp")
