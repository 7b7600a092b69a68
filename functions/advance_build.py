"""advance_build: VMs' reports and workers' facts become the next state of their build. The only writer of states."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import functions_framework

from shared.build.events import report_id
from shared.build.orders import Order
from shared.engine.engine import Engine
from shared.engine.messages import SignedReport, read_message
from shared.errors import PoisonMessage

from .handling import CloudEvent, HttpAnswer, HttpRequest, handle, message_of

if TYPE_CHECKING:
    from shared.runtime.opening import CloudBackend

LOG = logging.getLogger(__name__)


@functions_framework.http
def advance_build(request: HttpRequest) -> HttpAnswer:
    """Take an event of build-reports, whose signature is checked, or of build-events."""
    return handle(request, _advance)


def _advance(event: CloudEvent, backend: CloudBackend) -> None:
    message, _id = message_of(event)
    engine = Engine(backend.store, backend.bus, backend.clock)
    fact = read_message(message)
    if isinstance(fact, Order):
        raise PoisonMessage(f"topic {message.topic} brings no facts about builds")
    name = f"report {report_id(fact.report)}" if isinstance(fact, SignedReport) else f"{fact.kind} {fact.event_id}"
    if ignored := engine.take(fact, backend.keys):
        LOG.info("%s changes nothing: %s", name, ignored)
