"""call_webhooks: the deployment's webhooks are told of every finished build."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import functions_framework

from shared.errors import Permanent, PoisonMessage, Transient
from shared.topology import FINISHED_TOPIC, WEBHOOKS_TOPIC
from shared.webhooks.calls import WEBHOOK, calls_of, finished_build, make_call

from ..handling import CloudEvent, HttpAnswer, HttpRequest, handle, message_of

if TYPE_CHECKING:
    from shared.ports import Message
    from shared.runtime.opening import CloudBackend

LOG = logging.getLogger(__name__)


@functions_framework.http
def call_webhooks(request: HttpRequest) -> HttpAnswer:
    """Take a message of builds-finished, which leads to a message for each webhook, or one of those: webhook-calls."""
    return handle(request, _call)


def _call(event: CloudEvent, backend: CloudBackend) -> None:
    message, _id = message_of(event)
    hooks = backend.settings.webhooks
    if message.topic == FINISHED_TOPIC:
        finished_build(message.data)
        for call in calls_of(message, hooks):
            backend.bus.publish(call)
        return
    if message.topic != WEBHOOKS_TOPIC:
        raise PoisonMessage(f"topic {message.topic} brings no finished builds")
    start, failure = backend.clock.now(), None
    try:
        make_call(message, hooks, backend.logs, start)
    except Permanent as error:  # however often it is delivered
        failure = str(error)
        LOG.warning("%s; it is not told of this build", error)
        return
    except (Transient, PoisonMessage) as error:
        failure = str(error)
        raise
    finally:
        if backend.settings.otlp_endpoint:
            _send_span(message, backend, start, failure)
    LOG.info("webhook %s is told", message.attributes[WEBHOOK])


def _send_span(message: Message, backend: CloudBackend, start: float, failure: str | None) -> None:
    """Send the call as a span of its build, once. Without a collector, nothing is imported."""
    from shared.runtime.followers.spans import collector_of, send_webhook_span, trace_of_call

    name = message.attributes.get(WEBHOOK, "")
    for trace in trace_of_call(message, name, start, backend.clock.now(), failure):
        send_webhook_span(collector_of(backend.settings), trace)
