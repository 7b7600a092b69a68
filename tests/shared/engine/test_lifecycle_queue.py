"""The turn of a queued build: what it leads to, and that the build's time runs from then on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.build.build import Outcome, State
from shared.build.events import Event
from shared.engine.lifecycle import advance, begin, decide
from tests.world import values

QUEUED = begin(values.requested(queued=True)).build
SAME = values.turn_came(unchanged=values.image_record(name="hello-older"))
KEPT = values.turn_came(taken_up=values.image_record())
WEEK = 7 * 86_400


def test_it_orders_and_owes_nothing_and_waits_for_a_week() -> None:
    assert (QUEUED.state, QUEUED.outbox, QUEUED.ledger) == (State.QUEUED, (), ())
    assert (QUEUED.deadline, QUEUED.wake_at) == (values.NOON + WEEK, values.NOON + WEEK)


@pytest.mark.parametrize(
    ("event", "outcome", "reason"),
    [
        (values.turn_came(refused="output.name: taken"), Outcome.FAILED, "output.name: taken"),
        (values.cancel_requested(), Outcome.CANCELLED, "cancelled by a person"),
        (
            values.ticked(time=values.NOON + WEEK),
            Outcome.TIMED_OUT,
            "its turn has not come within 7d of the request",
        ),
    ],
)
def test_what_ends_it_before_its_turn(event: Event, outcome: Outcome, reason: str) -> None:
    build, orders = advance(QUEUED, event)
    assert (build.outcome, build.reason) == (outcome, reason)
    assert ([order.kind for order in orders], build.ledger) == (["clean_up"], ())


def test_its_time_runs_from_its_turn() -> None:
    came = replace(values.turn_came(), time=values.NOON + 86_400)
    build, orders = advance(QUEUED, came)
    assert (build.state, build.turn, build.deadline) == (State.PREPARING, came.time, came.time + 3600)
    assert [order.kind for order in orders] == ["create_resources"]
    assert [entry.kind for entry in build.ledger] == ["machine", "disk"]
    late, _orders = advance(build, values.ticked(time=build.deadline))
    assert late.reason == "not done 3600 s after its turn came, still preparing"


def test_what_is_found_then_counts() -> None:
    image = replace(values.plan().image, name="hello-20261120-2")
    build, _orders = advance(QUEUED, values.turn_came(image=image))
    assert build.plan == values.plan(image=image)


def test_it_comes_once() -> None:
    build, _orders = advance(QUEUED, values.turn_came())
    assert decide(build, values.turn_came()).ignored


def test_an_image_that_is_there_by_then_is_the_build_s() -> None:
    build, _orders = advance(QUEUED, SAME)
    assert (build.image, build.reason) == (SAME.unchanged, "image hello-older has this content already")
    assert build.ledger == ()


def test_a_kept_image_is_taken_up() -> None:
    build, _orders = advance(QUEUED, KEPT)
    assert (build.taken_up, build.image) == (True, values.image_record())
    assert [entry.kind for entry in build.ledger] == ["image"]
