"""advance_build: VMs' reports and workers' facts become the next state of their build. The only writer of states.

People ask for the end of builds, and for triggers that go on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import functions_framework

from shared.build.build import Build, State
from shared.build.cost.usage import build_usage
from shared.build.events import Event, report_id
from shared.build.orders import Order
from shared.engine.engine import Engine
from shared.engine.messages import SignedReport, read_message
from shared.errors import PoisonMessage
from shared.topology import PEOPLE_TOPIC

from .handling import CloudEvent, HttpAnswer, HttpRequest, handle, message_of

if TYPE_CHECKING:
    from shared.backend import Backend
    from shared.runtime.opening import CloudBackend

LOG = logging.getLogger(__name__)


@functions_framework.http
def advance_build(request: HttpRequest) -> HttpAnswer:
    """Take an event of build-reports, whose signature is checked, of build-events or of people-requests."""
    return handle(request, _advance)


def _advance(event: CloudEvent, backend: CloudBackend) -> None:
    message, _id = message_of(event)
    if message.topic == PEOPLE_TOPIC:
        _take(message.data, backend)
        return
    engine = Engine(backend.store, backend.bus, backend.clock, note_end)
    fact = read_message(message)
    if isinstance(fact, Order):
        raise PoisonMessage(f"topic {message.topic} brings no facts about builds")
    name = f"report {report_id(fact.report)}" if isinstance(fact, SignedReport) else f"{fact.kind} {fact.event_id}"
    if ignored := engine.take(fact, backend.keys):
        LOG.info("%s changes nothing: %s", name, ignored)


def _take(data: bytes, backend: CloudBackend) -> None:
    """Take what a person asks for. What is imported here only that has need of."""
    from shared.build.events import CancelRequested
    from shared.people.acts import resume_triggers
    from shared.people.take import take_person_request
    from shared.person_requests import PersonRequest, read_asked

    def cancel(asked: PersonRequest, backend: Backend) -> str:
        engine = Engine(backend.store, backend.bus, backend.clock)
        reason = f"cancelled by {asked.by}: {asked.reason}"
        fact = CancelRequested(build_id=asked.target, event_id=f"person-{asked.id}", time=asked.asked, reason=reason)
        ignored = engine.receive(fact)
        return f"nothing changes: {ignored}" if ignored else f"build {asked.target} is being ended"

    take_person_request(read_asked(data), {"cancel": cancel, "resume": resume_triggers}, backend)


def note_end(build: Build, event: Event) -> None:
    """Log the figures of a build as its outcome is announced, which happens once."""
    before, last = build.stays[-2:-1], build.stays[-1:]
    if not build.ended or not last or last[0].begun != event.time or (before and before[0].state is State.HELD):
        return
    LOG.info("build %s is %s", build.id, build.outcome, extra={"figures": finished_figures(build)})


def finished_figures(build: Build) -> dict[str, str | float]:
    """Return what Cloud Monitoring counts of a finished build; terraform/metrics.tf reads it."""
    used, plan = build_usage(build), build.plan
    began = next((stay.begun for stay in build.stays if stay.state is not State.QUEUED), build.created)
    figures: dict[str, str | float] = {
        "kind": "finished_build",
        "outcome": str(build.outcome),
        "name": build.name,
        "family": plan.image.family or "" if plan is not None else "",
        "queue_seconds": round(began - build.created, 3),
        "seconds": round(build.stays[-1].begun - build.created, 3),
        "step_seconds": round(sum(step.seconds or 0.0 for step in build.all_steps), 3),
    }
    return figures if used is None or used.dollars is None else {**figures, "dollars": used.dollars}
