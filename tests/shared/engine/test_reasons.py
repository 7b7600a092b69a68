"""Why an outcome is what it is, in one line for people."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.protocol import FAILED
from shared.build.build import Build, State, StepRecord
from shared.build.events import Event
from shared.engine.lifecycle import advance
from tests.world import values

S = State
LATER = values.NOON + 30
OFF = values.machine_stopped(time=LATER, claim=None)
AT_DEADLINE = values.ticked(time=values.NOON + 3600)
AT_300 = values.ticked(time=values.NOON + 300)


def at(state: State) -> Build:
    zone = "here" if state in (S.PROVISIONING, S.EXPORTING) else ""
    return values.build(state=state, zone=zone, last_seen=values.NOON, wake_at=values.NOON + 900, orders=1)


def said(kind: str, **changes: object) -> Event:
    return values.reported(time=LATER, kind=kind, **changes)


def sandboxed(state: State) -> Build:
    build = at(state)
    assert build.plan is not None
    return replace(build, plan=replace(build.plan, machine=replace(build.plan.machine, engine="chroot")))


def in_step(state: State) -> Build:
    first, second, third = (StepRecord(name, "run-script") for name in ("first", "second", "third"))
    return replace(at(state), steps=(replace(first, status="done"), replace(second, status="running"), third))


@pytest.mark.parametrize(
    ("build", "event", "reason"),
    [
        (at(S.PROVISIONING), said(FAILED, message="step greet failed"), "step greet failed"),
        (at(S.PROVISIONING), said(FAILED), "the provisioner failed and did not say why"),
        (at(S.PROVISIONING), OFF, "the build VM powered itself off before its job was done"),
        (at(S.PROVISIONING), replace(OFF, how="panicked", detail="Oops"), "the build VM had a kernel panic: Oops"),
        (sandboxed(S.PROVISIONING), OFF, "the build sandbox powered itself off before its job was done"),
        (
            in_step(S.PROVISIONING),
            replace(OFF, how="panicked", detail="Oops"),
            "the build VM had a kernel panic (during step 'second'): Oops",
        ),
        (
            replace(in_step(S.PROVISIONING), attempt=3),
            AT_300,
            "no sign of life from the VM for 300 s (during step 'second'), in the last of 3 attempts",
        ),
        (
            in_step(S.PROVISIONING),
            AT_DEADLINE,
            "not done 3600 s after the request, still provisioning (during step 'second')",
        ),
        (at(S.PREPARING), values.order_failed(), "create_resources: quota CPUS is used up"),
        (at(S.PREPARING), values.cancel_requested(), "cancelled by a person"),
        (at(S.EXPORTING), AT_DEADLINE, "not done 3600 s after the request, still exporting"),
        (
            replace(at(S.PROVISIONING), attempt=3),
            AT_300,
            "no sign of life from the VM for 300 s, in the last of 3 attempts",
        ),
    ],
)
def test_reason(build: Build, event: Event, reason: str) -> None:
    assert advance(build, event)[0].reason == reason


def test_a_guest_cannot_make_the_document_large() -> None:
    build, _orders = advance(at(S.PROVISIONING), said(FAILED, message="x" * 10**6))
    assert len(build.reason) == 1000
