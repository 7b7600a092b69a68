"""send_spans: the trace of every finished build goes to the deployment's collector of OpenTelemetry."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import functions_framework

from shared.errors import Permanent, PoisonMessage
from shared.topology import FINISHED_TOPIC
from shared.webhooks.calls import finished_build

from ..handling import CloudEvent, HttpAnswer, HttpRequest, handle, message_of

if TYPE_CHECKING:
    from shared.runtime.opening import CloudBackend

LOG = logging.getLogger(__name__)


@functions_framework.http
def send_spans(request: HttpRequest) -> HttpAnswer:
    """Take a message of builds-finished. Without a collector, as in the emulator, it goes nowhere."""
    return handle(request, _send)


def _send(event: CloudEvent, backend: CloudBackend) -> None:
    message, _id = message_of(event)
    if message.topic != FINISHED_TOPIC:
        raise PoisonMessage(f"topic {message.topic} brings no finished builds")
    build = finished_build(message.data)
    if not backend.settings.otlp_endpoint:
        return
    from shared.runtime.followers.spans import collector_of
    from shared.tracing.otlp import send_trace
    from shared.tracing.trace import trace_of

    try:
        send_trace(trace_of(build, backend.store), collector_of(backend.settings))
    except Permanent as error:  # however often it is delivered
        LOG.warning("the trace of build %s is not sent: %s", build.id, error)
        return
    LOG.info("the trace of build %s is sent", build.id)
