"""A machine that is left to a person after a step has failed for good: the build can only fail."""

from __future__ import annotations

from dataclasses import replace

from provisioner.protocol import COMPLETED, STARTED, STEP_FAILED, STEP_FINISHED, STEP_STARTED
from shared.build.plan import Plan
from shared.engine.lifecycle import advance
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
