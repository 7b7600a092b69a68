"""Send a trace to a collector by OTLP over HTTP, with OpenTelemetry's own exporter.

Its packages are imported where a trace is sent and nowhere else: a process that sends none pays nothing for them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import Permanent, Transient
from ..names import quoted
from .trace import BuildTrace, TraceSpan

if TYPE_CHECKING:
    import requests
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

SERVICE = "goldsmith"
PATIENCE = 10.0  # seconds for one trace, whatever the collector does: OTLP's own default
LATE = 1.0  # seconds more, before an exporter that has not come back is left alone
BATCH = 512  # spans in one request, as the SDK's own processor has them
LARGEST_ANSWER = 64 << 10  # bytes of an answer that are read

_PASSING = {408, 429, 500, 502, 503, 504}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Collector:
    """Where traces go. Other settings of the exporter, such as headers, are its own environment variables."""

    url: str  # whole: http(s)://HOST/v1/traces
    resource: tuple[tuple[str, str], ...] = ()  # attributes beside those of the build
    session: Callable[[], requests.Session] | None = None  # makes what proves who sends; None: nothing does

    @property
    def where(self) -> str:
        """Return it for people; an address may have a secret in its path."""
        return f"the collector at {urlsplit(self.url).hostname}"


def send_trace(trace: BuildTrace, collector: Collector, patience: float = PATIENCE) -> None:
    """Send all spans, for `patience` seconds at most; Transient where a later try may work, else Permanent.

    Spans that are sent twice have the same ids.
    """
    sending = _Sending(trace, collector, patience)
    thread = threading.Thread(target=sending.run, name="spans", daemon=True)
    thread.start()
    thread.join(patience + LATE)
    if thread.is_alive():
        raise Transient(f"{collector.where} gives no answer within {patience:.0f} s")
    if sending.fault is not None:
        raise sending.fault


class _Sending:
    """One try on a thread of its own, which a collector that sends a byte now and then cannot hold up."""

    def __init__(self, trace: BuildTrace, collector: Collector, patience: float) -> None:
        self._trace = trace
        self._collector = collector
        self._patience = patience
        self._status = 0  # of the last answer
        self._body = b""
        self.fault: Exception | None = Transient(f"{collector.where} was not asked")

    def run(self) -> None:
        """Send it, and leave in `fault` what has gone wrong."""
        try:
            self.fault = self._send()
        except Exception as error:  # noqa: BLE001 - raised by the caller's thread
            self.fault = error

    def _send(self) -> Exception | None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import SpanExportResult

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what it would say is said here
        spans = readable_spans(self._trace, self._collector)
        with self._session() as session:
            exporter = OTLPSpanExporter(endpoint=self._collector.url, timeout=self._patience, session=session)
            for first in range(0, len(spans), BATCH):
                self._status = 0
                done = exporter.export(spans[first : first + BATCH])
                # An answer that leads elsewhere counts as success for the exporter, which follows none.
                if done is not SpanExportResult.SUCCESS or self._status >= 300:
                    return self._refusal()
                if (refused := self._refused_spans()) is not None:
                    return refused
        return None

    def _refused_spans(self) -> Exception | None:
        """Return what a collector that has taken the request says of spans that it has not taken. OTLP: no retry."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        answer = ExportTraceServiceResponse()
        try:
            answer.ParseFromString(self._body)
        except Exception:  # noqa: BLE001 - protobuf's own; some collectors say no more than that they have taken it
            return None
        count, why = answer.partial_success.rejected_spans, answer.partial_success.error_message
        return Permanent(f"{self._collector.where} has refused {count} spans: {quoted(why)}") if count > 0 else None

    def _refusal(self) -> Exception:
        where, status = self._collector.where, self._status
        if not status:
            return Transient(f"{where} cannot be reached, or gives no answer")
        if status in _PASSING:
            return Transient(f"{where} answers with status {status}")
        return Permanent(f"{where} answers with status {status}")

    def _session(self) -> requests.Session:
        import requests

        session = self._collector.session() if self._collector.session is not None else requests.Session()
        if urlsplit(self._collector.url).hostname in _LOOPBACK:
            session.trust_env = False  # no proxy leads there
        session.mount("http://", bounded_adapter())
        session.mount("https://", bounded_adapter())
        session.hooks["response"].append(self._note)
        return session

    def _note(self, response: requests.Response, **_: object) -> None:
        self._status, self._body = response.status_code, response.content


def bounded_adapter() -> Any:
    """Return what carries requests, and reads no more of an answer than LARGEST_ANSWER."""
    from requests.adapters import HTTPAdapter

    class Bounded(HTTPAdapter):
        def send(self, *arguments: Any, **options: Any) -> requests.Response:
            response = super().send(*arguments, **{**options, "stream": True})
            raw, response.raw = response.raw, None
            response.raw = BytesIO(raw.read(LARGEST_ANSWER))
            raw.close()
            return response

    return Bounded()


def readable_spans(trace: BuildTrace, collector: Collector) -> Sequence[ReadableSpan]:
    """Return the spans as the SDK has them."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    of_build = {"cicd.pipeline.name": trace.pipeline, "cicd.pipeline.run.id": trace.build}
    asked = OTELResourceDetector().detect()  # OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
    resource = (
        Resource({"service.name": SERVICE}).merge(asked).merge(Resource({**of_build, **dict(collector.resource)}))
    )
    return [_readable(span, trace, resource) for span in trace.spans]


def _readable(span: TraceSpan, trace: BuildTrace, resource: Resource) -> ReadableSpan:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

    def context(trace_number: str, number: str) -> SpanContext:
        return SpanContext(int(trace_number, 16), int(number, 16), is_remote=False, trace_flags=TraceFlags(1))

    return ReadableSpan(
        name=span.name,
        context=context(trace.id, span.id),
        parent=context(trace.id, span.parent) if span.parent else None,
        resource=resource,
        attributes=dict(span.attributes),
        links=[
            Link(context(each.trace, each.span), {"goldsmith.link": each.why, "cicd.pipeline.run.id": each.build})
            for each in span.links
        ],
        kind={"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}[span.kind],
        status=Status(StatusCode.UNSET) if span.failure is None else Status(StatusCode.ERROR, span.failure),
        start_time=_nanoseconds(span.start),
        end_time=_nanoseconds(span.end),
        instrumentation_scope=InstrumentationScope(SERVICE),
    )


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e6) * 1000  # a float of today's seconds knows no more than some tenths of a microsecond
