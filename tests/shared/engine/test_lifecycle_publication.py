"""Publication in the table: what is committed has a day, and what fails after that is taken back, and told."""

from __future__ import annotations

from shared.build.build import LedgerEntry
from shared.engine.lifecycle import advance, decide
from tests.shared.engine.test_lifecycle import A_DAY_LATER, AT_900, LATER, O, S, at, withdrawing
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
