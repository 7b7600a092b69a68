"""A build as its request describes it: which field goes where. lifecycle.py decides what comes of it."""

from __future__ import annotations

from ..build.build import Build, State
from ..build.events import BuildRejected, BuildRequested
from ..build.plan import Plan
from ..keys import BY_MACHINE
from .step_table import waiting
from .verifiers import verifiers_of


def blank_build(
    event: BuildRequested | BuildRejected, name: str, request: str, deadline: float, plan: Plan | None
) -> Build:
    """Return the build of a request with its steps waiting; its state and `wake_at` are set where it enters one."""
    verifiers = verifiers_of(plan)
    return Build(
        id=event.build_id,
        name=name,
        request=request,
        plan=plan,
        result=event.result,
        workflow=event.workflow,
        traceparent=event.traceparent,
        keys=BY_MACHINE,
        state=State.PREPARING,
        created=event.time,
        updated=event.time,
        deadline=deadline,
        wake_at=deadline,
        steps=waiting(plan.steps) if plan else (),
        verify_steps=waiting(plan.verify_steps or ()) if plan and not verifiers else (),
        verifiers=verifiers,
    )
