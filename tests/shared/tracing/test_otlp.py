"""Traces reach a collector by OTLP; whatever it does, the caller goes on; without one, nothing is imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from shared.errors import Permanent, Transient
from shared.tracing.otlp import BATCH, Collector, send_trace
from shared.tracing.trace import BuildTrace, TraceLink, TraceSpan
from tests.project.source_tree import ROOT
from tests.shared.tracing.collector import TestCollector, collector
from tests.world import values

PLACE = "/v1/traces"
LINK = TraceLink("a" * 32, "b" * 16, "retry", "hello-0")
ROOT_SPAN = TraceSpan(
    "BUILD hello", "1" * 16, "", values.NOON, values.NOON + 2.5, {"n": 1, "l": ("a", "b")}, "server", None, (LINK,)
)
STEP = TraceSpan(
    "greet", "2" * 16, "1" * 16, values.NOON + 1, values.NOON + 2, {"ok": True}, "internal", "exit status 3"
)
TRACE = BuildTrace("c" * 32, "hello-1", "hello", (ROOT_SPAN, STEP))


@pytest.fixture
def there() -> Iterator[TestCollector]:
    with collector() as made:
        yield made


def test_all_that_a_span_says_comes_over_the_wire(there: TestCollector) -> None:
    send_trace(TRACE, Collector(there.endpoint + PLACE, (("gcp.project_id", "my-project"),)))
    root, step = there.spans
    assert (root.trace, root.id, root.parent, root.name, root.kind) == ("c" * 32, "1" * 16, "", "BUILD hello", "server")
    assert (root.start, root.end, root.failure) == (values.NOON, values.NOON + 2.5, None)
    assert root.attributes == {"n": 1, "l": ["a", "b"]}
    assert root.links == [("a" * 32, "b" * 16, "retry")]
    assert (step.parent, step.kind, step.failure, step.attributes) == (
        root.id,
        "internal",
        "exit status 3",
        {"ok": True},
    )
    assert (
        root.resource.items()
        >= {
            "service.name": "goldsmith",
            "cicd.pipeline.name": "hello",
            "cicd.pipeline.run.id": "hello-1",
            "gcp.project_id": "my-project",
        }.items()
    )


def test_many_spans_come_in_several_requests(there: TestCollector) -> None:
    many = tuple(TraceSpan(f"s{n}", f"{n + 1:016x}", "", values.NOON, values.NOON) for n in range(BATCH + 1))
    send_trace(BuildTrace("c" * 32, "hello-1", "hello", many), Collector(there.endpoint + PLACE))
    assert len(there.kept.got) == 2
    assert [span.name for span in there.spans] == [span.name for span in many]


def test_spans_that_are_refused_in_an_answer_of_success_are_told(there: TestCollector) -> None:
    there.kept.body = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=1, error_message="too old\n" + "x" * 1000)
    ).SerializeToString()
    with pytest.raises(Permanent, match=r"^the collector at 127\.0\.0\.1 has refused 1 spans: 'too old\\nx+\.\.\.'$"):
        send_trace(TRACE, Collector(there.endpoint + PLACE))


@pytest.mark.parametrize(
    "body", [b"ok", b"\xff" * 100, b"{}", b"<html>", ExportTraceServiceResponse().SerializeToString()]
)
def test_an_answer_that_refuses_nothing_is_success(there: TestCollector, body: bytes) -> None:
    there.kept.body = body
    send_trace(TRACE, Collector(there.endpoint + PLACE))


@pytest.mark.parametrize(
    ("status", "fault"), [(403, Permanent), (307, Permanent), (400, Permanent), (500, Transient), (429, Transient)]
)
def test_an_answer_that_is_no_success_is_told(there: TestCollector, status: int, fault: type[Exception]) -> None:
    there.kept.answers += [status] * 3
    with pytest.raises(fault, match=rf"the collector at 127\.0\.0\.1 answers with status {status}"):
        send_trace(TRACE, Collector(there.endpoint + PLACE), 0.5)


def test_a_passing_fault_is_tried_again_while_there_is_time(there: TestCollector) -> None:
    there.kept.answers += [503]
    send_trace(TRACE, Collector(there.endpoint + PLACE))
    assert len(there.kept.got) == 2
    assert there.spans[:2] == there.spans[2:]


def test_a_collector_that_answers_byte_by_byte_holds_up_no_caller(there: TestCollector) -> None:
    there.kept.silent.set()
    with pytest.raises(Transient, match="gives no answer within"):
        send_trace(TRACE, Collector(there.endpoint + PLACE), 0.3)


def test_a_collector_that_is_not_there_is_told() -> None:
    with pytest.raises(Transient, match=r"the collector at 127\.0\.0\.1 cannot be reached, or gives no answer"):
        send_trace(TRACE, Collector(f"http://127.0.0.1:9{PLACE}"), 0.3)


def test_an_address_that_may_be_secret_is_in_no_message() -> None:
    with pytest.raises(Transient) as caught:
        send_trace(TRACE, Collector("http://127.0.0.1:9/key-of-mine/v1/traces"), 0.3)
    assert "key-of-mine" not in str(caught.value)


IMPORTS = """
import os, sys
from pathlib import Path
from shared.build.build import Outcome, State
from shared.build.orders import Order
from shared.engine.messages import order_message
from shared.runtime.one_machine import open_one_machine
from shared.runtime.opening import builds_here
from shared.topology import FUNCTIONS
from tests.functions.deployed import Deployment
from tests.world import values

build = values.build(state=State.FINISHED, outcome=Outcome.SUCCEEDED)
announced = order_message(Order(build.id, 9, "announce", 1), build)
made = Deployment()
for function in ("advance_build", "send_spans", "call_webhooks"):
    assert made.push(function, announced).status_code == 200
with open_one_machine(Path(sys.argv[1])) as backend:
    backend.bus.publish(announced)
    builds_here(backend).sweep()
print([name for name in sys.modules if name.partition(".")[0] == "opentelemetry"])
"""


def test_where_no_traces_are_sent_nothing_of_opentelemetry_is_imported(tmp_path: object) -> None:
    """By functions that are told of a finished build, and by the end of one on one machine; Google's clients may."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(tmp_path)], cwd=ROOT, env={}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["[]"]), done.stderr
