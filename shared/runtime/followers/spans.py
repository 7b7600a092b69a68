"""Traces of finished builds: which collector they go to, and on one machine the traces that wait in the home's queue.

One machine sends traces if OpenTelemetry's own environment variables name a collector. A trace is put into the queue in
the write that announces its build, as the announcement, and stays there until the collector has it, or has been tried
too often. It is sent at the end of the build, and, where that does not work, at the end of later ones.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ...errors import DamagedDocument, GoldsmithError, InputError, NotFound, Permanent, PoisonMessage, Transient
from ...ports import Message
from ...topology import COLLECTOR

if TYPE_CHECKING:
    from ...gcp.settings import Settings
    from ...local.bus import LeasedMessage, LocalBus
    from ...ports import Store
    from ...tracing.otlp import Collector
    from ...tracing.trace import BuildTrace

LOG = logging.getLogger(__name__)

SPANS_TOPIC = "traces-to-send"  # on one machine alone
SPANS_LINE = "traces to send"  # no build can be called so
PATH = "/v1/traces"
WHOLE = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HTTP = "http/protobuf"
_GOOGLES = re.compile(r"https://telemetry\.(?:[a-z0-9-]+\.rep\.)?googleapis\.com(?::443)?/.*")
"""The addresses of Google Cloud's Telemetry API, which alone are given a token."""
MOST_TRIES = 20  # of one trace
LONGEST_DELAY = 600.0  # seconds between two of them, at least
SPANS_PATIENCE = 5.0  # seconds for which the end of a build waits for a collector
SHORTEST = 1.0  # seconds that are left when another trace is begun


def wants_traces(environment: Mapping[str, str]) -> bool:
    """Return whether a collector is named. OpenTelemetry's own switches are kept to."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "").strip() == "none":
        return False
    return any(environment.get(name, "").strip() for name in (COLLECTOR, WHOLE))


def collector_here(environment: Mapping[str, str]) -> Collector:
    """Return the collector that the environment of this process names. InputError names the variable."""
    protocol = next((text for name in PROTOCOLS if (text := environment.get(name, "").strip())), HTTP)
    if protocol != HTTP:
        raise InputError(f"{PROTOCOLS[1]} is {protocol}: traces are sent by {HTTP} alone; name a port that takes it")
    name = WHOLE if environment.get(WHOLE, "").strip() else COLLECTOR
    url = environment[name].strip()
    if not _is_address(url):
        raise InputError(f"{name} is no address of a collector; write one such as http://127.0.0.1:4318")
    return _collector(url if name == WHOLE else url.rstrip("/") + PATH)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def collector_of(settings: Settings) -> Collector:
    """Return the collector of a deployment on Google Cloud, which has one."""
    return _collector(settings.otlp_endpoint + PATH, settings.project)


def _collector(url: str, project: str = "") -> Collector:
    from ...tracing.otlp import Collector

    if _GOOGLES.fullmatch(url) is None:
        return Collector(url)
    from ...gcp.credentials import google_session

    return Collector(url, (("gcp.project_id", project),) if project else (), google_session)


def traces_here(finished: Message, environment: Mapping[str, str]) -> Sequence[Message]:
    """Return the message that a finished build of this machine leads to, if its trace is wanted."""
    if not wants_traces(environment):
        return ()
    return (Message(SPANS_TOPIC, b"", {"build_id": finished.ordering_key}, SPANS_LINE),)


def send_traces(store: Store, queue: LocalBus, environment: Mapping[str, str], calls: Iterable[BuildTrace]) -> None:
    """Send the traces that wait, and the spans of webhooks' calls. Faults are logged, and none is raised."""
    if not wants_traces(environment):
        return
    try:
        collector = collector_here(environment)
        end = time.monotonic() + SPANS_PATIENCE
        while (left := end - time.monotonic()) > SHORTEST:
            waiting = queue.receive(build_id=SPANS_LINE, seconds=0.0)
            if waiting is None:
                break
            if not _send_waiting(waiting, store, collector, left):
                return
        for each in calls:
            if (left := end - time.monotonic()) > SHORTEST:
                send_webhook_span(collector, each, left)
    except GoldsmithError as error:
        LOG.warning("no traces are sent: %s", error)
    except Exception:
        LOG.exception("internal fault: no traces are sent")


def _send_waiting(waiting: LeasedMessage, store: Store, collector: Collector, patience: float) -> bool:
    """Send one trace; return whether there is sense in sending another one now."""
    from ...tracing.otlp import send_trace
    from ...tracing.trace import trace_of

    build_id = waiting.message.attributes.get("build_id", "")
    try:
        send_trace(trace_of(store.load(build_id).build, store), collector, patience)
    except Transient as error:
        if waiting.attempt < MOST_TRIES:
            LOG.warning("the trace of build %s waits for the next build, or goldsmith sweep: %s", build_id, error)
            waiting.retry(min(2.0**waiting.attempt, LONGEST_DELAY))
            return False
        LOG.warning("the trace of build %s is given up after %d tries: %s", build_id, waiting.attempt, error)
    except (Permanent, PoisonMessage, NotFound, DamagedDocument) as error:
        LOG.warning("the trace of build %s is not sent: %s", build_id, error)
    waiting.acknowledge()
    return True


def trace_of_call(message: Message, name: str, start: float, end: float, failure: str | None) -> Sequence[BuildTrace]:
    """Return the call of a webhook as a span of its build; nothing for a message that is no call."""
    from ...tracing.trace import webhook_trace
    from ...webhooks.calls import finished_build

    try:
        return (webhook_trace(finished_build(message.data), name, start, end, failure),)
    except PoisonMessage:
        return ()


def send_webhook_span(collector: Collector, spans: BuildTrace, patience: float = SPANS_PATIENCE) -> None:
    """Send the span of a webhook's call, once: what it says is in the log, too."""
    from ...tracing.otlp import send_trace

    try:
        send_trace(spans, collector, patience)
    except GoldsmithError as error:
        LOG.warning("the span of a webhook's call is not sent: %s", error)
