"""A VM that moves partitions says beforehand for how long: until then, its silence means nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.protocol import HEARTBEAT, REBOOTING, STARTED
from shared.build import Build, Outcome, State
from shared.events import Reported
from shared.lifecycle import advance, decide
from tests import values

SILENCE = 300.0  # the plan's


def said(kind: str, time: float, seconds: float | None = None) -> Reported:
    """A report of the build VM that came at a time."""
    return values.reported(time=time, kind=kind, seconds=seconds)


@pytest.fixture
def build() -> Build:
    """A build whose VM is at work."""
    found = replace(values.build(), state=State.PROVISIONING, last_seen=values.NOON)
    assert found.plan is not None
    assert found.plan.silence == SILENCE
    return replace(found, deadline=values.NOON + 100_000)


def outcome_at(build: Build, seconds: float) -> Outcome | None:
    """How the build stands when somebody looks so many seconds after noon."""
    return advance(build, values.ticked(time=values.NOON + seconds))[0].outcome


def test_an_announced_silence_is_none(build: Build) -> None:
    build, _ = advance(build, said(REBOOTING, values.NOON + 10, 600.0))
    assert decide(build, values.ticked(time=values.NOON + 909)).ignored
    assert outcome_at(build, 910) is Outcome.FAILED


def test_the_first_word_after_it_ends_it(build: Build) -> None:
    build, _ = advance(build, said(REBOOTING, values.NOON + 10, 600.0))
    build, _ = advance(build, said(STARTED, values.NOON + 20))
    assert outcome_at(build, 319) is None
    assert outcome_at(build, 320) is Outcome.FAILED


def test_other_reports_announce_nothing(build: Build) -> None:
    for kind, seconds in ((REBOOTING, None), (HEARTBEAT, 600.0)):
        after, _ = advance(build, said(kind, values.NOON + 10, seconds))
        assert outcome_at(after, 310) is Outcome.FAILED


def test_the_deadline_holds_all_the_same(build: Build) -> None:
    build, _ = advance(replace(build, deadline=values.NOON + 400), said(REBOOTING, values.NOON + 10, 1e9))
    assert outcome_at(build, 400) is Outcome.TIMED_OUT
