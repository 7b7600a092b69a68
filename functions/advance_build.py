"""advance_build: VMs' reports and workers' facts become the next state of their build. The only writer of states."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import functions_framework

from shared.engine import Engine
from shared.errors import PoisonMessage
from shared.events import report_id
from shared.messages import EVENTS_TOPIC, REPORTS_TOPIC, read_event_message, read_report_message

from .handling import CloudEvent, handle, message_of

if TYPE_CHECKING:
    from shared.factory import CloudFactory

LOG = logging.getLogger(__name__)


@functions_framework.cloud_event
def advance_build(event: CloudEvent) -> None:
    """Take an event of build-reports, whose signature is checked, or of build-events."""
    handle(event, _advance)


def _advance(event: CloudEvent, factory: CloudFactory) -> None:
    message, _id = message_of(event)
    engine = Engine(factory.store, factory.bus, factory.clock)
    if message.topic == REPORTS_TOPIC:
        said = read_report_message(message)
        name, ignored = f"report {report_id(said.report)}", engine.hear(said, factory.keys)
    elif message.topic == EVENTS_TOPIC:
        fact = read_event_message(message)
        name, ignored = f"{fact.kind} {fact.event_id}", engine.receive(fact)
    else:
        raise PoisonMessage(f"topic {message.topic} brings no facts about builds")
    if ignored:
        LOG.info("%s changes nothing: %s", name, ignored)
