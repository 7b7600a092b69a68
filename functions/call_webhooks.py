"""call_webhooks: the deployment's webhooks are told of every finished build."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import functions_framework

from shared.errors import Permanent, PoisonMessage
from shared.topology import FINISHED_TOPIC, WEBHOOKS_TOPIC
from shared.webhooks.calls import WEBHOOK, calls_of, finished_build, make_call

from .handling import CloudEvent, HttpAnswer, HttpRequest, handle, message_of

if TYPE_CHECKING:
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
    try:
        make_call(message, hooks, backend.logs, backend.clock.now())
    except Permanent as error:  # however often it is delivered
        LOG.warning("%s; it is not told of this build", error)
        return
    LOG.info("webhook %s is told", message.attributes[WEBHOOK])
