"""advance_build: VMs' reports and workers' facts become the next state of their build. The only writer of states."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import functions_framework

from shared.engine import Engine
from shared.errors import PoisonMessage
from shared.events import Event
from shared.messages import EVENTS_TOPIC, REPORTS_TOPIC, read_event_message, read_report_message
from shared.ports import Message

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
    fact = _fact(message, factory)
    ignored = Engine(factory.store, factory.bus, factory.clock).receive(fact)
    if ignored:
        LOG.info("%s %s changes nothing: %s", fact.kind, fact.event_id, ignored)


def _fact(message: Message, factory: CloudFactory) -> Event:
    if message.topic == REPORTS_TOPIC:
        return read_report_message(message, factory.keys)
    if message.topic == EVENTS_TOPIC:
        return read_event_message(message)
    raise PoisonMessage(f"topic {message.topic} brings no facts about builds")
