"""Time: a VM that moves partitions says beforehand for how long, and its silence means nothing until then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.protocol import (
    DISK_WANTED,
    HEARTBEAT,
    REBOOTING,
    SLOWEST_MOVE,
    STARTED,
    STEP_FAILED,
    STEP_FINISHED,
)
from shared.build.build import Build, Outcome, State
from shared.build.events import Reported
from shared.build.plan import Plan
from shared.engine.lifecycle import CLEANING_PATIENCE, advance, begin, decide
from tests.shared.engine.test_lifecycle import DISK, LATER, O, S, at
from tests.world import values

SILENCE = 300.0  # the plan's


def said(kind: str, time: float, seconds: float | None = None, sequence: int = 1) -> Reported:
    """A report of the build VM that came at a time."""
    return values.reported(time=time, kind=kind, seconds=seconds, sequence=sequence)


@pytest.fixture
def build() -> Build:
    """A build whose VM is at work."""
    found = replace(values.build(), state=State.PROVISIONING, last_seen=values.NOON)
    assert found.plan is not None
    assert found.plan.silence == SILENCE
    plan = replace(found.plan, attempts=1)  # so that a silence ends it
    return replace(found, plan=plan, deadline=values.NOON + 100_000)


def with_another(build: Build, plan: Plan) -> Build:
    """The same with a second attempt."""
    return replace(build, plan=replace(plan, attempts=2))


def outcome_at(build: Build, seconds: float) -> Outcome | None:
    """Return the build as it is so many seconds after noon."""
    return advance(build, values.ticked(time=values.NOON + seconds))[0].outcome


def test_an_announced_silence_is_none(build: Build) -> None:
    build, _ = advance(build, said(REBOOTING, values.NOON + 10, 600.0))
    assert decide(build, values.ticked(time=values.NOON + 909)).ignored
    assert outcome_at(build, 910) is Outcome.FAILED


def test_the_first_word_after_it_ends_it(build: Build) -> None:
    build, _ = advance(build, said(REBOOTING, values.NOON + 10, 600.0))
    build, _ = advance(build, said(STARTED, values.NOON + 20, sequence=2))
    assert outcome_at(build, 319) is None
    assert outcome_at(build, 320) is Outcome.FAILED


def test_a_word_from_before_it_that_comes_late_does_not(build: Build) -> None:
    build, _ = advance(build, said(REBOOTING, values.NOON + 10, 600.0, sequence=4))
    build, _ = advance(build, said(STEP_FINISHED, values.NOON + 20, sequence=3))
    assert outcome_at(build, 919) is None
    assert outcome_at(build, 920) is Outcome.FAILED


def test_an_announcement_that_comes_after_the_next_word_announces_nothing(build: Build) -> None:
    build, _ = advance(build, said(STARTED, values.NOON + 10, sequence=5))
    build, _ = advance(build, said(REBOOTING, values.NOON + 20, 600.0, sequence=4))
    assert outcome_at(build, 320) is Outcome.FAILED


def test_the_next_vm_begins_to_count_anew(build: Build) -> None:
    build, _ = advance(with_another(build, values.plan()), said(STARTED, values.NOON + 10, sequence=90))
    build, _ = advance(build, values.machine_stopped(time=values.NOON + 20, how="preempted", claim=None))
    build, _ = advance(build, values.reported(time=values.NOON + 30, kind=REBOOTING, seconds=600.0, attempt=2))
    assert outcome_at(build, 929) is None


def test_a_late_word_of_the_build_vm_is_no_sign_of_life_of_the_verifying_one(build: Build) -> None:
    verifying = replace(build, state=State.VERIFYING, zone="here", quiet=600.0, newest=2)
    late = values.reported(time=values.NOON + 100, kind=STEP_FINISHED, step=0, sequence=9)
    build, _ = advance(verifying, late)
    assert (build.last_seen, build.quiet, build.newest) == (values.NOON, 600.0, 2)
    assert build.steps[0].status == "done"
    assert build.reports == verifying.reports + 1


def test_other_reports_announce_nothing(build: Build) -> None:
    for kind, seconds in ((REBOOTING, None), (HEARTBEAT, 600.0)):
        after, _ = advance(build, said(kind, values.NOON + 10, seconds))
        assert outcome_at(after, 310) is Outcome.FAILED


def test_the_deadline_holds_all_the_same(build: Build) -> None:
    build, _ = advance(replace(build, deadline=values.NOON + 400), said(REBOOTING, values.NOON + 10, 1e9))
    assert outcome_at(build, 400) is Outcome.TIMED_OUT


def test_an_announcement_counts_before_it_is_known_that_the_vm_was_made(build: Build) -> None:
    """A VM that reclaims partition 3 says it in its very first report."""
    build, _ = advance(replace(build, state=State.PREPARING), said(REBOOTING, values.NOON + 10, 600.0))
    assert build.state is State.PROVISIONING
    assert outcome_at(build, 909) is None
    assert outcome_at(build, 910) is Outcome.FAILED


@pytest.mark.parametrize("kind", [STARTED, DISK_WANTED])
def test_the_vm_after_a_lost_one_may_have_to_move_partitions_first(build: Build, kind: str) -> None:
    """It starts from the disk of the lost one, in a maintenance boot maybe, and says nothing before that is over."""
    build, _ = advance(with_another(build, values.growing_plan()), said(kind, values.NOON + 10))
    build, _ = advance(build, values.machine_stopped(time=values.NOON + 20, how="preempted", claim=None))
    build, _ = advance(build, values.machine_started(time=values.NOON + 30, attempt=2))
    assert (build.state, build.attempt) == (State.PROVISIONING, 2)
    assert build.plan is not None
    moving = (build.plan.machine.disk_size_gb << 30) / SLOWEST_MOVE
    assert moving > 1000
    assert outcome_at(build, 29 + SILENCE + moving) is None
    assert outcome_at(build, 30 + SILENCE + moving) is Outcome.FAILED


def test_a_vm_that_moves_nothing_has_no_such_time(build: Build) -> None:
    build, _ = advance(
        with_another(build, values.plan()), values.machine_stopped(time=values.NOON + 20, how="preempted", claim=None)
    )
    build, _ = advance(build, values.machine_started(time=values.NOON + 30, attempt=2))
    assert outcome_at(build, 330) is Outcome.FAILED


class TestWaking:
    def test_a_stuck_clean_up_is_repeated_ever_more_rarely(self) -> None:
        build = at(S.CLEANING, outcome=O.TIMED_OUT)
        waits = []
        for hours in (1, 2, 25, 24 * 30):
            time = values.NOON + 3600 * hours
            after, _ = advance(build, values.cleaned_up(time=time, remaining=(DISK,)))
            waits.append(after.wake_at - time)
        assert waits == [CLEANING_PATIENCE, 150, 3600, 3600 * 719 / 24]

    def test_a_deadline_is_not_slept_through(self) -> None:
        soon = values.requested(plan=values.plan(timeout=60.0))
        assert begin(soon).build.wake_at == values.NOON + 60
        build, _ = advance(begin(soon).build, values.machine_started())
        assert build.wake_at == values.NOON + 60

    def test_a_heartbeat_alone_moves_no_state(self) -> None:
        build, orders = advance(at(S.PROVISIONING), said(HEARTBEAT, LATER, sequence=0))
        assert (build.state, orders, build.last_seen) == (S.PROVISIONING, (), LATER)

    def test_time_that_runs_backwards_on_another_server_is_borne(self) -> None:
        build = at(S.PROVISIONING, updated=LATER + 5, last_seen=LATER + 5)
        after, _ = advance(build, said(STEP_FAILED, LATER, sequence=2))
        assert (after.updated, after.last_seen) == (LATER + 5, LATER + 5)
