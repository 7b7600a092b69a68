"""Publication in the table: what is committed has a day, and what fails after that is taken back, and told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import LedgerEntry, State
from shared.build.events import Event
from shared.build.resources import image_document
from shared.engine.keeping import KEPT_SECONDS
from shared.engine.lifecycle import advance, begin, decide
from tests.shared.engine.test_lifecycle import A_DAY_LATER, AT_900, LATER, O, S, at, retiring, withdrawing
from tests.world import values


def test_hazard_1_a_publication_that_was_committed_has_a_day_whatever_the_deadline_is() -> None:
    build, _ = advance(at(S.PUBLISHING, deadline=values.NOON + 60), values.publication_staged(time=values.NOON))
    for seconds in range(900, 86_400, 900):
        build, orders = advance(build, values.ticked(time=values.NOON + seconds))
        assert (build.outcome, [order.kind for order in orders]) == (None, ["label_image", "clean_up"])
    assert build.wake_at == values.NOON + 86_400
    assert decide(build, values.ticked(time=build.wake_at - 1)).ignored
    over, _ = advance(build, values.ticked(time=build.wake_at))
    assert over.outcome is O.FAILED
    assert "label_image: the publication was not complete 24 h after it was committed" in over.reason


def test_hazard_1_a_publication_that_slept_for_days_with_its_machine_is_tried_again_before_it_is_withdrawn() -> None:
    week = values.NOON + 7 * 86_400
    build, orders = advance(at(S.PUBLISHING, committed=values.NOON), values.ticked(time=week))
    assert (build.outcome, [order.kind for order in orders]) == (None, ["label_image", "clean_up"])
    assert decide(build, values.ticked(time=week + 899)).ignored
    assert advance(build, values.image_published(time=week + 1))[0].outcome is O.SUCCEEDED
    assert advance(build, values.ticked(time=week + 900))[0].outcome is O.FAILED


def test_hazard_10_a_deprecation_that_was_given_up_is_told_and_known_to_be_done_in_part() -> None:
    build, _ = advance(retiring(()), A_DAY_LATER)
    assert build.warnings == ("older images of the family may not all be deprecated: that was tried for a day",)
    assert (build.retiring, build.retired_in_part, build.replaced) == (False, True, ())


def test_hazard_1_a_failed_publication_is_taken_back_before_the_build_is_finished() -> None:
    build = at(S.PUBLISHING, committed=values.NOON)
    build, _ = advance(build, values.order_failed(order="label_image", time=LATER))
    assert build.withdrawing == LATER + 86_400
    clean = f"o{build.orders}-CleanedUp"
    build, _ = advance(build, values.cleaned_up(event_id=clean))
    assert (build.state, build.ledger) == (S.CLEANING, ())
    left = ("gs://b/x.json: 403",)
    build, [order] = advance(build, values.publication_withdrawn(left=left))
    assert build.warnings == ("shown by the publication that failed, and not taken back: gs://b/x.json: 403",)
    assert decide(build, values.cleaned_up(event_id=clean)).build.state is S.CLEANING
    build, _ = advance(build, values.cleaned_up(event_id=f"o{order.number}-CleanedUp"))
    assert (build.state, build.outcome) == (S.FINISHED, O.FAILED)


def test_hazard_1_what_cannot_be_taken_back_for_a_day_is_told() -> None:
    build, _ = advance(withdrawing(), A_DAY_LATER)
    assert (build.withdrawing, len(build.warnings)) == (0.0, 1)
    assert decide(build, values.publication_withdrawn()).ignored


def test_hazard_14_an_image_that_could_not_be_kept_is_not_said_to_be() -> None:
    image = LedgerEntry("image", "hello-20261120", "local")
    build, _ = advance(at(S.EXPORTING, ledger=(image,)), values.image_exported())
    build, _ = advance(build, values.order_failed(order="label_image", reason="403"))
    assert "is kept until" in build.reason
    lost = values.cleaned_up(event_id=f"o{build.orders}-CleanedUp", lost="image hello-20261120 is gone")
    build, _ = advance(build, lost)
    assert (build.state, build.kept_until, build.ledger) == (S.FINISHED, 0.0, ())
    assert build.reason == "label_image: 403; image hello-20261120 is gone"


def test_hazard_1_a_clean_up_while_a_publication_takes_long_decides_nothing() -> None:
    build = at(S.PUBLISHING, committed=values.NOON, deadline=values.NOON + 86_400)
    build, _ = advance(build, AT_900)
    cleaned = values.cleaned_up(event_id=f"o{build.orders}-CleanedUp", remaining=build.ledger)
    refused = values.order_failed(order="clean_up", time=LATER)
    assert (decide(build, cleaned).build, decide(build, refused).build) == (build, build)
    done, _ = advance(build, values.image_published())
    late, _ = advance(done, cleaned)
    assert (late.state, late.ledger) == (S.CLEANING, done.ledger)


FAILS = values.order_failed(order="export_image", reason="no space: /out", time=LATER)
IMAGE = LedgerEntry("image", "hello-20261120", "local")


@pytest.mark.parametrize(
    ("state", "event", "seconds"),
    [
        (S.EXPORTING, FAILS, 7200.0),
        (S.EXPORTING, values.ticked(time=values.NOON + 3600), 7200.0),
        (S.VERIFYING, values.machine_stopped(phase="verify", claim=None), 7200.0),
        (S.PUBLISHING, values.order_failed(order="label_image", time=LATER), KEPT_SECONDS),
        (S.EXPORTING, values.cancel_requested(), 0.0),
        (S.VERIFYING, values.cancel_requested(), 0.0),
    ],
)
def test_hazard_14_an_image_that_failed_late_waits_for_a_retry(state: State, event: Event, seconds: float) -> None:
    plan = replace(values.plan(), verify_steps=values.plan().steps, retry_for=7200.0)
    build = at(state, plan=plan, ledger=(IMAGE,), image=values.image_record())
    over, _ = advance(build, event)
    until = over.updated + seconds if seconds else 0.0
    assert (over.kept_until, over.failed_in) == (until, state if seconds else None)
    assert over.ledger == (replace(IMAGE, keep=seconds > 0),)
    known = image_document(over)
    assert known is not None
    if seconds:
        assert (known.state, known.until) == ("kept" if state is S.PUBLISHING else "held", until)
    nothing, _ = advance(replace(build, plan=replace(plan, retry_for=0.0)), event)
    assert nothing.kept_until == (until if state is S.PUBLISHING else 0.0)


def test_hazard_14_without_an_image_nothing_waits() -> None:
    over, _ = advance(at(S.EXPORTING, plan=values.plan(retry_for=7200.0), ledger=(IMAGE,)), FAILS)
    assert (over.kept_until, over.ledger) == (0.0, (IMAGE,))


def test_hazard_14_an_image_that_was_taken_up_waits_again_where_its_files_cannot_be_written() -> None:
    """It has passed all that its spec asks for, for an earlier build."""
    plan, image = values.plan(verify_steps=values.plan().steps), values.image_record()
    over, _ = advance(begin(values.requested(plan=plan, replaces="first", taken_up=image)).build, FAILS)
    known = image_document(over)
    assert known is not None
    assert (known.state, known.until) == ("kept", over.updated + KEPT_SECONDS)
    assert over.ledger == (replace(IMAGE, keep=True),)
    assert "build the same spec again to publish it" in over.reason
    again = values.requested(plan=plan, replaces="first", retry_of="first", taken_up=image, verify_again=True)
    assert advance(begin(again).build, FAILS)[0].kept_until == 0.0  # it has not passed, and nothing waits for a retry


RETRIED = values.plan(verify_steps=values.plan().steps, retry_for=7200.0)
FAILED_VERIFY = values.machine_stopped(phase="verify", claim=None)


@pytest.mark.parametrize(("retry_for", "state"), [(0.0, "kept"), (7200.0, "held")])
def test_an_image_that_is_kept_to_be_looked_at_is_held_for_its_retry(retry_for: float, state: str) -> None:
    plan = replace(values.plan(), verify_steps=values.plan().steps, keep_failed=True, retry_for=retry_for)
    over, _ = advance(at(S.VERIFYING, plan=plan, ledger=(IMAGE,), image=values.image_record()), FAILED_VERIFY)
    known = image_document(over)
    assert known is not None
    assert (over.unfit, known.state, known.until) == (True, state, over.updated + KEPT_SECONDS)


def test_the_image_of_a_finished_build_is_given_up_once() -> None:
    over, _ = advance(at(S.VERIFYING, ledger=(IMAGE,), image=values.image_record(), plan=RETRIED), FAILED_VERIFY)
    finished = replace(over, state=S.FINISHED)
    assert "builds retry" in finished.reason
    after, orders = advance(finished, values.cancel_requested(time=LATER))
    known = image_document(after)
    assert known is not None
    assert (orders, after.state, known.state, known.until) == ((), S.FINISHED, "held", LATER)
    assert after.reason.endswith("; its image is not kept any longer: cancelled by a person")
    assert "builds retry" not in after.reason
    assert decide(after, values.cancel_requested(event_id="again", time=LATER + 1)).ignored


def test_an_image_that_is_told_twice_is_exported_once() -> None:
    told = values.image_made()
    build, orders = advance(at(S.EXPORTING), told)
    assert ([order.kind for order in orders], build.image) == (["export_image"], told.image)
    assert decide(build, replace(told, event_id="o9-ImageMade")).orders == ()


@pytest.mark.parametrize(
    ("verify", "again", "to"),
    [(True, True, S.VERIFYING), (True, False, S.PUBLISHING), (False, True, S.PUBLISHING)],
)
def test_a_retry_verifies_what_has_not_passed_it(verify: bool, again: bool, to: State) -> None:
    plan = values.plan(verify_steps=values.plan().steps if verify else None)
    image = values.image_record()
    asked = values.requested(plan=plan, replaces="first", retry_of="first", taken_up=image, verify_again=again)
    build = begin(asked).build
    assert (build.state, build.retry_of, build.image) == (S.EXPORTING, "first", image)
    assert build.taken_up is not again  # in the release before, which has no retries, it says that nothing verifies it
    assert advance(build, values.image_exported())[0].state is to


def test_a_name_that_is_taken_over_goes_with_the_build() -> None:
    """Or the image of before would have no owner once this build has failed in a step."""
    assert begin(values.requested(replaces="first")).build.ledger[0] == IMAGE
    assert IMAGE not in begin(values.requested()).build.ledger
    queued = begin(values.requested(queued=True)).build
    assert advance(queued, values.turn_came(replaces="first"))[0].ledger[0] == IMAGE
