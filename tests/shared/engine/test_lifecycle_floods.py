"""A VM runs other people's scripts, and signs whatever they make of its reports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.protocol import COMPLETED, DISK_WANTED, FAILED, INVENTORY, STARTED, STEP_FAILED, STEP_STARTED
from shared.build.build import Build
from shared.engine.lifecycle import advance, decide
from shared.engine.step_table import most_reports
from tests.shared.engine.test_lifecycle import GROWS, LATER, LOST, O, S, at, said, verify_at
from tests.world import values


def told(build: Build, kind: str, count: int, phase: str = "build", **changes: object) -> tuple[Build, int, list[str]]:
    """Let the VM say something so often; return the build, how much was recorded, and the orders it led to."""
    recorded, orders = 0, list[str]()
    for number in range(count):
        decision = decide(build, said(kind, phase, sequence=10 + number, **changes))
        recorded += not decision.ignored
        orders += [order.kind for order in decision.orders]
        build = replace(decision.build, outbox=())
    return build, recorded, orders


def test_a_thousand_wishes_for_a_disk_are_one_order() -> None:
    _build, recorded, orders = told(at(S.PROVISIONING, **GROWS), DISK_WANTED, 1000)
    assert (recorded, orders) == (most_reports(values.growing_plan(), "build"), ["grow_disk"])


def test_a_lost_order_for_a_disk_is_given_again_and_none_once_it_has_grown() -> None:
    build, _ = advance(at(S.PROVISIONING, **GROWS), said(DISK_WANTED))
    late = values.reported(time=LATER + 60, kind=DISK_WANTED, sequence=5)
    build, orders = advance(build, late)
    assert [order.kind for order in orders] == ["grow_disk"]
    build, _ = advance(build, values.disk_grown(time=LATER + 61))
    assert advance(build, replace(late, time=LATER + 999))[1] == ()


def test_what_is_installed_is_told_once_by_the_building_vm() -> None:
    assert told(at(S.PROVISIONING), INVENTORY, 1000, output="dpkg")[1] == 1
    assert told(verify_at(S.VERIFYING, zone="here"), INVENTORY, 10, phase="verify")[1] == 0


@pytest.mark.parametrize("kind", [STEP_STARTED, STEP_FAILED, STARTED])
def test_after_so_many_reports_only_the_last_word_counts(kind: str) -> None:
    build, recorded, _orders = told(at(S.PROVISIONING), kind, 2000, step=0)
    assert recorded == most_reports(values.plan(), "build") == 520
    assert advance(build, said(FAILED))[0].outcome is O.FAILED
    assert advance(build, said(COMPLETED))[0].state is S.EXPORTING


def test_the_next_vm_begins_anew() -> None:
    build, _recorded, _orders = told(at(S.PROVISIONING), STEP_STARTED, 2000, step=0)
    build, _ = advance(build, LOST)
    assert (build.attempt, build.reports) == (2, 0)
    assert not decide(build, said(STARTED, attempt=2)).ignored
