"""A collector of OpenTelemetry on loopback: it takes OTLP over HTTP, and keeps the spans that it decodes."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.shared.webhooks.receiver import Receiver, receiver


@dataclass(frozen=True)
class GotSpan:
    """One span as it came, its ids in hex and its times in seconds."""

    name: str
    trace: str
    id: str
    parent: str
    start: float
    end: float
    kind: str
    attributes: Mapping[str, object]
    failure: str | None
    links: Sequence[tuple[str, str, object]]
    resource: Mapping[str, object]


class TestCollector:
    """What has come, in the order in which it came."""

    __test__ = False

    def __init__(self, kept: Receiver) -> None:
        self.kept = kept
        self.endpoint = kept.url.removesuffix("/hook")

    @property
    def spans(self) -> list[GotSpan]:
        return [span for headers, body in self.kept.got for span in decoded(headers, body)]

    def of_build(self, build_id: str) -> list[GotSpan]:
        return [span for span in self.spans if span.resource["cicd.pipeline.run.id"] == build_id]

    def tree(self, parent: str = "") -> list[str]:
        """Return the names of all spans below one, each indented below its parent, in the order of their starts."""
        return tree(self.spans, parent)


@contextmanager
def collector() -> Iterator[TestCollector]:
    with receiver() as kept:
        yield TestCollector(kept)


def tree(spans: Sequence[GotSpan], parent: str = "", depth: int = 0) -> list[str]:
    found = []
    for span in sorted((each for each in spans if each.parent == parent), key=lambda each: each.start):
        found += ["  " * depth + span.name, *tree(spans, span.id, depth + 1)]
    return found


def decoded(headers: Mapping[str, str], body: bytes) -> Iterator[GotSpan]:
    assert headers["content-type"] == "application/x-protobuf"
    request = ExportTraceServiceRequest()
    request.ParseFromString(gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body)
    for group in request.resource_spans:
        resource = values(group.resource.attributes)
        for scope in group.scope_spans:
            assert scope.scope.name == "goldsmith"
            for span in scope.spans:
                yield GotSpan(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano / 1e9,
                    span.end_time_unix_nano / 1e9,
                    trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    values(span.attributes),
                    span.status.message if span.status.code == trace_pb2.Status.STATUS_CODE_ERROR else None,
                    [(e.trace_id.hex(), e.span_id.hex(), values(e.attributes)["goldsmith.link"]) for e in span.links],
                    resource,
                )


def values(attributes: Sequence[KeyValue]) -> Mapping[str, object]:
    return {each.key: value(each.value) for each in attributes}


def value(found: AnyValue) -> object:
    kind = found.WhichOneof("value")
    if kind == "array_value":
        return [value(each) for each in found.array_value.values]
    return getattr(found, kind) if kind else None
