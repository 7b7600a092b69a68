"""What specs with triggers are built for: once for each cause."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import LOST, Build, Outcome, State
from shared.build.plan import CachePlan
from shared.build.trigger import Trigger, pause_request, request_of
from shared.planning.triggers import (
    MOST_OPEN,
    UNBEGUN_SECONDS,
    accept,
    advance_trigger,
    anew,
    edit,
    in_turn,
    is_older,
    resume_paused,
    unanswered,
)
from tests.world import values

DAY = 86_400.0
TRIGGER = values.trigger()


def kinds(trigger: Trigger) -> list[str]:
    return [each.kind for each in trigger.asked]


def ended(trigger: Trigger) -> dict[str, Build | None]:
    """All that was asked for, at its end."""
    return outcomes(trigger, Outcome.SUCCEEDED)


def test_nothing_is_asked_for_without_a_cause() -> None:
    assert advance_trigger(TRIGGER, {}, "4711", values.NOON + 7 * DAY - 1) == TRIGGER
    assert advance_trigger(TRIGGER, {}, "", values.NOON + DAY) == TRIGGER, (
        "a source that cannot be looked up is no other one"
    )
    assert advance_trigger(replace(TRIGGER, source_changed=False), {}, "4712", values.NOON) == replace(
        TRIGGER, source_changed=False
    )


def test_another_source_is_one_cause() -> None:
    once = advance_trigger(TRIGGER, {}, "4712", values.NOON + 60)
    [asked] = once.asked
    assert (asked.kind, asked.cause, asked.number) == ("source", "4712", 1)
    again = advance_trigger(once, {}, "4712", values.NOON + 120)
    assert again == once
    assert unanswered(again, {}, values.NOON + 120) == (asked,)
    assert advance_trigger(once, ended(once), "4712", values.NOON + 120) == replace(once, asked=())


def test_a_source_that_goes_back_is_another_cause_and_another_build() -> None:
    other = advance_trigger(TRIGGER, {}, "4712", values.NOON + 60)
    back = advance_trigger(other, ended(other), "4711", values.NOON + 120)
    forth = advance_trigger(back, ended(back), "4712", values.NOON + 180)
    assert [each.asked[0].cause for each in (other, back, forth)] == ["4712", "4711", "4712"]
    assert len({each.asked[0].id for each in (other, back, forth)}) == 3


def test_each_period_is_one_cause_and_missed_ones_are_made_up_for_by_one_build() -> None:
    first = advance_trigger(TRIGGER, {}, "4711", values.NOON + 7 * DAY)
    assert (kinds(first), first.period) == (["every"], 1)
    assert advance_trigger(first, {}, "4711", values.NOON + 14 * DAY - 1).period == 1
    late = advance_trigger(first, ended(first), "4711", values.NOON + 40 * DAY)
    assert (kinds(late), late.period) == (["every"], 5)
    assert advance_trigger(late, {}, "4711", values.NOON + 41 * DAY) == late


def test_two_causes_at_once_are_one_build_that_is_made_anew() -> None:
    both = advance_trigger(TRIGGER, {}, "4712", values.NOON + 7 * DAY)
    assert (kinds(both), both.seen_source, both.period) == (["every"], "4712", 1)
    assert advance_trigger(both, {}, "4712", values.NOON + 8 * DAY) == both


def test_a_clock_that_goes_back_asks_for_nothing() -> None:
    first = advance_trigger(TRIGGER, {}, "4711", values.NOON + 8 * DAY)
    assert advance_trigger(first, {}, "4711", values.NOON - DAY) == first


def test_a_clock_that_was_years_ahead_does_not_end_all_periods() -> None:
    ahead = advance_trigger(TRIGGER, {}, "4711", values.NOON + 20_000 * DAY)
    calm = advance_trigger(ahead, ended(ahead), "4711", values.NOON + 8 * DAY)
    assert (calm.asked, calm.period) == ((), 1), "what was asked for meanwhile counts for the period"
    assert kinds(advance_trigger(calm, {}, "4711", values.NOON + 14 * DAY)) == ["every"]
    slept = advance_trigger(TRIGGER, {}, "4711", values.NOON + 60 * DAY)
    assert advance_trigger(slept, {}, "4711", 0.0).period == slept.period, "before the clock was set after a start"


def test_a_period_waits_for_the_one_before_to_leave_the_queue() -> None:
    first = advance_trigger(TRIGGER, {}, "4711", values.NOON + 7 * DAY)
    queued: dict[str, Build | None] = {each: values.build(id=each, state=State.QUEUED) for each in ended(first)}
    held = advance_trigger(first, queued, "4711", values.NOON + 22 * DAY)
    assert held == first
    sourced = advance_trigger(first, queued, "4712", values.NOON + 22 * DAY)
    assert (kinds(sourced), sourced.period) == (["every", "source"], 1)
    begun: dict[str, Build | None] = {each: values.build(id=each) for each in ended(first)}
    assert advance_trigger(first, begun, "4711", values.NOON + 22 * DAY).period == 3


def test_a_build_that_its_process_has_left_is_asked_for_again_under_another_number() -> None:
    first = advance_trigger(TRIGGER, {}, "4712", values.NOON)
    lost: dict[str, Build | None] = {
        key: replace(build, reason=LOST) for key, build in outcomes(first, Outcome.CANCELLED).items() if build
    }
    again = advance_trigger(first, lost, "4712", values.NOON)
    assert [(each.number, each.kind, each.cause) for each in again.asked] == [(2, "source", "4712")]
    assert (again.failures, again.asked[0].id == first.asked[0].id) == (1, False)
    paused = advance_trigger(first, lost, "4712", values.NOON, most_failures=1)
    assert (paused.asked, paused.paused) == ((), values.NOON)


@pytest.mark.parametrize("number", [1, 2, 60, 61, 122, 500])
def test_each_trigger_is_the_first_one_of_some_minute(number: int) -> None:
    turns = [in_turn(range(number), 60.0 * minute) for minute in range(number)]
    assert {turn[0] for turn in turns} == set(range(number))
    assert all(sorted(turn) == [*range(number)] for turn in turns)


def test_there_is_no_turn_without_triggers() -> None:
    assert [*in_turn([], values.NOON)] == []


def test_who_looks_seldom_is_told_all_that_has_not_begun() -> None:
    once = advance_trigger(TRIGGER, {}, "4712", values.NOON)
    late = values.NOON + DAY + 60
    assert (unanswered(once, {}, late), unanswered(once, {}, late, each_minute=False)) == ((), once.asked)


def test_a_build_that_never_begins_is_given_up_and_does_not_stand_for_the_next_one() -> None:
    once = advance_trigger(replace(TRIGGER, every=0.0), {}, "4712", values.NOON)
    assert advance_trigger(once, {}, "4712", values.NOON + UNBEGUN_SECONDS - 1) == once
    assert advance_trigger(once, {}, "4712", values.NOON + UNBEGUN_SECONDS).asked == ()
    running: dict[str, Build | None] = {once.asked[0].id: values.build(id=once.asked[0].id)}
    assert advance_trigger(once, running, "4712", values.NOON + 2 * UNBEGUN_SECONDS) == once
    assert unanswered(once, running, values.NOON) == ()
    minutes = [minute for minute in range(100) if unanswered(once, {}, values.NOON + 60 * minute)]
    assert minutes == [*range(60), 60, 70, 80, 90]


def test_no_more_builds_are_asked_for_than_may_be_open() -> None:
    found = TRIGGER
    builds: dict[str, Build | None] = {}
    for number in range(MOST_OPEN + 3):
        found = advance_trigger(found, builds, f"{5000 + number}", values.NOON)
        builds = {each.id: values.build(id=each.id) for each in found.asked}
    assert len(found.asked) == MOST_OPEN
    assert advance_trigger(found, ended(found), "5022", values.NOON).asked[0].cause == "5022"


def test_a_removed_trigger_asks_for_nothing() -> None:
    removed = replace(TRIGGER, removed=values.NOON)
    assert advance_trigger(removed, {}, "4712", values.NOON + 30 * DAY) == removed


def test_an_upload_counts_for_its_source_and_keeps_the_periods() -> None:
    known = replace(TRIGGER, number=3, period=2, generation="1795176000")
    offered = replace(TRIGGER, generation="1795176001", accepted=values.NOON + 20 * DAY, since=0.0, number=0)
    after = accept(known, offered, "4712")
    assert (after.seen_source, after.since, after.period, after.number) == ("4712", values.NOON, 2, 3)
    other = accept(known, replace(offered, every=DAY), "4712")
    assert (other.since, other.period, other.number) == (values.NOON + 20 * DAY, 0, 3)
    first = accept(None, offered, "4711")
    assert (first.since, first.seen_source) == (values.NOON + 20 * DAY, "4711")


def test_numbers_go_on_when_a_removed_spec_comes_back() -> None:
    """The same cause then has another build."""
    before = advance_trigger(TRIGGER, {}, "4712", values.NOON)
    removed = replace(before, removed=values.NOON + 1)
    after = advance_trigger(
        accept(removed, replace(TRIGGER, accepted=values.NOON + 2), "4711"), {}, "4712", values.NOON + 3
    )
    assert [each.number for each in after.asked] == [2]
    assert after.asked[0].id != before.asked[0].id


def test_later_uploads_are_told_by_their_generation() -> None:
    assert is_older(replace(TRIGGER, generation="9"), replace(TRIGGER, generation="10"))
    assert not is_older(replace(TRIGGER, generation="10"), replace(TRIGGER, generation="10"))
    assert not is_older(TRIGGER, None)
    assert not is_older(replace(TRIGGER, generation=""), replace(TRIGGER, generation=""))


def test_the_request_says_spec_number_and_cause() -> None:
    once = advance_trigger(TRIGGER, {}, "4712", values.NOON)
    assert request_of(once, once.asked[0]) == "trigger gs://goldsmith-test/specs/hello.yaml 1 source 4712"


def test_a_plan_is_carried_out_anew() -> None:
    plan = values.plan(rebuild="changed", cache=CachePlan(enabled=True, max_age=DAY))
    assert anew(plan) == replace(plan, rebuild="always", cache=CachePlan(enabled=True, max_age=0.0))


def outcomes(trigger: Trigger, outcome: Outcome) -> dict[str, Build | None]:
    return {each.id: values.build(id=each.id, state=State.FINISHED, outcome=outcome) for each in trigger.asked}


def fail(trigger: Trigger, times: int, outcome: Outcome = Outcome.FAILED) -> Trigger:
    """Let builds of new sources end so, one after the other."""
    for number in range(times):
        asked = advance_trigger(trigger, {}, f"{trigger.number}-{number}", values.NOON)
        trigger = advance_trigger(asked, outcomes(asked, outcome), "", values.NOON)
    return trigger


def test_after_failures_in_a_row_a_trigger_is_paused_until_it_is_resumed_or_the_spec_changed() -> None:
    four = fail(TRIGGER, 4)
    assert (four.failures, four.paused, four.number) == (4, 0.0, 4)
    five = fail(four, 1, Outcome.TIMED_OUT)
    assert (five.failures, five.paused, five.number) == (5, values.NOON, 5)
    assert advance_trigger(five, {}, "4799", values.NOON + 30 * DAY) == five
    assert kinds(advance_trigger(resume_paused(five), {}, "4799", values.NOON + 30 * DAY)) == ["every"]
    again = replace(TRIGGER, generation="1795176001")
    assert accept(five, again, "4799").paused, "the same spec once more"
    changed = accept(five, replace(again, digest="other"), "4799")
    assert (changed.paused, changed.failures) == (0.0, 0)


def test_pauses_have_names_of_their_own_and_one_of_the_release_before_keeps_its_name() -> None:
    first = fail(TRIGGER, 5)
    second = fail(resume_paused(first), 5)
    again = replace(second, number=first.number)
    assert pause_request(first) != pause_request(again)
    assert pause_request(replace(first, pauses=0)) == f"trigger {first.spec} paused {first.number}"
    assert accept(first, replace(TRIGGER, digest="other"), "4799").pauses == 1


def test_what_has_not_failed_ends_the_row_and_a_cancelled_build_is_no_failure() -> None:
    four = fail(TRIGGER, 4)
    assert fail(four, 1, Outcome.CANCELLED).failures == 4
    assert fail(four, 1, Outcome.UNCHANGED).failures == 0
    assert fail(four, 1, Outcome.SUCCEEDED).failures == 0
    asked = advance_trigger(four, {}, "4799", values.NOON)
    assert advance_trigger(asked, {}, "", values.NOON + UNBEGUN_SECONDS).failures == 5


def test_a_file_that_was_changed_is_a_cause_of_its_own() -> None:
    known = replace(TRIGGER, spec_changed=True, seen_digest=TRIGGER.digest)
    assert advance_trigger(edit(known, known), {}, "4711", values.NOON) == known
    changed = edit(known, replace(known, digest="d2", text="other"))
    asked = advance_trigger(changed, {}, "4711", values.NOON)
    assert [(each.kind, each.cause) for each in asked.asked] == [("spec", "d2")]
    assert advance_trigger(asked, {}, "4711", values.NOON) == asked
    silent = edit(replace(known, spec_changed=False), replace(known, digest="d2", spec_changed=False))
    assert advance_trigger(silent, {}, "4711", values.NOON).asked == ()
